"""The index made anew from the segments alone: after index.h5 or a part was lost or damaged."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from mipp_cli.cloud.changes import IndexChange
from mipp_cli.cloud.cloud import INDEX_FILE, Cloud
from mipp_cli.cloud.completeness import completeness, gap_warnings
from mipp_cli.cloud.store.store import PARTS_FOLDER
from mipp_cli.cloud.store.summing import StoredRows, sums_of
from mipp_cli.compute.processes import LOCAL, Parallelism
from mipp_cli.containers.base.container import read_header
from mipp_cli.containers.base.header import IDENTIFIER, Header
from mipp_cli.containers.base.source import FileSource, check_digest
from mipp_cli.containers.base.stored import has_digests, root_of, store_digests
from mipp_cli.containers.messages.upload import UploadReader
from mipp_cli.containers.store.index import Index, Segment, write_index
from mipp_cli.containers.store.segment import deleted_in, origin_of
from mipp_cli.errors import (
    DamagedError,
    InterruptedWorkError,
    MalformedError,
    MippError,
    OutputError,
    Problem,
)
from mipp_cli.files.atomic import unchanged_on_failure
from mipp_cli.progress import Progress, silent
from mipp_cli.report import Output, Report
from mipp_cli.workdir.completeness import details_of, notes_of
from mipp_cli.workdir.floors import floor_file, floor_of, raise_floor
from mipp_cli.workdir.replay import A_DAY, check_pinned_key, clock_number

_NUMBER = "(?:0|[1-9][0-9]{0,18})"
_SEGMENT_FILE = re.compile(
    rf"(?P<owner>{IDENTIFIER.pattern})-(?P<number>{_NUMBER})(\.(?P<revision>{_NUMBER}))?\.h5"
)
_PART_FILE = re.compile(rf"(?P<number>{_NUMBER})\.h5(\.blocks)?")


def rebuild_index(
    path: Path,
    *,
    drop_damaged: bool = False,
    parallelism: Parallelism = LOCAL,
    progress: Progress = silent,
) -> Report:
    """Make index.h5, the parts and the lists of blocks anew from the segments, each verified as a whole.

    Of two revisions of a message the later counts; a message whose application was cut short is applied to
    the end. Raises DamagedError, with nothing changed, that names every segment that does not fit its
    signature, or whose owner is not enrolled; with ``drop_damaged`` these are left out for good, each with
    a warning, and older messages of their owners are refused from then on: what decided over them is gone.
    """
    cloud = Cloud.open(path)
    with cloud.directory.lock():
        cloud.directory.folder(PARTS_FOLDER)  # what was lost may have been all of it
        rebuild = _Rebuild(cloud, parallelism, progress)
        try:
            rebuild.apply_all()
            rebuild.finish()
            if rebuild.problems and not drop_damaged:
                raise DamagedError(
                    rebuild.problems,
                    path=path,
                    hint="restore these files from a backup, or leave them out with --drop-damaged",
                )
            rebuild.put_in_force()
        finally:
            rebuild.clean()
    index = rebuild.change.index
    counts = {
        "uploads and deletions": len(index.segments),
        "left out": len(rebuild.problems),
        "images in all": sum(segment.rows for segment in index.segments),
    }
    warnings = (*cloud.directory.warnings, *rebuild.warnings, *gap_warnings(index))
    found = {owner: completeness(cloud.store, index, owner) for owner in index.owners()}
    output = Output(cloud.directory.file(INDEX_FILE), "index")
    return Report((output,), counts, warnings, {}, notes_of(found), details_of(found))


@dataclass(frozen=True, order=True)
class _Message:
    """The file of an upload or a deletion, as its name says; ordered by owner and number."""

    owner: str
    number: int
    revision: int
    path: Path


def _messages(folder: Path) -> list[_Message]:
    """Return the latest revision of every message, of each owner the newest message first.

    So what decides over an image is known before a message is read that does not.
    """
    latest: dict[tuple[str, int], _Message] = {}
    for path in folder.iterdir():
        match = _SEGMENT_FILE.fullmatch(path.name)
        if match:
            owner, number, revision = match["owner"], int(match["number"]), int(match["revision"] or 0)
            message = _Message(owner, number, revision, path)
            latest[owner, number] = max(message, latest.get((owner, number), message))
    return sorted(latest.values(), reverse=True)


class _Rebuild:
    """Applies the messages to an index of nothing."""

    def __init__(self, cloud: Cloud, parallelism: Parallelism, progress: Progress):
        self._cloud, self._workplace, self._progress = cloud, parallelism, progress
        store = cloud.store
        self._messages = [
            each for each in _messages(store.segments_folder) if not self._went_with_owner(each)
        ]
        number = 1 + max(
            self._old_number(), len(self._messages), *(each.revision for each in self._messages), 0
        )
        parts = [_PART_FILE.fullmatch(path.name) for path in store.parts_folder.iterdir()]
        first_part = 1 + max((int(match["number"]) for match in parts if match), default=0)
        self.change = IndexChange(cloud, Index(number), first_part, progress, self._deleted_above)
        self.problems: list[Problem] = []
        self.warnings: list[str] = []
        self._listed = self._old_segments()
        self._left_out: dict[str, int] = {}  # of each owner, the newest message that was left out
        self._deleted: defaultdict[str, set[bytes]] = defaultdict(set)
        self._without_digests: list[Path] = []

    def _went_with_owner(self, message: _Message) -> bool:
        """Say whether a removal of its owner, cut short, left a message behind."""
        return message.number <= floor_of(self._cloud.directory, message.owner).removed

    def _deleted_above(self, owner: str, number: int) -> Iterator[bytes]:
        """Yield what messages above ``number`` deleted: those that were applied, the newest first."""
        yield from self._deleted[owner]

    def _old_number(self) -> int:
        """Return the number of the index that there is; 0 if its header cannot be read."""
        sender = self._cloud.directory.sender
        with suppress(MippError):
            source = FileSource(self._cloud.directory.file(INDEX_FILE))
            try:
                header = read_header(source, kind="index", deployment=sender.deployment)
            finally:
                source.close()
            check_pinned_key(header, sender.signing_key.public)
            return header.sequence_number
        return 0

    def apply_all(self) -> None:
        """Apply every message; what is wrong with one is noted, and it is left out."""
        for message in self._missing():
            self._leave_out(message, "is missing")
        for message in self._messages:
            try:
                self._refuse_restored(message)
                self._apply(message)
            except (OutputError, InterruptedWorkError):
                raise  # says nothing of the message
            except MippError as error:
                if error.path not in (None, str(message.path)):
                    raise  # nor does what is wrong elsewhere: an owner's `members`, a part
                self._leave_out(message, error.message)

    def _refuse_restored(self, message: _Message) -> None:
        """Refuse what was dropped once, and came back with a backup: what decided over it is gone."""
        if self._listed is None or message.number > floor_of(self._cloud.directory, message.owner).refused:
            return
        listed = self._listed.get((message.owner, message.number))
        if listed is None or listed.revision > message.revision:
            raise MalformedError("is older than what was dropped here, and not what the index lists")

    def _missing(self) -> list[_Message]:
        """Return what the old index, if it can be read, lists and no file is there of."""
        there = {(each.owner, each.number) for each in self._messages}
        store = self._cloud.store
        listed = [
            _Message(each.owner, each.number, each.revision, store.segment_path(each))
            for each in (self._listed or {}).values()
            if (each.owner, each.number) not in there
        ]
        return [each for each in listed if not self._went_with_owner(each)]

    def _old_segments(self) -> dict[tuple[str, int], Segment] | None:
        """Return what the old index lists, by owner and number; None if it cannot be read."""
        with suppress(MippError):
            return {(each.owner, each.number): each for each in self._cloud.index().segments}
        return None

    def _leave_out(self, message: _Message, reason: str) -> None:
        self.problems.append(Problem(str(message.path), reason))
        # a file that somebody put there may be named after any number
        number = min(message.number, clock_number() + A_DAY)
        self._left_out[message.owner] = max(number, self._left_out.get(message.owner, 0))
        self.warnings.append(
            f"left out what {message.owner!r} sent under the number {message.number}: {reason}"
        )

    def finish(self) -> None:
        """Write what is missing beside the parts and segments."""
        for path in self._without_digests:
            store_digests(path)
        self.change.finish()

    def put_in_force(self) -> None:
        """Replace index.h5, and refuse what is older than messages that were left out.

        The newest of those may come again: whatever decides over its images is there.
        """
        directory = self._cloud.directory
        with unchanged_on_failure(*(floor_file(directory, owner) for owner in self._left_out)):
            for owner, number in self._left_out.items():
                raise_floor(directory, owner, number - 1, removed=False)
            write_index(directory.file(INDEX_FILE), directory.sender, self.change.index)

    def clean(self) -> None:
        """Remove what the new index does not list, or if it is not in force, what was written for it."""
        with suppress(MippError):
            if self._in_force():
                self._cloud.store.remove_unlisted(self.change.index)
            else:
                self.change.undo()  # an older index.h5 does not say which segments count

    def _in_force(self) -> bool:
        try:
            return self._cloud.index() == self.change.index
        except MippError:
            return False

    def _apply(self, message: _Message) -> None:
        header, root = self._verified(message)
        digest = bytes.fromhex(header.digest)
        segment = Segment(message.owner, message.number, 0, 0, digest, root, message.revision)
        with self._cloud.store.new_segment(segment) as upload:
            if segment.revision:
                segment = self._as_it_came(segment, upload)
            upload.check_images()
            names, earlier = [name.encode() for name in upload.names()], upload.earlier()
            deleted = list(deleted_in(upload.container)) if segment.revision else []
            standing = self.change.standing(segment.owner, segment.number, names)
            rows = None if self._workplace.scheduler else StoredRows(self._cloud.store, segment)
            sums = sums_of(upload, self._workplace, self._progress, rows)
            segment = replace(segment, key_id=upload.key_id, deleted=len(deleted))
        self.change.add_upload(segment, earlier, names, sums, standing)
        self._deleted[segment.owner].update(deleted)
        if not has_digests(message.path, header):
            self._without_digests.append(message.path)

    def _as_it_came(self, segment: Segment, upload: UploadReader) -> Segment:
        """Return a revision with the digest of its message; refuses one that is of another owner."""
        origin = origin_of(upload.container)
        # a name that was released may be borne by another owner now
        if (origin.owner, origin.key) != (segment.owner, self._key_of(segment.owner)):
            raise MalformedError("is not what its name says, or of an owner of before")
        return replace(segment, digest=origin.digest)

    def _verified(self, message: _Message) -> tuple[Header, bytes]:
        """Check a message as a whole; return its header, and the root of its file."""
        source = FileSource(message.path)
        try:
            header = read_header(source, deployment=self._cloud.directory.sender.deployment)
            self._check_header(header, message)
            with self._progress("verifying", source.size, "B") as advance:
                check_digest(source, header)
                advance(source.size)
            return header, root_of(source)
        finally:
            source.close()

    def _check_header(self, header: Header, message: _Message) -> None:
        """Refuse what its name does not say, or who may not have signed it."""
        own, owner_key = self._cloud.directory.sender, self._key_of(message.owner)
        kind = "segment" if message.revision else "upload"
        sender = own.name if message.revision else message.owner
        key = own.signing_key.public if message.revision else owner_key
        if (header.kind, header.sender, header.number) != (kind, sender, str(message.number)):
            raise MalformedError("is not what its name says")
        check_pinned_key(header, key)

    def _key_of(self, owner: str) -> bytes:
        return self._cloud.members_header(owner).sender_key
