"""Applies messages to the cloud's index, in whatever order they arrive.

For each image name, the message with the highest number that mentions it decides: the image is live in that
upload, or deleted. Each part of an owner is at most a quarter of the size of the part before it. An index of
n images therefore has about log n parts per owner, and adding a few images does not rewrite the large ones.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mipp_cli.cloud.cloud import Cloud
from mipp_cli.cloud.summing import expect_sums, sums_of
from mipp_cli.compute.processes import Parallelism
from mipp_cli.containers.base.stored import blocks_path, store_digests
from mipp_cli.containers.store.index import Index, Part, Segment
from mipp_cli.containers.store.part import ROWS_LIMIT, write_part
from mipp_cli.containers.store.segment import (
    Origin,
    deleted_in,
    write_deletion_segment,
    write_upload_segment,
)
from mipp_cli.files.atomic import remove
from mipp_cli.files.folders import paths_in
from mipp_cli.log import timed
from mipp_cli.progress import Progress
from mipp_cli.scheme.retrieval_index import Ids, Places, Rows, among, ids_of, index_construct
from mipp_cli.workdir.floors import floor_of

_RATIO = 4
_NONE = np.empty(0, dtype=np.int64)
_NO_IDS = ids_of([])


@dataclass(frozen=True)
class Effect:
    """The effect of a message: images added, images removed, and images that a newer message decides."""

    images: int
    removed: int
    late: int


class IndexChange:
    """The next index; files written for it have no effect until index.h5 lists them.

    Images are removed from the parts at once, but from the segments only in :meth:`finish`, so that a run
    with many messages rewrites each segment once.
    """

    def __init__(self, cloud: Cloud, index: Index, parallelism: Parallelism, progress: Progress):
        self.index = index
        self._cloud, self._sender, self._store = cloud, cloud.directory.sender, cloud.store
        self._parallelism, self._progress = parallelism, progress
        numbers = (path.name.partition(".")[0] for path in paths_in(self._store.parts_folder))
        self._last_part = max((int(number) for number in numbers if number.isdecimal()), default=0)
        self._left: dict[int, Places] = {}  # rows to remove, by place of the segment
        self._deleted: dict[tuple[str, int], Ids] = {}  # deleted ids, by deletion read so far
        self._written: list[Path] = []

    def expect_upload(self, size: int) -> None:
        """Prepare for an upload of ``size`` bytes, before it is stored."""
        expect_sums(self._store.parameters, size, self._parallelism)

    @timed("listing an upload in the index")
    def add_upload(self, segment: Segment) -> Effect:
        """Index a stored upload, or a later revision of a message, without the images that newer messages
        decide.
        """
        opening = partial(self._store.segment, segment, verified=True)
        with opening() as upload:
            upload.check_images()
            ids, earlier = ids_of(name.encode() for name in upload.names()), upload.earlier()
            deleted = deleted_in(upload.container) if segment.revision else _NO_IDS
            older, late = self._compare(segment, ids)
            sums = sums_of(upload, opening, self._parallelism, self._progress)
            segment = replace(segment, key_id=upload.key_id, rows=int((~late).sum()), deleted=len(deleted))
        self._deleted[segment.owner, segment.number] = deleted
        place = self._list(segment, earlier)
        if late.any():
            self._left[place] = np.flatnonzero(late)
        sum1, sum2 = (np.array(column, dtype=np.uint64)[~late] for column in sums)
        rows = index_construct(sum1, sum2, ids[~late])
        removed = self._rewrite(segment.owner, older, {Part(0, b"", (place,)): rows} if rows else {})
        return Effect(segment.rows, removed, len(ids) - segment.rows)

    @timed("applying a deletion to the index")
    def add_deletion(self, segment: Segment, earlier: Collection[int], names: Sequence[bytes]) -> Effect:
        """Remove the images that a deletion decides, and keep a segment with their ids."""
        ids = self._deleted[segment.owner, segment.number] = ids_of(names)
        older, late = self._compare(segment, ids)
        removed = self._rewrite(segment.owner, older)
        made = replace(segment, revision=self.index.number, deleted=len(ids))
        path = self._store.segment_path(made)
        self._written.append(path)
        origin = self._origin(made, tuple(earlier))
        write_deletion_segment(path, self._store.parameters, self._sender, origin, ids)
        self._list(replace(made, root=store_digests(path)), earlier)
        return Effect(0, removed, int(late.sum()))

    @timed("rewriting the uploads that lost images")
    def finish(self) -> None:
        """Rewrite the segments that lost rows."""
        for place, rows in self._left.items():
            self._write_anew(place, rows)

    def undo(self) -> None:
        """Remove the files that were written; raises OutputError."""
        for path in self._written:
            remove(path)
            remove(blocks_path(path))

    def _compare(self, message: Segment, ids: Ids) -> tuple[dict[Part, Places], NDArray[np.bool_]]:
        """Find what other messages of the owner say about the images of a message.

        Returns the images of older messages, by part, and for each of ``ids`` whether a newer message decides
        it.
        """
        ascending, older = np.sort(ids), {}
        numbers = np.array([segment.number for segment in self.index.segments], dtype=np.uint64)
        newer = [self._deleted_above(message)]
        for part in self.index.parts_of(message.owner):
            with self._store.part(part) as reader:
                found, images = reader.find(ascending)
            places, _ = self.index.located(part, images)
            is_older = numbers[places] < message.number
            newer.append(found[~is_older])
            if is_older.any():
                older[part] = np.sort(images[is_older])
        return older, among(ids, np.sort(np.concatenate(newer)))

    def _deleted_above(self, message: Segment) -> Ids:
        """Return the ids that newer messages deleted; empty unless the message arrives late."""
        found = [_NO_IDS]
        for segment in self.index.of_owner(message.owner):
            if segment.deleted and segment.number > message.number:
                key = segment.owner, segment.number
                if key not in self._deleted:
                    with self._store.segment(segment) as upload:
                        self._deleted[key] = deleted_in(upload.container)
                found.append(self._deleted[key])
        return np.concatenate(found)

    def _list(self, segment: Segment, earlier: Collection[int]) -> int:
        """Add a segment to the index; return its place. Only the newest keeps its list of earlier ones."""
        newest, segments = self.index.newest(segment.owner), list(self.index.segments)
        if newest is None or newest.number < segment.number:
            removed = floor_of(self._cloud.directory, segment.owner).removed
            segment = replace(segment, earlier=tuple(each for each in earlier if each > removed))
            if newest is not None:
                segments[segments.index(newest)] = replace(newest, earlier=())
        self.index = replace(self.index, segments=(*segments, segment))
        return len(segments)

    def _rewrite(
        self, owner: str, gone: Mapping[Part, Places], new: Mapping[Part, Rows] | None = None
    ) -> int:
        """Remove images from the parts of an owner, add a ``new`` part, and merge parts that are due.

        Every part that changes is written once. Returns the number of images removed.
        """
        new = new or {}
        for part, images in gone.items():
            self._leave(part, images)
        parts = [part for part in self.index.parts_of(owner) if self.index.rows_of(part)]
        parts += new
        first = len(parts) - parts_to_merge([self.index.rows_of(part) for part in parts])
        groups = [*([part] for part in parts[:first]), parts[first:]]
        changed = gone.keys() | new.keys()
        kept = [
            self._written_part(group, gone, new) if len(group) > 1 or changed & {*group} else group[0]
            for group in groups
            if group
        ]
        others = (part for part in self.index.parts if self.index.owner_of(part) != owner)
        self.index = replace(self.index, parts=(*others, *kept))
        return sum(map(len, gone.values()))

    def _leave(self, part: Part, images: Places) -> None:
        """Mark the rows of a part's images for removal from their segments."""
        segments = list(self.index.segments)
        places, rows = self.index.located(part, images)
        for place in np.unique(places).tolist():
            leaving = np.sort(rows[places == place])
            self._left[place] = _also(self._left.get(place, _NONE), leaving)
            segments[place] = replace(segments[place], rows=segments[place].rows - len(leaving))
        self.index = replace(self.index, segments=tuple(segments))

    def _written_part(
        self, parts: Sequence[Part], gone: Mapping[Part, Places], new: Mapping[Part, Rows]
    ) -> Part:
        """Merge several parts into one, without the images ``gone``; the parts in ``new`` are in memory."""
        self._last_part += 1
        part = Part(self._last_part, b"", tuple(place for each in parts for place in each.segments))
        path = self._store.part_path(part)
        self._written.append(path)
        with ExitStack() as stack:
            tables = [new.get(each) or stack.enter_context(self._store.part(each)) for each in parts]
            advance = stack.enter_context(
                self._progress("writing the index", self.index.rows_of(part), "image")
            )
            left = [gone.get(each, _NONE) for each in parts]
            write_part(path, self._sender, part.number, tables, left, advance)
        segments = tuple(place for place in part.segments if self.index.segments[place].rows)
        return replace(part, root=store_digests(path), segments=segments)

    def _write_anew(self, place: int, dropped: Places) -> None:
        """Write a segment's next revision, without the ``dropped`` rows of its file."""
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


def parts_to_merge(sizes: Sequence[int]) -> int:
    """Return how many of an owner's last parts, of ``sizes`` images each, to merge; 1 means none."""
    count, together = 1, sizes[-1] if sizes else 0
    for place, size in enumerate(reversed(sizes[:-1]), start=2):
        if size + together > ROWS_LIMIT:
            break
        if size < _RATIO * together:  # a part that lost images may be too small even if the next is not
            count = place
        together += size
    return count


def _also(dropped: Places, rows: Places) -> Places:
    """Return the union of ``dropped`` and ``rows``, which are numbered without ``dropped``; all ascending."""
    # as many rows were dropped before row r of those left as have at most r rows left before them
    left_before = dropped - np.arange(len(dropped))
    return np.sort(np.concatenate([dropped, rows + np.searchsorted(left_before, rows, side="right")]))
