"""The runs that Fig. 5–8 time: indexing and searching real containers by the commands' own code."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mipp_cli.cloud.index import index_containers
from mipp_cli.cloud.search import search
from mipp_cli.compute.processes import Parallelism
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.methods import Order
from mipp_cli.experiments.base.seeds import generator
from mipp_cli.experiments.base.trial_deployment import TrialDeployment, make_trial_deployment
from mipp_cli.images.collection import ImageFile
from mipp_cli.progress import Progress
from mipp_cli.scheme.similarity import euclidean_distances
from mipp_cli.user.user import make_query

INDEX, PLAIN, WITH_INDEX, WITHOUT_INDEX = "index", "plain", "with index", "without index"
ONE_IMAGE = "with index, one image returned"
_ORDER = 105  # the purposes of generators
_ASKED = 106
_OWNER = "owner"

Timed = tuple[int, str, int, float]
"""Images, what was done, which repeat, and the seconds it took."""


def seconds(work: Callable[[], object]) -> float:
    """Return how long ``work`` takes, by the clock on the wall."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


@dataclass(frozen=True)
class Collection:
    """As many pictures as asked for, in an order drawn from the seed; the same again when they run out.

    Pictures that come again have names of their own, and are encrypted again like any other.
    """

    dataset: DataSet
    seed: int

    def positions(self, size: int) -> Order:
        """Return which pictures of the data set the first ``size`` are."""
        order = generator(self.seed, _ORDER).permutation(len(self.dataset))
        return np.asarray(np.resize(order, size))

    def images(self, begin: int, end: int) -> list[ImageFile]:
        """Return pictures ``begin`` to ``end``, each under a name of its own."""
        dataset = self.dataset
        images = []
        for number, position in enumerate(self.positions(end).tolist()[begin:], start=begin):
            again = number // len(dataset)
            name = f"again-{again}/{dataset.names[position]}" if again else dataset.names[position]
            images.append(ImageFile(dataset.images[position].path, name))
        return images

    def queries(self, count: int) -> list[ImageFile]:
        """Return the query pictures at those positions."""
        dataset = self.dataset
        return [ImageFile(dataset.images[i].path, dataset.names[i]) for i in self.asked(count).tolist()]

    def asked(self, count: int) -> Order:
        """Return the positions of ``count`` query pictures, drawn from the seed."""
        return generator(self.seed, _ASKED).integers(len(self.dataset), size=count).astype(np.int64)


@dataclass(frozen=True)
class TimedDeployment:
    """A deployment whose owner sent uploads that add up to each of ``sizes``, and a user's queries.

    ``for_one`` are the same queries for one image instead of many: what is left of a search then is to
    find it.
    """

    deployment: TrialDeployment
    sizes: tuple[int, ...]
    uploads: tuple[Path, ...]
    queries: tuple[Path, ...]
    for_one: tuple[Path, ...]
    encrypting: float
    parallelism: Parallelism

    def runs(self) -> Iterator[Timed]:
        """Index and search at each size, once for each query; the smallest size once more before, untimed."""
        for _ in self._at(1, range(1)):
            pass
        for pieces in range(1, len(self.sizes) + 1):
            yield from self._at(pieces, range(len(self.queries)))

    def _at(self, pieces: int, repeats: range) -> Iterator[Timed]:
        size, uploads = self.sizes[pieces - 1], self.uploads[:pieces]
        answer = self.deployment.root / "results.h5"
        for repeat in repeats:
            cloud = self.deployment.new_cloud(f"{pieces}-{repeat}-{len(repeats)}")
            index = partial(index_containers, cloud, uploads, parallelism=self.parallelism)
            ask = partial(search, output=answer, parallelism=self.parallelism, force=True)
            query, for_one = self.queries[repeat], self.for_one[repeat]
            yield size, INDEX, repeat, seconds(index)
            yield size, WITH_INDEX, repeat, seconds(partial(ask, cloud, query))
            yield size, ONE_IMAGE, repeat, seconds(partial(ask, cloud, for_one))
            yield size, WITHOUT_INDEX, repeat, seconds(partial(ask, cloud, query, without_index=True))
            shutil.rmtree(cloud)

    def remove(self) -> None:
        """Remove everything that was made; a large collection takes much of a disk."""
        shutil.rmtree(self.deployment.root)


def timed_deployment(
    root: Path,
    scheme: str,
    modulus_bits: int | None,
    collection: Collection,
    sizes: Sequence[int],
    repeats: int,
    candidates: int,
    parallelism: Parallelism,
    progress: Progress,
) -> TimedDeployment:
    """Encrypt a collection piece by piece, so that the first pieces are the smaller collections."""
    deployment = make_trial_deployment(root, scheme, modulus_bits, owners=(_OWNER,))
    pictures = collection.queries(repeats)
    queries = _ask_for(deployment, pictures, candidates)
    for_one = _ask_for(deployment, pictures, 1)
    begin = time.perf_counter()
    uploads = [
        deployment.encrypt(_OWNER, collection.images(start, end), f"upload-{end}", parallelism, progress)
        for start, end in zip((0, *sizes[:-1]), sizes, strict=True)
    ]
    encrypting = time.perf_counter() - begin
    return TimedDeployment(
        deployment, tuple(sizes), tuple(uploads), queries, for_one, encrypting, parallelism
    )


def _ask_for(deployment: TrialDeployment, pictures: Sequence[ImageFile], candidates: int) -> tuple[Path, ...]:
    """Make a query of each picture for so many candidates."""
    queries = []
    for number, picture in enumerate(pictures):
        queries.append(deployment.root / f"query-{number}-{candidates}.h5")
        make_query(deployment.user, [picture], queries[-1], candidates=candidates, force=True)
    return tuple(queries)


def plain_runs(
    folder: Path, collection: Collection, sizes: Sequence[int], repeats: int, candidates: int
) -> Iterator[Timed]:
    """Search plain features at each size: read from a file, EucDis (Eq. 7) to all, the nearest in order."""
    dataset = collection.dataset
    for size in sizes:
        path = folder / f"features-{size}.npy"
        np.save(path, dataset.features[collection.positions(size)])
        nearest_plain(path, dataset.features[0], candidates)  # as the others: once before it is timed
        for repeat, position in enumerate(collection.asked(repeats).tolist()):
            ask = partial(nearest_plain, path, dataset.features[position], candidates)
            yield size, PLAIN, repeat, seconds(ask)


def nearest_plain(path: Path, query: NDArray[np.uint8], count: int) -> Order:
    """Return the nearest rows of the features in a file, by EucDis (Eq. 7), ties by their order."""
    distances = euclidean_distances(np.load(path), query)
    return np.argsort(distances, kind="stable")[:count].astype(np.int64)
