"""`kmc reencrypt`: what a cloud brought says how it is re-encrypted."""

from __future__ import annotations

from pathlib import Path

from mipp_cli.containers.base.container import header_of
from mipp_cli.errors import MalformedError
from mipp_cli.files.atomic import refuse_existing
from mipp_cli.kmc.kmc import Kmc
from mipp_cli.kmc.reencrypt_groups import reencrypt_groups
from mipp_cli.kmc.reencrypt_sums import reencrypt_results
from mipp_cli.progress import Progress, silent
from mipp_cli.report import Report

_STEPS = {"results": reencrypt_results, "groups": reencrypt_groups}


def reencrypt(
    path: Path, results: Path, output: Path, *, force: bool = False, progress: Progress = silent
) -> Report:
    """Re-encrypt matches (sum schemes), or what matched in groups (scheme `exact`), for the user who asked.

    Raises MalformedError for what this deployment's clouds do not answer with, and what
    :func:`reencrypt_results` and :func:`reencrypt_groups` raise.
    """
    refuse_existing(output, force=force)
    kmc = Kmc.open(path)
    kmc.directory.refuse_inside(output)
    expected, kind = kmc.directory.deployment.parameters.protocol.results, header_of(results).kind
    if kind != expected:
        raise MalformedError(
            f"is of kind {kind}, not {expected}",
            path=results,
            hint="give the results.h5 that mipp cloud search wrote",
        )
    return _STEPS[kind](kmc, results, output, force=force, progress=progress)
