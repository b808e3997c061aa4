"""A user takes over the KMC's renewed sealing key."""

from __future__ import annotations

from pathlib import Path

from mipp_cli.files.atomic import write_bytes
from mipp_cli.report import Output, Report
from mipp_cli.workdir.directory import SEALING_FILE, RoleDirectory
from mipp_cli.workdir.sealing_key import newer_sealing_key


def update_kmc_key(path: Path, file: Path) -> Report:
    """Take over the KMC's renewed sealing key: queries are sealed to it from now on."""
    directory = RoleDirectory.open(path, "user")
    with directory.lock():
        text, _ = newer_sealing_key(directory, file)
        write_bytes(directory.file(SEALING_FILE), text, force=True)
    output = Output(directory.file(SEALING_FILE), "sealing.pub")
    return Report((output,), {}, directory.warnings)
