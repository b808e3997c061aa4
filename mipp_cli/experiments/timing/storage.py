"""Table 3: what encrypted features and the index of 10,000 images take, for each scheme and modulus size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mipp_cli.cloud.cloud import INDEX_FILE, Cloud
from mipp_cli.cloud.index import index_containers
from mipp_cli.cloud.store import PARTS_FOLDER
from mipp_cli.compute.processes import LOCAL, Parallelism
from mipp_cli.containers.base.stored import store_digests
from mipp_cli.containers.store.part import write_part
from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.result import Claim, Observation, Result
from mipp_cli.experiments.base.settings import SchemeSetting, draw_sample, image_files
from mipp_cli.experiments.base.trial_deployment import TrialDeployment, make_trial_deployment
from mipp_cli.progress import Progress, silent
from mipp_cli.scheme.retrieval_index import ids_of, index_construct
from mipp_cli.user.user import make_query

COLLECTION = 10_000
KB = 1024
"""Table 3 counts so: it calls 3,352,278 KB 3.2 GB."""

PAPER_FEATURES_KB = 3_352_278
PAPER_INDEX_KB = 267
FEATURES, INDEX = "encrypted features", "index"


@dataclass(frozen=True)
class StorageOptions:
    """Which schemes and moduli, and how many images are really encrypted under each."""

    settings: tuple[SchemeSetting, ...]
    images: int = 10
    seed: int = 1
    parallelism: Parallelism = LOCAL

    def __post_init__(self) -> None:
        if self.images < 1:
            raise InvalidRequestError("a sample needs an image", hint="give 1 or more")


def run_storage(dataset: DataSet, options: StorageOptions, progress: Progress = silent) -> list[Result]:
    """Measure real containers of a sample under every setting, and say what 10,000 images take."""
    rows: list[Observation] = []
    for setting in options.settings:
        rows += _measure(dataset, setting, options, progress)
    images = min(options.images, len(dataset))
    return [
        Result("storage", "Table 3: storage of 10,000 images", rows, _claims(rows), _notes(dataset, images))
    ]


def _measure(
    dataset: DataSet, setting: SchemeSetting, options: StorageOptions, progress: Progress
) -> Iterator[Observation]:
    sample = draw_sample(dataset, options.images, options.seed)
    with TemporaryDirectory(prefix="mipp-experiment-") as folder:
        trial = make_trial_deployment(Path(folder), setting.scheme, setting.modulus_bits)
        place = trial.new_cloud("cloud")
        files = image_files(dataset, sample)
        upload = trial.encrypt("owner", files, "upload", options.parallelism, progress)
        index_containers(place, [upload], parallelism=options.parallelism, progress=progress)
        query = Path(folder, "query.h5")
        make_query(trial.user, files[:1], query)
        cloud = Cloud.open(place)
        features, pictures, names = _columns(cloud)
        index = _bytes(place / INDEX_FILE, *(place / PARTS_FOLDER).iterdir())
        whole = len(sample)

        def row(what: str, size: int, images: int, how: str) -> Observation:
            return {
                "scheme": setting.scheme,
                "modulus_bits": setting.modulus_bits,
                "what": what,
                "images": images,
                "bytes": size,
                "how": how,
            }

        measured = "measured"
        multiplied = f"multiplied by {COLLECTION}/{whole}"
        yield row(FEATURES, features, whole, measured)
        yield row(FEATURES, round(features * COLLECTION / whole), COLLECTION, multiplied)
        yield row("encrypted images", pictures, whole, measured)
        yield row("encrypted images", round(pictures * COLLECTION / whole), COLLECTION, multiplied)
        overhead = _bytes(upload) - features - pictures - names
        yield row("the rest of an upload, but for names", overhead, whole, measured)
        yield row("query of one image", _bytes(query), 1, measured)
        yield row(INDEX, index, whole, measured)
        large = _large_part(dataset, trial, cloud)
        yield row(INDEX, large, COLLECTION, "measured, pictures repeated")


def _columns(cloud: Cloud) -> tuple[int, int, int]:
    """Return the bytes of EF and EFF, of EW, and of the names, in the one upload that the cloud stores."""
    (segment,) = cloud.index().segments
    with cloud.store.segment(segment) as upload:
        features = sum(column.nbytes for column in upload.encrypted_features(0, len(upload)))
        pictures = sum(upload.container.ragged("EW").sizes(0, len(upload)))
        names = upload.container.ragged("image_names").total_bytes
    return features, pictures, names


def _large_part(dataset: DataSet, trial: TrialDeployment, cloud: Cloud) -> int:
    """Write an index of 10,000 images by the cloud's own code, and return its bytes.

    The sums are the data set's, over again.
    """
    wide = dataset.features.astype(np.int64)
    sum1, sum2 = (np.resize(sums, COLLECTION) for sums in (wide.sum(axis=1), (wide * wide).sum(axis=1)))
    path = trial.root / "large" / "1.h5"
    path.parent.mkdir()
    rows = index_construct(sum1, sum2, ids_of(str(number).encode() for number in range(COLLECTION)))
    write_part(path, cloud.directory.sender, 1, [rows])
    store_digests(path)
    return _bytes(*path.parent.iterdir(), cloud.directory.file(INDEX_FILE))


def _bytes(*paths: Path) -> int:
    return sum(path.stat().st_size for path in paths)


def _claims(rows: Sequence[Observation]) -> list[Claim]:
    def figures(what: str) -> str:
        said: dict[str, int] = {}
        for row in rows:
            if row["what"] == what and row["images"] == COLLECTION:
                bits = row["modulus_bits"]
                name = str(row["scheme"]) if bits is None else f"{row['scheme']} {bits}"
                said[name] = int(row["bytes"] or 0)
        if len(set(said.values())) == 1 and len(said) > 1:
            said = {"every scheme": next(iter(said.values()))}
        return "\n".join(f"{name}: {size / KB:,.0f} KB" for name, size in said.items())

    return [
        Claim("Table 3", f"features of 10,000 images: {PAPER_FEATURES_KB:,} KB", figures(FEATURES)),
        Claim("Table 3", f"index of 10,000 images: {PAPER_INDEX_KB} KB", figures(INDEX)),
    ]


def _notes(dataset: DataSet, images: int) -> list[str]:
    numbers = COLLECTION * 2 * dataset.features.shape[1]
    each = PAPER_FEATURES_KB * KB / numbers
    pairs = len({(int(row.sum()), int((row * row).sum())) for row in dataset.features.astype(np.int64)})
    return [
        f"Measured: real containers of {images} images under each setting. Multiplied by "
        f"{COLLECTION}/{images}: EF and EFF, whose rows all have one size, and the encrypted images, whose "
        "sizes differ.",
        f"The index of {COLLECTION:,} images is measured, not multiplied: written by the cloud's own code "
        f"with the sums of the {len(dataset)} images over again ({pairs:,} distinct pairs). It is the same "
        "under every scheme.",
        f"The paper's {PAPER_FEATURES_KB:,} KB are {each:,.0f} bytes a number: p of about {each * 4:,.0f} "
        "bits, if numbers are stored in binary; the paper does not say. KB are 1,024 bytes, as in its sum.",
    ]
