"""An owner takes over the KMC's renewed sealing key."""

from __future__ import annotations

from pathlib import Path

from mipp_cli.files.atomic import unchanged_on_failure, write_bytes
from mipp_cli.owner.owner import ENROLMENT_FILE, MEMBERS_FILE, NOT_IN_FORCE, Owner
from mipp_cli.report import Output, Report
from mipp_cli.workdir.directory import SEALING_FILE
from mipp_cli.workdir.sealing_key import newer_sealing_key


def update_kmc_key(path: Path, file: Path) -> Report:
    """Take over the KMC's renewed sealing key, and rewrite the files that enrol the owner."""
    owner = Owner.open(path)
    directory = owner.directory
    changed = [directory.file(name) for name in (ENROLMENT_FILE, MEMBERS_FILE, SEALING_FILE)]
    with directory.lock():
        text, sealing_key = newer_sealing_key(directory, file)
        with unchanged_on_failure(*changed):
            outputs = owner.write_membership(owner.users, sealing_key)
            # last: whoever is killed before runs the command again, and is not told that all was done
            write_bytes(directory.file(SEALING_FILE), text, force=True)
    shown = owner.shown(outputs)
    outputs = (Output(directory.file(SEALING_FILE), "sealing.pub"), *outputs)
    return Report(outputs, {"users": len(owner.users)}, directory.warnings, shown, (NOT_IN_FORCE,))
