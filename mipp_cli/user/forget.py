"""What a user keeps of queries, dropped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from mipp_cli.containers.base.container import header_of
from mipp_cli.errors import AlreadyAppliedError, InvalidRequestError, NotAuthorisedError
from mipp_cli.files.atomic import output_error, sync
from mipp_cli.report import Report
from mipp_cli.user.user import QUERIES_FOLDER
from mipp_cli.workdir.directory import RoleDirectory


def forget_queries(path: Path, which: Sequence[str] | None) -> Report:
    """Drop what the user keeps of queries, named by id, query.h5 or reencrypted.h5; None means all.

    USK, features and small pictures are gone: answers that are still to come cannot be read. All of
    ``which`` or none. Raises InvalidRequestError for a query that is not kept.
    """
    directory = RoleDirectory.open(path, "user")
    with directory.lock():
        folder = directory.folder(QUERIES_FOLDER)
        kept = {file.stem: file for file in folder.glob("*.json")}
        chosen = set(kept) if which is None else {_query_id(directory, each, kept) for each in which}
        if not chosen:
            raise AlreadyAppliedError("no query is kept", path=path, hint="there is nothing to do")
        try:
            for query_id in sorted(chosen):
                kept[query_id].unlink(missing_ok=True)
            sync(folder)
        except OSError as error:
            raise output_error(error, folder) from error
    counts = {"queries forgotten": len(chosen), "queries kept": len(kept) - len(chosen)}
    return Report((), counts, directory.warnings)


def _query_id(directory: RoleDirectory, which: str, kept: dict[str, Path]) -> str:
    named = re.fullmatch(r"[0-9a-f]{32}", which) is not None
    query_id = which if named else _id_in(Path(which), directory)
    if query_id not in kept:
        raise InvalidRequestError(
            f"nothing is kept of the query {query_id}",
            path=None if named else which,
            hint=f"mipp inspect {directory.path} lists what is kept",
        )
    return query_id


def _id_in(file: Path, directory: RoleDirectory) -> str:
    header, public = header_of(file), directory.deployment
    keys = {"query": directory.sender.signing_key.public, "reencrypted": public.signing_key}
    if header.kind not in keys:
        raise InvalidRequestError(
            f"is of kind {header.kind}", path=file, hint="name a query, its answer or its id"
        )
    if (header.deployment, header.sender_key) != (public.fingerprint, keys[header.kind]):
        raise NotAuthorisedError(
            "was not made by this user, or not answered by this KMC", path=file, hint="name the query's id"
        )
    return header.number
