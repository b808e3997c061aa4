"""Fig. 5–8: how long indexing and retrieval take against the number of images, and the paper's ratios."""

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
"""Images, what was done, which repeat, and the seconds it took."""


@dataclass(frozen=True)
class TimingOptions:
    """What is timed under each setting: each of ``sizes`` ``repeats`` times, asking for ``candidates``."""

    settings: tuple[SchemeSetting, ...]
    sizes: tuple[int, ...] = (100, 250, 500, 1000)
    repeats: int = 5
    candidates: int = 100
    seed: int = 1
    parallelism: Parallelism = LOCAL

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 1 or self.repeats < 1 or self.candidates < 1:
            raise InvalidRequestError("sizes, repeats and candidates begin at 1", hint="give 1 or more")
        if not self.settings:
            raise InvalidRequestError("there is no scheme to time", hint="name one or more")

    @property
    def ascending(self) -> tuple[int, ...]:
        """The sizes, each once, ascending."""
        return tuple(sorted(set(self.sizes)))


@dataclass(frozen=True)
class Collection:
    """As many pictures as asked for, in an order drawn from the seed; the same again when they run out.

    Pictures that come again have names of their own, and are encrypted again like any other.
    """

    dataset: DataSet
    seed: int

    def positions(self, size: int) -> Order:
        """Return which pictures of the data set the first ``size`` are."""
        order = generator(self.seed, Purpose.TIMED_ORDER).permutation(len(self.dataset))
        return np.asarray(np.resize(order, size))

    def images(self, begin: int, end: int) -> list[ImageFile]:
        """Return pictures ``begin`` to ``end``, each under a name of its own."""
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

    Raises InvalidRequestError for a scheme and modulus that do not go together.
    """
    collection = Collection(dataset, options.seed)
    rows = list(_rows(plain_runs(collection, options), SchemeSetting(PLAIN, None), dataset))
    for setting in options.settings:
        rows += _rows(encrypted_runs(setting, collection, options, progress), setting, dataset)
    index, encrypting = (where(rows, step=step) for step in (INDEX, ENCRYPTING))
    retrieval = [row for row in rows if row["step"] not in (INDEX, ENCRYPTING)]
    took = "; ".join(f"{SchemeSetting.of(row).label}: {row['seconds']:.1f} s" for row in encrypting)
    notes = [*_notes(dataset, options), f"Encrypting {options.ascending[-1]} images, once: {took}."]
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
    """Encrypt a collection in pieces, then index and search what the first pieces are at each size.

    Everything is done once before, untimed: an owner with one image encrypts it, and the smallest size is
    indexed and searched. Each query is asked for one image too: what is left of a search then is to find it.
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

        with progress(f"timing {setting.scheme}", len(sizes) * repeats * 4, "run") as advance:
            for _ in runs(1, 1):
                pass
            for pieces in range(1, len(sizes) + 1):
                for timed in runs(pieces, repeats):
                    yield timed
                    advance(1)


def _queries(trial: TrialDeployment, collection: Collection, count: int, candidates: int) -> list[Path]:
    """Make a query of each picture that is asked with, for so many candidates."""
    asked = collection.dataset.files(collection.asked(count))
    return [
        trial.query([image], f"query-{number}-{candidates}", candidates) for number, image in enumerate(asked)
    ]


def plain_runs(collection: Collection, options: TimingOptions) -> Iterator[Timed]:
    """Search plain features at each size: read from a file, EucDis (Eq. 7) to all, the nearest in order."""
    features = collection.dataset.features
    with TemporaryDirectory(prefix="mipp-experiment-") as folder:
        for size in options.ascending:
            path = Path(folder, f"features-{size}.npy")
            np.save(path, features[collection.positions(size)])
            nearest_plain(path, features[0], options.candidates)  # as the others: once before it is timed
            for repeat, position in enumerate(collection.asked(options.repeats).tolist()):
                ask = partial(nearest_plain, path, features[position], options.candidates)
                yield size, PLAIN, repeat, seconds(ask)


def nearest_plain(path: Path, query: NDArray[np.uint8], count: int) -> Order:
    """Return the nearest rows of the features in a file, by EucDis (Eq. 7), ties by their order."""
    return np.argsort(euclidean_distances(np.load(path), query), kind="stable")[:count]


def seconds(work: Callable[[], object]) -> float:
    """Return how long ``work`` takes, by the clock on the wall."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _notes(dataset: DataSet, options: TimingOptions) -> list[str]:
    jobs = options.parallelism.jobs or "as many as processors"
    built_in = dataset.described.built_in
    describing = "" if built_in else " Encrypting takes codes from a file: no picture is described in it."
    notes = [
        "The commands' own code on real containers, from verifying the input to the output in its place, in "
        f"one warm process (jobs for the sums of many images: {jobs}); the start of Python is not counted. "
        "Each path that is timed is run once before, untimed: encrypting on one image of another owner, "
        "index and encrypted retrieval at the smallest size, plain retrieval at each size.",
        "Index: `cloud index` of all uploads into an empty cloud. With and without index: `cloud search` of "
        f"one query for {options.candidates} candidates; it checks signatures, reads the encrypted images of "
        "the answer and writes them into results.h5. The same queries for one image show what it takes "
        "to find, without the images.",
        f"Plain: the features ({dataset.features.shape[1]} bytes an image) are read from a file, EucDis to "
        f"all of them with numpy, and the {options.candidates} nearest in order; no image is read. A fair "
        "plain implementation, and less work than the encrypted search does.",
        f"Every point {options.repeats} times, each with another query; median, and smallest to largest. A "
        f"collection of a size is the first uploads of its owner, who encrypted once.{describing}",
    ]
    if max(options.sizes) > len(dataset):
        notes.append(
            f"Above {len(dataset)} images the same pictures come again under new names, encrypted again."
        )
    return notes
