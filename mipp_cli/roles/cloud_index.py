"""The cloud's main chore, IndexConstruct: uploads are verified, kept as segments, and their sums indexed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from mipp_cli.containers.container import read_header
from mipp_cli.containers.header import Header
from mipp_cli.containers.index import Part, Segment, write_index
from mipp_cli.containers.part import PartContent, write_part
from mipp_cli.containers.source import FileSource
from mipp_cli.containers.stored import store_copy, store_digests
from mipp_cli.errors import ConflictError, InvalidRequestError, MippError
from mipp_cli.roles.cloud import INDEX_FILE, Cloud
from mipp_cli.roles.parts import merged, part_of_sums, parts_to_merge
from mipp_cli.roles.progress import Progress, silent
from mipp_cli.roles.report import Output, Report
from mipp_cli.roles.sequence import check_pinned_key, check_sequence, each_new
from mipp_cli.roles.summing import StoredRows, Sums, sums_of
from mipp_cli.roles.workers import LOCAL, Workplace


def index_containers(
    path: Path, files: Sequence[Path], *, workplace: Workplace = LOCAL, progress: Progress = silent
) -> Report:
    """Apply uploads to the index, in the order given; all of them or none.

    An upload applied before is skipped; AlreadyAppliedError if that leaves nothing to do. Raises
    NotAuthorisedError for an owner who is not enrolled, ReplayedError for an older upload, ConflictError
    for an image that is there already, MalformedError for sums that no feature can have.
    """
    cloud = Cloud.open(path)
    with cloud.directory.lock():
        builder = _IndexBuilder(cloud, workplace, progress)
        output = cloud.directory.file(INDEX_FILE)
        try:
            added, skipped = each_new(files, builder.add_upload)
            write_index(output, cloud.directory.sender, builder.index)
        finally:
            # by what index.h5 says now, not by how far we came: an interrupt may fall after it was replaced
            with suppress(MippError):
                cloud.store.remove_unlisted(cloud.index())
    counts = {
        "uploads": len(added),
        "images": sum(added),
        "already applied": skipped,
        "images in all": sum(segment.rows for segment in builder.index.segments),
    }
    return Report((Output(output, "index"),), counts, tuple(cloud.directory.deployment.parameters.warnings))


class _IndexBuilder:
    """The index as uploads make it grow; what is written counts for nothing until index.h5 names it."""

    def __init__(self, cloud: Cloud, workplace: Workplace, progress: Progress):
        index = cloud.index()
        self.index = replace(index, number=index.number + 1)
        self._cloud, self._workplace, self._progress = cloud, workplace, progress
        self._parameters = cloud.directory.deployment.parameters
        self._next_part = 1 + max((part.number for part in index.parts), default=0)

    def add_upload(self, file: Path) -> int:
        """Verify an upload, keep it as a segment and index its sums; return how many images it has."""
        source = FileSource(file)
        try:
            header = read_header(source, kind="upload", deployment=self._cloud.directory.sender.deployment)
            self._check_sender(header)
            digest = bytes.fromhex(header.digest)
            segment = Segment(header.sender, header.sequence_number, 0, 0, digest, b"")
            path = self._cloud.store.segment_path(segment)
            with self._progress("verifying", source.size, "B") as advance:
                segment = replace(segment, root=store_copy(source, path, header.digest, advance))
        finally:
            source.close()
        try:
            segment, names, sums = self._read(segment)
        except MippError as error:
            if error.path == os.fspath(path):
                error.path = None  # the copy will be gone: the upload itself is what is at fault
            raise
        self._append(segment, names, sums)
        return len(names)

    def _read(self, segment: Segment) -> tuple[Segment, list[bytes], Sums]:
        """Return a new segment with what its upload says, its names, and the sums of its features."""
        with self._cloud.store.new_segment(segment) as upload:
            if upload.replaces:
                raise InvalidRequestError("replaces images, which this version cannot do", hint="update mipp")
            upload.check_images()
            names = [name.encode() for name in upload.names()]
            self._refuse_known(segment.owner, names)
            rows = None if self._workplace.scheduler else StoredRows(self._cloud.store, segment)
            sums = sums_of(upload, self._workplace, self._progress, rows)
            return replace(segment, key_id=upload.key_id, rows=len(names)), names, sums

    def _check_sender(self, header: Header) -> None:
        check_pinned_key(header, self._cloud.members_header(header.sender).sender_key)
        applied = {segment.upload: segment.digest.hex() for segment in self.index.of_owner(header.sender)}
        check_sequence(header, applied)

    def _refuse_known(self, owner: str, names: Sequence[bytes]) -> None:
        for part in self.index.parts_of(owner):
            with self._cloud.store.part(part) as reader:
                known = reader.known(names)
            if known:
                raise ConflictError(
                    f"{len(known)} of its images are in the cloud already, the first {known[0].decode()}",
                    hint=f"{owner!r} makes an upload without them",
                )

    def _append(self, segment: Segment, names: Sequence[bytes], sums: Sums) -> None:
        """List a segment and its part, and merge parts that became too many."""
        segments = (*self.index.segments, segment)
        part = self._new_part((len(self.index.segments),), part_of_sums(*sums, names))
        self.index = replace(self.index, segments=segments, parts=(*self.index.parts, part))
        self._merge_parts(segment.owner)

    def _merge_parts(self, owner: str) -> None:
        parts = self.index.parts_of(owner)
        merging = parts[-parts_to_merge([self.index.rows_of(part) for part in parts]) :]
        if len(merging) < 2:
            return
        with ExitStack() as stack:
            readers = [stack.enter_context(self._cloud.store.part(part)) for part in merging]
            segments = tuple(number for part in merging for number in part.segments)
            with self._progress("merging", sum(map(len, readers)), "image") as advance:
                content = merged(readers, self._cloud.store.parts_folder, advance)
                part = self._new_part(segments, content)
        kept = tuple(each for each in self.index.parts if each not in merging)
        self.index = replace(self.index, parts=(*kept, part))

    def _new_part(self, segments: tuple[int, ...], content: PartContent) -> Part:
        part = Part(self._next_part, b"", segments)
        self._next_part += 1
        path = self._cloud.store.part_path(part)
        write_part(path, self._cloud.directory.sender, part.number, content)
        return replace(part, root=store_digests(path))
