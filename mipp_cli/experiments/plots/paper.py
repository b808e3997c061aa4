"""Fig. 2 to 8 and Table 3 as plots; those of time and storage include the paper's figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mipp_cli.experiments.base.result import Observation, Result, distinct, where
from mipp_cli.experiments.base.trial_deployment import SchemeSetting
from mipp_cli.experiments.cost.storage import COLLECTION, FEATURES, KB, PAPER_FEATURES_KB
from mipp_cli.experiments.cost.time_claims import (
    INDEX,
    ONE_IMAGE,
    PAPER_IMAGES,
    PAPER_SECONDS,
    PLAIN,
    WITH_INDEX,
    WITHOUT_INDEX,
    spreads,
)
from mipp_cli.experiments.plots.style import (
    CHANCE_STYLE,
    Point,
    draw_bars,
    draw_chance,
    draw_lines,
    draw_named_bars,
    drawing,
    line_style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POSITION_METHODS = 3  # more groups of bars would be unreadable


def plot_accuracy(result: Result, path: Path) -> None:
    """Draw Fig. 3: precision and recall against the number of images returned."""
    with drawing(path, columns=2) as panels:
        _curves(panels[0], result, "precision")
        _curves(panels[1], result, "recall")


def plot_f1(result: Result, path: Path) -> None:
    """Draw Fig. 4: F1 against the number of images returned."""
    with drawing(path, width=7.0, legend_columns=2) as panels:
        _curves(panels[0], result, "f1")


def _curves(panel: Axes, result: Result, measure: str) -> None:
    rows = where(result.observations, measure=measure)
    lines = _by_method([row for row in rows if row["method"] != "chance"], "returned")
    returned = sorted(distinct(rows, "returned"))
    step = min(np.diff(returned), default=1)
    draw_lines(panel, lines, scale=1, apart=step / (2 * len(lines) + 2))
    chance = where(rows, method="chance")
    x, mean = ([row[name] for row in chance] for name in ("returned", "mean"))
    panel.plot(x, mean, label="chance", **CHANCE_STYLE)
    panel.set(xlabel="images returned (points side by side)", ylabel=f"mean {measure}".replace("f1", "F1"))
    panel.set_title(f"{measure.capitalize()}, with 95 % intervals")
    panel.set_ylim(bottom=0)


def plot_positions(result: Result, path: Path) -> None:
    """Draw Fig. 2: the share of similar images in each tenth of the answer."""
    with drawing(path, width=8.5, legend_columns=2) as (panel,):
        shown = distinct(result.observations, "method")[:_POSITION_METHODS]
        bars = _by_method([row for row in result.observations if row["method"] in shown], "range")
        draw_bars(panel, bars)
        draw_chance(panel, 1 / len(distinct(result.observations, "range")), "even spread")
        panel.set(xlabel="position in the answer, % of the images returned", ylabel="similar images there, %")
        panel.set_title("Ranks of similar images, with 95 % intervals")


def _by_method(rows: Sequence[Observation], place: str) -> dict[str, dict[object, Point]]:
    """Return means and intervals by the label of each method, then by the column ``place``."""
    found: dict[str, dict[object, Point]] = {}
    for row in rows:
        found.setdefault(row["label"], {})[row[place]] = (row["mean"], row["low"], row["high"])
    return found


def plot_index_time(result: Result, path: Path) -> None:
    """Draw Fig. 5: index construction against the number of images."""
    with drawing(path, width=7.5, height=4.6, legend_columns=2) as (panel,):
        _lines(panel, result, INDEX, 0)
        _finish(panel, result, INDEX, "Fig. 5: index construction")


def plot_retrieval_time(result: Result, path: Path) -> None:
    """Draw Fig. 6–8: plain retrieval, with index and without index, against the number of images."""
    with drawing(path, columns=3, width=4.6, height=4.8) as panels:
        plain, with_index, without_index = panels
        _lines(plain, result, PLAIN, 0)
        _finish(plain, result, PLAIN, "Fig. 6: plain")
        settings = _lines(with_index, result, WITH_INDEX, 1)
        _lines(with_index, result, ONE_IMAGE, 1 + settings, suffix=", one image returned")
        _finish(with_index, result, WITH_INDEX, "Fig. 7: with index")
        _lines(without_index, result, WITHOUT_INDEX, 1)
        _finish(without_index, result, WITHOUT_INDEX, "Fig. 8: without index")
        low = min(panel.get_ylim()[0] for panel in panels)
        high = max(panel.get_ylim()[1] for panel in panels)
        for panel in panels:
            panel.set_ylim(low, high)  # the same scale for all three


def _lines(panel: Axes, result: Result, step: str, first: int, suffix: str = "") -> int:
    """Draw a line for each setting, the first in style ``first``; return how many."""
    lines = {label + suffix: sizes for label, sizes in spreads(result.observations, step).items()}
    draw_lines(panel, lines, scale=1, first=first)
    repeating = {row["images"] for row in where(result.observations, pictures_repeat=1)}
    for number, sizes in enumerate(lines.values(), start=first):
        again = {size: spread.middle for size, spread in sizes.items() if size in repeating}
        style = {**line_style(number), "linestyle": "", "color": "white", "markersize": 3, "zorder": 5}
        panel.plot(list(again), list(again.values()), **style)
    return len(lines)


def _finish(panel: Axes, result: Result, step: str, title: str) -> None:
    star: dict[str, Any] = {"linestyle": "", "marker": "*", "markersize": 12, "color": "#777777"}
    panel.plot(PAPER_IMAGES, PAPER_SECONDS[step], label=f"the paper, {PAPER_IMAGES:,} images", **star)
    panel.set_xscale("log")
    panel.set_yscale("log")
    repeat = where(result.observations, pictures_repeat=1)
    hollow = "\nhollow: with repeated pictures under new names" if repeat else ""
    panel.set(xlabel=f"images (logarithmic){hollow}", ylabel="seconds (logarithmic)")
    panel.set_title(f"{title}\nmedian, smallest to largest")


def plot_storage(result: Result, path: Path) -> None:
    """Draw Table 3: the size of encrypted features of 10,000 images per scheme, and the paper's figure."""
    rows = where(result.observations, what=FEATURES, images=COLLECTION)
    sizes = {SchemeSetting.of(row).label: row["bytes"] / KB for row in rows} | {"Table 3": PAPER_FEATURES_KB}
    with drawing(path, width=7.5, height=1.6 + 0.36 * len(sizes)) as (panel,):
        draw_named_bars(panel, {name: (size, f"{size:,.0f} KB") for name, size in sizes.items()})
        panel.set_xscale("log")
        panel.set_xlim(min(sizes.values()) / 4, max(sizes.values()) * 6)
        panel.set(xlabel=f"KB for {COLLECTION:,} images (logarithmic)")
        panel.set_title("Encrypted features (EF and EFF)")
