"""Clouds whose index is as large as one likes: real segments of some images, and parts that are made up.

Of a part, its pairs of sums follow a normal distribution fitted to the sample pictures, and its ids are drawn
at random. Its rows point to images of the owner's one real segment, again and again, so a search reads real
payloads. That a few of its matches may be the same image does not concern the search, but the KMC would
refuse such results.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mipp_cli.cloud.cloud import INDEX_FILE, Cloud
from mipp_cli.cloud.index import index_containers
from mipp_cli.compute.processes import Parallelism
from mipp_cli.containers.base.stored import store_digests
from mipp_cli.containers.store.index import Part, write_index
from mipp_cli.containers.store.part import write_part
from mipp_cli.images.collection import collect_images
from mipp_cli.scheme.retrieval_index import ID, ID_BYTES, PairTable, Rows, keys_of
from mipp_cli.user.user import make_query
from tests.benchmark.materials import (
    OWNERS,
    SAMPLES,
    Roles,
    make_roles,
    synthetic_sums,
    write_synthetic_upload,
)

_SEGMENT_IMAGES = 1_000


def synthetic_cloud(folder: Path, rows: int) -> tuple[Roles, Path]:
    """Make a deployment of scheme `mask` in ``folder`` whose cloud has ``rows`` rows over three owners.

    Returns its roles, and a query of one picture that may search all of them.
    """
    roles = make_roles(folder, "mask", OWNERS)
    uploads = [
        write_synthetic_upload(roles, owner, _SEGMENT_IMAGES, folder / f"{owner}.h5") for owner in OWNERS
    ]
    index_containers(roles.cloud, uploads, parallelism=Parallelism(jobs=1))
    for upload in uploads:
        upload.unlink()
    cloud = Cloud.open(roles.cloud)
    index, random = cloud.index(), np.random.default_rng(2018)
    shares = [rows // len(OWNERS) + (number < rows % len(OWNERS)) for number in range(len(OWNERS))]
    parts = [_replaced(cloud, part, share, random) for part, share in zip(index.parts, shares, strict=True)]
    changed = replace(index, number=index.number + 1, parts=tuple(parts))
    write_index(cloud.directory.file(INDEX_FILE), cloud.directory.sender, changed)
    query = folder / "query.h5"
    make_query(roles.user, collect_images([SAMPLES / "queries" / "chest.jpg"]), query)
    return roles, query


def cached_cloud(cache: Path, rows: int) -> tuple[Roles, Path]:
    """Return a synthetic cloud that is kept in ``cache``, made if it is not there yet."""
    folder = cache / f"cloud-of-{rows}-rows"
    if not folder.exists():
        building = cache / f"{folder.name}.unfinished"
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        synthetic_cloud(building, rows)
        building.rename(folder)
    return Roles(folder, OWNERS), folder / "query.h5"


def _replaced(cloud: Cloud, part: Part, rows: int, random: np.random.Generator) -> Part:
    """Write a part of so many rows in the place of one."""
    path = cloud.store.part_path(part)
    table = _SyntheticTable(synthetic_sums(rows, random), random)
    write_part(path, cloud.directory.sender, part.number, [table])
    return replace(part, root=store_digests(path))


@dataclass(frozen=True)
class _SyntheticTable:
    """Rows of these pairs, which are to be read once; ids ascend within a batch and not beyond it."""

    pairs: PairTable
    random: np.random.Generator

    def __len__(self) -> int:
        return self.pairs.rows

    def read(self, begin: int, end: int) -> Rows:
        """Draw rows ``begin`` to ``end``."""
        images = np.arange(begin, end)
        pair = np.searchsorted(self.pairs.starts, images.astype(np.uint64), side="right") - 1
        ids = np.frombuffer(self.random.bytes(ID_BYTES * len(images)), dtype=ID)
        keys = keys_of(self.pairs.sum1[pair], self.pairs.sum2[pair], ids)
        return Rows(np.sort(keys), images % _SEGMENT_IMAGES)
