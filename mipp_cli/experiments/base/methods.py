"""The methods compared: how each orders the other images of the data set for a query among them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.scheme.similarity import euclidean_distances, sim_numerators

Order = NDArray[np.int64]


class Method(Protocol):
    """A method: ``name`` stands in tables and files, ``label`` in legends."""

    @property
    def name(self) -> str:
        """What tables call it."""

    @property
    def label(self) -> str:
        """What legends call it."""

    def order(self, query: int) -> Order:
        """Return the positions of the images that it answers with, nearest first, never the query."""


@dataclass(frozen=True)
class Euclidean:
    """Eq. 7: all images by EucDis of the plain features, ties by name as the user breaks them."""

    dataset: DataSet
    name: str = "euclidean"
    label: str = "Euclidean distance (Eq. 7)"

    def order(self, query: int) -> Order:
        """Return every other image, nearest first."""
        features = self.dataset.features
        return without(query, np.argsort(euclidean_distances(features, features[query]), kind="stable"))


@dataclass(frozen=True)
class CloudSim:
    """Eq. 8 and 9: all images by NewDis, which is the cloud's Sim, ties by name as the cloud breaks them."""

    dataset: DataSet
    name: str = "sim"
    label: str = "cloud's Sim (Eq. 9)"

    @cached_property
    def _sums(self) -> tuple[Order, Order]:
        wide = self.dataset.features.astype(np.int64)
        return wide.sum(axis=1), (wide * wide).sum(axis=1)

    def order(self, query: int) -> Order:
        """Return every other image, nearest first, by the same integers as the cloud's."""
        sum1, sum2 = self._sums
        l = self.dataset.features.shape[1]
        numerators = sim_numerators(sum1, sum2, int(sum1[query]), int(sum2[query]), l)
        return without(query, np.argsort(numerators, kind="stable"))


@dataclass(frozen=True)
class EndToEnd:
    """What the user gets: the cloud's first candidates by Sim, ranked again by EucDis."""

    cloud: CloudSim
    candidates: int

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"end-to-end-{self.candidates}"

    @property
    def label(self) -> str:
        """What legends call it."""
        return f"end to end, {self.candidates} candidates"

    def order(self, query: int) -> Order:
        """Return the candidates, nearest first."""
        candidates = self.cloud.order(query)[: self.candidates]
        features = self.cloud.dataset.features
        distances = euclidean_distances(features[candidates], features[query])
        return candidates[np.lexsort((candidates, distances))]


def without(query: int, order: NDArray[np.signedinteger]) -> Order:
    """Return an order without the query itself: the paper's answers do not count it."""
    others: Order = order[order != query].astype(np.int64)
    return others
