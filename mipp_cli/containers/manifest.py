"""`manifest` (owner → cloud → KMC, scheme `exact`): which chunks of an owner's features are live."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from mipp_cli.containers.columns import Matrix
from mipp_cli.containers.container import Schema, Sender, open_source, write_container
from mipp_cli.containers.header import BLOCK_BYTES, LARGEST_NUMBER, Header
from mipp_cli.containers.source import BytesSource
from mipp_cli.errors import MalformedError
from mipp_cli.scheme.feature_chunks import ChunkPlace, LiveChunk, chunk_rows
from mipp_cli.scheme.parameters import Parameters

MANIFEST_BYTES_LIMIT = 1 << 28
MANIFEST = Schema(
    "manifest",
    {
        "chunk_uploads": Matrix("<u8"),
        "chunk_numbers": Matrix("<u4"),
        "chunk_versions": Matrix("<u8"),
        "chunk_keys": Matrix("<u8"),
        "chunk_rows": Matrix("<u4"),
    },
)


@dataclass(frozen=True)
class FeatureManifest:
    """A verified manifest: its header, its bytes as they came, and the live chunks, ascending by place.

    ``number`` is that of the message that carried it; older chunks have older versions.
    """

    header: Header
    octets: bytes
    chunks: tuple[LiveChunk, ...]

    @property
    def owner(self) -> str:
        """Whose features they are."""
        return self.header.sender

    @property
    def number(self) -> int:
        """The number of the message that it went with."""
        return self.header.sequence_number

    @property
    def rows(self) -> int:
        """How many live images there are."""
        return sum(chunk.rows for chunk in self.chunks)


def write_manifest(
    path: Path, sender: Sender, number: int, chunks: Sequence[LiveChunk], *, force: bool = False
) -> None:
    """Write the `manifest` of message ``number``: every chunk that is live after it."""
    chunks = sorted(chunks, key=lambda chunk: chunk.place)
    columns = {
        "chunk_uploads": [chunk.place.upload for chunk in chunks],
        "chunk_numbers": [chunk.place.number for chunk in chunks],
        "chunk_versions": [chunk.version for chunk in chunks],
        "chunk_keys": [chunk.key_id for chunk in chunks],
        "chunk_rows": [chunk.rows for chunk in chunks],
    }
    with write_container(path, MANIFEST, sender, number, force=force) as writer:
        for name, values in columns.items():
            writer.matrix(name).append(np.array(values, dtype=np.uint64))


def parse_manifest(
    octets: bytes, parameters: Parameters, deployment: str, check: Callable[[Header], None] | None = None
) -> FeatureManifest:
    """Read and verify a manifest from its bytes; raises MalformedError for chunks that cannot be."""
    if len(octets) < BLOCK_BYTES:
        raise MalformedError("is not a MIPP container")
    with open_source(BytesSource(octets), MANIFEST, deployment=deployment, check=check) as container:
        container.same_length(*MANIFEST.columns)
        rows = zip(*(container.matrix(name).all().tolist() for name in MANIFEST.columns), strict=True)
        chunks = tuple(
            LiveChunk(ChunkPlace(upload, number), version, key, count)
            for upload, number, version, key, count in rows
        )
        newest, most = container.header.sequence_number, chunk_rows(parameters)
        if any(first.place >= second.place for first, second in pairwise(chunks)):
            raise MalformedError(
                "lists chunks of features twice, or in another order than that of their places"
            )
        if not all(chunk.place.upload <= chunk.version <= newest <= LARGEST_NUMBER for chunk in chunks):
            raise MalformedError("lists a chunk of features that is newer than the message it came with")
        if not all(1 <= chunk.rows <= most for chunk in chunks):
            raise MalformedError("lists a chunk of features with an impossible number of rows")
        return FeatureManifest(container.header, octets, chunks)
