"""`cloud remove`: removes an owner, its users and its images.

Order: write the record, raise the floor below which messages are refused, remove the membership, remove the
stored files. So an interrupted removal can be run again and finishes. A removal that fails changes nothing
until the index is written; from there on it removes what it can, and says so. An interrupt waits until the
index is written.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from mipp_cli.cloud.cloud import INDEX_FILE, Cloud
from mipp_cli.compute.signals import signals_held
from mipp_cli.containers.store.index import write_index
from mipp_cli.files.atomic import remove, unchanged_on_failure
from mipp_cli.files.folders import is_there
from mipp_cli.report import Report
from mipp_cli.workdir.directory import check_identifier
from mipp_cli.workdir.floors import floor_file, raise_floor
from mipp_cli.workdir.removals import (
    Confirm,
    Removal,
    already_removed,
    delete_rest,
    record_removal,
    removal_file,
    removal_question,
    removal_report,
    unasked,
)


def remove_from_cloud(
    path: Path, owner: str, *, release_name: bool = False, confirm: Confirm = unasked
) -> Report:
    """Remove an owner from the cloud: its users, rows, ciphertexts and sums are physically deleted.

    The name stays pinned to the owner's key, unless it is released. The owner may enrol again with newer
    `members`; uploads and deletions from before the removal are then refused. Raises InvalidRequestError if
    no owner of that name was ever enrolled, AlreadyAppliedError if the owner was removed before. Calls
    ``confirm`` before anything is deleted.
    """
    check_identifier(owner, "an owner's identifier")
    cloud = Cloud.open(path)
    _ask(cloud, owner, confirm, is_wanted=release_name)
    with cloud.directory.lock():
        index, members = cloud.index(), cloud.members_file(owner)
        segments = index.of_owner(owner)
        highest = max((segment.number for segment in segments), default=0)
        known = None
        if is_there(members):
            header = cloud.members_header(owner)
            known = Removal(owner, header.sender_key, header.sequence_number, header.digest)
        record, floor = removal_file(cloud.directory, owner), floor_file(cloud.directory, owner)
        # held, or an interrupt could restore the files after the index is written, and allow a replay
        with signals_held(), unchanged_on_failure(record, floor, members):
            is_news = record_removal(cloud.directory, owner, known, release=release_name)
            if known is None and not (is_news or segments or cloud.store.unlisted(index)):
                raise already_removed(cloud.directory, owner)
            raise_floor(cloud.directory, owner, highest, removed=True)
            remove(members, for_good=True)
            if segments:
                index = index.without_owner(owner)
                write_index(cloud.directory.file(INDEX_FILE), cloud.directory.sender, index)
        delete_rest(owner, partial(cloud.store.remove_unlisted, index))
    counts = {"uploads": len(segments), "images": sum(segment.rows for segment in segments)}
    return removal_report(cloud.directory, counts, release_name)


def _ask(cloud: Cloud, owner: str, confirm: Confirm, *, is_wanted: bool) -> None:
    """Ask for confirmation if anything of the owner is stored, or if it ``is_wanted`` in any case.

    The lock is not held meanwhile, so more may be removed in the end than the question says.
    """
    with cloud.directory.lock(shared=True):
        segments = cloud.index().of_owner(owner)
        is_stored = is_there(cloud.members_file(owner)) or bool(segments)
    if is_stored or is_wanted:
        images = sum(segment.rows for segment in segments)
        confirm(removal_question(f"{owner} and its {images} images" if images else owner, "the cloud"))
