"""A KMC's directory checked as a whole: every file read, every key set beside the file that names it."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from mipp_cli.containers.header import IDENTIFIER, LARGEST_NUMBER
from mipp_cli.containers.public_files import load_party, load_renewal
from mipp_cli.errors import MalformedError
from mipp_cli.roles.checking import Findings, check_key
from mipp_cli.roles.directory import KMC_FILE, ROLE_FILE, SEALING_FILE
from mipp_cli.roles.kmc import CLOUDS_FOLDER, OWNERS_FOLDER, Kmc
from mipp_cli.roles.kmc_reencrypt import QUERIES_FOLDER
from mipp_cli.roles.protection import LOCK_FILE, SECRETS_FILE
from mipp_cli.roles.removed import REMOVED_FOLDER, removal_of
from mipp_cli.roles.report import Report
from mipp_cli.scheme.image_cipher import KEY_BYTES
from mipp_cli.scheme.keys import SigningKey

_FILES = (ROLE_FILE, KMC_FILE, SECRETS_FILE, SEALING_FILE, LOCK_FILE)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_QUERY_NAME = re.compile(r"[0-9a-f]{64}-[0-9a-f]{32}")
_QUERY_RECORD = re.compile(r"[0-9a-f]{64} [0-9a-f]{64}")
_HINT = (
    "restore these files from a backup; an owner or a cloud whose file cannot be restored enrols again, once "
    "it is moved away"
)


def check_kmc(path: Path) -> Report:
    """Check everything in a KMC's directory, and count it; raises DamagedError with all that is wrong."""
    findings = Findings.begin(path, "kmc")
    kmc = Kmc(findings.directory)
    with findings.locked():
        _check_keys(findings, kmc)
        known = [findings.directory.file(name) for name in _FILES]
        known += findings.check_each(OWNERS_FOLDER, ".json", "owners", partial(_check_owner, kmc))
        known += findings.check_each(REMOVED_FOLDER, ".json", "removals", partial(_check_removal, kmc))
        known += findings.check_each(CLOUDS_FOLDER, ".pub", "clouds", partial(_check_cloud, kmc))
        known += findings.check_each(QUERIES_FOLDER, ".json", "queries", partial(_check_query, kmc))
        findings.check_unknown(known)
    return findings.report(_HINT)


def _check_keys(findings: Findings, kmc: Kmc) -> None:
    directory = kmc.directory
    findings.check_common()
    renewed = directory.file(SEALING_FILE)
    if renewed.exists():
        with findings.of(renewed, "files"):
            load_renewal(renewed, directory.deployment)
    with findings.of(directory.file(SECRETS_FILE), "files"):
        signing_key = SigningKey(directory.secret("signing"))
        held = kmc.sealing_keys
        check_key(signing_key.public, directory.deployment.signing_key, KMC_FILE)
        # a rotation that was interrupted leaves the published key among the former ones
        if directory.sealing_key not in [key.public for key in (held.current, *held.former)]:
            named = renewed.name if renewed.exists() else KMC_FILE
            raise MalformedError(f"lacks the sealing key that {named} names")


def _check_owner(kmc: Kmc, name: str) -> None:
    owner = kmc.owner(name) if IDENTIFIER.fullmatch(name) else None
    if owner is None:
        raise MalformedError("is named after no owner")
    membership = owner.membership
    keys = [membership.key, *(key for _, key in membership.users)]
    sound = (
        0 <= membership.number <= LARGEST_NUMBER
        and _DIGEST.fullmatch(owner.digest)
        and all(len(key) == 32 for key in keys)
        and all(IDENTIFIER.fullmatch(user) for user, _ in membership.users)
        and (owner.image_keys or owner.forgotten)
        and all(len(key) == KEY_BYTES for key in owner.image_keys.values())
    )
    if not sound:
        raise MalformedError("is damaged")


def _check_removal(kmc: Kmc, name: str) -> None:
    if not IDENTIFIER.fullmatch(name) or removal_of(kmc.directory, name) is None:
        raise MalformedError("is named after no owner")


def _check_cloud(kmc: Kmc, name: str) -> None:
    file = kmc.directory.file(CLOUDS_FOLDER) / f"{name}.pub"
    cloud = load_party(file, "cloud", kmc.directory.deployment.fingerprint)
    if cloud.key.hex() != name:
        raise MalformedError("names another key than the file's name does")


def _check_query(kmc: Kmc, name: str) -> None:
    recorded = kmc.directory.recorded(QUERIES_FOLDER, name)
    if not _QUERY_NAME.fullmatch(name) or not _QUERY_RECORD.fullmatch(recorded or ""):
        raise MalformedError("is not the record of a query")
