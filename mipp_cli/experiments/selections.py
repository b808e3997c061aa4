"""Leakage (e): similarity learnt from which images are selected together, over many queries.

No sum is needed for it: whoever sees which images answer a query counts, in any scheme.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipp_cli.experiments.bootstrap import Interval, mean_intervals
from mipp_cli.experiments.cloud_view import orders_of, percent
from mipp_cli.experiments.dataset import DataSet
from mipp_cli.experiments.methods import CloudSim, Euclidean
from mipp_cli.experiments.result import Claim, Observation, Result
from mipp_cli.experiments.seeds import generator
from mipp_cli.roles.progress import Progress

NAME = "leakage-selections"
NEIGHBOURS = 10
_DRAWN = 103  # the purposes of generators
_TIES = 104


def co_selection(answers: NDArray[np.int32], images: int) -> NDArray[np.float32]:
    """Return how alike images are by the answers that select them, shape (images, images).

    Cosine of the rows of queries: the answers with both, over the root of the answers with either one.
    Without that division images that Sim puts into every answer would be everybody's neighbours.
    """
    selected = np.zeros((images, len(answers)), dtype=np.float32)
    selected[answers.T, np.arange(len(answers))] = 1
    times = selected.sum(axis=1)
    scale = np.sqrt(np.maximum(times, 1))
    together: NDArray[np.float32] = (selected @ selected.T) / scale[:, np.newaxis] / scale
    return together


def neighbours_precision(
    alike: NDArray[np.float32], labels: NDArray[np.int64], random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return for each image how many of its 10 most alike are of its category, and what chance gives.

    Both are nan for an image that was never selected. Chance draws from the images that were: Sim prefers
    flat images, and where these are of one category that alone must not count as learnt. Ties, of which
    counts have many, are broken at random: in the order of names categories would help.
    """
    selected = np.flatnonzero(alike.diagonal() > 0)
    others = len(selected) - 1
    precisions, chances = np.full(len(labels), np.nan), np.full(len(labels), np.nan)
    for image in selected.tolist() if others > 0 else ():
        rest = selected[selected != image]
        nearest = rest[np.lexsort((random.random(others), -alike[image, rest]))[:NEIGHBOURS]]
        precisions[image] = (labels[nearest] == labels[image]).mean()
        chances[image] = (labels[rest] == labels[image]).mean()
    return precisions, chances


def measure_selections(
    dataset: DataSet, candidates: Sequence[int], queries: Sequence[int], seed: int, progress: Progress
) -> Result:
    """Watch answers to so many queries, drawn with replacement, and rank images by co-selection."""
    asked = generator(seed, _DRAWN).integers(len(dataset), size=max(queries))
    random = generator(seed, _TIES)
    unique, place = np.unique(asked, return_inverse=True)
    observations: list[Observation] = []
    for method in (CloudSim(dataset), Euclidean(dataset)):
        answers = orders_of(method, unique, progress)[place]
        for count in (count for count in candidates if count < len(dataset)):
            for watched in queries:
                alike = co_selection(answers[:watched, :count], len(dataset))
                measured = neighbours_precision(alike, dataset.labels, random)
                rows = zip(dataset.names, *(values.tolist() for values in measured), strict=True)
                observations += [
                    {
                        "selected_by": method.name,
                        "candidates": count,
                        "queries": watched,
                        "image": name,
                        "precision": None if np.isnan(precision) else precision,
                        "chance": None if np.isnan(chance) else chance,
                    }
                    for name, precision, chance in rows
                ]
    notes = (
        f"precision: how many of the {NEIGHBOURS} images most often selected together with an image are of "
        "its category (cosine of co-selection, ties at random); empty for images that were never selected.",
        "chance: how many of all images ever selected are of its category. That these were selected at all "
        "tells something too, which is not counted here.",
        "selected_by sim is what the cloud does here; euclidean stands for a scheme in which somebody else "
        "ranks, and the cloud hands out what they select.",
        "Queries are images of the data set, drawn with replacement from the seed, each left out of its "
        "own answer.",
    )
    claims = [_claim(observations, by, len(dataset), seed) for by in ("sim", "euclidean")]
    title = "Similarity learnt from which images are selected together"
    return Result(NAME, title, observations, claims, notes)


@dataclass(frozen=True)
class Learnt:
    """What co-selection told in one setting: of how many images, how precisely, and against chance."""

    images: int
    precision: Interval
    chance: Interval
    gain: Interval


def learnt(
    observations: Sequence[Observation], by: str, candidates: int, queries: int, seed: int
) -> Learnt | None:
    """Return what one setting told, None if no two images were selected."""
    setting = (by, candidates, queries)
    rows = [
        (row["precision"], row["chance"])
        for row in observations
        if (row["selected_by"], row["candidates"], row["queries"]) == setting and row["precision"] is not None
    ]
    if not rows:
        return None
    values = np.array(rows, dtype=np.float64)
    columns = np.column_stack([values, values[:, 0] - values[:, 1]])
    return Learnt(len(rows), *mean_intervals(columns, seed))


def measured_settings(observations: Sequence[Observation]) -> tuple[list[int], list[int]]:
    """Return the numbers of candidates and of queries that were measured, ascending."""
    candidates = {int(row["candidates"] or 0) for row in observations}
    return sorted(candidates), sorted({int(row["queries"] or 0) for row in observations})


def _claim(observations: Sequence[Observation], by: str, images: int, seed: int) -> Claim:
    candidates, queries = measured_settings(observations)
    told = {count: learnt(observations, by, count, queries[-1], seed) for count in candidates}
    parts = [
        f"{percent(found.precision)} with {count} candidates (chance {100 * found.chance.mean:.1f} %, "
        f"{found.images} of {images} images ever selected)"
        for count, found in told.items()
        if found is not None
    ]
    who = "Sim (the cloud ranks)" if by == "sim" else "EucDis (somebody else ranks, the cloud watches)"
    if any(found is not None and found.gain.low > 0 for found in told.values()):
        follows = (
            "Which images are selected together tells which are similar, whatever order they stand in: "
            "hiding the order does not keep similarity from the cloud."
        )
    else:
        follows = "That is not better than chance: co-selection told nothing here."
    return Claim(
        "section 6.2",
        "similarity leaks by the order of the images in the answer, which the scheme makes uniform",
        f"after {queries[-1]} queries, selected by {who}, precision at {NEIGHBOURS} of the images most often "
        f"selected together: {'; '.join(parts) or 'none was'}. {follows}",
    )
