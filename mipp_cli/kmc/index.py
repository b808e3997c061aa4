"""`kmc index` (scheme `exact`): verifies features files and deletions and applies them to the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mipp_cli.containers.base.container import header_of
from mipp_cli.containers.base.header import Header
from mipp_cli.containers.messages.delete import DELETE
from mipp_cli.containers.messages.features import FEATURES
from mipp_cli.errors import (
    AlreadyAppliedError,
    MalformedError,
    NotAuthorisedError,
    errors_at,
)
from mipp_cli.files.atomic import unchanged_on_failure
from mipp_cli.kmc.applying import OwnersMessages
from mipp_cli.kmc.kmc import EnrolledOwner, Kmc
from mipp_cli.kmc.status import received
from mipp_cli.progress import Progress, silent
from mipp_cli.report import Report
from mipp_cli.workdir.completeness import AGAIN_AT_KMC, details_of, notes_of
from mipp_cli.workdir.replay import check_pinned_key


def index_at_kmc(path: Path, files: Sequence[Path], *, progress: Progress = silent) -> Report:
    """Apply features files and deletions to the owners' stores, in any order; either all or none.

    For each image, the owner's message with the highest number decides. Files applied before are skipped,
    unless they can repair damage of the store; AlreadyAppliedError if nothing is left to do. Raises
    NotAuthorisedError for an owner who is not enrolled, MissingKeyError for features under an unknown key,
    ReplayedError for a different file under a known number or a file from before a removal, ClockError for a
    number in the future, MalformedError if the store is damaged where it must be read.
    """
    kmc = Kmc.open(path)
    kmc.directory.deployment.parameters.protocol.check_kmc_ranks()
    owners: dict[str, OwnersMessages] = {}
    skipped: list[AlreadyAppliedError] = []
    with kmc.directory.lock():
        try:
            # in order of their numbers, so that the order on the command line does not matter
            headers = sorted(((file, _header(kmc, file)) for file in files), key=_number)
            for file, header in headers:
                with errors_at(file):
                    if header.sender not in owners:
                        owners[header.sender] = OwnersMessages(kmc, _owner(kmc, header), progress)
                    try:
                        owners[header.sender].add(file, header)
                    except AlreadyAppliedError as error:
                        error.path = str(file)
                        skipped.append(error)
            for owner in owners.values():
                owner.apply()
            with unchanged_on_failure(*(owner.store.index_file for owner in owners.values())):
                for owner in owners.values():
                    if owner.tasks:
                        owner.store.write_index(owner.index)
        finally:
            left = [warning for owner in owners.values() for warning in owner.remove_unlisted()]
    if skipped and not any(owner.tasks for owner in owners.values()):
        raise skipped[0]
    return _report(kmc, owners, len(skipped), left)


def _number(each: tuple[Path, Header]) -> int:
    return each[1].sequence_number


def _header(kmc: Kmc, file: Path) -> Header:
    header = header_of(file, kmc.directory.deployment.fingerprint)
    if header.kind not in (FEATURES.kind, DELETE.kind):
        raise MalformedError(
            f"is of kind {header.kind}, not {FEATURES.kind} or {DELETE.kind}",
            path=file,
            hint="give owners' features files (upload.features.h5) and deletions (delete.h5)",
        )
    return header


def _owner(kmc: Kmc, header: Header) -> EnrolledOwner:
    enrolled = kmc.owner(header.sender)
    if enrolled is None:
        raise NotAuthorisedError(
            f"the owner {header.sender!r} is not enrolled with this KMC",
            hint="enrol the owner first: mipp kmc enroll KMC enrolment.h5",
        )
    check_pinned_key(header, enrolled.key)
    return enrolled


def _report(kmc: Kmc, owners: Mapping[str, OwnersMessages], skipped: int, left: Sequence[str]) -> Report:
    kinds = "uploads", "deletions", "images", "images replaced", "images deleted", "superseded", "repaired"
    counts = {kind: sum(owner.counts[kind] for owner in owners.values()) for kind in kinds}
    counts["already applied"] = skipped
    counts["images of these owners"] = sum(owner.index.rows for owner in owners.values())
    found = {name: received(kmc, name, owner.index) for name, owner in owners.items()}
    warnings = [*kmc.directory.warnings, *left]
    warnings += [said for owner in owners.values() for said in owner.warnings]
    for name, each in sorted(found.items()):
        warnings += each.warnings(name, AGAIN_AT_KMC)
    return Report((), counts, tuple(warnings), {}, notes_of(found), details_of(found))
