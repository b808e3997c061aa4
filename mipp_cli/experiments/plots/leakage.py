"""Plots of the results of `leakage`: what the cloud can infer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mipp_cli.experiments.base.bootstrap import mean_interval
from mipp_cli.experiments.base.result import Result, column, distinct, where
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
from mipp_cli.experiments.leakage.groups.images import AND_SIZES, COUNTS, SELECTIONS
from mipp_cli.experiments.leakage.reordering import (
    BY_SIM,
    BY_SUMS_AGAIN,
    BY_USER,
    EUCLIDEAN,
    PARTS,
    spread,
)
from mipp_cli.experiments.leakage.selections import learnt, measured_settings
from mipp_cli.experiments.leakage.two_sums import BY_CODES, BY_SUMS, precisions_of, right_guesses
from mipp_cli.experiments.plots.style import (
    draw_bars,
    draw_chance,
    draw_lines,
    draw_named_bars,
    drawing,
    line_style,
    logarithmic,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SEED = 1  # only for the bootstrap
_METHODS = {"euclidean": "EucDis (Eq. 7)", "sim": "Sim (Eq. 9)", "sums": "distance of the two sums"}
_ORDERS = {
    EUCLIDEAN: "EucDis",
    BY_SIM: "Sim, as the cloud returns it",
    BY_SUMS_AGAIN: "the same, reordered by the cloud with the sums",
    BY_USER: "the same, reordered by the user with EucDis",
}
_OF_GROUPS: dict[str, tuple[str, ...]] = {
    "An image's category, from selections": (IMAGE, SELECTIONS),
    "The same, from counts and sizes too": (IMAGE, SELECTIONS + AND_SIZES, COUNTS + AND_SIZES),
    "Similar queries": (QUERIES,),
    "A query guessed with a colluding user": (READ,),
}


def plot_category(result: Result, path: Path) -> None:
    """Draw how often the category is guessed right, against the number of neighbours that vote."""
    rows = result.observations
    lines = {
        f"from {known}": {
            k: right_guesses(rows, known, k, _SEED)
            for k in sorted(distinct(where(rows, known=known), "neighbours"))
        }
        for known in (BY_SUMS, BY_CODES)
    }
    with drawing(path, width=7.0) as (panel,):
        draw_lines(panel, lines)
        draw_chance(panel, rows[0]["chance"])
        panel.set(xlabel="nearest neighbours that vote", ylabel="category guessed right, % of images")
        _finish(panel, "Category guessed, with 95 % intervals")


def plot_ranking(result: Result, path: Path) -> None:
    """Draw the precision of EucDis, Sim and the distance of the sums at 10 and 100 images returned."""
    rows = result.observations
    bars = {
        label: {
            count: mean_interval(precisions_of(rows, method, count), _SEED)
            for count in sorted(distinct(rows, "returned"))
        }
        for method, label in _METHODS.items()
    }
    with drawing(path, width=7.0, legend_columns=2) as (panel,):
        draw_bars(panel, bars)
        draw_chance(panel, column(rows, "chance").mean())
        panel.set(xlabel="images returned", ylabel="precision, %")
        _finish(panel, "Similarity ranked by the two sums, with 95 % intervals")


def plot_links(result: Result, path: Path) -> None:
    """Draw how many pictures of the first owner are linked to the second's, correctly and falsely."""
    counted = {
        "shared by both owners:\nlinked to itself": column(
            where(result.observations, given_by_both=1), "linked"
        ),
        "any picture of the first owner:\nlinked to a different one": column(
            result.observations, "false_links"
        ),
    }
    bars = {
        name: (100 * np.count_nonzero(linked) / len(linked), f"{np.count_nonzero(linked)} of {len(linked)}")
        for name, linked in counted.items()
    }
    with drawing(path, width=7.0, height=2.6) as (panel,):
        draw_named_bars(panel, bars)
        panel.set_xlim(0, 115)
        panel.set_xticks(range(0, 101, 20))
        panel.set(xlabel="% of the pictures", title="Pictures linked across two owners by (Σx, Σx²)")


def plot_false_links(result: Result, path: Path) -> None:
    """Draw how often different pictures share their sums, against the number of images."""
    rows = result.observations
    sizes = sorted(distinct(rows, "images"))
    points = {size: mean_interval(column(where(rows, images=size), "false_link"), _SEED) for size in sizes}
    with drawing(path, width=7.0) as (panel,):
        draw_lines(panel, {"_": points})  # labels that begin with _ are not in the legend
        logarithmic(panel, sizes)
        panel.set(
            xlabel="images in the collection (logarithmic)",
            ylabel="share (Σx, Σx²) with a different one, %",
        )
        _finish(panel, "False links, with 95 % intervals")


def plot_reordering(result: Result, path: Path) -> None:
    """Draw Fig. 2 and what the cloud makes of it: the share of similar images in each tenth, by order."""
    lines = {
        label: dict(enumerate(spread(result.observations, order, _SEED))) for order, label in _ORDERS.items()
    }
    with drawing(path, width=8.5, legend_columns=2) as (panel,):
        draw_lines(panel, lines, apart=0.08)
        draw_chance(panel, 1 / PARTS, "uniform")
        panel.set_xticks(range(PARTS), [f"{10 * tenth}–{10 * tenth + 10}" for tenth in range(PARTS)])
        panel.set(
            xlabel="position in the answer, % of the images returned (points side by side)",
            ylabel="similar images there, %",
        )
        _finish(panel, "Ranks of similar images, with 95 % intervals")


def plot_selections(result: Result, path: Path) -> None:
    """Draw the precision of neighbours by co-selection against the number of observed queries."""
    rows = result.observations
    candidates, queries = measured_settings(rows)
    with drawing(path, width=7.5, legend_columns=2) as (panel,):
        for number, count in enumerate(candidates):
            told = {each: found for each in queries if (found := learnt(rows, count, each, _SEED))}
            line = {each: found.precision for each, found in told.items()}
            draw_lines(panel, {f"{count} candidates": line}, first=number)
            style = {**line_style(number), "marker": "", "linewidth": 0.9, "alpha": 0.8}
            chance = [100 * found.chance for found in told.values()]
            panel.plot(list(told), chance, label=f"{count} candidates: chance (thin)", **style)
        logarithmic(panel, queries)
        panel.set(xlabel="queries observed (logarithmic)", ylabel="precision of the 10 nearest, %")
        _finish(panel, f"The cloud ranks: images selected by {_METHODS['sim']}")


def plot_groups(result: Result, path: Path) -> None:
    """Draw each measure of the better attacker, one line per group size and one for decoys."""
    rows = result.observations
    queries = queries_of(rows)
    with drawing(path, rows=2, columns=2) as panels:
        for panel, (title, (measure, *seen)) in zip(panels, _OF_GROUPS.items(), strict=True):
            lines = {
                setting_label(setting): {
                    each: interval_of(row)
                    for each in queries
                    if (row := best(rows, measure, setting, each, *seen)) is not None
                }
                for setting in settings_of(rows)
            }
            draw_lines(panel, lines)
            draw_chance(panel, column(where(rows, measure=measure), "chance").mean())
            logarithmic(panel, queries)
            panel.set(xlabel="queries observed (logarithmic)", ylabel="of the same category, %")
            panel.set_ylim(0, 100)
            panel.set_title(title)


def _finish(panel: Axes, title: str) -> None:
    panel.set_ylim(bottom=0)
    panel.set_title(title)
