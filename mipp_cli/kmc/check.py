"""`kmc check`: verifies a KMC's whole directory: every file, and every key against the file that names it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mipp_cli.containers.base.header import IDENTIFIER, LARGEST_NUMBER
from mipp_cli.containers.messages.public_files import load_party, load_renewal
from mipp_cli.errors import MalformedError, MippError
from mipp_cli.files.folders import is_there
from mipp_cli.kmc.kmc import CLOUDS_FOLDER, FEATURES_FOLDER, OWNERS_FOLDER, USERS_FOLDER, Kmc
from mipp_cli.kmc.ranking import RANKINGS_FOLDER, read_ranking
from mipp_cli.kmc.reencrypt_sums import QUERIES_FOLDER
from mipp_cli.kmc.status import received
from mipp_cli.kmc.store import INDEX_FILE, FeatureStore, is_stored
from mipp_cli.kmc.store_index import StoreIndex
from mipp_cli.progress import Progress, silent
from mipp_cli.report import Report
from mipp_cli.scheme.keys import SigningKey
from mipp_cli.scheme.secret_keys import KEY_BYTES
from mipp_cli.workdir.completeness import AGAIN_AT_KMC, Completeness, details_of, notes_of
from mipp_cli.workdir.directory import KMC_FILE, SEALING_FILE
from mipp_cli.workdir.findings import Findings, check_key, check_query_record
from mipp_cli.workdir.floors import floor_in_force
from mipp_cli.workdir.secrets_file import SECRETS_FILE

_DIGEST = re.compile(r"[0-9a-f]{64}")
_RANKING = re.compile(r"[0-9a-f]{32}(\.answer)?")
_HINT = (
    "restore these files from a backup; if an owner's or a cloud's file cannot be restored, move it away and "
    "enrol that owner or cloud again"
)
_HINT_FEATURES = (
    "to repair features/, apply the owner's features files and deletions again: mipp kmc index KMC FILE "
    "(mipp owner features OWNER -o DIR writes the features files); for other files, "
)


def check_kmc(path: Path, *, progress: Progress = silent) -> Report:
    """Check every file in a KMC's directory and count them; raises DamagedError, which lists all damage."""
    findings = Findings.begin(path, "kmc")
    kmc = Kmc(findings.directory)
    with findings.locked():
        known = [*findings.check_common(), findings.directory.file(SEALING_FILE)]
        _check_keys(findings, kmc)
        folders = (
            (OWNERS_FOLDER, ".json", "owners", partial(_check_owner, kmc)),
            (USERS_FOLDER, ".json", "lists of users", partial(_check_users, findings, kmc)),
            (CLOUDS_FOLDER, ".pub", "clouds", partial(_check_cloud, kmc)),
            (QUERIES_FOLDER, ".json", "queries", partial(check_query_record, kmc.directory, QUERIES_FOLDER)),
            (RANKINGS_FOLDER, ".json", "rankings", partial(_check_ranking, kmc)),
        )
        for folder, ending, kind, check in folders:
            known += findings.check_each(folder, ending, kind, check)
        owners = [file.stem for file in findings.listed(findings.directory.file(OWNERS_FOLDER), ".json")]
        known += [tags for name in owners for tags in kmc.users_files(name)[1:]]
        known += _left_of_removals(findings, owners)
        stored, is_damaged = _check_stores(findings, kmc, owners, progress)
        findings.check_unknown([*known, *stored])
    return findings.report(_HINT_FEATURES + _HINT if is_damaged else _HINT)


def _check_keys(findings: Findings, kmc: Kmc) -> None:
    directory = kmc.directory
    renewed = directory.file(SEALING_FILE)
    if is_there(renewed):
        with findings.of(renewed, "files"):
            load_renewal(renewed, directory.deployment)
    with findings.of(directory.file(SECRETS_FILE), "files"):
        signing_key = SigningKey(directory.secret("signing"))
        held = kmc.sealing_keys
        check_key(signing_key.public, directory.deployment.signing_key, KMC_FILE)
        # after an interrupted rotation the published key is one of the former keys
        if directory.sealing_key not in [key.public for key in (held.current, *held.former)]:
            named = renewed.name if is_there(renewed) else KMC_FILE
            raise MalformedError(f"lacks the sealing key that {named} names")


def _check_owner(kmc: Kmc, name: str) -> None:
    owner = kmc.owner(name) if IDENTIFIER.fullmatch(name) else None
    if owner is None:
        raise MalformedError("has a name that is not an owner's")
    sound = (
        0 <= owner.number <= LARGEST_NUMBER
        and _DIGEST.fullmatch(owner.digest)
        and len(owner.key) == 32
        and (owner.image_keys or owner.forgotten)
        and all(len(key) == KEY_BYTES for key in owner.image_keys.values())
    )
    if not sound:
        raise MalformedError("is damaged")
    for file in kmc.users_files(name):
        if not is_there(file):
            raise MalformedError("is missing", path=file)
    if kmc.directory.deployment.parameters.protocol.grouped:
        floor_in_force(kmc.directory, name, owner.key)


def _check_users(findings: Findings, kmc: Kmc, name: str) -> None:
    listed, tags = kmc.users_files(name)
    number, users = kmc.listed_users(name)
    if not all(len(key) == 32 and IDENTIFIER.fullmatch(user) for user, key in users):
        raise MalformedError("is damaged")
    try:
        owner = kmc.owner(name)
    except MippError:
        return  # reported already
    if owner is None or owner.number != number:
        # the list is written first, the enrolment last
        findings.warnings.append(
            f"{listed} belongs to an interrupted enrolment of {name!r}: enrol the owner again, "
            "or delete this file"
        )
    elif _holds_own_key(kmc) and (not is_there(tags) or tags.read_bytes() != kmc.tags(name, users)):
        raise MalformedError("is not the list of users that the owner enrolled", path=tags)


def _holds_own_key(kmc: Kmc) -> bool:
    """Return whether the signing key, which the tag key is derived from, is the one named in kmc.pub."""
    try:
        key = SigningKey(kmc.directory.secret("signing"))
        return key.public == kmc.directory.deployment.signing_key
    except MippError:
        return False  # reported already


def _check_stores(
    findings: Findings, kmc: Kmc, owners: Sequence[str], progress: Progress
) -> tuple[list[Path], bool]:
    """Check the features of every enrolled owner; return the files, and whether any is damaged."""
    found: dict[str, Completeness] = {}
    stored: list[Path] = []
    before = len(findings.problems)
    for name in owners:
        folder = kmc.features_folder(name)
        if not findings.is_folder(folder):
            continue
        stored += [path for path in findings.listed(folder) if is_stored(path)]
        try:
            owner = kmc.owner(name)
        except MippError:
            continue  # reported already
        if owner is not None:
            with findings.of(folder / INDEX_FILE, "stores"):
                store = FeatureStore.of(kmc, owner)
                index = store.index()
                found[name] = received(kmc, name, index)
                _check_store(findings, store, index, progress)
    for name, each in found.items():
        findings.warnings += each.warnings(name, AGAIN_AT_KMC)
    if found:
        findings.notes += notes_of(found)
        findings.details |= details_of(found)
    return stored, len(findings.problems) > before


def _check_store(findings: Findings, store: FeatureStore, index: StoreIndex, progress: Progress) -> None:
    with progress(f"checking features of {store.owner}", index.rows, "image") as advance:
        for block in index.blocks:
            with findings.of(store.path(block), "blocks"):
                store.check(block)
            advance(block.rows)
    for message in index.messages:
        if message.deleted:
            with findings.of(store.deleted_path(message), "deletions"):
                store.deleted(message)
    findings.counts["images"] += index.rows
    left = store.unlisted(index)
    if left:
        findings.warnings.append(
            f"{len(left)} files are not listed in the index, such as {left[0]}: the next `mipp kmc index` "
            "for this owner removes them"
        )


def _left_of_removals(findings: Findings, enrolled: Sequence[str]) -> list[Path]:
    """Return files that interrupted removals and enrolments left of owners who are not enrolled."""
    directory = findings.directory
    tags = [
        each for each in findings.listed(directory.file(USERS_FOLDER), ".tags") if each.stem not in enrolled
    ]
    folders = [
        each
        for each in findings.listed(directory.file(FEATURES_FOLDER))
        if each.name not in enrolled and IDENTIFIER.fullmatch(each.name) and findings.is_folder(each)
    ]
    findings.warnings += [
        f"{each} is a remnant of the owner {each.name!r}, who is not enrolled: mipp kmc remove KMC "
        f"{each.name} removes it"
        for each in folders
    ]
    return [*tags, *(file for each in folders for file in findings.listed(each) if is_stored(file))]


def _check_cloud(kmc: Kmc, name: str) -> None:
    file = kmc.directory.file(CLOUDS_FOLDER) / f"{name}.pub"
    cloud = load_party(file, "cloud", kmc.directory.deployment.fingerprint)
    if cloud.key.hex() != name:
        raise MalformedError("contains another key than its file name says")


def _check_ranking(kmc: Kmc, name: str) -> None:
    if not _RANKING.fullmatch(name):
        raise MalformedError("is not the record of a ranking")
    number, _, is_answer = name.partition(".")
    if not is_answer:
        read_ranking(kmc.directory, number)
    elif not _DIGEST.fullmatch(kmc.directory.recorded(RANKINGS_FOLDER, name) or ""):
        raise MalformedError("is not the record of an answer")
