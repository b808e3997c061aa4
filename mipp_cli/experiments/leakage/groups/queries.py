"""Queries as seen through the groups they select: which are similar, and what an accomplice can guess.

The accomplice is an authorised user who knows its own query pictures and the pictures it got. The answer
tells the cloud the group of each of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mipp_cli.experiments.leakage.groups.partition import Partition, Selected
from mipp_cli.experiments.leakage.groups.watching import ATTACKERS, Matrix, Watched, most_alike

ALIKE = 10  # other queries considered
MIXTURES = "mixtures"
GOT, EVERY, OWN = "images got", "every image", "own queries"  # the accomplice's knowledge
_SHARE = 10  # one in this many queries is the accomplice's
_MOST, _MOST_AGAIN = 1000, 300  # queries compared with each other, and later queries compared with these


@dataclass(frozen=True)
class Asked:
    """Queries: their ``images``, one per query, and the images that match and are selected."""

    images: NDArray[np.int64]
    matches: Selected
    selected: Selected

    def until(self, watched: int) -> Asked:
        """Return the first ``watched`` queries."""
        return Asked(self.images[:watched], self.matches[:watched], self.selected[:watched])

    @cached_property
    def first(self) -> NDArray[np.int64]:
        """The first query with each image, at most 1,000, in order."""
        return np.sort(np.unique(self.images, return_index=True)[1])[:_MOST]

    @cached_property
    def again(self) -> NDArray[np.int64]:
        """Pairs of an index into ``first`` and a later query with the same image, at most 300."""
        later = np.setdiff1d(np.arange(len(self.images)), self.first)
        second, place = np.unique(self.images[later], return_index=True)
        query_of = dict(zip(second.tolist(), later[place].tolist(), strict=True))
        asked = enumerate(self.images[self.first].tolist())
        found = [(number, query_of[image]) for number, image in asked if image in query_of]
        return np.array(found[:_MOST_AGAIN], dtype=np.int64).reshape(-1, 2)

    @property
    def accomplice(self) -> int:
        """The number of the accomplice's queries, which come first."""
        return max(1, len(self.images) // _SHARE)


@dataclass(frozen=True)
class Places:
    """An attacker's coordinates of queries: of the first ones with an image, and of the repeated ones."""

    first: Matrix
    again: Matrix


def places(partition: Partition, watched: Watched, asked: Asked, attacker: str) -> Places:
    """Return the attacker's coordinates of the queries."""
    first = partition.counts(asked.selected[asked.first])
    again = partition.counts(asked.selected[asked.again[:, 1]])
    return Places(watched.places(attacker, first), watched.places(attacker, again))


def alike(stand: Places, labels: NDArray[np.int64], random: np.random.Generator) -> Matrix:
    """Return for each query the share of its 10 most similar, with other images, that are of its category.

    ``labels`` are the categories of the first query with each image.
    """
    together = stand.first.T @ stand.first
    np.fill_diagonal(together, -np.inf)
    nearest = most_alike(together, min(ALIKE, len(labels) - 1), random)
    return np.asarray((labels[nearest] == labels[:, np.newaxis]).mean(axis=1))


def recognised(stand: Places, asked: Asked, random: np.random.Generator) -> Matrix:
    """Return for each repeated image whether the query most similar to the later one is the first."""
    nearest = most_alike(stand.again.T @ stand.first, 1, random)[:, 0]
    return np.asarray(nearest == asked.again[:, 0], dtype=np.float64)


def readings(
    partition: Partition,
    asked: Asked,
    stands: dict[str, Places],
    labels: NDArray[np.int64],
    random: np.random.Generator,
) -> Iterator[tuple[str, str, Matrix]]:
    """Yield the accomplice's knowledge, the attacker, and whether each query's category is guessed right."""
    counts = partition.counts(asked.selected[asked.first])
    own = labels[asked.images[asked.first]]
    got = np.unique(asked.matches[: asked.accomplice]).astype(np.int64)
    for knows, images in ((GOT, got), (EVERY, np.arange(len(labels)))):
        guess = by_mixtures(partition.mixtures(labels, images), counts)
        yield knows, MIXTURES, (guess == own).astype(np.float64)
    voters = np.flatnonzero(asked.first < asked.accomplice)
    for attacker in ATTACKERS:
        guess = by_own_queries(stands[attacker], voters, own, random)
        yield OWN, attacker, (guess == own).astype(np.float64)


def by_mixtures(known: Matrix, counts: NDArray[np.float32]) -> NDArray[np.int64]:
    """Guess categories from the known images of the groups selected, ``known`` of shape (g, c).

    Each group contributes its shares of categories, weighted by its matches, minus the expectation over all
    known images, divided by the standard deviation. Groups without known images contribute nothing.
    """
    prior = known.sum(axis=0) / known.sum()
    totals = known.sum(axis=1, keepdims=True)
    more = np.where(totals > 0, known / np.maximum(totals, 1) - prior, 0)
    scores = (counts.T @ more) / np.sqrt(np.maximum(prior * (1 - prior), 1e-12))
    return np.asarray(np.where(prior > 0, scores, -np.inf).argmax(axis=1))


def by_own_queries(
    stand: Places, voters: NDArray[np.int64], labels: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.int64]:
    """Guess categories from the accomplice's 10 most similar queries, each weighted by its similarity.

    A query with the same image does not vote: that would be a repeated query, not a guess.
    """
    together = stand.first.T @ stand.first[:, voters]
    together[voters, np.arange(len(voters))] = -1  # the minimum of a cosine
    nearest = most_alike(together, ALIKE, random)
    weights = np.maximum(np.take_along_axis(together, nearest, axis=1), 0)
    votes = np.zeros((len(labels), int(labels.max()) + 1))
    np.add.at(votes, (np.arange(len(labels))[:, np.newaxis], labels[voters][nearest]), weights)
    return np.asarray(votes.argmax(axis=1))
