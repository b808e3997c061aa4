"""Forget queries: delete what a user keeps to read their answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from mipp_cli.containers.base.container import header_of
from mipp_cli.errors import AlreadyAppliedError, InvalidRequestError, NotAuthorisedError
from mipp_cli.files.atomic import remove_all, sync_deletions
from mipp_cli.files.folders import paths_in
from mipp_cli.report import Report
from mipp_cli.user.user import QUERIES_FOLDER
from mipp_cli.workdir.directory import RoleDirectory


def forget_queries(path: Path, which: Sequence[str] | None) -> Report:
    """Delete what the user keeps of queries, named by id, query.h5 or reencrypted.h5; None means all.

    Deletes USK, features and small pictures, so pending answers can no longer be read. Forgets all of
    ``which`` or none. Raises InvalidRequestError for a query that is not kept.
    """
    directory = RoleDirectory.open(path, "user")
    with directory.lock():
        folder = directory.folder(QUERIES_FOLDER)
        sync_deletions(folder)  # of an earlier run that could not
        kept = {file.stem: file for file in paths_in(folder, ".json")}
        chosen = set(kept) if which is None else {_query_id(directory, each, kept) for each in which}
        if not chosen:
            raise AlreadyAppliedError("keeps no queries", path=path, hint="there is nothing to do")
        remove_all(kept[query_id] for query_id in sorted(chosen))
        sync_deletions(folder)
    counts = {"queries forgotten": len(chosen), "queries kept": len(kept) - len(chosen)}
    return Report((), counts, directory.warnings)


def _query_id(directory: RoleDirectory, which: str, kept: dict[str, Path]) -> str:
    named = re.fullmatch(r"[0-9a-f]{32}", which) is not None
    query_id = which if named else _id_in(Path(which), directory)
    if query_id not in kept:
        raise InvalidRequestError(
            f"the query {query_id} is not kept",
            path=None if named else which,
            hint=f"mipp inspect {directory.path} lists the queries that are kept",
        )
    return query_id


def _id_in(file: Path, directory: RoleDirectory) -> str:
    header, public = header_of(file), directory.deployment
    keys = {"query": directory.sender.signing_key.public, "reencrypted": public.signing_key}
    if header.kind not in keys:
        raise InvalidRequestError(
            f"is of kind {header.kind}, not a query or an answer",
            path=file,
            hint="name a query, its answer or its id",
        )
    if (header.deployment, header.sender_key) != (public.fingerprint, keys[header.kind]):
        raise NotAuthorisedError(
            "is not a query of this user or an answer of its KMC", path=file, hint="name the query's id"
        )
    return header.number
