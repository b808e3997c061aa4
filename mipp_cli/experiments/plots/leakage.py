"""What the cloud can work out, as plots: drawn from the results of `leakage`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mipp_cli.experiments.base.bootstrap import Interval, mean_interval
from mipp_cli.experiments.base.result import Result
from mipp_cli.experiments.leakage import (
    category_guess,
    linking,
    reordering,
    selections,
    sums_ranking,
)
from mipp_cli.experiments.leakage.category_guess import BY_CODES, BY_SUMS, right_guesses
from mipp_cli.experiments.leakage.groups.claims import NAME as GROUPS
from mipp_cli.experiments.leakage.reordering import (
    BY_SIM,
    BY_SUMS_AGAIN,
    BY_USER,
    EUCLIDEAN,
    ORDERS,
    PARTS,
    spread,
)
from mipp_cli.experiments.leakage.selections import learnt, measured_settings
from mipp_cli.experiments.leakage.sums_ranking import precisions_of
from mipp_cli.experiments.plots.groups import plot_groups
from mipp_cli.experiments.plots.style import bar_style, drawing, legend_below, line_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BOUNDS = ("mean", "low", "high")
_SEED = 1  # of the bootstrap alone
_CHANCE_STYLE: dict[str, Any] = {"color": "#777777", "linestyle": ":", "linewidth": 1.4}
_METHODS = {"euclidean": "EucDis (Eq. 7)", "sim": "Sim (Eq. 9)", "sums": "distance of the two sums"}
_ORDERS = {
    EUCLIDEAN: "EucDis",
    BY_SIM: "Sim, as the cloud returns it",
    BY_SUMS_AGAIN: "the same, reordered by the cloud with the sums",
    BY_USER: "the same, reordered by the user with EucDis",
}


def plot_category(result: Result, path: Path) -> None:
    """Draw how often the category is guessed right, against the number of neighbours that vote."""
    rows = result.observations
    with drawing(path, width=7.0) as (figure, panels):
        for number, known in enumerate((BY_SUMS, BY_CODES)):
            neighbours = sorted({int(row["neighbours"] or 0) for row in rows if row["known"] == known})
            found = [right_guesses(rows, known, k, _SEED) for k in neighbours]
            _line(panels[0], neighbours, found, f"from {known}", number)
        panels[0].axhline(100 * float(rows[0]["chance"] or 0), label="chance", **_CHANCE_STYLE)
        panels[0].set(xlabel="nearest neighbours that vote", ylabel="category guessed right, % of images")
        _finish(panels[0], "Category guessed, with 95 % intervals")
        legend_below(figure, panels[0])


def plot_ranking(result: Result, path: Path) -> None:
    """Draw the precision of EucDis, Sim and the distance of the sums at 10 and 100 images returned."""
    rows = result.observations
    returned = sorted({int(row["returned"] or 0) for row in rows})
    places = np.arange(len(returned))
    with drawing(path, width=7.0) as (figure, panels):
        for number, (method, label) in enumerate(_METHODS.items()):
            found = [mean_interval(precisions_of(rows, method, count), _SEED) for count in returned]
            _bars(panels[0], places + 0.27 * (number - 1), 0.27, found, label, number)
        chance = float(np.mean([float(row["chance"] or 0) for row in rows]))
        panels[0].axhline(100 * chance, label="chance", **_CHANCE_STYLE)
        panels[0].set_xticks(places, [str(count) for count in returned])
        panels[0].set(xlabel="images returned", ylabel="precision, %")
        panels[0].grid(visible=False, axis="x")
        _finish(panels[0], "Similarity ranked by the two sums, with 95 % intervals")
        legend_below(figure, panels[0], columns=2)


def plot_links(result: Result, path: Path) -> None:
    """Draw how many pictures of the first owner are linked to the second's, rightly and falsely."""
    shared = [row for row in result.observations if row["given_by_both"]]
    groups: dict[str, list[bool]] = {
        "given by both owners:\nlinked to itself": [bool(row["linked"]) for row in shared],
        "any picture of the first owner:\nlinked to another one": [
            bool(row["false_links"]) for row in result.observations
        ],
    }
    with drawing(path, width=7.0, height=2.6) as (_, panels):
        panel = panels[0]
        for number, linked in enumerate(groups.values()):
            yes = sum(linked)
            share = 100 * yes / len(linked)
            panel.barh(number, share, height=0.6, **bar_style(number))
            panel.annotate(
                f"{yes} of {len(linked)}", (share, number), (5, 0), textcoords="offset points", va="center"
            )
        panel.set_yticks(range(len(groups)), list(groups))
        panel.invert_yaxis()
        panel.set_xlim(0, 115)
        panel.set_xticks(range(0, 101, 20))
        panel.grid(visible=False, axis="y")
        panel.set(xlabel="% of the pictures")
        panel.set_title("Pictures linked across two owners by (Σx, Σx²)")


def plot_false_links(result: Result, path: Path) -> None:
    """Draw how often different pictures share their sums, against the number of images."""
    rows = result.observations
    sizes = sorted({int(row["images"] or 0) for row in rows})
    found = []
    for size in sizes:
        shares = [row["false_link"] for row in rows if row["images"] == size]
        found.append(mean_interval(np.array(shares, dtype=np.float64), _SEED))
    with drawing(path, width=7.0) as (_, panels):
        _line(panels[0], sizes, found, "share", 0)
        panels[0].set_xscale("log")
        panels[0].set_xticks(sizes, [str(size) for size in sizes])
        panels[0].minorticks_off()
        panels[0].set(
            xlabel="images in the collection (logarithmic)",
            ylabel="share (Σx, Σx²) with a different one, %",
        )
        _finish(panels[0], "Links that would be false, with 95 % intervals")


def plot_reordering(result: Result, path: Path) -> None:
    """Draw Fig. 2 and what the cloud makes of it: the share of similar images in each tenth, by order."""
    tenths = np.arange(1, PARTS + 1)
    with drawing(path, width=8.5) as (figure, panels):
        for number, order in enumerate(ORDERS):
            found = spread(result.observations, order, _SEED)
            if found:
                _line(panels[0], (tenths + 0.08 * (number - 1.5)).tolist(), found, _ORDERS[order], number)
        panels[0].axhline(100 / PARTS, label="uniform", **_CHANCE_STYLE)
        panels[0].set_xticks(tenths, [f"{10 * (tenth - 1)}–{10 * tenth}" for tenth in tenths.tolist()])
        panels[0].set(
            xlabel="position in the answer, % of the images returned (points side by side)",
            ylabel="similar images there, %",
        )
        _finish(panels[0], "Where similar images stand, with 95 % intervals")
        legend_below(figure, panels[0], columns=2)


def plot_selections(result: Result, path: Path) -> None:
    """Draw the precision of neighbours by co-selection against the number of queries watched."""
    rows = result.observations
    candidates, queries = measured_settings(rows)
    with drawing(path, width=7.5) as (figure, panels):
        panel = panels[0]
        for number, count in enumerate(candidates):
            found = [(each, learnt(rows, count, each, _SEED)) for each in queries]
            points = [(watched, told) for watched, told in found if told is not None]
            watched_queries = [watched for watched, _ in points]
            _line(
                panel, watched_queries, [told.precision for _, told in points], f"{count} candidates", number
            )
            style = {**line_style(number), "marker": "", "linewidth": 0.9, "alpha": 0.8}
            chance = [100 * told.chance for _, told in points]
            panel.plot(watched_queries, chance, label=f"{count} candidates: chance (thin)", **style)
        panel.set_xscale("log")
        panel.set_xticks(queries, [str(watched) for watched in queries])
        panel.minorticks_off()
        panel.set(xlabel="queries watched (logarithmic)", ylabel="precision of the 10 nearest, %")
        _finish(panel, f"The cloud ranks: images selected by {_METHODS['sim']}")
        legend_below(figure, panel, columns=2)


def _line(panel: Axes, x: Sequence[float], found: Sequence[Interval], label: str, number: int) -> None:
    mean, errors = _per_cent(found)
    panel.errorbar(x, mean, yerr=errors, label=label, capsize=2.5, elinewidth=0.8, **line_style(number))


def _bars(
    panel: Axes, x: np.ndarray[Any, Any], width: float, found: Sequence[Interval], label: str, number: int
) -> None:
    mean, errors = _per_cent(found)
    kept = {"elinewidth": 0.9, "ecolor": "black"}
    panel.bar(x, mean, width, yerr=errors, label=label, capsize=2.5, error_kw=kept, **bar_style(number))


def _per_cent(found: Sequence[Interval]) -> tuple[np.ndarray[Any, Any], list[list[float]]]:
    """Return means, and how far the intervals reach below and above them, in per cent."""
    mean, low, high = (100 * np.array([getattr(each, name) for each in found]) for name in _BOUNDS)
    # lists, since matplotlib takes an array of one for a number, which older numpy warns of
    return mean, np.clip([mean - low, high - mean], 0, None).tolist()


def _finish(panel: Axes, title: str) -> None:
    panel.set_ylim(bottom=0)
    panel.set_title(title)


_Draw = Callable[[Result, Path], None]
LEAKAGE_DRAWINGS: Mapping[str, tuple[tuple[str, _Draw], ...]] = {
    category_guess.NAME: ((f"{category_guess.NAME}.png", plot_category),),
    sums_ranking.NAME: ((f"{sums_ranking.NAME}.png", plot_ranking),),
    linking.LINKS: ((f"{linking.LINKS}.png", plot_links),),
    linking.FALSE_LINKS: ((f"{linking.FALSE_LINKS}.png", plot_false_links),),
    reordering.NAME: ((f"{reordering.NAME}.png", plot_reordering),),
    selections.NAME: ((f"{selections.NAME}.png", plot_selections),),
    GROUPS: ((f"{GROUPS}.png", plot_groups),),
}
"""Which file each result of `leakage` is drawn into, and by what."""
