"""`cloud index --rebuild`: rebuilds the index from the segments, if index.h5 or a part is lost or damaged."""

from __future__ import annotations

import re
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from mipp_cli.cloud.changes import IndexChange
from mipp_cli.cloud.cloud import INDEX_FILE, Cloud
from mipp_cli.cloud.index import index_report
from mipp_cli.cloud.store import PARTS_FOLDER
from mipp_cli.compute.processes import LOCAL, Parallelism
from mipp_cli.containers.base.container import read_header
from mipp_cli.containers.base.header import IDENTIFIER, Header
from mipp_cli.containers.base.source import FileSource, check_digest
from mipp_cli.containers.base.stored import has_digests, root_of, store_digests
from mipp_cli.containers.store.index import Index, Segment, write_index
from mipp_cli.containers.store.segment import origin_of
from mipp_cli.errors import (
    DamagedError,
    InterruptedWorkError,
    MalformedError,
    MippError,
    OutputError,
    Problem,
)
from mipp_cli.files.atomic import unchanged_on_failure
from mipp_cli.files.folders import paths_in
from mipp_cli.progress import Progress, silent
from mipp_cli.report import Report
from mipp_cli.workdir.floors import floor_file, floor_of, raise_floor
from mipp_cli.workdir.replay import A_DAY, check_pinned_key, clock_number

_NUMBER = "(?:0|[1-9][0-9]{0,18})"
_SEGMENT_FILE = re.compile(
    rf"(?P<owner>{IDENTIFIER.pattern})-(?P<number>{_NUMBER})(\.(?P<revision>{_NUMBER}))?\.h5"
)


def rebuild_index(
    path: Path,
    *,
    drop_damaged: bool = False,
    parallelism: Parallelism = LOCAL,
    progress: Progress = silent,
) -> Report:
    """Rebuild index.h5, the parts and the lists of blocks from the segments, each verified as a whole.

    Of two revisions of a message the later one counts; a message whose application was interrupted is applied
    completely. Raises DamagedError, with nothing changed, listing every segment whose signature does not
    verify or whose owner is not enrolled. With ``drop_damaged`` these are dropped permanently, each with a
    warning, and older messages of their owners are refused from then on, since the messages that overruled
    them are gone.
    """
    cloud = Cloud.open(path)
    with cloud.directory.lock():
        cloud.directory.folder(PARTS_FOLDER)  # the whole folder may be lost
        old = None
        with suppress(MippError):
            old = cloud.index()
        messages = [each for each in _messages(cloud.store.segments_folder) if not _is_removed(cloud, each)]
        number = 1 + max(old.number if old else 0, *(each.revision for each in messages), 0)
        change = IndexChange(cloud, Index(number), parallelism, progress)
        rebuild = _Rebuild(cloud, change, old, progress)
        try:
            rebuild.apply_all(messages)
            change.finish()
            if rebuild.problems and not drop_damaged:
                raise DamagedError(
                    rebuild.problems,
                    path=path,
                    hint="restore these files from a backup, or drop them with --drop-damaged",
                )
            rebuild.put_in_force()
        finally:
            rebuild.clean()
    index = change.index
    counts = {
        "uploads and deletions": len(index.segments),
        "left out": len(rebuild.problems),
        "images in all": index.rows,
    }
    return index_report(cloud, index, index.owners(), counts, rebuild.warnings)


@dataclass(frozen=True, order=True)
class _Message:
    """The file of an upload or a deletion, described by its name; ordered by owner and number."""

    owner: str
    number: int
    revision: int
    path: Path


def _messages(folder: Path) -> list[_Message]:
    """Return the latest revision of every message, per owner the newest message first.

    In this order, the message that decides an image is always read before those it overrules.
    """
    latest: dict[tuple[str, int], _Message] = {}
    for path in paths_in(folder):
        match = _SEGMENT_FILE.fullmatch(path.name)
        if match:
            owner, number, revision = match["owner"], int(match["number"]), int(match["revision"] or 0)
            message = _Message(owner, number, revision, path)
            latest[owner, number] = max(message, latest.get((owner, number), message))
    return sorted(latest.values(), reverse=True)


def _is_removed(cloud: Cloud, message: _Message) -> bool:
    """Return whether a message was left behind by an interrupted removal of its owner."""
    return message.number <= floor_of(cloud.directory, message.owner).removed


@dataclass
class _Rebuild:
    """Applies messages to a ``change`` of an empty index; ``old`` is the existing index, if readable."""

    cloud: Cloud
    change: IndexChange
    old: Index | None
    progress: Progress
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)  # the newest message left out, by owner

    def apply_all(self, messages: list[_Message]) -> None:
        """Apply every message; a damaged one is recorded and left out."""
        listed = {(each.owner, each.number): each for each in (self.old.segments if self.old else ())}
        there = {(each.owner, each.number) for each in messages}
        for place, segment in listed.items():
            lost = _Message(*place, segment.revision, self.cloud.store.segment_path(segment))
            if place not in there and not _is_removed(self.cloud, lost):
                self._leave_out(lost, "is missing")
        for message in messages:
            try:
                self._refuse_restored(message, listed.get((message.owner, message.number)))
                self._apply(message)
            except (OutputError, InterruptedWorkError):
                raise  # not the fault of the message
            except MippError as error:
                if error.path not in (None, str(message.path)):
                    raise  # the damage is in another file: an owner's `members`, a part
                self._leave_out(message, error.message)

    def _refuse_restored(self, message: _Message, listed: Segment | None) -> None:
        """Refuse a message that was dropped before and restored from a backup: what overruled it is gone."""
        if self.old is None or message.number > floor_of(self.cloud.directory, message.owner).refused:
            return
        if listed is None or listed.revision > message.revision:
            raise MalformedError(
                "is older than a message that was dropped here, and is not listed in the index"
            )

    def _leave_out(self, message: _Message, reason: str) -> None:
        self.problems.append(Problem(str(message.path), reason))
        # a foreign file may carry any number in its name
        number = min(message.number, clock_number() + A_DAY)
        self.left_out[message.owner] = max(number, self.left_out.get(message.owner, 0))
        self.warnings.append(f"left out message {message.number} of {message.owner!r}: {reason}")

    def put_in_force(self) -> None:
        """Replace index.h5, and refuse messages older than those left out.

        The newest message left out may be applied again: no newer message that overrules it is missing.
        """
        directory = self.cloud.directory
        with unchanged_on_failure(*(floor_file(directory, owner) for owner in self.left_out)):
            for owner, number in self.left_out.items():
                raise_floor(directory, owner, number - 1, removed=False)
            write_index(directory.file(INDEX_FILE), directory.sender, self.change.index)

    def clean(self) -> None:
        """Remove files that the new index does not list or, if it is not in place, those written for it."""
        in_force = None
        with suppress(MippError):
            in_force = self.cloud.index()
        with suppress(MippError):
            if in_force == self.change.index:
                self.cloud.store.remove_unlisted(in_force)
            else:
                self.change.undo()  # an older index.h5 does not tell which segments count

    def _apply(self, message: _Message) -> None:
        owner_key = self.cloud.members_header(message.owner).sender_key
        header, root = self._verified(message, owner_key)
        digest = bytes.fromhex(header.digest)
        segment = Segment(message.owner, message.number, 0, 0, digest, root, message.revision)
        if segment.revision:
            with self.cloud.store.segment(segment, verified=True) as upload:
                origin = origin_of(upload.container)
            # another owner may have enrolled under a released name
            if (origin.owner, origin.key) != (segment.owner, owner_key):
                raise MalformedError(
                    "is not the message that its file name says, or from a former owner of that name"
                )
            segment = replace(segment, digest=origin.digest)
        self.change.add_upload(segment)
        if not has_digests(message.path, header):
            store_digests(message.path)

    def _verified(self, message: _Message, owner_key: bytes) -> tuple[Header, bytes]:
        """Verify a message as a whole: its content matches its file name and its signature the right key.

        Returns its header and the root of its file.
        """
        own = self.cloud.directory.sender
        kind, sender, key = "upload", message.owner, owner_key
        if message.revision:
            kind, sender, key = "segment", own.name, own.signing_key.public
        with closing(FileSource(message.path)) as source:
            header = read_header(source, deployment=own.deployment)
            if (header.kind, header.sender, header.number) != (kind, sender, str(message.number)):
                raise MalformedError("is not the message that its file name says")
            check_pinned_key(header, key)
            with self.progress("verifying", source.size, "B") as advance:
                check_digest(source, header)
                advance(source.size)
            return header, root_of(source)
