"""Leakage (a): the category of an image guessed from its two sums, which every index holds (section 6.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mipp_cli.experiments.base.bootstrap import Interval, mean_interval
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.methods import Order, both_sums
from mipp_cli.experiments.base.result import Claim, Observation, Result, column, where
from mipp_cli.experiments.leakage.cloud_view import Coordinates, by_distance, standardised
from mipp_cli.progress import Progress

NAME = "leakage-category"
BY_SUMS, BY_CODES = "two sums", "all 80 codes"
_OTHER_NEIGHBOURS = (1, 5, 25)


def sensible_neighbours(labels: NDArray[np.int64]) -> int:
    """Return the k of the nearest neighbours: the odd number at or below √(images in a category)."""
    root = math.isqrt(len(labels) // len(np.unique(labels)))
    return max(1, root - 1 + root % 2)


def guess_category(coordinates: Coordinates, labels: NDArray[np.int64], image: int, neighbours: int) -> int:
    """Guess the category of an image as most of its nearest neighbours have it, itself left out.

    Of categories with equally many votes the one with the nearer voters wins.
    """
    nearest = by_distance(coordinates, image)[:neighbours]
    nearness = np.arange(len(nearest), 0, -1) / len(nearest) ** 2  # together at most 1, and 1 for k = 1
    votes = np.bincount(labels[nearest], weights=1 + nearness / 2)
    return int(votes.argmax())


def measure_categories(dataset: DataSet, images: Order, seed: int, progress: Progress) -> Result:
    """Guess the category of each of ``images``, the image itself left out.

    Whoever guesses knows the categories of the other images, as a cloud may that has pictures of its own.
    """
    labels = dataset.labels
    chosen = sensible_neighbours(labels)
    tries = [(BY_SUMS, k) for k in sorted({*_OTHER_NEIGHBOURS, chosen})] + [(BY_CODES, chosen)]
    places = {
        BY_SUMS: standardised(both_sums(dataset.features)),
        BY_CODES: dataset.features.astype(np.float64),
    }
    chance = float(np.bincount(labels).max() / len(labels))  # always to name the largest category
    observations: list[Observation] = []
    with progress("guessing categories", len(images) * len(tries), "guess") as advance:
        for known, neighbours in tries:
            for image in images.tolist():
                guess = guess_category(places[known], labels, image, neighbours)
                observations.append(
                    {
                        "known": known,
                        "neighbours": neighbours,
                        "image": dataset.names[image],
                        "category": dataset.categories[labels[image]],
                        "guess": dataset.categories[guess],
                        "right": int(guess == labels[image]),
                        "chance": chance,
                    }
                )
            advance(len(images))
    notes = (
        f"Nearest neighbours in (Σx, Σx²), each with mean 0 and deviation 1, among {len(dataset)} images, "
        "the image itself left out. Whoever guesses knows the categories of the others.",
        f"k = {chosen}, the odd number at or below the root of the images in a category, was fixed "
        "beforehand; other k are shown, none was picked for its result.",
        "Chance is always to name the largest category.",
        "All 80 codes are what scheme `paper` gives away; they are shown for comparison.",
    )
    claim = _claim(observations, chosen, len(images), seed)
    return Result(NAME, "The category of an image, guessed from its two sums", observations, (claim,), notes)


def right_guesses(observations: Sequence[Observation], known: str, neighbours: int, seed: int) -> Interval:
    """Return the share of right guesses of one kind, and its interval over images."""
    rows = where(observations, known=known, neighbours=neighbours)
    return mean_interval(column(rows, "right"), seed)


def _claim(observations: Sequence[Observation], neighbours: int, images: int, seed: int) -> Claim:
    by_sums = right_guesses(observations, BY_SUMS, neighbours, seed)
    by_codes = right_guesses(observations, BY_CODES, neighbours, seed)
    chance = observations[0]["chance"]
    if by_sums.low > chance:
        follows = (
            f"The two sums, which the index holds in the clear, tell the category "
            f"{by_sums.mean / chance:.1f} times as often as chance does: the privacy that is claimed does "
            "not hold on this data set."
        )
    else:
        follows = (
            "This guess is not better than chance on this data set, and does not speak against the claim."
        )
    return Claim(
        "sections 4.3 and 6.2",
        "the cloud obtains neither image features nor image similarity from what is encrypted",
        f"from (Σx, Σx²) alone the category of {by_sums.percent} of {images} images is guessed right "
        f"(k = {neighbours}); chance {100 * chance:.1f} %, from all 80 codes {by_codes.percent}. {follows}",
    )
