"""The next index of the cloud, as messages make it, in whatever order they come.

For a name, the highest number that mentions it decides: its image is live in that upload, or deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mipp_cli.cloud.cloud import Cloud
from mipp_cli.cloud.store.part_filter import without
from mipp_cli.cloud.store.parts import merged, part_of_sums, parts_to_merge
from mipp_cli.cloud.store.summing import Sums
from mipp_cli.containers.base.stored import blocks_path, store_digests
from mipp_cli.containers.store.index import Index, Part, Segment
from mipp_cli.containers.store.part import PartContent, PartReader, PartRows, write_part
from mipp_cli.containers.store.segment import (
    Origin,
    name_digest,
    write_deletion_segment,
    write_upload_segment,
)
from mipp_cli.errors import MalformedError
from mipp_cli.files.atomic import remove
from mipp_cli.progress import Progress
from mipp_cli.workdir.floors import floor_of

_NO_ROWS = np.empty(0, dtype=np.int64)

Deleted = Callable[[str, int], Iterator[bytes]]


@dataclass(frozen=True)
class Standing:
    """What a message meets: rows of older messages, which it decides over, and names that newer ones decide.

    ``older`` are the rows in the parts that hold some.
    """

    older: tuple[tuple[Part, PartRows], ...]
    newer: frozenset[bytes]


class IndexChange:
    """The next index; what is written for it counts for nothing until index.h5 names it.

    Images leave the parts at once, but the segments only in :meth:`finish`, so that many messages of one
    run write a segment anew once. ``deleted`` gives the digests of the names that messages of an owner
    above a number deleted; without it they come from the segments of the index.
    """

    def __init__(
        self,
        cloud: Cloud,
        index: Index,
        first_part: int,
        progress: Progress,
        deleted: Deleted | None = None,
    ):
        self.index = index
        self._cloud, self._sender, self._store = cloud, cloud.directory.sender, cloud.store
        self._progress = progress
        self._next_part = first_part
        self._deleted = deleted or self._deleted_in_segments
        self._left: dict[int, NDArray[np.int64]] = {}  # of each segment's file, the rows that are to go
        self._written: list[Path] = []

    def standing(self, owner: str, number: int, names: Sequence[bytes]) -> Standing:
        """Compare ``names`` of message ``number`` with what other messages of the owner say of them."""
        older: list[tuple[Part, PartRows]] = []
        newer: set[bytes] = set()
        for part in self.index.parts_of(owner):
            with self._store.part(part) as reader:
                found, late = self._divided(part, reader, reader.find(names), number)
            newer |= late
            if len(found):
                older.append((part, found))
        named: dict[bytes, bytes] = {}
        for digest in self._deleted(owner, number):  # none, unless the message comes late
            named = named or {name_digest(name): name for name in names}
            if digest in named:
                newer.add(named[digest])
        return Standing(tuple(older), frozenset(newer))

    def _divided(
        self, part: Part, reader: PartReader, found: PartRows, number: int
    ) -> tuple[PartRows, frozenset[bytes]]:
        """Return the images ``found`` in messages older than ``number``, and the names in newer ones."""
        numbers = np.array([self.index.segments[place].number for place in part.segments], dtype=np.uint64)
        if (numbers < number).all():  # so it is wherever messages come in order
            return found, frozenset()
        bounds = self._store.bounds(self.index, part)
        is_older = numbers[np.searchsorted(bounds, found.rows, side="right")] < number
        names = frozenset(reader.name(place) for place in found.places[~is_older].tolist())
        size = found.names_bytes - sum(map(len, names))
        return PartRows(found.places[is_older], found.rows[is_older], size), names

    def _deleted_in_segments(self, owner: str, number: int) -> Iterator[bytes]:
        for segment in self.index.of_owner(owner):
            if segment.deleted and segment.number > number:
                with self._store.deleted(segment) as digests:
                    yield from digests

    def add_upload(
        self, segment: Segment, earlier: Sequence[int], names: Sequence[bytes], sums: Sums, standing: Standing
    ) -> int:
        """Index an upload, but for what newer messages decide; return how many older images it replaces."""
        replaced = self._drop(segment.owner, standing.older)
        late = np.array([row for row, name in enumerate(names) if name in standing.newer], dtype=np.int64)
        kept = [row for row, name in enumerate(names) if name not in standing.newer]
        place = self._list(replace(segment, rows=len(kept)), earlier)
        if len(late):
            self._left[place] = late
        if kept:
            sum1, sum2 = ([column[row] for row in kept] for column in sums)
            content = part_of_sums(sum1, sum2, [names[row] for row in kept])
            part = self._new_part((place,), content)
            self.index = replace(self.index, parts=(*self.index.parts, part))
            self._merge_parts(segment.owner)
        return replaced

    def add_deletion(
        self, segment: Segment, earlier: Sequence[int], names: Sequence[bytes], standing: Standing
    ) -> int:
        """Let the images leave that a deletion decides over; what stays is a segment with their digests.

        Returns how many left.
        """
        removed = self._drop(segment.owner, standing.older)
        made = replace(segment, revision=self.index.number, deleted=len(names))
        path = self._store.segment_path(made)
        self._written.append(path)
        origin = self._origin(made, tuple(earlier))
        write_deletion_segment(path, self._store.parameters, self._sender, origin, names)
        self._list(replace(made, root=store_digests(path)), earlier)
        return removed

    def finish(self) -> None:
        """Write what is left of the segments that lost rows."""
        for place, rows in self._left.items():
            self._write_anew(place, rows)

    def undo(self) -> None:
        """Remove the files that were written; raises OutputError."""
        for path in self._written:
            remove(path)
            remove(blocks_path(path))

    def _list(self, segment: Segment, earlier: Sequence[int]) -> int:
        """Add a segment to the index, with its list of earlier ones if it is the newest; return its place."""
        newest, segments = self.index.newest(segment.owner), list(self.index.segments)
        if newest is None or newest.number < segment.number:
            removed = floor_of(self._cloud.directory, segment.owner).removed
            segment = replace(segment, earlier=tuple(each for each in earlier if each > removed))
            if newest is not None:
                segments[segments.index(newest)] = replace(newest, earlier=())
        self.index = replace(self.index, segments=(*segments, segment))
        return len(segments)

    def _drop(self, owner: str, located: Sequence[tuple[Part, PartRows]]) -> int:
        """Let images of an owner leave; returns how many."""
        for part, found in located:
            self._drop_from(part, found)
        if located:
            self._merge_parts(owner)
        return sum(len(found) for _, found in located)

    def _drop_from(self, part: Part, found: PartRows) -> None:
        segments, rows = list(self.index.segments), np.sort(found.rows)
        bounds = self._store.bounds(self.index, part)
        if int(rows[-1]) >= bounds[-1]:
            raise MalformedError("the index points outside its segments")
        for place, begin, end in zip(part.segments, [0, *bounds], bounds, strict=False):
            leaving = rows[slice(*np.searchsorted(rows, (begin, end)))] - begin
            if len(leaving):
                self._left[place] = _also(self._left.get(place, _NO_ROWS), leaving)
                segments[place] = replace(segments[place], rows=segments[place].rows - len(leaving))
        kept = tuple(place for place in part.segments if segments[place].rows)
        parts = list(self.index.parts)
        number = parts.index(part)
        parts[number : number + 1] = [self._filtered(part, found, kept)] if kept else []
        self.index = replace(self.index, segments=tuple(segments), parts=tuple(parts))

    def _filtered(self, part: Part, found: PartRows, segments: tuple[int, ...]) -> Part:
        with (
            self._store.part(part) as reader,
            self._progress("removing from the index", len(reader), "image") as advance,
        ):
            return self._new_part(segments, without(reader, found, advance))

    def _write_anew(self, place: int, dropped: NDArray[np.int64]) -> None:
        """Write a segment's next revision, without the rows ``dropped`` of its file."""
        old = self.index.segments[place]
        anew = replace(old, revision=self.index.number)
        path = self._store.segment_path(anew)
        self._written.append(path)
        with (
            self._store.segment(old) as upload,
            self._progress("removing", len(upload), "image") as advance,
        ):
            origin, parameters = self._origin(old, upload.earlier()), self._store.parameters
            write_upload_segment(path, parameters, self._sender, origin, upload, dropped, advance)
        segments = list(self.index.segments)
        segments[place] = replace(anew, root=store_digests(path))
        self.index = replace(self.index, segments=tuple(segments))

    def _origin(self, segment: Segment, earlier: tuple[int, ...]) -> Origin:
        key = self._cloud.members_header(segment.owner).sender_key
        return Origin(segment.owner, key, segment.number, segment.digest, earlier)

    def _merge_parts(self, owner: str) -> None:
        parts = self.index.parts_of(owner)
        merging = parts[-parts_to_merge([self.index.rows_of(part) for part in parts]) :]
        if len(merging) < 2:
            return
        with ExitStack() as stack:
            readers = [stack.enter_context(self._store.part(part)) for part in merging]
            segments = tuple(number for part in merging for number in part.segments)
            with self._progress("merging", sum(map(len, readers)), "image") as advance:
                content = merged(readers, self._store.parts_folder, advance)
                part = self._new_part(segments, content)
        kept = tuple(each for each in self.index.parts if each not in merging)
        self.index = replace(self.index, parts=(*kept, part))

    def _new_part(self, segments: tuple[int, ...], content: PartContent) -> Part:
        part = Part(self._next_part, b"", segments)
        self._next_part += 1
        path = self._store.part_path(part)
        self._written.append(path)
        write_part(path, self._sender, part.number, content)
        return replace(part, root=store_digests(path))


def _also(dropped: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ``dropped`` and ``rows``, which are counted without those dropped; all ascending."""
    # as many rows were dropped before row r of those left as have at most r rows left before them
    left_before = dropped - np.arange(len(dropped))
    return np.sort(np.concatenate([dropped, rows + np.searchsorted(left_before, rows, side="right")]))
