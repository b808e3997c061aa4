"""A cloud's directory checked as a whole: its own files, members, and what it stores."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from mipp_cli.cloud.cloud import INDEX_FILE, MEMBERS_FOLDER, PUBLIC_FILE, Cloud
from mipp_cli.cloud.completeness import completeness, gap_warnings
from mipp_cli.cloud.query import QUERIES_FOLDER
from mipp_cli.cloud.store.store import PARTS_FOLDER, SEGMENTS_FOLDER
from mipp_cli.cloud.store.summing import StoredRows, Sums, sums_of
from mipp_cli.cloud.store_check import StoreCheck
from mipp_cli.compute.processes import LOCAL, Parallelism, open_executor
from mipp_cli.containers.base.source import read_file
from mipp_cli.containers.messages.membership import MEMBERS_BYTES_LIMIT, parse_members
from mipp_cli.containers.messages.public_files import CLOUD_NAME, load_party
from mipp_cli.containers.messages.upload import UploadReader
from mipp_cli.containers.store.index import Segment
from mipp_cli.errors import MalformedError
from mipp_cli.progress import Progress, silent
from mipp_cli.report import Report
from mipp_cli.scheme.keys import SigningKey
from mipp_cli.workdir.completeness import details_of, notes_of
from mipp_cli.workdir.findings import Findings, check_key
from mipp_cli.workdir.floors import floor_in_force
from mipp_cli.workdir.secrets_file import SECRETS_FILE

_QUERY_NAME = re.compile(r"[0-9a-f]{64}-[0-9a-f]{32}")
_STORED = re.compile(r"([^.].*-)?[0-9]+(\.[0-9]+)?\.h5(\.blocks)?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_HINT = (
    "mipp cloud index CLOUD --rebuild makes index.h5, parts/ and the lists of blocks anew; restore all else "
    "from a backup"
)


def check_cloud(
    path: Path, *, with_sums: bool = False, parallelism: Parallelism = LOCAL, progress: Progress = silent
) -> Report:
    """Check everything in a cloud's directory, and count it; ``with_sums`` computes all sums again.

    Raises DamagedError with all that is wrong.
    """
    findings = Findings.begin(path, "cloud")
    if with_sums and parallelism.scheduler:
        with open_executor(parallelism):
            pass  # a cluster that does not answer is no damage: say so before anything is taken for some
    cloud = Cloud(findings.directory)
    with findings.locked():
        known = findings.check_common()
        known += [findings.directory.file(name) for name in (PUBLIC_FILE, INDEX_FILE)]
        _check_keys(findings, cloud)
        owners: dict[str, bytes | None] = {}
        folders = (
            (MEMBERS_FOLDER, ".h5", "members", partial(_check_members, cloud, owners)),
            (QUERIES_FOLDER, ".json", "queries", partial(_check_query, cloud)),
        )
        for folder, ending, kind, check in folders:
            known += findings.check_each(folder, ending, kind, check)
        known += _check_store(findings, cloud, owners, with_sums, parallelism, progress)
        findings.check_unknown(known)
    return findings.report(_HINT)


def _check_keys(findings: Findings, cloud: Cloud) -> None:
    directory = cloud.directory
    public = directory.file(PUBLIC_FILE)
    with findings.of(public, "files"):
        load_party(public, CLOUD_NAME, directory.deployment.fingerprint)
    with findings.of(directory.file(SECRETS_FILE), "files"):
        signing_key = SigningKey(directory.secret("signing"))
        party = load_party(public, CLOUD_NAME, directory.deployment.fingerprint)
        check_key(signing_key.public, party.key, PUBLIC_FILE)


def _check_members(cloud: Cloud, owners: dict[str, bytes | None], name: str) -> None:
    owners[name] = None
    file = cloud.members_file(name)
    membership = parse_members(read_file(file, MEMBERS_BYTES_LIMIT), cloud.directory.deployment.fingerprint)
    if membership.owner != name:
        raise MalformedError("is of another owner than the file's name says")
    owners[name] = membership.key
    floor_in_force(cloud.directory, name, membership.key)


def _check_query(cloud: Cloud, name: str) -> None:
    recorded = cloud.directory.recorded(QUERIES_FOLDER, name)
    if not _QUERY_NAME.fullmatch(name) or not _DIGEST.fullmatch(recorded or ""):
        raise MalformedError("is not the record of a query")


def _check_store(
    findings: Findings,
    cloud: Cloud,
    owners: dict[str, bytes | None],
    with_sums: bool,
    parallelism: Parallelism,
    progress: Progress,
) -> list[Path]:
    """Check the index and what it lists; return the files that belong to the store."""
    index = None
    with findings.of(cloud.directory.file(INDEX_FILE), "files"):
        index = cloud.index()
    folders = [cloud.directory.file(name) for name in (SEGMENTS_FOLDER, PARTS_FOLDER)]
    stored = [path for folder in folders if folder.exists() for path in folder.iterdir() if _is_kept(path)]
    if index is None:
        return stored

    def again(segment: Segment, upload: UploadReader) -> Sums:
        rows = None if parallelism.scheduler else StoredRows(cloud.store, segment)
        return sums_of(upload, parallelism, progress, rows)

    StoreCheck(cloud, findings, owners, again if with_sums else None, progress).check(index)
    findings.warnings += gap_warnings(index)
    found = {}
    for owner in index.owners():
        with findings.of(cloud.store.segments_folder, "owners"):
            found[owner] = completeness(cloud.store, index, owner)
    findings.notes += notes_of(found)
    findings.details |= details_of(found)
    left = [path for path in cloud.store.unlisted(index) if _is_kept(path)]
    if left:
        findings.warnings.append(
            f"{len(left)} files that index.h5 does not list, such as {left[0]}: the next `mipp cloud index` "
            "removes them. If index.h5 is an older one, run it with --rebuild first"
        )
    return stored


def _is_kept(path: Path) -> bool:
    """Say whether a file has a name as those of the store have."""
    return _STORED.fullmatch(path.name) is not None
