"""Leakage (e): similarity learnt from which images are selected together over many queries, by Sim.

It needs no sums, only the images that answer each query. What the KMC's selections reveal in scheme `exact`,
where the cloud learns nothing else, is measured in `groups/leaks.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipp_cli.experiments.base.bootstrap import Interval, mean_interval
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.methods import answers, cloud_sim
from mipp_cli.experiments.base.result import Claim, Observation, Result, column, distinct, table, where
from mipp_cli.experiments.base.seeds import Purpose, generator
from mipp_cli.progress import Progress

NAME = "leakage-selections"
NEIGHBOURS = 10
_SHUFFLES = 500


def co_selection(answers: NDArray[np.integer], images: int) -> NDArray[np.float32]:
    """Return the similarity of images by the answers that select them, shape (images, images).

    Cosine: the answers with both, over the geometric mean of the answers with each. Without the division,
    images that Sim puts into every answer would be neighbours of all.
    """
    selected = np.zeros((images, len(answers)), dtype=np.float32)
    selected[answers.T, np.arange(len(answers))] = 1
    times = selected.sum(axis=1)
    scale = np.sqrt(np.maximum(times, 1))
    together: NDArray[np.float32] = (selected @ selected.T) / scale[:, np.newaxis] / scale
    return together


@dataclass(frozen=True)
class Neighbours:
    """The images selected at least once, shape (s,), and the 10 most similar of each, shape (s, 10)."""

    selected: NDArray[np.int64]
    nearest: NDArray[np.int64]

    def precisions(self, labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return for each selected image the share of its 10 that are of its category."""
        return np.asarray((labels[self.nearest] == labels[self.selected][:, np.newaxis]).mean(axis=1))

    def chances(self, labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return for each selected image the share of all other selected images that are of its category.

        Sim prefers flat images; if these are of one category, that alone must not count as learnt.
        """
        own = labels[self.selected]
        return np.asarray((np.bincount(labels[self.selected])[own] - 1) / (len(own) - 1))

    def shuffled(self, labels: NDArray[np.int64], random: np.random.Generator) -> float:
        """Return the 97.5 % quantile of the mean precision if categories are shuffled.

        Images share neighbours, so their precisions are not independent, and an interval of the mean would be
        too narrow to compare it with chance.
        """
        means = []
        for _ in range(_SHUFFLES):
            mixed = labels.copy()
            mixed[self.selected] = random.permutation(labels[self.selected])
            means.append(self.precisions(mixed).mean())
        return float(np.percentile(means, 97.5))


def neighbours(alike: NDArray[np.float32], random: np.random.Generator) -> Neighbours:
    """Return the selected images and the most similar of each.

    Ties, which are frequent among counts, are broken at random: the order of names would reveal categories.
    """
    selected = np.flatnonzero(alike.diagonal() > 0)
    nearest = []
    for image in selected.tolist():
        rest = selected[selected != image]
        nearest.append(rest[np.lexsort((random.random(len(rest)), -alike[image, rest]))[:NEIGHBOURS]])
    return Neighbours(selected, np.stack(nearest))


def measure_selections(
    dataset: DataSet, candidates: Sequence[int], queries: Sequence[int], seed: int, progress: Progress
) -> Result:
    """Observe the answers to queries drawn with replacement, and rank images by co-selection."""
    asked = generator(seed, Purpose.WATCHED_QUERIES).integers(len(dataset), size=max(queries))
    random = generator(seed, Purpose.SELECTION_TIES)
    unique, place = np.unique(asked, return_inverse=True)
    found = np.stack(answers(cloud_sim(dataset.features, dataset.ties), unique, max(candidates), progress))[
        place
    ]
    labels = dataset.labels
    observations: list[Observation] = []
    for count in candidates:
        if count >= len(dataset):
            continue
        for watched in queries:
            alike = neighbours(co_selection(found[:watched, :count], len(dataset)), random)
            if len(alike.selected) < 2:
                continue  # a single image has no neighbours
            observations += table(
                candidates=count,
                queries=watched,
                image=[dataset.names[image] for image in alike.selected],
                precision=alike.precisions(labels),
                chance=alike.chances(labels),
                shuffled_high=alike.shuffled(labels, random),
            )
    notes = (
        f"precision: the share of the {NEIGHBOURS} images most often selected with an image that are of its "
        "category (cosine of co-selection, ties at random); images never selected are left out.",
        "chance: the share of all selected images that are of its category. That an image is selected at "
        "all also reveals something, which is not counted. shuffled_high: the 97.5 % quantile of the mean "
        "precision if the categories of these images are shuffled.",
        "Images are selected by Sim, as in every scheme in which the cloud ranks.",
        "Queries are images of the data set, drawn with replacement and left out of their own answer.",
    )
    claims = [_claim(observations, len(dataset), seed)] if observations else []
    title = "Similarity learnt from which images are selected together"
    return Result(NAME, title, observations, claims, notes)


@dataclass(frozen=True)
class Learnt:
    """What co-selection reveals in one setting: about how many images, its precision, and chance."""

    images: int
    precision: Interval
    chance: float
    above_chance: bool


def learnt(observations: Sequence[Observation], candidates: int, queries: int, seed: int) -> Learnt | None:
    """Return what one setting reveals, or None if it was not measured."""
    rows = where(observations, candidates=candidates, queries=queries)
    if not rows:
        return None
    precision = mean_interval(column(rows, "precision"), seed)
    chance = float(column(rows, "chance").mean())
    return Learnt(len(rows), precision, chance, precision.mean > rows[0]["shuffled_high"])


def measured_settings(observations: Sequence[Observation]) -> tuple[list[int], list[int]]:
    """Return the numbers of candidates and of queries that were measured, ascending."""
    return sorted(distinct(observations, "candidates")), sorted(distinct(observations, "queries"))


def _claim(observations: Sequence[Observation], images: int, seed: int) -> Claim:
    candidates, queries = measured_settings(observations)
    told = {count: found for count in candidates if (found := learnt(observations, count, queries[-1], seed))}
    parts = [
        f"{found.precision.percent} with {count} candidates (chance {100 * found.chance:.1f} %, "
        f"{found.images} of {images} images selected at least once)"
        for count, found in told.items()
    ]
    if any(found.above_chance for found in told.values()):
        follows = (
            "Images selected together are similar, whatever their order, so hiding the order does not hide "
            "similarity from the cloud."
        )
        conclusion = "not confirmed: better than chance"
    else:
        follows = "That is not better than chance: co-selection reveals nothing here."
        conclusion = "not refuted: no better than chance"
    return Claim(
        "section 6.2",
        "similarity leaks only by the order of the images in the answer, which the scheme makes uniform",
        f"after {queries[-1]} queries, selected by Sim (the cloud ranks), precision at {NEIGHBOURS} of the "
        f"images most often selected together: {'; '.join(parts) or 'none was'}. {follows}",
        conclusion,
    )
