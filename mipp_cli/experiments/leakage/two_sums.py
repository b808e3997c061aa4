"""Leakage (a) and (b): what the cloud infers from (Σx, Σx²) of every image, which every index has.

For a fixed query Sim (Eq. 9) is linear in the two sums, and so prefers flat images. The cloud is free to use
any other distance on the same two numbers, such as the one here (section 6.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mipp_cli.experiments.base.bootstrap import Interval, mean_interval
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.methods import (
    Features,
    Method,
    Order,
    answers,
    both_sums,
    cloud_sim,
    euclidean,
    nearest_first,
)
from mipp_cli.experiments.base.result import Claim, Observation, Result, column, table, where
from mipp_cli.progress import Progress

CATEGORY, RANKING = "leakage-category", "leakage-ranking"
BY_SUMS, BY_CODES = "two sums", "all codes"
_OTHER_NEIGHBOURS = (1, 5, 25)
_RETURNED = (10, 100)

Coordinates = NDArray[np.float64]


def standardised(values: NDArray[np.int64]) -> Coordinates:
    """Return the columns of ``values`` with mean 0 and deviation 1; a constant column becomes 0."""
    wide = values.astype(np.float64)
    spread = wide.std(axis=0)
    return np.asarray((wide - wide.mean(axis=0)) / np.where(spread > 0, spread, 1.0))


def _by_distance(coordinates: Coordinates, ties: Order, image: int) -> Order:
    difference = coordinates - coordinates[image]
    return nearest_first(np.einsum("ij,ij->i", difference, difference), image, ties)


def sums_distance(features: Features, ties: Order) -> Method:
    """All images by the Euclidean distance of (Σx, Σx²), each sum standardised."""
    coordinates = standardised(both_sums(features))
    return Method("sums", "distance of the two sums", lambda query: _by_distance(coordinates, ties, query))


def sensible_neighbours(labels: NDArray[np.int64]) -> int:
    """Return the k of the nearest neighbours: the odd number at or below √(images in a category)."""
    root = math.isqrt(len(labels) // len(np.unique(labels)))
    return max(1, root - 1 + root % 2)


def guess_category(
    coordinates: Coordinates, ties: Order, labels: NDArray[np.int64], image: int, neighbours: int
) -> int:
    """Guess the category of an image as that of most of its nearest neighbours, without itself.

    Between categories with equal votes, the one with the nearer voters wins.
    """
    nearest = _by_distance(coordinates, ties, image)[:neighbours]
    nearness = (
        np.arange(len(nearest), 0, -1) / len(nearest) ** 2
    )  # sums to at most 1, which is reached for k = 1
    votes = np.bincount(labels[nearest], weights=1 + nearness / 2)
    return int(votes.argmax())


def measure_categories(dataset: DataSet, images: Order, seed: int, progress: Progress) -> Result:
    """Guess the category of each of ``images``, without the image itself.

    The attacker knows the categories of the other images, as a cloud with pictures of its own may.
    """
    labels, own = dataset.labels, dataset.labels[images]
    chosen = sensible_neighbours(labels)
    tries = [(BY_SUMS, k) for k in sorted({*_OTHER_NEIGHBOURS, chosen})] + [(BY_CODES, chosen)]
    places = {
        BY_SUMS: standardised(both_sums(dataset.features)),
        BY_CODES: dataset.features.astype(np.float64),
    }
    observations: list[Observation] = []
    with progress("guessing categories", len(images) * len(tries), "guess") as advance:
        for known, neighbours in tries:
            guesses = np.array(
                [guess_category(places[known], dataset.ties, labels, i, neighbours) for i in images.tolist()]
            )
            observations += table(
                known=known,
                neighbours=neighbours,
                image=[dataset.names[image] for image in images],
                category=[dataset.categories[label] for label in own],
                guess=[dataset.categories[label] for label in guesses],
                right=(guesses == own).astype(int),
                chance=float(np.bincount(labels).max() / len(labels)),  # always guess the largest category
            )
            advance(len(images))
    notes = (
        f"Nearest neighbours in (Σx, Σx²), each standardised, among {len(dataset)} images, without the image "
        "itself. The attacker knows the categories of the others.",
        f"k = {chosen}, the largest odd number up to the square root of the images in a category, was "
        "fixed in advance; other k are shown, but none was chosen for its result.",
        "Chance: always guess the largest category.",
        "All codes: what scheme `paper` reveals, for comparison.",
    )
    claim = _category_claim(observations, chosen, len(images), seed)
    title = "The category of an image, guessed from its two sums"
    return Result(CATEGORY, title, observations, (claim,), notes)


def right_guesses(observations: Sequence[Observation], known: str, neighbours: int, seed: int) -> Interval:
    """Return the share of right guesses of one kind, and its interval over images."""
    return mean_interval(column(where(observations, known=known, neighbours=neighbours), "right"), seed)


def _category_claim(observations: Sequence[Observation], neighbours: int, images: int, seed: int) -> Claim:
    by_sums, by_codes = (right_guesses(observations, each, neighbours, seed) for each in (BY_SUMS, BY_CODES))
    chance = observations[0]["chance"]
    if by_sums.low > chance:
        follows = (
            "The two sums, which the index has in plaintext, reveal the category "
            f"{by_sums.mean / chance:.1f} times "
            "as often as chance: the claimed privacy does not hold on this data set."
        )
        conclusion = "not confirmed: better than chance"
    else:
        follows = "This guess is not better than chance on this data set, so it does not refute the claim."
        conclusion = "not refuted: no better than chance"
    return Claim(
        "sections 4.3 and 6.2",
        "the cloud obtains neither image features nor image similarity from what is encrypted",
        f"from (Σx, Σx²) alone the category of {by_sums.percent} of {images} images is guessed right "
        f"(k = {neighbours}); chance {100 * chance:.1f} %, from all codes {by_codes.percent}. {follows}",
        conclusion,
    )


def measure_ranking(dataset: DataSet, queries: Order, seed: int, progress: Progress) -> Result:
    """Measure the precision of each method at 10 and 100 images returned, without the query."""
    labels, own = dataset.labels, dataset.labels[queries]
    returned = [count for count in _RETURNED if count < len(dataset)]
    observations: list[Observation] = []
    for make in (euclidean, cloud_sim, sums_distance):
        method = make(dataset.features, dataset.ties)
        found = np.stack(answers(method, queries, _RETURNED[-1], progress))
        relevant = labels[found] == own[:, np.newaxis]
        for count in returned:
            observations += table(
                method=method.name,
                returned=count,
                query=[dataset.names[query] for query in queries],
                precision=relevant[:, :count].mean(axis=1),
                chance=(np.bincount(labels)[own] - 1) / (len(dataset) - 1),
            )
    notes = (
        "sums: the Euclidean distance of (Σx, Σx²), each standardised. The cloud needs only its index and "
        "the two sums of the query.",
        f"{len(queries)} queries over {len(dataset)} images, without the query. Similar means of the same "
        "category.",
    )
    claims = [_ranking_claim(observations, count, seed) for count in returned]
    return Result(RANKING, "Similarity ranked by the two sums alone", observations, claims, notes)


def precisions_of(observations: Sequence[Observation], method: str, returned: int) -> NDArray[np.float64]:
    """Return the precision of each query by one method."""
    return column(where(observations, method=method, returned=returned), "precision")


def _ranking_claim(observations: Sequence[Observation], returned: int, seed: int) -> Claim:
    by = {name: precisions_of(observations, name, returned) for name in ("euclidean", "sim", "sums")}
    plain, sim, sums = (mean_interval(values, seed) for values in by.values())
    chance = float(column(observations, "chance").mean())
    gain = mean_interval(by["sums"] - by["sim"], seed)
    if sums.low <= chance:
        follows = "The sums rank no better than chance here, which does not refute the claim."
        conclusion = "not refuted: no better than chance"
    elif gain.low > 0:
        follows = (
            f"From the same two numbers the cloud ranks better than Sim, by {gain.points}, and better than "
            "chance: part of the accuracy that Sim loses is lost only to the user, not to the cloud."
        )
        conclusion = f"not confirmed: the cloud ranks better than Sim, by {gain.points}"
    else:
        follows = (
            "By the sums the cloud ranks better than chance, so it learns similarity, but not better than "
            "by Sim itself."
        )
        conclusion = "not confirmed: better than chance"
    return Claim(
        "section 6.2",
        "the cloud may get the wrong similarity relation, so the similarity of images does not leak to it",
        f"precision at {returned}: by the sums {sums.percent}, by Sim {sim.percent}, by EucDis "
        f"{plain.percent}, chance {100 * chance:.1f} %. {follows}",
        conclusion,
    )
