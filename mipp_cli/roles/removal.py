"""Owners removed: the KMC drops their keys, users and features, the cloud their users and images.

The record comes first, then the floor below which nothing is taken again, then the membership goes, then what
is stored: whatever is interrupted can be run again, and finishes.
"""

from __future__ import annotations

from pathlib import Path

from mipp_cli.containers.atomic import output_error, sync_folder
from mipp_cli.containers.index import write_index
from mipp_cli.containers.stored import remove
from mipp_cli.errors import AlreadyAppliedError, MalformedError
from mipp_cli.roles.cloud import INDEX_FILE, Cloud
from mipp_cli.roles.directory import RoleDirectory, check_identifier
from mipp_cli.roles.floors import raise_floor
from mipp_cli.roles.kmc import EnrolledOwner, Kmc
from mipp_cli.roles.kmc_store import FeatureStore, numbers_in
from mipp_cli.roles.removed import InForce, record_removal
from mipp_cli.roles.report import Report


def remove_from_kmc(path: Path, owner: str, *, release_name: bool = False) -> Report:
    """End an owner's membership at the KMC: its SKs, AUL and features go, and its images open no more.

    With the enrolment goes the storage key, without which nothing of the features can be read again.

    The name stays pinned to the owner's key, which may enrol again with a newer enrolment, unless it is
    released. Raises InvalidRequestError if nobody of that name was ever enrolled, AlreadyAppliedError if
    the owner was removed before.
    """
    check_identifier(owner, "an owner's identifier")
    kmc = Kmc.open(path)
    with kmc.directory.lock():
        enrolled = kmc.owner(owner)
        known, counts = None, {}
        if enrolled is not None:
            known = InForce(enrolled.key, enrolled.number, enrolled.digest, enrolled.forgotten)
            counts = {"image keys": len(enrolled.image_keys), "users": _count_users(enrolled)}
        left = [each for each in (*kmc.users_files(owner), kmc.features_folder(owner)) if each.exists()]
        is_news = record_removal(kmc.directory, owner, known, release=release_name)
        if enrolled is None and not is_news and not left:
            raise _already_removed(kmc.directory, owner)
        if kmc.directory.deployment.parameters.protocol.grouped:
            highest, images = _applied_at_kmc(kmc, owner, enrolled)
            raise_floor(kmc.directory, owner, highest, removed=True)
            counts |= {"images": images} if enrolled is not None else {}
        _unlink(kmc.owner_file(owner))
        for users_file in kmc.users_files(owner):
            _unlink(users_file)
        _remove_folder(kmc.features_folder(owner))
    return _report(kmc.directory, counts, release_name)


def _count_users(enrolled: EnrolledOwner) -> int:
    try:
        return len(enrolled.membership.users)
    except MalformedError:  # damage must not keep anybody from going
        return 0


def _applied_at_kmc(kmc: Kmc, owner: str, enrolled: EnrolledOwner | None) -> tuple[int, int]:
    """Return the highest number that the KMC applied of an owner, and how many images are live."""
    highest = max(numbers_in(kmc.features_folder(owner)), default=0)
    if enrolled is None:
        return highest, 0
    try:
        index = FeatureStore.of(kmc, enrolled).index()
    except MalformedError:
        return highest, 0
    return max(highest, index.newest), index.rows


def _remove_folder(folder: Path) -> None:
    """Remove an owner's features for good; raises OutputError."""
    if not folder.exists():
        return
    for file in folder.iterdir():
        remove(file)
    try:
        folder.rmdir()
        sync_folder(folder.parent)
    except OSError as error:
        raise output_error(error, folder) from error


def remove_from_cloud(path: Path, owner: str, *, release_name: bool = False) -> Report:
    """End an owner's membership at the cloud: its users, rows, ciphertexts and sums are physically gone.

    The name stays pinned to the owner's key, which may enrol again with newer `members`, unless it is
    released; uploads and deletions of before are refused then. Raises InvalidRequestError if nobody of
    that name was ever enrolled, AlreadyAppliedError if the owner was removed before.
    """
    check_identifier(owner, "an owner's identifier")
    cloud = Cloud.open(path)
    with cloud.directory.lock():
        index, members = cloud.index(), cloud.members_file(owner)
        segments = index.of_owner(owner)
        highest = max((segment.number for segment in segments), default=0)
        known = None
        if members.exists():
            header = cloud.members_header(owner)
            known = InForce(header.sender_key, header.sequence_number, header.digest)
        is_news = record_removal(cloud.directory, owner, known, release=release_name)
        if known is None and not (is_news or segments or cloud.store.unlisted(index)):
            raise _already_removed(cloud.directory, owner)
        raise_floor(cloud.directory, owner, highest, removed=True)
        _unlink(members)
        if segments:
            index = index.without_owner(owner)
            write_index(cloud.directory.file(INDEX_FILE), cloud.directory.sender, index)
        cloud.store.remove_unlisted(index)
    counts = {"uploads": len(segments), "images": sum(segment.rows for segment in segments)}
    return _report(cloud.directory, counts, release_name)


def _unlink(path: Path) -> None:
    """Remove a file for good; raises OutputError."""
    try:
        path.unlink(missing_ok=True)
        if path.parent.exists():
            sync_folder(path.parent)
    except OSError as error:
        raise output_error(error, path) from error


def _already_removed(directory: RoleDirectory, owner: str) -> AlreadyAppliedError:
    return AlreadyAppliedError(
        f"the owner {owner!r} was removed before", path=directory.path, hint="there is nothing to do"
    )


def _report(directory: RoleDirectory, counts: dict[str, int], released: bool) -> Report:
    notes = ("the name is free; the key that bore it is retired for good",) if released else ()
    return Report((), {"owners": 1, **counts}, tuple(directory.deployment.parameters.warnings), {}, notes)
