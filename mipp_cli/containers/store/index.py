"""`index`, CLOUD/index.h5: the segments and parts that make up what the cloud stores.

A segment (segment.py) is what is left of an upload, or of a deletion. A part (part.py) holds the sums of
the images of some segments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mipp_cli.containers.base.columns import Matrix, Ragged
from mipp_cli.containers.base.container import (
    Container,
    Schema,
    Sender,
    open_container,
    write_container,
)
from mipp_cli.containers.base.header import Header
from mipp_cli.containers.base.stored import ROOT_BYTES
from mipp_cli.containers.messages.earlier import LIMIT
from mipp_cli.errors import MalformedError, errors_at

INDEX = Schema(
    "index",
    {
        "segment_owners": Ragged(limit=64),
        "segment_numbers": Matrix("<u8"),
        "segment_keys": Matrix("<u8"),
        "segment_rows": Matrix("<u8"),
        "segment_revisions": Matrix("<u8"),
        "segment_deleted": Matrix("<u8"),
        "segment_earlier": Ragged(),
        "segment_digests": Matrix("u1", ROOT_BYTES),
        "segment_roots": Matrix("u1", ROOT_BYTES),
        "part_numbers": Matrix("<u8"),
        "part_roots": Matrix("u1", ROOT_BYTES),
        "part_segments": Ragged(),
    },
)


@dataclass(frozen=True)
class Segment:
    """An upload or a deletion in the store, or what is left of it.

    ``owner``, ``number`` and ``digest`` are those of the message as it came; ``key_id`` and ``rows`` (images)
    what the segment holds, ``deleted`` how many names it deletes; ``root`` is that of its file. ``revision``
    is 0 for an upload as it came, else the number of the index that made this file of it. ``earlier`` are
    the numbers that the message lists, kept here of an owner's newest message alone, and without those
    whose absence a removal explains.
    """

    owner: str
    number: int
    key_id: int
    rows: int
    digest: bytes
    root: bytes
    revision: int = 0
    deleted: int = 0
    earlier: tuple[int, ...] = ()

    @property
    def file_name(self) -> str:
        """Its name in CLOUD/segments."""
        revision = f".{self.revision}" if self.revision else ""
        return f"{self.owner}-{self.number}{revision}.h5"


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

    def owners(self) -> list[str]:
        """Return the owners of whom there are segments, sorted."""
        return sorted({segment.owner for segment in self.segments})

    def newest(self, owner: str) -> Segment | None:
        """Return the newest message of an owner."""
        return max(self.of_owner(owner), key=lambda segment: segment.number, default=None)

    def gaps(self, owner: str) -> tuple[int, ...]:
        """Return the messages of an owner that the newest one lists and that have not come."""
        newest, came = self.newest(owner), {segment.number for segment in self.of_owner(owner)}
        return tuple(each for each in newest.earlier if each not in came) if newest else ()

    def unlisted(self, segment: Segment, earlier: Sequence[int]) -> tuple[int, ...]:
        """Return older uploads of which images are left, though ``segment``, by its list, knows of none.

        So it is if the owner's record lost them; what is under their keys must not be forgotten.
        """
        least = earlier[0] if len(earlier) == LIMIT else 0
        known = set(earlier)
        return tuple(
            each.number
            for each in self.of_owner(segment.owner)
            if each.rows and least < each.number < segment.number and each.number not in known
        )

    def rows_of(self, part: Part) -> int:
        """Return how many images a part holds."""
        return sum(self.segments[number].rows for number in part.segments)

    def parts_of(self, owner: str) -> list[Part]:
        """Return the parts of one owner."""
        return [part for part in self.parts if self.segments[part.segments[0]].owner == owner]

    def without_owner(self, owner: str) -> Index:
        """Return the next index, with nothing in it of one owner."""
        kept = [place for place, segment in enumerate(self.segments) if segment.owner != owner]
        place_of = {old: new for new, old in enumerate(kept)}
        parts = (part for part in self.parts if part.segments[0] in place_of)
        return Index(
            self.number + 1,
            tuple(self.segments[place] for place in kept),
            tuple(replace(part, segments=tuple(place_of[old] for old in part.segments)) for part in parts),
        )


def write_index(path: Path, sender: Sender, index: Index) -> None:
    """Replace CLOUD/index.h5."""
    segments, parts = index.segments, index.parts
    columns = {
        "segment_numbers": [s.number for s in segments],
        "segment_keys": [s.key_id for s in segments],
        "segment_rows": [s.rows for s in segments],
        "segment_revisions": [s.revision for s in segments],
        "segment_deleted": [s.deleted for s in segments],
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
            writer.ragged("segment_earlier").append(np.array(segment.earlier, dtype="<u8").tobytes())
        for part in parts:
            writer.ragged("part_segments").append(np.array(part.segments, dtype="<u4").tobytes())


def read_index(path: Path, deployment: str, check: Callable[[Header], object] | None = None) -> Index:
    """Read and verify CLOUD/index.h5."""
    with errors_at(path), open_container(path, INDEX, deployment=deployment, check=check) as container:
        names = [name for name in INDEX.columns if name.startswith("segment_")]
        container.same_length(*names)
        container.same_length("part_numbers", "part_roots", "part_segments")
        owners = container.identifiers("segment_owners", "an owner")
        numbers = (_column(container, name) for name in ("numbers", "keys", "rows"))
        digests = (_octet_rows(container, f"segment_{name}") for name in ("digests", "roots"))
        counts = (_column(container, name) for name in ("revisions", "deleted"))
        earlier = [_packed_numbers(row, "<u8") for row in _ragged_rows(container, "segment_earlier")]
        fields = zip(owners, *numbers, *digests, *counts, earlier, strict=True)
        segments = tuple(Segment(*each) for each in fields)
        lists = [_packed_numbers(row, "<u4") for row in _ragged_rows(container, "part_segments")]
        if not all(lists):
            raise MalformedError("lists a part without segments")
        part_numbers = container.matrix("part_numbers").all().tolist()
        parts = tuple(
            Part(number, root, numbers)
            for number, root, numbers in zip(
                part_numbers, _octet_rows(container, "part_roots"), lists, strict=True
            )
        )
        if any(number >= len(segments) for part in parts for number in part.segments):
            raise MalformedError("lists a part of segments that are not there")
        return Index(container.header.sequence_number, segments, parts)


def _octet_rows(container: Container, name: str) -> list[bytes]:
    return [row.tobytes() for row in container.matrix(name).all()]


def _ragged_rows(container: Container, name: str) -> list[bytes]:
    return [row for batch in container.ragged(name).batches() for row in batch]


def _column(container: Container, name: str) -> list[int]:
    values: list[int] = container.matrix(f"segment_{name}").all().tolist()
    return values


def _packed_numbers(row: bytes, kind: str) -> tuple[int, ...]:
    if len(row) % np.dtype(kind).itemsize:
        raise MalformedError("lists numbers of an impossible size")
    return tuple(np.frombuffer(row, dtype=kind).tolist())
