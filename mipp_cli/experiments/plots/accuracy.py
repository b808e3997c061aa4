"""Fig. 2, 3 and 4 as plots, drawn from the results of `accuracy` and `positions`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mipp_cli.experiments.base.result import Observation, Result
from mipp_cli.experiments.plots.style import bar_style, drawing, legend_below, line_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MEASURE_TITLES = {"precision": "Precision", "recall": "Recall", "f1": "F1"}
_CHANCE_STYLE: dict[str, Any] = {"color": "#777777", "linestyle": ":", "linewidth": 1.4}
_POSITION_METHODS = 3  # more groups of bars than these cannot be told apart


def plot_accuracy(result: Result, path: Path) -> None:
    """Draw Fig. 3: precision and recall against the number of images returned."""
    with drawing(path, columns=2) as (figure, panels):
        for panel, measure in zip(panels, ("precision", "recall"), strict=True):
            _curves(panel, result, measure)
        legend_below(figure, panels[0])


def plot_f1(result: Result, path: Path) -> None:
    """Draw Fig. 4: F1 against the number of images returned."""
    with drawing(path, width=7.0) as (figure, panels):
        _curves(panels[0], result, "f1")
        legend_below(figure, panels[0], columns=2)


def _curves(panel: Axes, result: Result, measure: str) -> None:
    methods = _distinct(result.observations, "method")
    step = _smallest_step(result.observations)
    for number, method in enumerate(methods):
        rows = [row for row in result.observations if row["method"] == method and row["measure"] == measure]
        x, mean, low, high = (
            np.array([row[column] for row in rows], dtype=np.float64)
            for column in ("returned", "mean", "low", "high")
        )
        label = str(rows[0]["label"])
        if method == "chance":
            panel.plot(x, mean, label=label, **_CHANCE_STYLE)
            continue
        # side by side, so that intervals of methods that are alike do not hide each other
        beside = x + step * (number - (len(methods) - 2) / 2) / (2.0 * len(methods))
        panel.errorbar(
            beside, mean, yerr=(mean - low, high - mean), label=label, capsize=2.5, elinewidth=0.8,
            **line_style(number),
        )  # fmt: skip
    panel.set(
        xlabel="images returned (points side by side)",
        ylabel=f"mean {_MEASURE_TITLES[measure].lower()}".replace("f1", "F1"),
    )
    panel.set_title(f"{_MEASURE_TITLES[measure]}, with 95 % intervals")
    panel.set_ylim(bottom=0)


def _smallest_step(rows: Sequence[Observation]) -> float:
    returned = sorted({float(row["returned"] or 0) for row in rows})
    return float(np.diff(returned).min()) if len(returned) > 1 else 1.0


def plot_positions(result: Result, path: Path) -> None:
    """Draw Fig. 2: the share of similar images in each tenth of the answer."""
    methods = _distinct(result.observations, "method")[:_POSITION_METHODS]
    ranges = _distinct(result.observations, "range")
    places, width = np.arange(len(ranges)), 0.8 / max(1, len(methods))
    with drawing(path, width=8.5) as (figure, panels):
        panel = panels[0]
        for number, method in enumerate(methods):
            rows = [row for row in result.observations if row["method"] == method]
            mean, low, high = (
                100 * np.array([row[column] for row in rows], dtype=np.float64)
                for column in ("mean", "low", "high")
            )
            beside = places + width * (number - (len(methods) - 1) / 2)
            panel.bar(
                beside, mean, width, yerr=(mean - low, high - mean),
                label=str(rows[0]["label"]), capsize=2, error_kw={"elinewidth": 0.9, "ecolor": "black"},
                **bar_style(number),
            )  # fmt: skip
        panel.axhline(100 / len(ranges), label="even spread", **_CHANCE_STYLE)
        panel.set_xticks(places, [name.removesuffix(" %") for name in ranges])
        panel.grid(visible=False, axis="x")
        panel.set(xlabel="position in the answer, % of the images returned", ylabel="similar images there, %")
        panel.set_title("Where similar images stand, with 95 % intervals")
        legend_below(figure, panel, columns=2)


def _distinct(rows: Sequence[Observation], column: str) -> list[str]:
    return list(dict.fromkeys(str(row[column]) for row in rows))
