"""What `upload`, `delete` and `segment` hold of features in scheme `exact`: chunks, and the manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mipp_cli.containers.columns import Matrix, Ragged
from mipp_cli.containers.container import Container, ContainerWriter
from mipp_cli.containers.header import Header
from mipp_cli.containers.manifest import MANIFEST_BYTES_LIMIT, FeatureManifest, parse_manifest
from mipp_cli.errors import MalformedError
from mipp_cli.scheme.feature_chunks import ChunkPlace
from mipp_cli.scheme.parameters import Parameters

FEATURE_COLUMNS: dict[str, Matrix | Ragged] = {
    "chunk_uploads": Matrix("<u8"),
    "chunk_numbers": Matrix("<u4"),
    "chunks": Ragged(),
    "manifest": Matrix("u1"),
}

EncryptedChunk = tuple[ChunkPlace, bytes]


@dataclass(frozen=True)
class FeatureChange:
    """What a message changes of its owner's features: the chunks that it brings, and the manifest after it.

    ``manifest`` is a `manifest` container byte for byte. ``chunks`` are walked once, ascending by place:
    those of the message's own images, and those of older uploads that rows leave, encrypted anew. With
    ``sizes``, the bytes of each, they lie in one piece, which is read fastest.
    """

    manifest: bytes
    chunks: Iterable[EncryptedChunk]
    sizes: Sequence[int] | None = None


def write_features(writer: ContainerWriter, change: FeatureChange) -> None:
    """Write the columns of features."""
    if change.sizes is not None:
        writer.ragged("chunks").expect(len(change.sizes), sum(change.sizes))
    for place, encrypted in change.chunks:
        writer.matrix("chunk_uploads").append(np.array([place.upload], dtype=np.uint64))
        writer.matrix("chunk_numbers").append(np.array([place.number], dtype=np.uint32))
        writer.ragged("chunks").append(encrypted)
    writer.matrix("manifest").append(np.frombuffer(change.manifest, dtype=np.uint8))


@dataclass(frozen=True)
class FeatureReader:
    """The columns of features of an open container."""

    container: Container

    def places(self) -> list[ChunkPlace]:
        """Return which chunks there are; MalformedError unless they ascend."""
        self.container.same_length("chunk_uploads", "chunk_numbers", "chunks")
        columns = (self.container.matrix(name).all().tolist() for name in ("chunk_uploads", "chunk_numbers"))
        places = [ChunkPlace(*place) for place in zip(*columns, strict=True)]
        if places != sorted(set(places)):
            raise MalformedError(
                "brings chunks of features twice, or in another order than that of their places"
            )
        return places

    def sizes(self) -> list[int]:
        """Return the bytes of each chunk."""
        column = self.container.ragged("chunks")
        return column.sizes(0, len(column)) if len(column) else []

    def chunk(self, number: int) -> bytes:
        """Return an encrypted chunk by its position in :meth:`places`."""
        return self.container.ragged("chunks").row(number)

    def chunks(self) -> Iterator[EncryptedChunk]:
        """Yield all chunks, one in memory at a time."""
        for number, place in enumerate(self.places()):
            yield place, self.chunk(number)

    def manifest_octets(self) -> bytes:
        """Return the manifest's bytes."""
        return self.container.octets("manifest", MANIFEST_BYTES_LIMIT)

    def manifest(
        self, parameters: Parameters, deployment: str, check: Callable[[Header], None] | None = None
    ) -> FeatureManifest:
        """Read and verify the manifest."""
        return parse_manifest(self.manifest_octets(), parameters, deployment, check)
