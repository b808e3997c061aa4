"""What the honest-but-curious cloud sees of a data set, (Σx, Σx²) of every image, and how it can rank by it.

Sim (Eq. 9) is linear in the two sums for a fixed query, and so prefers flat images. Nothing binds the cloud
to it: any other distance on the same two numbers is open to it, such as the one here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.methods import Features, Method, Order, both_sums, nearest_first

Coordinates = NDArray[np.float64]


def standardised(values: NDArray[np.int64]) -> Coordinates:
    """Return the columns of ``values`` with mean 0 and deviation 1; a constant column becomes 0."""
    wide = values.astype(np.float64)
    spread = wide.std(axis=0)
    return np.asarray((wide - wide.mean(axis=0)) / np.where(spread > 0, spread, 1.0))


def by_distance(coordinates: Coordinates, image: int) -> Order:
    """Return every other row by its Euclidean distance to the row of ``image``; ties in their order."""
    difference = coordinates - coordinates[image]
    return nearest_first(np.einsum("ij,ij->i", difference, difference), image)


def sums_distance(features: Features) -> Method:
    """All images by the Euclidean distance of (Σx, Σx²), each sum with mean 0 and deviation 1."""
    coordinates = standardised(both_sums(features))
    return Method("sums", "distance of the two sums", lambda query: by_distance(coordinates, query))


def chance_precision(dataset: DataSet, queries: Order) -> NDArray[np.float64]:
    """Return for each query the share of its category among all other images."""
    sizes = np.bincount(dataset.labels)[dataset.labels[queries]]
    return np.asarray((sizes - 1) / (len(dataset) - 1), dtype=np.float64)
