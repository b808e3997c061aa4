"""`kmc reencrypt`: re-encrypts the results of a cloud for the user who sent the query."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from mipp_cli.containers.base.container import header_of
from mipp_cli.containers.messages.reencrypted import write_reencrypted
from mipp_cli.errors import MalformedError, errors_at
from mipp_cli.files.atomic import refuse_existing
from mipp_cli.kmc.kmc import Kmc
from mipp_cli.kmc.reencrypt_groups import GroupsAnswer, opened_groups
from mipp_cli.kmc.reencrypt_sums import ResultsAnswer, opened_results
from mipp_cli.progress import Progress, silent
from mipp_cli.report import Report

_Opened = Callable[[Kmc, Path], AbstractContextManager[ResultsAnswer | GroupsAnswer]]
_STEPS: dict[str, _Opened] = {"results": opened_results, "groups": opened_groups}


def reencrypt(
    path: Path, results: Path, output: Path, *, force: bool = False, progress: Progress = silent
) -> Report:
    """Re-encrypt the matches (sum schemes), or the matching rows of groups (scheme `exact`), for the user.

    Raises MalformedError for results of the wrong kind for this deployment, and what :func:`opened_results`
    and :func:`opened_groups` raise. Raises ReplayedError if the query was answered with other images before:
    a second answer must not tell the cloud or the user more. The answer is recorded before its file is in
    place: if the command is interrupted in between, the same results are accepted again, and others are not.
    """
    refuse_existing(output, force=force)
    kmc = Kmc.open(path)
    kmc.directory.refuse_inside(output)
    expected, kind = kmc.directory.deployment.parameters.protocol.results, header_of(results).kind
    if kind != expected:
        raise MalformedError(
            f"is of kind {kind}, not {expected}",
            path=results,
            hint="give the results.h5 written by mipp cloud search",
        )
    with (
        kmc.directory.lock(shared=True),
        errors_at(results),
        _STEPS[kind](kmc, results) as answer,
        progress("re-encrypting", answer.brought, "image") as advance,
    ):
        write_reencrypted(
            output,
            kmc.directory.sender,
            answer.cipher.query_id,
            answer.images(advance),
            lambda: answer.cipher.seal_manifest(answer.manifest()),
            force=force,
        )
    return answer.report(output)
