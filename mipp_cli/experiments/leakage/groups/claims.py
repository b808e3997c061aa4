"""What selections of groups tell, in words and as a table: each measure at the most queries watched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mipp_cli.experiments.base.bootstrap import Interval
from mipp_cli.experiments.base.result import Claim, Observation
from mipp_cli.experiments.leakage.groups.images import AND_SIZES, COUNTS, ORDER, SELECTIONS, SIZES
from mipp_cli.experiments.leakage.groups.queries import EVERY, GOT, OWN
from mipp_cli.experiments.leakage.groups.watching import COSINE, EIGENVECTORS

NAME = "leakage-groups"
IMAGE, QUERIES, REPEATED, READ = "category of an image", "queries alike", "repeated query", "query read"

_CLAIMED = "the similarity of images does not leak to the cloud"
# a column of the table: its heading, the measure, and which rows it takes the best of
_Column = tuple[str, str, Callable[[Observation], bool]]
COLUMNS: tuple[_Column, ...] = (
    ("image, cosine", IMAGE, lambda row: row["from"] == SELECTIONS and row["attacker"] == COSINE),
    ("image, eigenvectors", IMAGE, lambda row: row["from"] == SELECTIONS and row["attacker"] == EIGENVECTORS),
    (
        "counts and sizes too",
        IMAGE,
        lambda row: row["from"] in (COUNTS, SELECTIONS + AND_SIZES, COUNTS + AND_SIZES),
    ),
    ("queries alike", QUERIES, lambda row: True),
    ("repeated", REPEATED, lambda row: True),
    ("read by images got", READ, lambda row: row["from"] == GOT),
    ("by every image", READ, lambda row: row["from"] == EVERY),
    ("by own queries", READ, lambda row: row["from"] == OWN),
)


def settings_of(observations: Sequence[Observation]) -> list[tuple[int, int]]:
    """Return (size of groups, decoys a match) as they were measured."""
    found = ((int(row["group_size"] or 0), int(row["decoys"] or 0)) for row in observations)
    return list(dict.fromkeys(found))


def setting_label(setting: tuple[int, int]) -> str:
    """Return what a setting is called."""
    size, decoys = setting
    if decoys:
        return f"{decoys} fresh decoys a match"
    return "no groups" if size == 1 else f"groups of {size}"


def queries_of(observations: Sequence[Observation]) -> list[int]:
    """Return the numbers of queries watched, ascending."""
    return sorted({int(row["queries"] or 0) for row in observations if row["queries"]})


def best(
    observations: Sequence[Observation],
    measure: str,
    setting: tuple[int, int],
    queries: int,
    among: Callable[[Observation], bool] = lambda row: True,
) -> Observation | None:
    """Return the row with the largest share of those measured so, None if there is none."""
    rows = [
        row
        for row in observations
        if (row["measure"], row["queries"]) == (measure, queries)
        and (row["group_size"], row["decoys"]) == setting
        and among(row)
    ]
    return max(rows, key=lambda row: float(row["share"] or 0), default=None)


def interval_of(row: Observation) -> Interval:
    """Return the share of a row with its interval."""
    mean, low, high = (float(row[name] or 0) for name in ("share", "low", "high"))
    return Interval(mean, low, high)


def group_table(observations: Sequence[Observation]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Return heading and rows: a row a setting, in each column the better attacker at the most queries."""
    watched = queries_of(observations)[-1]
    rows = []
    for setting in settings_of(observations):
        cells = (best(observations, measure, setting, watched, among) for _, measure, among in COLUMNS)
        rows.append((setting_label(setting), *map(_cell, cells)))
    return ("selections", *(heading for heading, _, _ in COLUMNS)), tuple(rows)


def _cell(row: Observation | None) -> str:
    return "" if row is None else f"{float(row['share'] or 0):.3f}"


def group_claims(observations: Sequence[Observation]) -> list[Claim]:
    """Say what became of images, of queries, and of queries once a user works with the cloud."""
    watched = queries_of(observations)
    if not watched:
        return []
    most = watched[-1]

    def said(measure: str, among: Callable[[Observation], bool] = lambda row: True) -> str:
        found = {
            setting_label(setting): best(observations, measure, setting, most, among)
            for setting in settings_of(observations)
        }
        parts = [f"{label} {interval_of(row).percent}" for label, row in found.items() if row is not None]
        return ", ".join(parts) or "was not measured"

    def chance(measure: str) -> str:
        values = [float(row["chance"] or 0) for row in observations if row["measure"] == measure]
        return f"chance {100 * sum(values) / max(1, len(values)):.1f} %"

    image = (
        f"after {most} queries under scheme exact, of the 10 images most often selected with an image "
        f"these are of its category, mates left out ({chance(IMAGE)}; the better of two attackers): "
        f"{said(IMAGE, lambda row: row['from'] == SELECTIONS)}. With counts and sizes too: "
        f"{said(IMAGE, lambda row: row['from'] not in (SELECTIONS, ORDER, SIZES))}. "
        f"{_above(observations, most)}"
    )
    query = (
        f"after {most} queries, of the 10 queries most alike to a query these are of its category "
        f"({chance(QUERIES)}): {said(QUERIES)}. A repeated query is recognised: {said(REPEATED)}. Groups do "
        "not hide which queries are alike: their selections come up again."
    )
    read = (
        f"after {most} queries, a tenth of them by a user who works with the cloud, the category of a query "
        f"is read right ({chance(READ)}) by the images that this user got: "
        f"{said(READ, lambda row: row['from'] == GOT)}; by its own queries: "
        f"{said(READ, lambda row: row['from'] == OWN)}. Groups help little "
        "against whoever knows the pictures."
    )
    return [Claim("section 6.2", _CLAIMED, text) for text in (image, query, read)]


def _above(observations: Sequence[Observation], queries: int) -> str:
    """Say which groups tell better than chance which images are alike."""
    told: dict[bool, list[str]] = {True: [], False: []}
    for setting in settings_of(observations):
        row: Any = best(observations, IMAGE, setting, queries, lambda row: row["from"] == SELECTIONS)
        if row is not None:
            told[row["share"] > row["shuffled_high"]].append(setting_label(setting))
    return " ".join(
        f"{'Better' if above else 'Not better'} than shuffled categories: {', '.join(labels)}."
        for above, labels in told.items()
        if labels
    )
