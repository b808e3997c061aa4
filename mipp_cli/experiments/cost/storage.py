"""Table 3: the size of encrypted features and index for 10,000 images, per scheme and modulus size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mipp_cli.cloud.cloud import INDEX_FILE, Cloud
from mipp_cli.cloud.store import PARTS_FOLDER
from mipp_cli.containers.base.stored import store_digests
from mipp_cli.containers.store.part import write_part
from mipp_cli.experiments.base.conclusions import within_reach
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.methods import both_sums
from mipp_cli.experiments.base.result import Claim, Observation, Result, where
from mipp_cli.experiments.base.trial_deployment import (
    SampleOptions,
    SchemeSetting,
    TrialDeployment,
    trial_deployment,
)
from mipp_cli.progress import Progress, silent
from mipp_cli.scheme.descriptor import DIMENSION
from mipp_cli.scheme.retrieval_index import ids_of, index_construct
from mipp_cli.user.user import DEFAULT_CANDIDATES

COLLECTION = 10_000
KB = 1024
"""The unit of Table 3, which calls 3,352,278 KB 3.2 GB."""

PAPER_FEATURES_KB = 3_352_278
PAPER_INDEX_KB = 267
_ALIKE = 1.25  # overhead beside the features is not part of the claim
FEATURES, INDEX = "encrypted features", "index"


def run_storage(dataset: DataSet, options: SampleOptions, progress: Progress = silent) -> list[Result]:
    """Measure real containers of a sample under every setting, and compute the size for 10,000 images."""
    rows: list[Observation] = []
    for setting in options.settings:
        rows += _measure(dataset, setting, options, progress)
    notes = _notes(dataset, min(options.images, len(dataset)))
    return [Result("storage", "Table 3: storage of 10,000 images", rows, _claims(rows), notes)]


def _measure(
    dataset: DataSet, setting: SchemeSetting, options: SampleOptions, progress: Progress
) -> Iterator[Observation]:
    images = dataset.files(options.draw(dataset))
    with trial_deployment(setting, dataset, options.parallelism, progress) as trial:
        upload = trial.encrypt("owner", images, "upload")
        place = trial.new_cloud("cloud", [upload])
        query = trial.query(images[:1], "query", DEFAULT_CANDIDATES)
        cloud = Cloud.open(place)
        features, pictures, names = _columns(cloud)
        whole, measured = len(images), "measured"
        multiplied = f"multiplied by {COLLECTION}/{whole}"
        rest = _bytes(upload) - features - pictures - names
        index = _bytes(place / INDEX_FILE, *(place / PARTS_FOLDER).iterdir())
        for what, count, size, how in (
            (FEATURES, whole, features, measured),
            (FEATURES, COLLECTION, round(features * COLLECTION / whole), multiplied),
            ("encrypted images", whole, pictures, measured),
            ("encrypted images", COLLECTION, round(pictures * COLLECTION / whole), multiplied),
            ("other parts of an upload, without names", whole, rest, measured),
            ("query of one image", 1, _bytes(query), measured),
            (INDEX, whole, index, measured),
            (INDEX, COLLECTION, _large_part(dataset, trial, cloud), "measured, with repeated pictures"),
        ):
            yield {**vars(setting), "what": what, "images": count, "bytes": size, "how": how}


def _columns(cloud: Cloud) -> tuple[int, int, int]:
    """Return the bytes of EF and EFF, of EW, and of the names, in the one upload that the cloud stores."""
    (segment,) = cloud.index().segments
    with cloud.store.segment(segment) as upload:
        features = sum(column.nbytes for column in upload.encrypted_features(0, len(upload)))
        pictures = sum(upload.container.ragged("EW").sizes(0, len(upload)))
        names = upload.container.ragged("image_names").total_bytes
    return features, pictures, names


def _large_part(dataset: DataSet, trial: TrialDeployment, cloud: Cloud) -> int:
    """Write an index of 10,000 images with the cloud's code, and return its size in bytes.

    The sums of the data set are repeated.
    """
    sum1, sum2 = (np.resize(sums, COLLECTION) for sums in both_sums(dataset.features).T)
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
        found = where(rows, what=what, images=COLLECTION)
        said = {SchemeSetting.of(row).label: f"{row['bytes'] / KB:,.0f} KB" for row in found}
        if len(set(said.values())) == 1 and len(said) > 1:
            said = {"every scheme": next(iter(said.values()))}
        return "\n".join(f"{name}: {size}" for name, size in said.items())

    def weighed(what: str, claimed: float) -> str:
        most = max(row["bytes"] for row in where(rows, what=what, images=COLLECTION))
        return within_reach(most / KB, claimed, _ALIKE)

    claimed = {FEATURES: PAPER_FEATURES_KB, INDEX: PAPER_INDEX_KB}
    return [
        Claim(
            "Table 3",
            f"{what.removeprefix('encrypted ')} of 10,000 images: {size:,} KB",
            figures(what),
            weighed(what, size),
        )
        for what, size in claimed.items()
    ]


def _notes(dataset: DataSet, images: int) -> list[str]:
    each = PAPER_FEATURES_KB * KB / (COLLECTION * 2 * DIMENSION)
    pairs = len(np.unique(both_sums(dataset.features), axis=0))
    return [
        f"Measured: real containers of {images} images per setting. Multiplied by {COLLECTION}/{images}: "
        "EF and EFF, whose rows all have the same size, and the encrypted images, whose sizes differ.",
        f"The index of {COLLECTION:,} images is measured, not multiplied: the cloud's code writes it with "
        f"the sums of the {len(dataset)} images repeated ({pairs:,} distinct pairs). It is the same in "
        "every scheme.",
        f"The paper's {PAPER_FEATURES_KB:,} KB are {each:,.0f} bytes per number, so p has about "
        f"{each * 4:,.0f} "
        "bits if numbers are stored in binary, which the paper does not say. 1 KB is 1,024 bytes, as in "
        "Table 3.",
    ]
