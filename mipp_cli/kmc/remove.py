"""`kmc remove`: removes an owner, its keys, users and features.

Order: write the record, raise the floor below which messages are refused, remove the membership, remove the
stored files. So an interrupted removal can be run again and finishes. A removal that fails changes nothing
until the membership is gone; from there on it removes what it can and names what is left. An interrupt waits
until the membership is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from mipp_cli.compute.signals import signals_held
from mipp_cli.errors import MalformedError
from mipp_cli.files.atomic import remove, remove_all, sync_deletions, unchanged_on_failure
from mipp_cli.files.folders import is_there
from mipp_cli.files.system_errors import deletion_error
from mipp_cli.kmc.kmc import EnrolledOwner, Kmc
from mipp_cli.kmc.store import FeatureStore, newest_in
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


def remove_from_kmc(
    path: Path, owner: str, *, release_name: bool = False, confirm: Confirm = unasked
) -> Report:
    """Remove an owner from the KMC: its SKs, AUL and features; its images can no longer be decrypted here.

    The enrolment includes the storage key, without which the features cannot be decrypted either.

    The name stays pinned to the owner's key, unless it is released. The owner may enrol again with a newer
    enrolment. Raises InvalidRequestError if no owner of that name was ever enrolled, AlreadyAppliedError if
    the owner was removed before. Calls ``confirm`` before anything is deleted.
    """
    check_identifier(owner, "an owner's identifier")
    kmc = Kmc.open(path)
    _ask(kmc, owner, confirm, is_wanted=release_name)
    with kmc.directory.lock():
        enrolled = kmc.owner(owner)
        known, counts = None, {}
        if enrolled is not None:
            known = Removal(owner, enrolled.key, enrolled.number, enrolled.digest, enrolled.forgotten)
            counts = {"image keys": len(enrolled.image_keys), "users": _count_users(enrolled)}
        left = _left(kmc, owner)
        record, floor = removal_file(kmc.directory, owner), floor_file(kmc.directory, owner)
        # held, or an interrupt could restore the files after the owner is gone, and allow a replay
        with signals_held(), unchanged_on_failure(record, floor):
            is_news = record_removal(kmc.directory, owner, known, release=release_name)
            if enrolled is None and not is_news and not left:
                delete_rest(owner, *_steps(kmc, owner))  # an earlier run may have failed to sync them
                raise already_removed(kmc.directory, owner)
            if kmc.directory.deployment.parameters.protocol.grouped:
                highest, images = _applied_at_kmc(kmc, owner, enrolled)
                raise_floor(kmc.directory, owner, highest, removed=True)
                counts |= {"images": images} if enrolled is not None else {}
            remove(kmc.owner_file(owner))
        delete_rest(owner, *_steps(kmc, owner))
    return removal_report(kmc.directory, counts, release_name)


def _ask(kmc: Kmc, owner: str, confirm: Confirm, *, is_wanted: bool) -> None:
    """Ask for confirmation if anything of the owner is stored, or if it ``is_wanted`` in any case.

    The lock is not held meanwhile, so more may be removed in the end than the question says.
    """
    with kmc.directory.lock(shared=True):
        enrolled = kmc.owner(owner)
        is_stored = enrolled is not None or bool(_left(kmc, owner))
        grouped = kmc.directory.deployment.parameters.protocol.grouped
        images = _applied_at_kmc(kmc, owner, enrolled)[1] if grouped else 0
    if is_stored or is_wanted:
        what = owner if enrolled is None else f"{owner} and its image keys"
        if images:
            what = f"{owner}, its image keys and the features of its {images} images"
        confirm(removal_question(what, "the KMC"))


def _left(kmc: Kmc, owner: str) -> list[Path]:
    """Return the files stored for an owner, except the enrolment."""
    return [each for each in (*kmc.users_files(owner), kmc.features_folder(owner)) if is_there(each)]


def _count_users(enrolled: EnrolledOwner) -> int:
    try:
        return len(enrolled.membership.users)
    except MalformedError:  # a damaged list must not prevent the removal
        return 0


def _applied_at_kmc(kmc: Kmc, owner: str, enrolled: EnrolledOwner | None) -> tuple[int, int]:
    """Return the highest message number applied of an owner, and the number of live images."""
    highest = newest_in(kmc.features_folder(owner))
    if enrolled is None:
        return highest, 0
    try:
        index = FeatureStore.of(kmc, enrolled).index()
    except MalformedError:
        return highest, 0
    return max(highest, index.newest), index.rows


def _steps(kmc: Kmc, owner: str) -> Iterator[Callable[[], None]]:
    """Yield what deletes the files of an owner whose enrolment is gone, but perhaps not for good."""
    for file in (kmc.owner_file(owner), *kmc.users_files(owner)):
        yield partial(remove, file, for_good=True)
    yield partial(_remove_folder, kmc.features_folder(owner))


def _remove_folder(folder: Path) -> None:
    try:
        if is_there(folder):
            remove_all(folder.iterdir())
            folder.rmdir()
    except OSError as error:
        raise deletion_error(error, folder) from error
    sync_deletions(folder.parent)
