"""`cloud index`, IndexConstruct: verifies uploads and deletions and applies them to the index."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from mipp_cli.cloud.changes import Effect, IndexChange
from mipp_cli.cloud.cloud import INDEX_FILE, Cloud
from mipp_cli.cloud.completeness import completeness, gap_warnings
from mipp_cli.compute.processes import LOCAL, Parallelism
from mipp_cli.containers.base.container import open_container, read_header
from mipp_cli.containers.base.header import Header
from mipp_cli.containers.base.source import FileSource
from mipp_cli.containers.base.stored import store_copy
from mipp_cli.containers.messages.delete import DELETE, deleted_names
from mipp_cli.containers.messages.earlier import read_earlier
from mipp_cli.containers.store.index import Index, Segment, write_index
from mipp_cli.errors import MalformedError, MippError, OutputError
from mipp_cli.progress import Progress, silent
from mipp_cli.report import Output, Report
from mipp_cli.workdir.completeness import details_of, notes_of
from mipp_cli.workdir.floors import check_floor, floor_in_force
from mipp_cli.workdir.replay import check_clock, check_message, check_pinned_key, each_new


def index_containers(
    path: Path, files: Sequence[Path], *, parallelism: Parallelism = LOCAL, progress: Progress = silent
) -> Report:
    """Apply uploads and deletions to the index, in any order; either all or none.

    For each image, the owner's message with the highest number decides. Messages applied before are skipped;
    AlreadyAppliedError if none is left. Raises NotAuthorisedError for an owner who is not enrolled,
    ReplayedError for a different message under a known number or a message from before a removal, ClockError
    for a number in the future, MalformedError for sums that no feature can have.
    """
    cloud = Cloud.open(path)

    def apply(file: Path) -> tuple[Header, Effect]:
        with closing(FileSource(file)) as source:
            header = read_header(source, deployment=cloud.directory.sender.deployment)
            if header.kind == "upload":
                return header, _add(cloud, change, source, header, progress)
        if header.kind == "delete":
            return header, _delete(cloud, change, file)
        raise MalformedError(
            f"is of kind {header.kind}, not upload or delete", hint="give owners' uploads and deletions"
        )

    with cloud.directory.lock():
        index = cloud.index()
        change = IndexChange(cloud, replace(index, number=index.number + 1), parallelism, progress)
        output = cloud.directory.file(INDEX_FILE)
        try:
            applied, skipped = each_new(files, apply)
            change.finish()
            write_index(output, cloud.directory.sender, change.index)
        finally:
            left = _remove_unlisted(cloud)
    uploads = [effect for header, effect in applied if header.kind == "upload"]
    deletions = [effect for header, effect in applied if header.kind == "delete"]
    counts = {
        "uploads": len(uploads),
        "deletions": len(deletions),
        "images": sum(each.images for each in uploads),
        "images replaced": sum(each.removed for each in uploads),
        "images deleted": sum(each.removed for each in deletions),
        "superseded": sum(effect.late for _, effect in applied),
        "already applied": skipped,
        "images in all": change.index.rows,
    }
    owners = {header.sender for header, _ in applied}
    return index_report(cloud, change.index, owners, counts, left)


def index_report(
    cloud: Cloud, index: Index, owners: Collection[str], counts: dict[str, int], warnings: Sequence[str]
) -> Report:
    """Return the report of a new index, with the messages of ``owners`` that have not arrived yet."""
    warnings = (*cloud.directory.warnings, *warnings, *gap_warnings(index))
    found = {owner: completeness(cloud.store, index, owner) for owner in sorted(owners)}
    output = Output(cloud.directory.file(INDEX_FILE), "index")
    return Report((output,), counts, warnings, {}, notes_of(found), details_of(found))


def _remove_unlisted(cloud: Cloud) -> list[str]:
    """Remove files that the index no longer lists; return a warning if that fails."""
    try:
        # read index.h5 again: an interrupt may have come after it was replaced
        cloud.store.remove_unlisted(cloud.index())
    except MippError as error:
        left = "files that the index no longer lists may be left; the next run tries again"
        return [f"{left}: {error.path}: {error.message}"]
    return []


def _check_sender(cloud: Cloud, index: Index, header: Header) -> None:
    members = cloud.members_header(header.sender)
    check_pinned_key(header, members.sender_key)
    segments = index.of_owner(header.sender)
    check_message(header, {segment.number: segment.digest.hex() for segment in segments})
    check_floor(floor_in_force(cloud.directory, header.sender, members.sender_key), header)
    check_clock(header, max([members.sequence_number, *(segment.number for segment in segments)]))


def _add(cloud: Cloud, change: IndexChange, source: FileSource, header: Header, progress: Progress) -> Effect:
    """Store an upload unchanged, verify it on the way, and index it."""
    _check_sender(cloud, change.index, header)
    segment = _as_it_came(header)
    change.expect_upload(source.size)
    copy = cloud.store.segment_path(segment)
    with progress("verifying", source.size, "B") as advance:
        root = store_copy(source, copy, header, advance)
    try:
        return change.add_upload(replace(segment, root=root))
    except MippError as error:
        if error.path == os.fspath(copy) and not isinstance(error, OutputError):
            error.path = None  # name the message, not its copy, which will be removed
        raise


def _delete(cloud: Cloud, change: IndexChange, file: Path) -> Effect:
    """Remove the images that a deletion names, except those that newer messages sent."""

    def check(header: Header) -> None:
        _check_sender(cloud, change.index, header)

    with open_container(file, DELETE, deployment=cloud.directory.sender.deployment, check=check) as container:
        header, names, earlier = container.header, deleted_names(container), read_earlier(container)
    return change.add_deletion(_as_it_came(header), earlier, names)


def _as_it_came(header: Header) -> Segment:
    return Segment(header.sender, header.sequence_number, 0, 0, bytes.fromhex(header.digest), b"")
