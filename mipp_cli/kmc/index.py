"""The KMC's chore in scheme `exact`: features files and deletions are verified and applied to the store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mipp_cli.containers.base.container import header_of
from mipp_cli.containers.base.header import Header
from mipp_cli.containers.messages.delete import DELETE
from mipp_cli.containers.messages.features import FEATURES
from mipp_cli.errors import (
    AlreadyAppliedError,
    MalformedError,
    NotAuthorisedError,
    WrongDeploymentError,
    errors_at,
)
from mipp_cli.files.atomic import unchanged_on_failure
from mipp_cli.kmc.applying import OwnersMessages
from mipp_cli.kmc.kmc import Kmc
from mipp_cli.kmc.status import received
from mipp_cli.progress import Progress, silent
from mipp_cli.report import Report
from mipp_cli.workdir.completeness import AGAIN_AT_KMC, details_of, notes_of
from mipp_cli.workdir.replay import check_pinned_key


def index_at_kmc(path: Path, files: Sequence[Path], *, progress: Progress = silent) -> Report:
    """Apply features files and deletions to the owners' stores, in any order; all of them or none.

    Of what an owner's messages say of an image, that under the highest number counts. What was applied
    before is skipped, unless the store lost something of it, which it then fills; AlreadyAppliedError if
    nothing is left to do. Raises NotAuthorisedError for an owner who is not enrolled, MissingKeyError for
    features under a key that never was, ReplayedError for another file under a known number or from before
    a removal, ClockError for a number of a time to come, MalformedError if the store is damaged where it
    has to be read.
    """
    kmc = Kmc.open(path)
    kmc.directory.deployment.parameters.protocol.check_kmc_ranks()
    with kmc.directory.lock():
        batch = _Batch(kmc, progress)
        try:
            batch.sort(files)
            for owner in batch.owners.values():
                owner.apply()
            with unchanged_on_failure(*(owner.store.index_file for owner in batch.owners.values())):
                for owner in batch.owners.values():
                    if owner.tasks:
                        owner.store.write_index(owner.index)
        finally:
            left = [warning for owner in batch.owners.values() for warning in owner.remove_unlisted()]
    return _report(batch, left)


def _report(batch: _Batch, left: Sequence[str]) -> Report:
    if not any(owner.tasks for owner in batch.owners.values()) and batch.skipped:
        raise batch.skipped[0]
    kinds = ("uploads", "deletions", "images", "images replaced", "images deleted", "superseded", "repaired")
    counts = {
        **{kind: sum(owner.counts[kind] for owner in batch.owners.values()) for kind in kinds},
        "already applied": len(batch.skipped),
        "images of these owners": sum(owner.index.rows for owner in batch.owners.values()),
    }
    directory = batch.kmc.directory
    found = {name: received(batch.kmc, name, owner.index) for name, owner in batch.owners.items()}
    warnings = [*directory.warnings, *left]
    warnings += [said for owner in batch.owners.values() for said in owner.warnings]
    for name, each in sorted(found.items()):
        warnings += each.warnings(name, AGAIN_AT_KMC)
    return Report((), counts, tuple(warnings), {}, notes_of(found), details_of(found))


class _Batch:
    """The files of one run, by owner, in the order in which they are applied."""

    def __init__(self, kmc: Kmc, progress: Progress):
        self.kmc = kmc
        self.owners: dict[str, OwnersMessages] = {}
        self.skipped: list[AlreadyAppliedError] = []
        self._progress = progress

    def sort(self, files: Sequence[Path]) -> None:
        """Check who sent the files, and find out what there is to do with each.

        From the lowest number on, so that it makes no difference in which order they were named.
        """
        headers = [(file, self._header(file)) for file in files]
        for file, header in sorted(headers, key=lambda each: each[1].sequence_number):
            with errors_at(file):
                try:
                    self._owner(header).add(file, header)
                except AlreadyAppliedError as error:
                    error.path = str(file)
                    self.skipped.append(error)

    def _header(self, file: Path) -> Header:
        header = header_of(file)
        with errors_at(file):
            if header.kind not in (FEATURES.kind, DELETE.kind):
                raise MalformedError(
                    f"is of kind {header.kind}, not {FEATURES.kind} or {DELETE.kind}",
                    hint="give features files (such as upload.features.h5) and deletions of owners",
                )
            deployment = self.kmc.directory.deployment.fingerprint
            if header.deployment != deployment:
                raise WrongDeploymentError(
                    f"belongs to the deployment {header.deployment[:16]}…, not to {deployment[:16]}…",
                    hint="the file was made with another kmc.pub; ask its sender to use this deployment's",
                )
        return header

    def _owner(self, header: Header) -> OwnersMessages:
        name = header.sender
        if name not in self.owners:
            enrolled = self.kmc.owner(name)
            if enrolled is None:
                raise NotAuthorisedError(
                    f"the owner {name!r} is not enrolled with this KMC",
                    hint="enrol the owner first: mipp kmc enroll KMC enrolment.h5",
                )
            check_pinned_key(header, enrolled.key)
            self.owners[name] = OwnersMessages(self.kmc, enrolled, self._progress)
        return self.owners[name]
