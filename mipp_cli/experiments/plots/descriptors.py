"""Plots of the results of `descriptors`, which compare descriptors."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mipp_cli.experiments.accuracy.coarser import FLOAT_BITS
from mipp_cli.experiments.accuracy.descriptors import CHANCE
from mipp_cli.experiments.accuracy.orders import CODES, EXACT, SIM, VECTORS
from mipp_cli.experiments.base.result import Observation, Result, distinct, where
from mipp_cli.experiments.leakage.co_selection import GROUP_SIZES, RANKED
from mipp_cli.experiments.leakage.groups.claims import IMAGE
from mipp_cli.experiments.plots.style import (
    Point,
    draw_bars,
    draw_chance,
    draw_lines,
    drawing,
    line_style,
    logarithmic,
    whole_per_cent,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHOWN = ("precision", "mAP", "nDCG", "R-precision")
_LABEL_WIDTH = 18  # letters of a descriptor's name in a line
_FLOAT_PLACE = 10  # position of the real numbers, after 8 bits
_APART = 1.4  # ticks closer than this factor would overlap


def plot_descriptors(result: Result, path: Path) -> None:
    """Draw four measures of each descriptor, a bar for each distance."""
    rows = result.observations
    described = [row for row in rows if row["descriptor"] != CHANCE]
    descriptors = distinct(described, "descriptor")
    # vectors come first if there are any, even if the first descriptor has none
    methods = sorted(distinct(described, "method"), key=(VECTORS, CODES, EXACT, SIM).index)
    labels = [where(described, method=method)[0]["label"] for method in methods]
    shown = [each for each in distinct(rows, "measure") if each.partition(" at ")[0] in _SHOWN]
    width = max(5.5, 1.2 + 1.6 * len(descriptors))
    with drawing(path, rows=2, columns=2, width=width, height=3.8) as panels:
        for panel, measure in zip(panels, sorted(shown, key=_place), strict=True):
            own = where(described, measure=measure)
            bars = {
                label: {_wrapped(row["descriptor"]): _point(row) for row in where(own, label=label)}
                for label in labels
            }
            draw_bars(panel, bars, [*map(_wrapped, descriptors)])
            (chance,) = where(rows, descriptor=CHANCE, measure=measure)
            draw_chance(panel, chance["mean"])
            whole_per_cent(panel)
            panel.set(ylabel=f"{measure}, %")
            panel.set_title(f"{_capital(measure)}, with 95 % intervals")


def _capital(measure: str) -> str:
    """Return a measure capitalised for a title, except names such as mAP."""
    return measure.capitalize() if measure.partition(" at ")[0].islower() else measure


def _place(measure: str) -> int:
    return _SHOWN.index(measure.partition(" at ")[0])


def plot_bits(result: Result, path: Path) -> None:
    """Draw accuracy against bits per number, and the accuracy of the real numbers."""

    def draw(panel: Axes, rows: Sequence[Observation]) -> None:
        for number, descriptor in enumerate(distinct(rows, "descriptor")):
            own = {row["bits"]: _point(row) for row in where(rows, descriptor=descriptor)}
            real = own.pop(FLOAT_BITS, None)
            draw_lines(panel, {descriptor: own}, first=number)
            if real is not None:
                style = {**line_style(number), "linestyle": ""}
                middle, low, high = (100 * each for each in real)
                reach = [[middle - low], [high - middle]]
                panel.errorbar([_FLOAT_PLACE], [middle], yerr=reach, capsize=2.5, elinewidth=0.8, **style)
        last = max(row["bits"] for row in rows if row["bits"] != FLOAT_BITS)
        ticks = {bits: str(bits) for bits in range(1, last + 1)}
        if where(rows, bits=FLOAT_BITS):
            ticks[_FLOAT_PLACE] = "real\nnumbers"
        panel.set_xticks(list(ticks), list(ticks.values()))
        panel.set_xlim(right=max(ticks) + 0.8)  # the last tick's label is wide
        panel.set(xlabel="bits per number")

    _by_measure(result, path, draw)


def plot_dimensions(result: Result, path: Path) -> None:
    """Draw accuracy against the number of a descriptor's numbers that are kept."""

    def draw(panel: Axes, rows: Sequence[Observation]) -> None:
        lines = {
            descriptor: {row["dimension"]: _point(row) for row in where(rows, descriptor=descriptor)}
            for descriptor in distinct(rows, "descriptor")
        }
        draw_lines(panel, lines)
        ticks: list[int] = []
        for dimension in sorted(distinct(rows, "dimension"), reverse=True):
            if not ticks or dimension * _APART <= ticks[-1]:
                ticks.append(dimension)
        logarithmic(panel, ticks[::-1])
        panel.set(xlabel="numbers kept, drawn at random (logarithmic)")

    _by_measure(result, path, draw)


def _by_measure(result: Result, path: Path, draw: Callable[[Axes, Sequence[Observation]], None]) -> None:
    measures = distinct(result.observations, "measure")
    with drawing(path, columns=len(measures), legend_columns=2) as panels:
        for panel, measure in zip(panels, measures, strict=True):
            draw(panel, where(result.observations, measure=measure))
            whole_per_cent(panel)
            panel.set(ylabel=f"{measure}, %")
            panel.set_title(f"{_capital(measure)}, with 95 % intervals")


def plot_leakage(result: Result, path: Path) -> None:
    """Draw for each descriptor how well it ranks, and what co-selection reveals without and with groups."""
    rows = result.observations
    descriptors = distinct(rows, "descriptor")
    shown = {"matches of the query's category": (RANKED, None)} | {
        f"selected together, {'no groups' if size == 1 else f'groups of {size}'}": (IMAGE, size)
        for size in GROUP_SIZES
    }
    bars = {
        label: {
            _wrapped(row["descriptor"]): _point(row, mean="share")
            for row in where(rows, measure=measure, group_size=size)
        }
        for label, (measure, size) in shown.items()
    }
    width = max(7.0, 1.6 + 1.8 * len(descriptors))
    with drawing(path, width=width, legend_columns=2) as (panel,):
        draw_bars(panel, bars)
        draw_chance(panel, rows[0]["chance"])
        whole_per_cent(panel)
        panel.set(ylabel="of the same category, %")
        panel.set_title("What co-selection reveals with each descriptor, with 95 % intervals")


def _point(row: Observation, mean: str = "mean") -> Point:
    return row[mean], row["low"], row["high"]


def _wrapped(descriptor: str) -> str:
    """Return a descriptor's name wrapped to fit below its bars."""
    return "\n".join(textwrap.wrap(descriptor.replace(":", ": ", 1), _LABEL_WIDTH)) or descriptor
