"""The next index of the cloud, as messages make it: images come, images leave, parts are merged."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mipp_cli.containers.index import Index, Part, Segment
from mipp_cli.containers.part import Found, PartContent, write_part
from mipp_cli.containers.segment import Origin, write_segment
from mipp_cli.containers.stored import blocks_path, remove, store_digests
from mipp_cli.errors import ConflictError, MalformedError
from mipp_cli.roles.cloud import Cloud
from mipp_cli.roles.part_filter import without
from mipp_cli.roles.parts import merged, part_of_sums, parts_to_merge
from mipp_cli.roles.progress import Progress
from mipp_cli.roles.summing import Sums

Located = list[tuple[Part, Found]]
_NO_ROWS = np.empty(0, dtype=np.int64)


class IndexChange:
    """The next index; what is written for it counts for nothing until index.h5 names it.

    Images leave the parts at once, but the segments only in :meth:`finish`, so that many messages of one
    run write a segment anew once. A deletion is written last of all: until then its segment is the
    message itself, and whoever rebuilds the index after a crash applies it to the end.
    """

    def __init__(self, cloud: Cloud, index: Index, first_part: int, progress: Progress):
        self.index = index
        self._cloud, self._sender, self._store = cloud, cloud.directory.sender, cloud.store
        self._progress = progress
        self._next_part = first_part
        self._left: dict[int, NDArray[np.int64]] = {}  # of each segment's file, the rows that are to go
        self._deletions: list[int] = []
        self._written: list[Path] = []

    def refuse_known(self, owner: str, names: Sequence[bytes]) -> None:
        """Raise ConflictError if an image of the owner is called one of ``names``."""
        for part in self.index.parts_of(owner):
            with self._store.part(part) as reader:
                known = reader.known(names)
            if known:
                raise ConflictError(
                    f"{len(known)} of its images are in the cloud already, the first {known[0].decode()}",
                    hint=f"{owner!r} makes an upload without them, or one that replaces them",
                )

    def locate(self, owner: str, names: Sequence[bytes]) -> Located:
        """Find the images of an owner that are called one of ``names``, in the parts that hold some."""
        located = []
        for part in self.index.parts_of(owner):
            with self._store.part(part) as reader:
                found = reader.find(names)
            if len(found):
                located.append((part, found))
        return located

    def locate_all(self, owner: str, names: Sequence[bytes]) -> Located:
        """Find all of ``names``; raises ConflictError if an image of them is not there."""
        located = self.locate(owner, names)
        if sum(len(found) for _, found in located) == len(names):
            return located
        known: set[bytes] = set()
        for part, _ in located:
            with self._store.part(part) as reader:
                known.update(reader.known(names))
        missing = [name for name in names if name not in known]
        raise ConflictError(
            f"names images that {owner!r} does not have in this cloud: {len(missing)}, "
            f"the first {missing[0].decode()}",
            hint="nothing was removed; its sender makes another without them",
        )

    def append(self, segment: Segment, names: Sequence[bytes], sums: Sums) -> None:
        """List a segment and the part of its images, if it has some."""
        place = self._list(segment)
        if names:
            part = self._new_part((place,), part_of_sums(*sums, names))
            self.index = replace(self.index, parts=(*self.index.parts, part))
            self._merge_parts(segment.owner)

    def append_deletion(self, segment: Segment) -> None:
        """List a deletion, of which :meth:`finish` will write a segment without images."""
        self._deletions.append(self._list(segment))

    def drop(self, owner: str, located: Located) -> int:
        """Let images of an owner leave; returns how many."""
        for part, found in located:
            self._drop_from(part, found)
        if located:
            self._merge_parts(owner)
        return sum(len(found) for _, found in located)

    def finish(self) -> None:
        """Write what is left of the segments that lost rows, then the deletions."""
        for place, rows in self._left.items():
            self._write_anew(place, rows)
        for place in self._deletions:
            self._write_anew(place, _NO_ROWS)

    def undo(self) -> None:
        """Remove the files that were written; raises OutputError."""
        for path in self._written:
            remove(path)
            remove(blocks_path(path))

    def _list(self, segment: Segment) -> int:
        self.index = replace(self.index, segments=(*self.index.segments, segment))
        return len(self.index.segments) - 1

    def _drop_from(self, part: Part, found: Found) -> None:
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

    def _filtered(self, part: Part, found: Found, segments: tuple[int, ...]) -> Part:
        with (
            self._store.part(part) as reader,
            self._progress("removing from the index", len(reader), "image") as advance,
        ):
            return self._new_part(segments, without(reader, found, advance))

    def _write_anew(self, place: int, dropped: NDArray[np.int64]) -> None:
        """Write a segment's next revision, without the rows ``dropped`` of its file."""
        old = self.index.segments[place]
        anew = replace(old, revision=self.index.number, key_id=old.key_id if old.rows else 0)
        key = self._cloud.members_header(old.owner).sender_key
        path, origin = self._store.segment_path(anew), Origin(old.owner, key, old.upload, old.digest)
        self._written.append(path)
        with ExitStack() as stack:
            upload = stack.enter_context(self._store.segment(old)) if old.rows else None
            advance = stack.enter_context(self._progress("removing", len(upload) if upload else 0, "image"))
            parameters = self._store.parameters
            write_segment(path, parameters, self._sender, origin, upload, dropped, advance)
        segments = list(self.index.segments)
        segments[place] = replace(anew, root=store_digests(path))
        self.index = replace(self.index, segments=tuple(segments))

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
