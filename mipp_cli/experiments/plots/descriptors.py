"""Descriptors beside each other, as plots: drawn from the results of `descriptors`."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING

from mipp_cli.experiments.accuracy.coarser import FLOAT_BITS
from mipp_cli.experiments.accuracy.descriptors import CHANCE
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
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NOTHING: Point = (nan, nan, nan)
_SHOWN = ("precision", "mAP", "nDCG", "R-precision")
_LABEL_WIDTH = 18  # letters of a descriptor's name in a line
_FLOAT_PLACE = 10  # where the numbers themselves stand, behind 8 bits
_APART = 1.4  # ticks nearer than that factor would cover each other


def plot_descriptors(result: Result, path: Path) -> None:
    """Draw four measures of each descriptor, a bar for each distance."""
    rows = result.observations
    described = [row for row in rows if row["descriptor"] != CHANCE]
    descriptors = distinct(described, "descriptor")
    shown = [each for each in distinct(rows, "measure") if each.partition(" at ")[0] in _SHOWN]
    width = max(5.5, 1.2 + 1.6 * len(descriptors))
    with drawing(path, rows=2, columns=2, width=width, height=3.8, legend_columns=2) as panels:
        for panel, measure in zip(panels, sorted(shown, key=_place), strict=True):
            bars = {
                label: {
                    _wrapped(each): _point(where(described, descriptor=each, label=label, measure=measure))
                    for each in descriptors
                }
                for label in distinct(described, "label")
            }
            draw_bars(panel, bars)
            (chance,) = where(rows, descriptor=CHANCE, measure=measure)
            draw_chance(panel, chance["mean"])
            panel.set_ylim(0, 100)
            panel.set(ylabel=f"{measure}, %")
            panel.set_title(f"{measure[0].upper() if measure[1].islower() else measure[0]}{measure[1:]}")


def _place(measure: str) -> int:
    return _SHOWN.index(measure.partition(" at ")[0])


def plot_bits(result: Result, path: Path) -> None:
    """Draw accuracy against bits a number, and that of the numbers themselves."""

    def draw(panel: Axes, rows: Sequence[Observation]) -> None:
        for number, descriptor in enumerate(distinct(rows, "descriptor")):
            own = {row["bits"]: _point([row]) for row in where(rows, descriptor=descriptor)}
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
        panel.set(xlabel="bits a number")

    _by_measure(result, path, draw)


def plot_dimensions(result: Result, path: Path) -> None:
    """Draw accuracy against how many of a descriptor's numbers are kept."""

    def draw(panel: Axes, rows: Sequence[Observation]) -> None:
        lines = {
            descriptor: {row["dimension"]: _point([row]) for row in where(rows, descriptor=descriptor)}
            for descriptor in distinct(rows, "descriptor")
        }
        draw_lines(panel, lines)
        ticks: list[int] = []
        for dimension in sorted(distinct(rows, "dimension")):
            if not ticks or dimension >= ticks[-1] * _APART:
                ticks.append(dimension)
        logarithmic(panel, ticks)
        panel.set(xlabel="numbers kept, drawn at random (logarithmic)")

    _by_measure(result, path, draw)


def _by_measure(result: Result, path: Path, draw: Callable[[Axes, Sequence[Observation]], None]) -> None:
    measures = distinct(result.observations, "measure")
    with drawing(path, columns=len(measures), legend_columns=2) as panels:
        for panel, measure in zip(panels, measures, strict=True):
            draw(panel, where(result.observations, measure=measure))
            panel.set_ylim(0, 100)
            panel.set(ylabel=f"{measure}, %")
            panel.set_title(f"{measure}, with 95 % intervals")


def plot_leakage(result: Result, path: Path) -> None:
    """Draw for each descriptor how well it ranks, and what co-selection tells without and with groups."""
    rows = result.observations
    descriptors = distinct(rows, "descriptor")
    shown = {"its matches of the query's category (ranks)": (RANKED, None)} | {
        f"selected together, {'no groups' if size == 1 else f'groups of {size}'}": (IMAGE, size)
        for size in GROUP_SIZES
    }
    bars = {
        label: {
            _wrapped(each): _point(
                where(rows, descriptor=each, measure=measure, group_size=size), mean="share"
            )
            for each in descriptors
        }
        for label, (measure, size) in shown.items()
    }
    width = max(7.0, 1.6 + 1.8 * len(descriptors))
    with drawing(path, width=width, legend_columns=2) as (panel,):
        draw_bars(panel, bars)
        draw_chance(panel, rows[0]["chance"])
        panel.set_ylim(0, 100)
        panel.set(ylabel="of the same category, %")
        panel.set_title("What co-selection tells of each descriptor, with 95 % intervals")


def _point(rows: Sequence[Observation], mean: str = "mean") -> Point:
    """Return the mean and interval of the one row there is; nothing is drawn where there is none."""
    return next(((row[mean], row["low"], row["high"]) for row in rows), _NOTHING)


def _wrapped(descriptor: str) -> str:
    """Return a descriptor's name in lines, so that it stands below its bars."""
    return "\n".join(textwrap.wrap(descriptor.replace(":", ": ", 1), _LABEL_WIDTH)) or descriptor
