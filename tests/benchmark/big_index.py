"""Clouds whose index is as large as one likes: real segments of some images, and parts that are made up.

Of a part, its pairs of sums follow a normal distribution fitted to the sample pictures, its names are
32 hex digits drawn at random, and which image has which sums is random too. Its rows point to images of
the owner's one real segment, again and again, so a search reads real payloads. That a few of its matches
may be the same image does not concern the search, but the KMC would refuse such results.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mipp_cli.cloud.cloud import INDEX_FILE, Cloud
from mipp_cli.cloud.index import index_containers
from mipp_cli.compute.processes import Parallelism
from mipp_cli.containers.base.stored import store_digests
from mipp_cli.containers.store.index import Part, write_index
from mipp_cli.containers.store.part import PartContent, write_part
from mipp_cli.images.collection import collect_images
from mipp_cli.scheme.retrieval_index import PairTable
from mipp_cli.user.user import make_query
from tests.benchmark.materials import (
    OWNERS,
    SAMPLES,
    Roles,
    make_roles,
    synthetic_sums,
    write_synthetic_upload,
)

NAME_BYTES = 32
_SEGMENT_IMAGES = 1_000
_BATCH = 1 << 20


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
    path, pairs = cloud.store.part_path(part), synthetic_sums(rows, random)
    content = PartContent(pairs, rows * NAME_BYTES, _positions(pairs, random), _names(rows, random))
    write_part(path, cloud.directory.sender, part.number, content)
    return replace(part, root=store_digests(path))


def _names(rows: int, random: np.random.Generator) -> Iterator[tuple[list[bytes], NDArray[np.int64]]]:
    """Yield ascending names, each of 64 bits that ascend and 64 that are random, and rows of the segment."""
    step = 2**64 // rows
    for begin in range(0, rows, _BATCH):
        places = np.arange(begin, min(begin + _BATCH, rows))
        data = np.empty((len(places), 2), dtype=">u8")
        data[:, 0] = places.astype(np.uint64) * np.uint64(step) + random.integers(
            step, size=len(places), dtype=np.uint64
        )
        data[:, 1] = random.integers(2**64, size=len(places), dtype=np.uint64)
        names = np.frombuffer(data.tobytes().hex().encode("ascii"), dtype=f"S{NAME_BYTES}")
        yield names.tolist(), places % _SEGMENT_IMAGES


def _positions(pairs: PairTable, random: np.random.Generator) -> Iterator[NDArray[np.uint32]]:
    """Yield the places of all rows in the order of names: any order, ascending within each pair."""
    places = np.arange(pairs.rows, dtype=np.uint32)
    random.shuffle(places)
    for begin, end in zip(pairs.starts[:-1].tolist(), pairs.starts[1:].tolist(), strict=True):
        places[begin:end].sort()
    for begin in range(0, pairs.rows, _BATCH):
        yield places[begin : begin + _BATCH]
