"""Fig. 2, 3 and 4 as plots, drawn from the results of `accuracy` and `positions`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mipp_cli.experiments.base.result import Observation, Result, distinct, where
from mipp_cli.experiments.plots.style import (
    CHANCE_STYLE,
    Point,
    draw_bars,
    draw_chance,
    draw_lines,
    drawing,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POSITION_METHODS = 3  # more groups of bars than these cannot be told apart


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
        panel.set_title("Where similar images stand, with 95 % intervals")


def _by_method(rows: Sequence[Observation], place: str) -> dict[str, dict[object, Point]]:
    """Return by the label of each method its means and intervals, by the column ``place``."""
    found: dict[str, dict[object, Point]] = {}
    for row in rows:
        found.setdefault(row["label"], {})[row[place]] = (row["mean"], row["low"], row["high"])
    return found
