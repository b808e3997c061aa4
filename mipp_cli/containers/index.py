"""The cloud's index: `index`, the list of segments and parts, and `part`, rows of Table 2 of one owner.

A segment is an upload as it came. A part holds the sums of the images of some segments, sorted for the
search: distinct pairs (Σx, Σx²), the images of each pair, and the images' names in ascending order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mipp_cli.containers.columns import Matrix, Ragged
from mipp_cli.containers.container import (
    Container,
    Schema,
    Sender,
    open_container,
    read_header,
    write_container,
)
from mipp_cli.containers.header import Header
from mipp_cli.containers.source import Source
from mipp_cli.containers.stored import ROOT_BYTES
from mipp_cli.containers.upload import NAME_LIMIT
from mipp_cli.errors import MalformedError
from mipp_cli.scheme.parameters import Parameters
from mipp_cli.scheme.retrieval_index import PairTable

INDEX = Schema(
    "index",
    {
        "segment_owners": Ragged(limit=64),
        "segment_uploads": Matrix("<u8"),
        "segment_keys": Matrix("<u8"),
        "segment_rows": Matrix("<u8"),
        "segment_digests": Matrix("u1", ROOT_BYTES),
        "segment_roots": Matrix("u1", ROOT_BYTES),
        "part_numbers": Matrix("<u8"),
        "part_roots": Matrix("u1", ROOT_BYTES),
        "part_segments": Ragged(),
    },
)


@dataclass(frozen=True)
class Segment:
    """An upload in the store: owner, sequence number, key id, images, digest of the upload, and root."""

    owner: str
    upload: int
    key_id: int
    rows: int
    digest: bytes
    root: bytes

    @property
    def file_name(self) -> str:
        """Its name in CLOUD/segments."""
        return f"{self.owner}-{self.upload}.h5"


@dataclass(frozen=True)
class Part:
    """A part of the index: its number, root, and the positions of its segments in the index's list."""

    number: int
    root: bytes
    segments: tuple[int, ...]

    @property
    def file_name(self) -> str:
        """Its name in CLOUD/parts."""
        return f"{self.number}.h5"


@dataclass(frozen=True)
class Index:
    """CLOUD/index.h5: what the cloud stores; ``number`` grows with every change."""

    number: int
    segments: tuple[Segment, ...] = ()
    parts: tuple[Part, ...] = ()

    def of_owner(self, owner: str) -> list[Segment]:
        """Return the segments of one owner."""
        return [segment for segment in self.segments if segment.owner == owner]

    def parts_of(self, owner: str) -> list[Part]:
        """Return the parts of one owner."""
        return [part for part in self.parts if self.segments[part.segments[0]].owner == owner]


def write_index(path: Path, sender: Sender, index: Index) -> None:
    """Replace CLOUD/index.h5."""
    segments, parts = index.segments, index.parts
    columns = {
        "segment_uploads": [s.upload for s in segments],
        "segment_keys": [s.key_id for s in segments],
        "segment_rows": [s.rows for s in segments],
        "part_numbers": [p.number for p in parts],
    }
    digests = {
        "segment_digests": [s.digest for s in segments],
        "segment_roots": [s.root for s in segments],
        "part_roots": [p.root for p in parts],
    }
    with write_container(path, INDEX, sender, index.number, force=True) as writer:
        for name, values in columns.items():
            writer.matrix(name).append(np.array(values, dtype=np.uint64))
        for name, rows in digests.items():
            writer.matrix(name).append(np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(-1, ROOT_BYTES))
        for segment in segments:
            writer.ragged("segment_owners").append(segment.owner.encode("ascii"))
        for part in parts:
            writer.ragged("part_segments").append(np.array(part.segments, dtype="<u4").tobytes())


def read_index(path: Path, deployment: str) -> Index:
    """Read and verify CLOUD/index.h5."""
    with open_container(path, INDEX, deployment=deployment) as container:
        names = (
            "segment_owners",
            "segment_uploads",
            "segment_keys",
            "segment_rows",
            "segment_digests",
            "segment_roots",
        )
        container.same_length(*names)
        container.same_length("part_numbers", "part_roots", "part_segments")
        owners = container.ragged("segment_owners").texts()
        columns = [container.matrix(name).all().tolist() for name in names[1:4]]
        digests = [_octet_rows(container, name) for name in names[4:]]
        segments = tuple(Segment(*fields) for fields in zip(owners, *columns, *digests, strict=True))
        lists = [row for batch in container.ragged("part_segments").batches() for row in batch]
        numbers = container.matrix("part_numbers").all().tolist()
        parts = tuple(
            Part(number, root, tuple(np.frombuffer(row, dtype="<u4").tolist()))
            for number, root, row in zip(numbers, _octet_rows(container, "part_roots"), lists, strict=True)
        )
        return Index(container.header.sequence_number, segments, parts)


def _octet_rows(container: Container, name: str) -> list[bytes]:
    return [row.tobytes() for row in container.matrix(name).all()]


def part_schema(parameters: Parameters) -> Schema:
    """Return the schema of `part`: sums are stored in as few bytes as the descriptor's need."""
    largest = parameters.levels - 1
    return Schema(
        "part",
        {
            "pair_sum1": Matrix(_unsigned(parameters.l * largest)),
            "pair_sum2": Matrix(_unsigned(parameters.l * largest * largest)),
            "pair_starts": Matrix("<u4"),
            "positions": Matrix("<u4"),  # by pair, then by name: the image's place in the order of names
            "names": Ragged(limit=NAME_LIMIT),  # ascending
            "rows": Matrix("<u4"),  # by name: the image's row, the segments of the part counted through
        },
    )


_PAIR_COLUMNS = ("pair_sum1", "pair_sum2", "pair_starts")


def _unsigned(largest: int) -> str:
    return next(f"<u{size}" for size in (2, 4, 8) if largest < 1 << (8 * size))


def write_part(
    path: Path,
    parameters: Parameters,
    sender: Sender,
    number: int,
    pairs: PairTable,
    positions: NDArray[np.int64],
    named_rows: Iterator[tuple[bytes, int]],
) -> None:
    """Write a `part`; ``named_rows`` gives (name, row), by ascending name."""
    with write_container(path, part_schema(parameters), sender, number, force=True) as writer:
        writer.matrix("pair_sum1").append(pairs.sum1)
        writer.matrix("pair_sum2").append(pairs.sum2)
        writer.matrix("pair_starts").append(pairs.starts)
        writer.matrix("positions").append(positions)
        for name, row in named_rows:
            writer.ragged("names").append(name)
            writer.matrix("rows").append(np.array([row], dtype=np.uint32))


@dataclass(frozen=True)
class PartReader:
    """An open part, every block of it checked as it is read."""

    container: Container
    pairs: PairTable

    def __len__(self) -> int:
        return self.pairs.rows

    def images_of(self, pair: int, count: int) -> list[tuple[bytes, int]]:
        """Return (name, row) of the first ``count`` images of a pair, by ascending name."""
        begin = int(self.pairs.starts[pair])
        end = min(begin + count, int(self.pairs.starts[pair + 1]))
        positions = self.container.matrix("positions").rows(begin, end).tolist()
        return [(self.name(position), self.row(position)) for position in positions]

    def name(self, position: int) -> bytes:
        """Return a name by its place in the order of names."""
        return self.container.ragged("names").row(position)

    def row(self, position: int) -> int:
        """Return an image's row, the segments of the part counted through."""
        return int(self.container.matrix("rows").rows(position, position + 1)[0])

    def contains(self, name: bytes) -> bool:
        """Say whether an image of this name is in the part."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self.name(middle) < name:
                low = middle + 1
            else:
                high = middle
        return low < len(self) and self.name(low) == name

    def table(self) -> Iterator[tuple[bytes, int, int]]:
        """Yield (name, Σx, Σx²) of every image, by pair and name."""
        for pair in range(len(self.pairs.sum1)):
            sums = int(self.pairs.sum1[pair]), int(self.pairs.sum2[pair])
            for name, _ in self.images_of(pair, self.pairs.rows):
                yield (name, *sums)


def open_part(source: Source, parameters: Parameters, deployment: str) -> PartReader:
    """Open a part from a source that checks its blocks."""
    header: Header = read_header(source, kind="part", deployment=deployment)
    container = Container(source, header, part_schema(parameters))
    try:
        rows = container.same_length("positions", "names", "rows")
        columns = (
            container.matrix(name).all().astype(np.uint64)
            for name in ("pair_sum1", "pair_sum2", "pair_starts")
        )
        pairs = PairTable(*columns)
        if pairs.rows != rows:
            raise MalformedError("the columns of the index have different lengths")
        return PartReader(container, pairs)
    except BaseException:
        container.close()
        raise
