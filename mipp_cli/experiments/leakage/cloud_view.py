"""What the honest-but-curious cloud sees of a data set, (Σx, Σx²) of every image, and how it can rank by it.

Sim (Eq. 9) is linear in the two sums for a fixed query, and so prefers flat images. Nothing binds the cloud
to it: any other distance on the same two numbers is open to it, such as the one here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.methods import Method, Order, without
from mipp_cli.experiments.base.seeds import generator
from mipp_cli.progress import Progress

_QUERIES = 101  # the purpose of a generator; leakage asks far more queries than the paper's protocol
Coordinates = NDArray[np.float64]


def both_sums(features: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return (Σx, Σx²) of each feature, shape (n, 2): a line of Table 2."""
    wide = features.astype(np.int64)
    return np.stack([wide.sum(axis=1), (wide * wide).sum(axis=1)], axis=1)


def standardised(values: NDArray[np.int64]) -> Coordinates:
    """Return the columns of ``values`` with mean 0 and deviation 1; a constant column becomes 0."""
    wide = values.astype(np.float64)
    spread = wide.std(axis=0)
    return np.asarray((wide - wide.mean(axis=0)) / np.where(spread > 0, spread, 1.0))


def nearest_first(coordinates: Coordinates, image: int) -> Order:
    """Return every other row by its Euclidean distance to the row of ``image``; ties in their order."""
    difference = coordinates - coordinates[image]
    return without(image, np.argsort(np.einsum("ij,ij->i", difference, difference), kind="stable"))


@dataclass(frozen=True)
class SumsDistance:
    """All images by the Euclidean distance of (Σx, Σx²), each sum with mean 0 and deviation 1."""

    dataset: DataSet
    name: str = "sums"
    label: str = "distance of the two sums"

    @cached_property
    def coordinates(self) -> Coordinates:
        """Where each image stands, shape (n, 2)."""
        return standardised(both_sums(self.dataset.features))

    def order(self, query: int) -> Order:
        """Return every other image, nearest first."""
        return nearest_first(self.coordinates, query)


def drawn_queries(dataset: DataSet, most: int, seed: int) -> Order:
    """Return the query images, ascending: all, or ``most`` drawn from the seed."""
    if len(dataset) <= most:
        return np.arange(len(dataset))
    return np.sort(generator(seed, _QUERIES).choice(len(dataset), most, replace=False)).astype(np.int64)


def orders_of(method: Method, queries: Order, progress: Progress) -> NDArray[np.int32]:
    """Return the order of all other images for each query, shape (queries, n − 1)."""
    with progress(f"ranking by {method.name}", len(queries), "query") as advance:
        rows = []
        for query in queries.tolist():
            rows.append(method.order(query).astype(np.int32))
            advance(1)
    return np.stack(rows)


def relevance(dataset: DataSet, queries: Order, orders: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Say of each image, in the orders given, whether it is of its query's category."""
    return np.asarray(dataset.labels[orders] == dataset.labels[queries][:, np.newaxis])


def chance_precision(dataset: DataSet, queries: Order) -> NDArray[np.float64]:
    """Return for each query the share of its category among all other images."""
    sizes = np.bincount(dataset.labels)[dataset.labels[queries]]
    return np.asarray((sizes - 1) / (len(dataset) - 1), dtype=np.float64)
