"""What selections of groups tell, as a plot: each measure against the number of queries watched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mipp_cli.experiments.base.result import Observation, Result
from mipp_cli.experiments.leakage.groups.claims import (
    IMAGE,
    QUERIES,
    READ,
    best,
    interval_of,
    queries_of,
    setting_label,
    settings_of,
)
from mipp_cli.experiments.leakage.groups.images import AND_SIZES, SELECTIONS
from mipp_cli.experiments.plots.style import drawing, legend_below, line_style

_CHANCE_STYLE: dict[str, Any] = {"color": "#777777", "linestyle": ":", "linewidth": 1.4}
_PANELS: tuple[tuple[str, str, Callable[[Observation], bool]], ...] = (
    ("An image's category, from selections", IMAGE, lambda row: row["from"] == SELECTIONS),
    ("The same, from counts and sizes too", IMAGE, lambda row: str(row["from"]).endswith(AND_SIZES)),
    ("Queries alike", QUERIES, lambda row: True),
    ("A query read together with a user", READ, lambda row: True),
)


def plot_groups(result: Result, path: Path) -> None:
    """Draw each measure of the better attacker, a line for each size of groups and one for decoys."""
    rows = result.observations
    queries = queries_of(rows)
    with drawing(path, rows=2, columns=2) as (figure, panels):
        for panel, (title, measure, among) in zip(panels, _PANELS, strict=True):
            for number, setting in enumerate(settings_of(rows)):
                found = {each: best(rows, measure, setting, each, among) for each in queries}
                points = {each: interval_of(row) for each, row in found.items() if row is not None}
                mean, low, high = (
                    100 * np.array([getattr(point, name) for point in points.values()])
                    for name in ("mean", "low", "high")
                )
                # lists, since matplotlib takes an array of one for a number, which older numpy warns of
                errors = [(mean - low).tolist(), (high - mean).tolist()]
                panel.errorbar(
                    list(points), mean, yerr=errors, label=setting_label(setting), capsize=2.5,
                    elinewidth=0.8, **line_style(number),
                )  # fmt: skip
            chances = [float(row["chance"] or 0) for row in rows if row["measure"] == measure]
            panel.axhline(100 * float(np.mean(chances)), label="chance", **_CHANCE_STYLE)
            panel.set_xscale("log")
            panel.set_xticks(queries, [f"{watched:,}" for watched in queries])
            panel.minorticks_off()
            panel.set(xlabel="queries watched (logarithmic)", ylabel="of the same category, %")
            panel.set_ylim(0, 100)
            panel.set_title(title)
        legend_below(figure, panels[0])
