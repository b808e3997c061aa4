"""Leakage (e): similarity learnt from which images are selected together, over many queries.

No sum is needed for it: whoever sees which images answer a query counts, in any scheme. Were the KMC to
rank, it would be all that the cloud learns, and decoys among the selected images would blur it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipp_cli.experiments.bootstrap import Interval, mean_interval
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
_DECOYS = 105
DECOYS = (0, 1, 10)  # for each candidate, were the KMC to rank
_SHUFFLES = 500


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


def with_decoys(
    answers: NDArray[np.int32], count: int, images: int, random: np.random.Generator
) -> NDArray[np.int32]:
    """Return answers with ``count`` images each beside them, drawn at random from those not in the answer.

    They are drawn anew for every query, of whatever owner.
    """
    if not count:
        return answers
    scores = random.random((len(answers), images))
    scores[np.arange(len(answers))[:, np.newaxis], answers] = 2  # never among the lowest
    decoys = np.argpartition(scores, count - 1, axis=1)[:, :count]
    return np.concatenate((answers, decoys.astype(np.int32)), axis=1)


@dataclass(frozen=True)
class Neighbours:
    """The images ever selected, shape (s,), and the 10 most alike of each among them, shape (s, 10)."""

    selected: NDArray[np.int64]
    nearest: NDArray[np.int64]

    def precisions(self, labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return for each selected image how many of its 10 are of its category."""
        return np.asarray((labels[self.nearest] == labels[self.selected][:, np.newaxis]).mean(axis=1))

    def chances(self, labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return for each selected image how many of all others selected are of its category.

        Sim prefers flat images, and where these are of one category that alone must not count as learnt.
        """
        own = labels[self.selected]
        return np.asarray((np.bincount(labels[self.selected])[own] - 1) / (len(own) - 1))

    def shuffled(self, labels: NDArray[np.int64], random: np.random.Generator) -> float:
        """Return what the mean precision stays below in 97.5 % of cases when categories are shuffled.

        Images share their neighbours, so their precisions are not independent, and an interval of the
        mean would be too narrow to tell it from chance.
        """
        means = []
        for _ in range(_SHUFFLES):
            mixed = labels.copy()
            mixed[self.selected] = random.permutation(labels[self.selected])
            means.append(self.precisions(mixed).mean())
        return float(np.percentile(means, 97.5))


def neighbours(alike: NDArray[np.float32], random: np.random.Generator) -> Neighbours:
    """Return the images selected and the most alike of each.

    Ties, of which counts have many, are broken at random: in the order of names categories would help.
    """
    selected = np.flatnonzero(alike.diagonal() > 0)
    nearest = []
    for image in selected.tolist():
        rest = selected[selected != image]
        nearest.append(rest[np.lexsort((random.random(len(rest)), -alike[image, rest]))[:NEIGHBOURS]])
    return Neighbours(selected, np.stack(nearest))


def measure_selections(
    dataset: DataSet,
    candidates: Sequence[int],
    queries: Sequence[int],
    seed: int,
    progress: Progress,
    decoys: Sequence[int] = DECOYS,
) -> Result:
    """Watch answers to so many queries, drawn with replacement, and rank images by co-selection.

    ``decoys`` says how many would stand beside each candidate, were the KMC to rank.
    """
    asked = generator(seed, _DRAWN).integers(len(dataset), size=max(queries))
    random = generator(seed, _TIES)
    unique, place = np.unique(asked, return_inverse=True)
    settings = [
        (method, answers[place], count, each * count)
        for method, times in ((CloudSim(dataset), (0,)), (Euclidean(dataset), decoys))
        for answers in (orders_of(method, unique, progress),)
        for count in candidates
        for each in times
        if (each + 1) * count < len(dataset)
    ]
    observations: list[Observation] = []
    for method, answers, count, beside in settings:
        selected = with_decoys(answers[:, :count], beside, len(dataset), generator(seed, _DECOYS))
        for watched in queries:
            found = neighbours(co_selection(selected[:watched], len(dataset)), random)
            if len(found.selected) < 2:
                continue  # one image has no neighbours
            setting: Observation = {
                "selected_by": method.name,
                "candidates": count,
                "decoys": beside,
                "queries": watched,
            }
            observations += _observed(setting, found, dataset, random)
    notes = (
        f"precision: how many of the {NEIGHBOURS} images most often selected together with an image are of "
        "its category (cosine of co-selection, ties at random); images never selected are left out.",
        "chance: how many of all images ever selected are of its category. That these were selected at all "
        "tells something too, which is not counted here. shuffled_high: what the mean precision stays below "
        "in 97.5 % of cases when the categories of these images are shuffled.",
        "selected_by sim is what the cloud does; euclidean, a simulation on plain features, is what it would "
        "see were the KMC to rank by EucDis and the cloud to hand out what it selects, decoys among it (as "
        "many as stand there).",
        "Queries are images of the data set, drawn with replacement from the seed, each left out of its "
        "own answer.",
    )
    claims = [_claim(observations, by, len(dataset), seed) for by in ("sim", "euclidean") if observations]
    title = "Similarity learnt from which images are selected together"
    return Result(NAME, title, observations, claims, notes)


def _observed(
    setting: Observation, found: Neighbours, dataset: DataSet, random: np.random.Generator
) -> list[Observation]:
    """Return what one setting tells of each image that was selected."""
    above = found.shuffled(dataset.labels, random)
    columns = (found.precisions(dataset.labels), found.chances(dataset.labels))
    rows = zip(found.selected.tolist(), *(column.tolist() for column in columns), strict=True)
    return [
        {
            **setting,
            "image": dataset.names[image],
            "precision": precision,
            "chance": chance,
            "shuffled_high": above,
        }
        for image, precision, chance in rows
    ]


@dataclass(frozen=True)
class Learnt:
    """What co-selection told in one setting: of how many images, how precisely, and against chance."""

    images: int
    precision: Interval
    chance: float
    above_chance: bool


def learnt(
    observations: Sequence[Observation], by: str, candidates: int, queries: int, seed: int, decoys: int = 0
) -> Learnt | None:
    """Return what one setting told, None if it was not measured."""
    setting = (by, candidates, decoys, queries)
    rows = [
        (row["precision"], row["chance"], row["shuffled_high"])
        for row in observations
        if (row["selected_by"], row["candidates"], row["decoys"], row["queries"]) == setting
    ]
    if not rows:
        return None
    precisions, chances, high = np.array(rows, dtype=np.float64).T
    precision = mean_interval(precisions, seed)
    return Learnt(len(rows), precision, float(chances.mean()), bool(precision.mean > high[0]))


def measured_settings(observations: Sequence[Observation]) -> tuple[list[int], list[int]]:
    """Return the numbers of candidates and of queries that were measured, ascending."""
    candidates = {int(row["candidates"] or 0) for row in observations}
    return sorted(candidates), sorted({int(row["queries"] or 0) for row in observations})


def measured_decoys(observations: Sequence[Observation], by: str, candidates: int) -> list[int]:
    """Return the numbers of decoys that were measured beside so many candidates, ascending."""
    setting = (by, candidates)
    rows = (row for row in observations if (row["selected_by"], row["candidates"]) == setting)
    return sorted({int(row["decoys"] or 0) for row in rows})


def _claim(observations: Sequence[Observation], by: str, images: int, seed: int) -> Claim:
    candidates, queries = measured_settings(observations)
    told = {
        (count, decoys): learnt(observations, by, count, queries[-1], seed, decoys)
        for count in candidates
        for decoys in measured_decoys(observations, by, count)
    }
    parts = [
        f"{percent(found.precision)} with {count} candidates"
        f"{f' and {decoys} decoys' if decoys else ''} (chance {100 * found.chance:.1f} %, "
        f"{found.images} of {images} images ever selected)"
        for (count, decoys), found in told.items()
        if found is not None
    ]
    who = "Sim (the cloud ranks)" if by == "sim" else "EucDis (were the KMC to rank, the cloud watching)"
    if any(found is not None and found.above_chance for found in told.values()):
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
