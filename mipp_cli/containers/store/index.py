"""`index`, CLOUD/index.h5: the list of the segments and parts that the cloud stores.

A segment (segment.py) is a stored upload or deletion, without the images removed since. A part (part.py)
holds the sums of the images of some segments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mipp_cli.containers.base.columns import Matrix, Ragged
from mipp_cli.containers.base.container import Container, Schema, open_container
from mipp_cli.containers.base.header import Header
from mipp_cli.containers.base.stored import ROOT_BYTES
from mipp_cli.containers.base.writer import Sender, write_whole
from mipp_cli.errors import MalformedError, errors_at

INDEX = Schema(
    "index",
    {
        "segment_owners": Ragged(limit=64),
        "segment_numbers": Matrix("<u8", 5),  # number, key id, rows, revision, deleted
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
    """A stored upload or deletion, or what remains of it.

    ``owner``, ``number`` and ``digest`` are those of the original message. ``key_id`` is the image key,
    ``rows`` the number of images that remain, ``deleted`` the number of names that it deletes, and ``root``
    the root of its file. ``revision`` is 0 for the original upload, else the number of the index that
    rewrote the file. ``earlier`` are the numbers that the message lists; they are kept only for an owner's
    newest message, and without those whose absence is explained by a removal.
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
        """The file name in CLOUD/segments."""
        revision = f".{self.revision}" if self.revision else ""
        return f"{self.owner}-{self.number}{revision}.h5"


@dataclass(frozen=True)
class Part:
    """A part of the index: its number, its root, and the positions of its segments in the index."""

    number: int
    root: bytes
    segments: tuple[int, ...]

    @property
    def file_name(self) -> str:
        """The file name in CLOUD/parts."""
        return f"{self.number}.h5"


@dataclass(frozen=True)
class Index:
    """CLOUD/index.h5, the list of what the cloud stores; ``number`` grows with every change."""

    number: int
    segments: tuple[Segment, ...] = ()
    parts: tuple[Part, ...] = ()

    @property
    def rows(self) -> int:
        """Number of images."""
        return sum(segment.rows for segment in self.segments)

    def of_owner(self, owner: str) -> list[Segment]:
        """Return the segments of one owner."""
        return [segment for segment in self.segments if segment.owner == owner]

    def owners(self) -> list[str]:
        """Return the owners that have segments, sorted."""
        return sorted({segment.owner for segment in self.segments})

    def newest(self, owner: str) -> Segment | None:
        """Return the newest message of an owner."""
        return max(self.of_owner(owner), key=lambda segment: segment.number, default=None)

    def rows_of(self, part: Part) -> int:
        """Return the number of images in a part."""
        return sum(self.segments[place].rows for place in part.segments)

    def owner_of(self, part: Part) -> str:
        """Return the owner of a part."""
        return self.segments[part.segments[0]].owner

    def parts_of(self, owner: str) -> list[Part]:
        """Return the parts of one owner."""
        return [part for part in self.parts if self.owner_of(part) == owner]

    def located(self, part: Part, images: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return, for images of a part, the positions of their segments in the index and their rows there.

        A part numbers its images consecutively through its segments, from 0.
        """
        ends = np.cumsum([self.segments[place].rows for place in part.segments])
        which = np.searchsorted(ends, images, side="right")
        if (which == len(ends)).any():
            raise MalformedError("the index points outside its segments")
        return np.array(part.segments)[which], images - np.append(0, ends)[which]

    def without_owner(self, owner: str) -> Index:
        """Return the next index, without the segments and parts of one owner."""
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
    numbers = [(s.number, s.key_id, s.rows, s.revision, s.deleted) for s in segments]
    write_whole(
        path,
        INDEX,
        sender,
        index.number,
        force=True,
        segment_owners=[s.owner for s in segments],
        segment_numbers=np.array(numbers, dtype=np.uint64).reshape(-1, 5),
        segment_digests=b"".join(s.digest for s in segments),
        segment_roots=b"".join(s.root for s in segments),
        segment_earlier=[np.array(s.earlier, dtype="<u8").tobytes() for s in segments],
        part_numbers=[p.number for p in parts],
        part_roots=b"".join(p.root for p in parts),
        part_segments=[np.array(p.segments, dtype="<u4").tobytes() for p in parts],
    )


def read_index(path: Path, deployment: str, check: Callable[[Header], object] | None = None) -> Index:
    """Read and verify CLOUD/index.h5."""
    with errors_at(path), open_container(path, INDEX, deployment=deployment, check=check) as container:
        container.same_length(*(name for name in INDEX.columns if name.startswith("segment_")))
        container.same_length(*(name for name in INDEX.columns if name.startswith("part_")))
        owners = container.identifiers("segment_owners", "an owner")
        digests, roots, part_roots = (
            [row.tobytes() for row in container.matrix(name).all()]
            for name in ("segment_digests", "segment_roots", "part_roots")
        )
        numbers = container.matrix("segment_numbers").all().tolist()
        earlier = _lists(container, "segment_earlier", "<u8")
        segments = tuple(
            Segment(owner, number, key_id, rows, digest, root, revision, deleted, before)
            for owner, (number, key_id, rows, revision, deleted), digest, root, before in zip(
                owners, numbers, digests, roots, earlier, strict=True
            )
        )
        part_numbers = container.whole_numbers("part_numbers")
        listed = _lists(container, "part_segments", "<u4")
        if not all(listed):
            raise MalformedError("lists a part without segments")
        if any(place >= len(segments) for places in listed for place in places):
            raise MalformedError("lists a part with segments that do not exist")
        if any(len({owners[place] for place in places}) > 1 for places in listed):
            raise MalformedError("lists a part of several owners")
        parts = tuple(map(Part, part_numbers, part_roots, listed))
        return Index(container.header.sequence_number, segments, parts)


def _lists(container: Container, name: str, kind: str) -> list[tuple[int, ...]]:
    """Return the rows of a ragged column as lists of numbers."""
    rows = [row for batch in container.ragged(name).batches() for row in batch]
    if any(len(row) % np.dtype(kind).itemsize for row in rows):
        raise MalformedError(f"has a list of numbers of invalid length in {name}")
    return [tuple(np.frombuffer(row, dtype=kind).tolist()) for row in rows]
