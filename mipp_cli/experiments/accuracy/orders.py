"""Complete rankings of a data set for many queries at once, by each distance of a descriptor.

Every distance breaks ties like the KMC, by a hash keyed with the query's id. Ids are random, so the query's
name is used instead, which makes figures reproducible. Ties in the order of names would be sorted by
category, which names begin with. A single order for all queries would make queries dependent, while the
intervals assume that they are independent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipp_cli.experiments.accuracy.measures import Figures, Hits, joined, ranking_measures
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.methods import both_sums
from mipp_cli.scheme.nearest import Nearest, squared_distances
from mipp_cli.scheme.similarity import sim_numerators

VECTORS, CODES, EXACT, SIM = "vectors", "codes", "exact", "sim"
_AT_A_TIME = 1 << 22  # distances in memory at once
_DIGITS = 12  # digits of a cosine: equal vectors then tie, whatever the order of summation

Queries = NDArray[np.int64]
Orders = NDArray[np.int64]
Features = NDArray[np.uint8]


@dataclass(frozen=True)
class Ranker:
    """A way to rank all images: ``orders`` maps queries, shape (q,), to the other images, (q, n − 1).

    ``name`` is used in tables and files, ``label`` in legends; ``about`` describes it in a sentence.
    """

    name: str
    label: str
    about: str
    orders: Callable[[Queries], Orders]


def rankers(dataset: DataSet) -> list[Ranker]:
    """Return every ranker for the descriptor of a data set."""
    features, names = dataset.features, dataset.names
    found = [] if dataset.vectors is None else [by_vectors(dataset.vectors, names)]
    return [*found, by_codes(features, names), by_exact(features, names), by_sim(features, names)]


def by_vectors(vectors: NDArray[np.float32], names: Sequence[str]) -> Ranker:
    """Rank by Euclidean distance of the normalised vectors, which is the order of cosines."""
    wide = vectors.astype(np.float64)
    units = wide / np.linalg.norm(wide, axis=1, keepdims=True)

    def distances(queries: Queries) -> Figures:
        return np.asarray(-np.round(units[queries] @ units.T, _DIGITS))

    about = f"{VECTORS}: Euclidean distance of the real vectors before quantisation, divided by their norm."
    return Ranker(VECTORS, "vectors before quantisation", about, _nearest_first(distances, names))


def by_codes(features: Features, names: Sequence[str]) -> Ranker:
    """Rank by Eq. 7, EucDis of the codes."""
    about = f"{CODES}: EucDis of the codes (Eq. 7)."
    return Ranker(CODES, "codes (Eq. 7)", about, _nearest_first(_squared(features), names))


def by_exact(features: Features, names: Sequence[str]) -> Ranker:
    """Rank by Eq. 7 with the KMC's code for scheme `exact`; nothing is encrypted."""

    def orders(queries: Queries) -> Orders:
        found = []
        for query in queries.tolist():
            nearest = Nearest(len(features), _key(names[query]))
            nearest.add(squared_distances(features[query], features), 0)
            found.append([row for _, row in nearest.nearest() if row != query])
        return np.array(found, dtype=np.int64)

    about = (
        f"{EXACT}: Eq. 7 computed by the KMC's code for scheme exact, on plaintext codes; "
        "descriptors-exact has the check on an encrypted sample."
    )
    return Ranker(EXACT, "KMC's own code (Eq. 7)", about, orders)


def by_sim(features: Features, names: Sequence[str]) -> Ranker:
    """Rank by Eq. 9, the cloud's Sim, with the same integers as the cloud."""
    sum1, sum2 = both_sums(features).T
    l = features.shape[1]

    def distances(queries: Queries) -> NDArray[np.int64]:
        pairs = zip(sum1[queries].tolist(), sum2[queries].tolist(), strict=True)
        return np.stack([sim_numerators(sum1, sum2, first, second, l) for first, second in pairs])

    about = f"{SIM}: Sim (Eq. 9), by which the cloud ranks in the other schemes, on plaintext codes."
    return Ranker(SIM, "cloud's Sim (Eq. 9)", about, _nearest_first(distances, names))


def figures_of(
    ranker: Ranker, labels: NDArray[np.int64], queries: Queries, returned: int
) -> dict[str, Figures]:
    """Return every measure of a ranker, each of shape (q,), in the order of the queries."""
    return joined([ranking_measures(hits, returned) for hits in _hits(ranker, labels, queries)])


def _hits(ranker: Ranker, labels: NDArray[np.int64], queries: Queries) -> Iterator[Hits]:
    """Yield, in batches of queries, whether the image at each rank is of the query's category."""
    step = max(1, _AT_A_TIME // len(labels))
    for begin in range(0, len(queries), step):
        some = queries[begin : begin + step]
        yield labels[ranker.orders(some)] == labels[some][:, np.newaxis]


def _squared(features: Features) -> Callable[[Queries], Figures]:
    """Return Eq. 7 squared: |x|² + |y|² − 2xy.

    Every sum is an integer below 2^53, so it is exact in float64, whatever the order of summation.
    """
    wide = features.astype(np.float64)
    squares = np.einsum("ij,ij->i", wide, wide)

    def distances(queries: Queries) -> Figures:
        return np.asarray(squares + squares[queries][:, np.newaxis] - 2 * (wide[queries] @ wide.T))

    return distances


def _nearest_first(
    distances: Callable[[Queries], NDArray[np.number]], names: Sequence[str]
) -> Callable[[Queries], Orders]:
    """Rank by distance, without the query itself."""

    def orders(queries: Queries) -> Orders:
        found = []
        for query, row in zip(queries.tolist(), distances(queries), strict=True):
            ties = _ties(names[query], len(row))
            order = ties[np.argsort(row[ties], kind="stable")]
            found.append(order[order != query])
        return np.stack(found)

    return orders


def _ties(query: str, images: int) -> NDArray[np.int64]:
    """Return all images in the order that the KMC's code gives them at equal distance."""
    nearest = Nearest(images, _key(query))
    nearest.add(np.zeros(images, dtype=np.uint32), 0)
    return np.array([row for _, row in nearest.nearest()], dtype=np.int64)


def _key(query: str) -> bytes:
    """Return the key of the KMC's hash for ties: the query, and the number of the query image."""
    return f"{query} 0".encode()
