"""Make the directory of a user or a cloud: a signing key, and the public file that contains it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from mipp_cli.containers.messages.public_files import load_deployment, read_public_file, render_party
from mipp_cli.files.atomic import write_bytes
from mipp_cli.report import Output, Report
from mipp_cli.scheme.keys import SigningKey
from mipp_cli.workdir.directory import KMC_FILE, RoleDirectory, new_directory
from mipp_cli.workdir.fingerprints import check_fingerprints


def init_party(
    path: Path,
    role: str,
    name: str,
    kmc: Path,
    fingerprints: Sequence[str],
    fill: Callable[[RoleDirectory], object],
) -> Report:
    """Make the directory of a user or a cloud; ``fill`` adds what only this role needs.

    Raises OutputError if ``path`` exists, WrongDeploymentError if a demanded fingerprint does not match.
    """
    kmc_text, deployment = read_public_file(kmc), load_deployment(kmc)
    shown = check_fingerprints({kmc: deployment.fingerprint}, fingerprints)
    key = SigningKey.generate()
    public = render_party(role, name, deployment.fingerprint, key)
    file = path / f"{role}.pub"
    with new_directory(path, role, name) as directory:
        write_bytes(directory.file(KMC_FILE), kmc_text)
        directory.write_secrets({"signing": key.seed})
        write_bytes(directory.file(file.name), public)
        fill(directory)
    shown[str(file)] = hashlib.sha256(public).hexdigest()
    return Report((Output(file, file.name),), {}, replace(directory, path=path).warnings, shown)
