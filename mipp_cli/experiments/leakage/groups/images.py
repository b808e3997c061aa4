"""Images as seen through their groups: does an image have the category of those most often selected with it?

Images of its own group are left out: they are always selected with it, and share the group by chance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipp_cli.experiments.leakage.groups.partition import Partition
from mipp_cli.experiments.leakage.groups.watching import ATTACKERS, Matrix, Watched, most_alike

NEIGHBOURS = 10
SELECTIONS, COUNTS = "selections", "selections and counts"
AND_SIZES = ", and sizes"
ORDER, SIZES = "order of rows", "sizes"  # visible before any query
NOBODY = "none"  # there is no attacker without selections


@dataclass(frozen=True)
class Neighbours:
    """The 10 images most similar to those of each group, given by their groups.

    ``groups``, shape (s,), are the groups with data, ``nearest``, shape (s, k), the groups most similar to
    each, and ``taken`` the number of images from these among the 10. Images of one group cannot be
    distinguished, so precisions are means over all choices.
    """

    partition: Partition
    groups: NDArray[np.int64]
    nearest: NDArray[np.int64]
    taken: NDArray[np.int64]

    def precisions(self, labels: NDArray[np.int64]) -> Matrix:
        """Return for each image the share of its 10 of its category; NaN if its group has no data."""
        return self._of_images(self._shares(self.partition.mixtures(labels)), labels)

    def chances(self, labels: NDArray[np.int64]) -> Matrix:
        """Return for each image the share of its category among the images of the other groups with data."""
        mixtures = self.partition.mixtures(labels)[self.groups]
        others = mixtures.sum(axis=0) - mixtures
        return self._of_images(others / others.sum(axis=1, keepdims=True), labels)

    def shuffled(self, labels: NDArray[np.int64], times: int, random: np.random.Generator) -> Matrix:
        """Return mean precisions after shuffling the categories of these images, ``times`` times."""
        mixed = labels.copy()
        among = np.flatnonzero(np.isin(self.partition.group_of, self.groups))
        means = []
        for _ in range(times):
            mixed[among] = random.permutation(labels[among])
            mixtures = self.partition.mixtures(mixed)
            means.append((self._shares(mixtures) * mixtures[self.groups]).sum() / len(among))
        return np.array(means)

    def _shares(self, mixtures: Matrix) -> Matrix:
        """Return for each group the share of its 10 in each category, shape (s, c)."""
        weights = self.taken / self.taken.sum(axis=1, keepdims=True)
        shares = mixtures / self.partition.rows[:, np.newaxis]
        return np.asarray(np.einsum("sk,skc->sc", weights, shares[self.nearest]))

    def _of_images(self, by_category: Matrix, labels: NDArray[np.int64]) -> Matrix:
        table = np.full((len(self.partition), by_category.shape[1]), np.nan)
        table[self.groups] = by_category
        return np.asarray(table[self.partition.group_of, labels])


Guess = tuple[str, str, Neighbours]
"""A guess: the attacker, what it has seen, and the most similar groups of each group."""


def neighbours(
    alike: Matrix, partition: Partition, groups: NDArray[np.int64], random: np.random.Generator
) -> Neighbours:
    """Choose the 10 from the most similar other ``groups``; ties at random."""
    among = alike[np.ix_(groups, groups)]
    np.fill_diagonal(among, -np.inf)
    nearest = groups[most_alike(among, min(NEIGHBOURS, len(groups) - 1), random)]
    rows = partition.rows[nearest]
    before = np.cumsum(rows, axis=1) - rows
    return Neighbours(partition, groups, nearest, np.clip(NEIGHBOURS - before, 0, rows))


def nearness(values: Matrix) -> Matrix:
    """Return the negative distance of any two values, shape (g, g)."""
    return -np.abs(np.subtract.outer(values, values))


def both(first: Matrix, second: Matrix, groups: NDArray[np.int64]) -> Matrix:
    """Return the sum of two similarities, each row standardised over the other ``groups``."""
    return _standardised(first, groups) + _standardised(second, groups)


def _standardised(alike: Matrix, groups: NDArray[np.int64]) -> Matrix:
    others = np.zeros(alike.shape, dtype=bool)
    others[:, groups] = True
    np.fill_diagonal(others, False)
    mean = alike.mean(axis=1, keepdims=True, where=others)
    spread = alike.std(axis=1, keepdims=True, where=others)
    return np.asarray((alike - mean) / np.where(spread > 0, spread, 1))


def guesses(partition: Partition, watched: Watched, random: np.random.Generator) -> Iterator[Guess]:
    """Yield the guess of each attacker from the selections, without and with the groups' lengths."""
    groups = watched.seen
    if len(groups) < 2:
        return  # one group has no neighbours
    seen = COUNTS if watched.weighted else SELECTIONS
    lengths = nearness(np.log(partition.lengths))
    for attacker in ATTACKERS:
        alike = watched.alike(attacker)
        yield attacker, seen, neighbours(alike, partition, groups, random)
        together = both(alike, lengths, groups)
        yield attacker, seen + AND_SIZES, neighbours(together, partition, groups, random)


def guesses_before(partition: Partition, random: np.random.Generator) -> Iterator[Guess]:
    """Yield the guesses from the order of the groups and from their lengths, before any query."""
    groups = np.arange(len(partition))
    if len(groups) < 2:
        return
    lengths = np.log(partition.lengths)
    for seen, values in ((ORDER, groups.astype(np.float64)), (SIZES, lengths)):
        yield NOBODY, seen, neighbours(nearness(values), partition, groups, random)
