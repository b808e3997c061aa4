"""`cloud search`: answers a query (sum schemes) or a selection (scheme `exact`)."""

from __future__ import annotations

from pathlib import Path

from mipp_cli.cloud.cloud import Cloud
from mipp_cli.cloud.search_groups import bring_groups
from mipp_cli.cloud.search_sums import search_sums
from mipp_cli.compute.processes import LOCAL, Parallelism
from mipp_cli.containers.base.container import header_of
from mipp_cli.errors import InvalidRequestError, MalformedError, MippError
from mipp_cli.files.atomic import refuse_existing
from mipp_cli.progress import Progress, silent
from mipp_cli.report import Report


def search(
    path: Path,
    request: Path,
    output: Path,
    *,
    without_index: bool = False,
    parallelism: Parallelism = LOCAL,
    force: bool = False,
    progress: Progress = silent,
) -> Report:
    """Answer a query (sum schemes), or return the groups of a selection (scheme `exact`).

    Raises MalformedError for a request of the wrong kind for this deployment, and what :func:`search_sums`
    and :func:`bring_groups` raise.
    """
    refuse_existing(output, force=force)
    cloud = Cloud.open(path)
    cloud.directory.refuse_inside(output)
    asked = cloud.directory.deployment.parameters.protocol.search_input
    kind = header_of(request).kind
    if kind == "query" and asked == "selection":
        raise MalformedError(
            "is a query, which the KMC must rank first in this deployment's scheme",
            path=request,
            hint="run mipp kmc rank KMC query.h5 -o selection.h5, then search with selection.h5",
        )
    if kind != asked:
        raise MalformedError(
            f"is of kind {kind}, not {asked}", path=request, hint=f"give the {asked} file to this command"
        )
    if kind == "selection" and without_index:
        raise InvalidRequestError(
            "--without-index does not apply to a selection", hint="leave out --without-index"
        )
    index = cloud.index()
    while True:
        try:
            if kind == "selection":
                return bring_groups(cloud, index, request, output, force=force, progress=progress)
            work = None if not without_index else parallelism
            return search_sums(cloud, index, request, output, scan=work, force=force, progress=progress)
        except MippError:
            latest = cloud.index()
            if latest == index:
                raise
            # another run may replace the index at any time, and remove files that the old one lists
            index = latest
