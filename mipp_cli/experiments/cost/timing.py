"""Fig. 5–8: times of indexing and retrieval by number of images, and the paper's ratios."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from mipp_cli.cloud.index import index_containers
from mipp_cli.cloud.search import search
from mipp_cli.compute.processes import LOCAL, Parallelism
from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.methods import Order
from mipp_cli.experiments.base.result import Observation, Result, where
from mipp_cli.experiments.base.seeds import Purpose, generator
from mipp_cli.experiments.base.trial_deployment import SchemeSetting, TrialDeployment, trial_deployment
from mipp_cli.experiments.cost.time_claims import (
    INDEX,
    ONE_IMAGE,
    PLAIN,
    WITH_INDEX,
    WITHOUT_INDEX,
    ratio_claims,
    time_claims,
)
from mipp_cli.images.collection import ImageFile
from mipp_cli.progress import Progress, silent
from mipp_cli.scheme.similarity import euclidean_distances

INDEX_NAME, RETRIEVAL_NAME = "timing-index", "timing-retrieval"
ENCRYPTING = "encrypting"
_OWNERS = (_OWNER, _WARMING_UP) = ("owner", "warming-up")

Timed = tuple[int, str, int, float]
"""Number of images, step, repeat, and seconds."""


@dataclass(frozen=True)
class TimingOptions:
    """What to time per setting: each of ``sizes``, ``repeats`` times, with queries for ``candidates``."""

    settings: tuple[SchemeSetting, ...]
    sizes: tuple[int, ...] = (100, 250, 500, 1000)
    repeats: int = 5
    candidates: int = 100
    seed: int = 1
    parallelism: Parallelism = LOCAL

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 1 or self.repeats < 1 or self.candidates < 1:
            raise InvalidRequestError(
                "sizes, repeats and candidates must be at least 1", hint="give 1 or more"
            )
        if not self.settings:
            raise InvalidRequestError("no scheme is given", hint="name one or more with --scheme")

    @property
    def ascending(self) -> tuple[int, ...]:
        """The distinct sizes, ascending."""
        return tuple(sorted(set(self.sizes)))


@dataclass(frozen=True)
class Collection:
    """As many pictures as needed, in an order drawn from the seed, and repeated if there are too few.

    Repeated pictures get new names, and are encrypted again like any other.
    """

    dataset: DataSet
    seed: int

    def positions(self, size: int) -> Order:
        """Return the positions of the first ``size`` pictures in the data set."""
        order = generator(self.seed, Purpose.TIMED_ORDER).permutation(len(self.dataset))
        return np.asarray(np.resize(order, size))

    def images(self, begin: int, end: int) -> list[ImageFile]:
        """Return pictures ``begin`` to ``end``, each with a distinct name."""
        images = []
        for number, image in enumerate(self.dataset.files(self.positions(end)[begin:]), start=begin):
            again = number // len(self.dataset)
            images.append(ImageFile(image.location, f"again-{again}/{image.name}") if again else image)
        return images

    def asked(self, count: int) -> Order:
        """Return the positions of ``count`` query pictures, drawn from the seed."""
        return generator(self.seed, Purpose.TIMED_QUERIES).integers(len(self.dataset), size=count)


def run_timing(dataset: DataSet, options: TimingOptions, progress: Progress = silent) -> list[Result]:
    """Time Fig. 5 (index construction) and Fig. 6–8 (retrieval); nothing is extrapolated.

    Raises InvalidRequestError for a scheme and modulus that cannot be combined.
    """
    collection = Collection(dataset, options.seed)
    rows = list(_rows(plain_runs(collection, options), SchemeSetting(PLAIN, None), dataset))
    for setting in options.settings:
        rows += _rows(encrypted_runs(setting, collection, options, progress), setting, dataset)
    index, encrypting = (where(rows, step=step) for step in (INDEX, ENCRYPTING))
    retrieval = [row for row in rows if row["step"] not in (INDEX, ENCRYPTING)]
    took = "; ".join(f"{SchemeSetting.of(row).label}: {row['seconds']:.1f} s" for row in encrypting)
    notes = [*_notes(dataset, options), f"Encrypting {options.ascending[-1]} images once took: {took}."]
    claims = [*time_claims(retrieval), *ratio_claims(retrieval)]
    return [
        Result(INDEX_NAME, "Fig. 5: index construction time", index, time_claims(index), notes),
        Result(RETRIEVAL_NAME, "Fig. 6–8: retrieval time", retrieval, claims, notes),
    ]


def _rows(timed: Iterable[Timed], setting: SchemeSetting, dataset: DataSet) -> Iterator[Observation]:
    for images, step, repeat, taken in timed:
        yield {
            **vars(setting),
            "step": step,
            "images": images,
            "pictures_repeat": int(images > len(dataset)),
            "repeat": repeat + 1,
            "seconds": taken,
        }


def encrypted_runs(
    setting: SchemeSetting, collection: Collection, options: TimingOptions, progress: Progress
) -> Iterator[Timed]:
    """Encrypt a collection in pieces, then index and search the first pieces at each size.

    Everything is first done once untimed: an owner encrypts one image, and the smallest size is indexed and
    searched. Each query is also run for a single image, to time the search without the images of the answer.
    """
    sizes, repeats = options.ascending, options.repeats
    with trial_deployment(
        setting, collection.dataset, options.parallelism, progress, owners=_OWNERS
    ) as trial:
        queries = _queries(trial, collection, repeats, options.candidates)
        for_one = _queries(trial, collection, repeats, 1)
        trial.encrypt(_WARMING_UP, collection.images(0, 1), _WARMING_UP)
        begin = time.perf_counter()
        uploads = [
            trial.encrypt(_OWNER, collection.images(start, end), f"upload-{end}")
            for start, end in zip((0, *sizes[:-1]), sizes, strict=True)
        ]
        yield sizes[-1], ENCRYPTING, 0, time.perf_counter() - begin

        def runs(pieces: int, repeats: int) -> Iterator[Timed]:
            size, index = sizes[pieces - 1], partial(index_containers, parallelism=options.parallelism)
            answer = trial.root / "results.h5"
            ask = partial(search, output=answer, parallelism=options.parallelism, force=True)
            for repeat in range(repeats):
                cloud = trial.new_cloud(f"{pieces}-{repeat}-{repeats}")
                query = queries[repeat]
                yield size, INDEX, repeat, seconds(partial(index, cloud, uploads[:pieces]))
                yield size, WITH_INDEX, repeat, seconds(partial(ask, cloud, query))
                yield size, ONE_IMAGE, repeat, seconds(partial(ask, cloud, for_one[repeat]))
                yield size, WITHOUT_INDEX, repeat, seconds(partial(ask, cloud, query, without_index=True))
                shutil.rmtree(cloud)

        with progress(f"timing scheme {setting.label}", len(sizes) * repeats * 4, "measurement") as advance:
            for _ in runs(1, 1):
                pass
            for pieces in range(1, len(sizes) + 1):
                for timed in runs(pieces, repeats):
                    yield timed
                    advance(1)


def _queries(trial: TrialDeployment, collection: Collection, count: int, candidates: int) -> list[Path]:
    """Create a query of each query picture, for ``candidates`` candidates."""
    asked = collection.dataset.files(collection.asked(count))
    return [
        trial.query([image], f"query-{number}-{candidates}", candidates) for number, image in enumerate(asked)
    ]


def plain_runs(collection: Collection, options: TimingOptions) -> Iterator[Timed]:
    """Search plaintext features at each size: read them, compute EucDis (Eq. 7) to all, sort the nearest."""
    features = collection.dataset.features
    with TemporaryDirectory(prefix="mipp-experiment-") as folder:
        for size in options.ascending:
            path = Path(folder, f"features-{size}.npy")
            np.save(path, features[collection.positions(size)])
            nearest_plain(path, features[0], options.candidates)  # once untimed, like the others
            for repeat, position in enumerate(collection.asked(options.repeats).tolist()):
                ask = partial(nearest_plain, path, features[position], options.candidates)
                yield size, PLAIN, repeat, seconds(ask)


def nearest_plain(path: Path, query: NDArray[np.uint8], count: int) -> Order:
    """Return the nearest rows of the features in a file, by EucDis (Eq. 7), ties by their order."""
    return np.argsort(euclidean_distances(np.load(path), query), kind="stable")[:count]


def seconds(work: Callable[[], object]) -> float:
    """Return the wall-clock time of ``work``."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _notes(dataset: DataSet, options: TimingOptions) -> list[str]:
    jobs = options.parallelism.jobs or "one per processor"
    built_in = dataset.described.built_in
    describing = (
        "" if built_in else " Encrypting reads codes from a file, so it does not include describing pictures."
    )
    notes = [
        "Times are of the commands' code on real containers, from verifying the input to the finished "
        f"output, in one warm process (jobs for the sums of many images: {jobs}), without the start of "
        "Python. Each timed path is run once untimed before: encryption on one image of another owner, "
        "index and encrypted retrieval at the smallest size, plain retrieval at each size.",
        "Index: `cloud index` of all uploads into an empty cloud. With and without index: `cloud search` "
        f"of one query for {options.candidates} candidates, which verifies signatures, reads the encrypted "
        "images of the answer and writes them to results.h5. The same queries for one image show the time "
        "of the search alone.",
        f"Plain: reads the features ({dataset.features.shape[1]} bytes per image) from a file, computes "
        f"EucDis to all with numpy, and sorts the {options.candidates} nearest; no image is read. This is "
        "a fair plaintext implementation, but does less work than the encrypted search.",
        f"Every point is measured {options.repeats} times, each with another query; the figures are "
        "median, smallest and largest. The collections are the first uploads of one owner, encrypted "
        f"once.{describing}",
    ]
    if max(options.sizes) > len(dataset):
        notes.append(
            f"Above {len(dataset)} images the pictures are repeated under new names and encrypted again."
        )
    return notes
