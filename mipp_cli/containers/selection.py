"""`selection` (KMC → cloud, scheme `exact`): the query byte for byte, and the places of images to answer it.

A selection has no order, no distances and no query images: what matches what stays with the KMC.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from mipp_cli.containers.columns import Matrix, Ragged
from mipp_cli.containers.container import Container, Schema, Sender, open_container, write_container
from mipp_cli.containers.header import IDENTIFIER, Header
from mipp_cli.containers.query import QUERY_BYTES_LIMIT
from mipp_cli.errors import MalformedError
from mipp_cli.scheme.feature_chunks import ChunkPlace

SELECTION = Schema(
    "selection",
    {
        "query": Matrix("u1"),
        "owners": Ragged(limit=64),
        "uploads": Matrix("<u8"),
        "chunk_numbers": Matrix("<u4"),
        "chunk_versions": Matrix("<u8"),
        "rows": Matrix("<u4"),
    },
)
_IMAGES_LIMIT = 2**27


@dataclass(frozen=True, order=True)
class SelectedRow:
    """An image by its place: owner, chunk, row within the chunk, and the version of the chunk."""

    owner: str
    chunk: ChunkPlace
    row: int
    version: int


def write_selection(
    path: Path,
    sender: Sender,
    query_id: str,
    query: bytes,
    images: Sequence[SelectedRow],
    *,
    force: bool = False,
) -> None:
    """Write a `selection`; the images are sorted by place, so that their order tells nothing."""
    images = sorted(images)
    numbers = {
        "uploads": [image.chunk.upload for image in images],
        "chunk_numbers": [image.chunk.number for image in images],
        "chunk_versions": [image.version for image in images],
        "rows": [image.row for image in images],
    }
    with write_container(path, SELECTION, sender, query_id, force=force) as writer:
        writer.matrix("query").append(np.frombuffer(query, dtype=np.uint8))
        for name, values in numbers.items():
            writer.matrix(name).append(np.array(values, dtype=np.uint64))
        for image in images:
            writer.ragged("owners").append(image.owner.encode("ascii"))


@dataclass(frozen=True)
class Selection:
    """A verified selection: its header, the query's bytes, and the images, ascending by place."""

    header: Header
    query_octets: bytes
    images: tuple[SelectedRow, ...]


def read_selection(path: Path, deployment: str, check: Callable[[Header], None] | None = None) -> Selection:
    """Read and verify a `selection`; raises MalformedError for images twice or out of order."""
    with open_container(path, SELECTION, deployment=deployment, check=check) as container:
        images = _read_images(container)
        return Selection(container.header, container.octets("query", QUERY_BYTES_LIMIT), images)


def _read_images(container: Container) -> tuple[SelectedRow, ...]:
    names = list(SELECTION.columns)[1:]
    if container.same_length(*names) > _IMAGES_LIMIT:
        raise MalformedError("selects more images than an answer can have")
    owners = container.ragged("owners").texts()
    if not all(IDENTIFIER.fullmatch(owner) for owner in owners):
        raise MalformedError("names an owner by an identifier that is not one")
    uploads, numbers, versions, rows = (container.matrix(name).all().tolist() for name in names[1:])
    fields = zip(owners, uploads, numbers, rows, versions, strict=True)
    images = tuple(
        SelectedRow(owner, ChunkPlace(upload, number), row, version)
        for owner, upload, number, row, version in fields
    )
    places = [(image.owner, image.chunk, image.row) for image in images]
    if any(first >= second for first, second in pairwise(places)):
        raise MalformedError("selects an image twice, or images in another order than that of their places")
    return images
