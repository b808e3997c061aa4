"""The cloud's main chore, IndexConstruct: uploads and deletions are verified and applied to the index."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mipp_cli.cloud.changes import IndexChange
from mipp_cli.cloud.cloud import INDEX_FILE, Cloud
from mipp_cli.cloud.completeness import completeness, gap_warnings
from mipp_cli.cloud.store.summing import StoredRows, sums_of
from mipp_cli.compute.processes import LOCAL, Parallelism
from mipp_cli.containers.base.container import open_container, read_header
from mipp_cli.containers.base.header import Header
from mipp_cli.containers.base.source import FileSource
from mipp_cli.containers.base.stored import store_copy
from mipp_cli.containers.messages.delete import DELETE, deleted_names
from mipp_cli.containers.messages.earlier import read_earlier
from mipp_cli.containers.store.index import Segment, write_index
from mipp_cli.errors import MalformedError, MippError, OutputError
from mipp_cli.progress import Progress, silent
from mipp_cli.report import Output, Report
from mipp_cli.workdir.completeness import details_of, notes_of
from mipp_cli.workdir.floors import check_floor, floor_in_force
from mipp_cli.workdir.replay import check_clock, check_message, check_pinned_key, each_new


def index_containers(
    path: Path, files: Sequence[Path], *, parallelism: Parallelism = LOCAL, progress: Progress = silent
) -> Report:
    """Apply uploads and deletions to the index, in any order; all of them or none.

    Of what an owner's messages say of an image, that under the highest number counts. What was applied
    before is skipped; AlreadyAppliedError if that leaves nothing to do. Raises NotAuthorisedError for an
    owner who is not enrolled, ReplayedError for another message under a known number or from before a
    removal, ClockError for a number of a time to come, MalformedError for sums that no feature can have.
    """
    cloud = Cloud.open(path)
    with cloud.directory.lock():
        messages = _Messages(cloud, parallelism, progress)
        output = cloud.directory.file(INDEX_FILE)
        try:
            applied, skipped = each_new(files, messages.apply)
            messages.change.finish()
            write_index(output, cloud.directory.sender, messages.change.index)
        finally:
            left = _remove_unlisted(cloud)
    index = messages.change.index
    counts = {
        "uploads": sum(not each.deletion for each in applied),
        "deletions": sum(each.deletion for each in applied),
        "images": sum(each.images for each in applied),
        "images replaced": sum(each.removed for each in applied if not each.deletion),
        "images deleted": sum(each.removed for each in applied if each.deletion),
        "superseded": sum(each.late for each in applied),
        "already applied": skipped,
        "images in all": sum(segment.rows for segment in index.segments),
    }
    warnings = (*cloud.directory.warnings, *left, *gap_warnings(index))
    owners = sorted({each.owner for each in applied})
    found = {owner: completeness(cloud.store, index, owner) for owner in owners}
    outputs = (Output(output, "index"),)
    return Report(outputs, counts, warnings, {}, notes_of(found), details_of(found))


def _remove_unlisted(cloud: Cloud) -> list[str]:
    """Remove what is not in the index any more; return a warning if that fails."""
    try:
        # by what index.h5 says now, not by how far we came: an interrupt may fall after it was replaced
        cloud.store.remove_unlisted(cloud.index())
    except MippError as error:
        stays = "is not in the index any more, but stays until the next change"
        return [f"{error.path} {stays}: {error.message}"]
    return []


@dataclass(frozen=True)
class _Applied:
    """What a message did: images that came, images that left, and what it says too late of others."""

    owner: str
    images: int = 0
    removed: int = 0
    late: int = 0
    deletion: bool = False


class _Messages:
    """Applies messages to the next index."""

    def __init__(self, cloud: Cloud, parallelism: Parallelism, progress: Progress):
        index = cloud.index()
        first_part = 1 + max((part.number for part in index.parts), default=0)
        self.change = IndexChange(cloud, replace(index, number=index.number + 1), first_part, progress)
        self._cloud, self._workplace, self._progress = cloud, parallelism, progress
        self._deployment = cloud.directory.sender.deployment

    def apply(self, file: Path) -> _Applied:
        """Verify an upload or a deletion and apply it."""
        source = FileSource(file)
        try:
            header = read_header(source, deployment=self._deployment)
            if header.kind == "upload":
                with self._blaming_no_copy(header):
                    return self._add(source, header)
        finally:
            source.close()
        if header.kind == "delete":
            return self._delete(file)
        raise MalformedError(
            f"is of kind {header.kind}, not upload or delete", hint="give uploads and deletions of owners"
        )

    def _check_sender(self, header: Header) -> None:
        members = self._cloud.members_header(header.sender)
        check_pinned_key(header, members.sender_key)
        segments = self.change.index.of_owner(header.sender)
        check_message(header, {segment.number: segment.digest.hex() for segment in segments})
        floor = floor_in_force(self._cloud.directory, header.sender, members.sender_key)
        check_floor(floor, header)
        check_clock(header, max([members.sequence_number, *(segment.number for segment in segments)]))

    def _add(self, source: FileSource, header: Header) -> _Applied:
        """Keep an upload as a segment and index its sums, but for images that newer messages decide."""
        self._check_sender(header)
        segment = self._copy(source, header)
        with self._cloud.store.new_segment(segment) as upload:
            upload.check_images()
            names, earlier = [name.encode() for name in upload.names()], upload.earlier()
            standing = self.change.standing(header.sender, segment.number, names)
            rows = None if self._workplace.scheduler else StoredRows(self._cloud.store, segment)
            sums = sums_of(upload, self._workplace, self._progress, rows)
            segment = replace(segment, key_id=upload.key_id)
        removed = self.change.add_upload(segment, earlier, names, sums, standing)
        late = len(standing.newer)
        return _Applied(header.sender, len(names) - late, removed, late)

    def _delete(self, file: Path) -> _Applied:
        """Let the images that a deletion names leave, but for those that newer messages brought."""
        with open_container(file, DELETE, deployment=self._deployment, check=self._check_sender) as container:
            header, names, earlier = container.header, deleted_names(container), read_earlier(container)
        segment = _as_it_came(header)
        standing = self.change.standing(header.sender, segment.number, names)
        removed = self.change.add_deletion(segment, earlier, names, standing)
        return _Applied(header.sender, removed=removed, late=len(standing.newer), deletion=True)

    @contextmanager
    def _blaming_no_copy(self, header: Header) -> Iterator[None]:
        """Let no error name the copy of a message, which will be gone: the message itself is at fault."""
        copy = os.fspath(self._cloud.store.segment_path(_as_it_came(header)))
        try:
            yield
        except MippError as error:
            if error.path == copy and not isinstance(error, OutputError):  # a full disk is the copy's
                error.path = None
            raise

    def _copy(self, source: FileSource, header: Header) -> Segment:
        """Keep a message as it came, its content verified on the way."""
        segment = _as_it_came(header)
        with self._progress("verifying", source.size, "B") as advance:
            root = store_copy(source, self._cloud.store.segment_path(segment), header, advance)
        return replace(segment, root=root)


def _as_it_came(header: Header) -> Segment:
    return Segment(header.sender, header.sequence_number, 0, 0, bytes.fromhex(header.digest), b"")
