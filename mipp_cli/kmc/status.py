"""`kmc status`: the owners, key ids, users and clouds that a KMC knows, without secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mipp_cli.containers.messages.public_files import load_renewal
from mipp_cli.files.folders import is_there
from mipp_cli.kmc.kmc import EnrolledOwner, Kmc
from mipp_cli.kmc.store import FeatureStore
from mipp_cli.kmc.store_index import StoreIndex
from mipp_cli.report import Report
from mipp_cli.workdir.completeness import Completeness, completeness_of
from mipp_cli.workdir.directory import SEALING_FILE
from mipp_cli.workdir.floors import floor_of
from mipp_cli.workdir.removals import removals
from mipp_cli.workdir.replay import moment


def kmc_status(path: Path) -> tuple[Report, dict[str, Any]]:
    """Return what the KMC holds: a report of counts, and the details as JSON fields.

    Image keys are named by key id, sealing keys by the first 16 hex digits of the SHA-256 of their public
    half.
    """
    kmc = Kmc.open(path)
    with kmc.directory.lock(shared=True):
        owners = {name: fields for name in kmc.owner_names() if (fields := _owner(kmc, name)) is not None}
        removed = {
            each.owner: {"number": each.number, "date": moment(each.number), "name_released": each.released}
            for each in removals(kmc.directory)
            if each.owner not in owners
        }
        clouds, sealing = kmc.cloud_names(), _sealing(kmc)
    details = {"owners": owners, "clouds": clouds, "sealing_keys": sealing, "removed": removed}
    counts = {
        "owners": len(owners),
        "image keys": sum(len(fields["image_keys"]) for fields in owners.values()),
        "clouds": len(clouds),
        "former sealing keys": len(sealing["former"]),
        "removed owners": len(removed),
    }
    held = [fields["features"] for fields in owners.values() if "features" in fields]
    if held:
        counts |= {"images ranked": sum(each["images_ranked"] for each in held)}
        counts |= {"images under forgotten keys": sum(each["images_under_forgotten_keys"] for each in held)}
    return Report((), counts, kmc.directory.warnings), details


def _owner(kmc: Kmc, name: str) -> dict[str, Any] | None:
    owner = kmc.owner(name)
    if owner is None:
        return None
    membership = owner.membership
    fields = {
        "number": membership.number,
        "date": moment(membership.number),
        "key": membership.key.hex(),
        "image_keys": [f"{key:016x}" for key in owner.image_keys],
        "users": {user: key.hex() for user, key in sorted(membership.users)},
    }
    if kmc.directory.deployment.parameters.protocol.grouped:
        fields["features"] = _features(kmc, owner)
    return fields


def _features(kmc: Kmc, owner: EnrolledOwner) -> dict[str, Any]:
    index = FeatureStore.of(kmc, owner).index()
    held = [message for message in index.messages if message.key_id in owner.image_keys]
    ranked = sum(block.rows for message in held for block in message.blocks if block.coded)
    found = received(kmc, owner.name, index)
    return {
        "images_ranked": ranked,
        "images_under_forgotten_keys": index.rows - ranked,
        "complete": found.up_to,
        "missing": list(found.gaps),
        "state": str(found),
    }


def received(kmc: Kmc, owner: str, index: StoreIndex) -> Completeness:
    """Return which messages of an owner have arrived; those dropped by a removal are not missing."""
    rows = {message.number: message.rows for message in index.messages}
    return completeness_of(rows, index.lists(), floor_of(kmc.directory, owner).removed)


def _sealing(kmc: Kmc) -> dict[str, Any]:
    keys, file = kmc.sealing_keys, kmc.directory.file(SEALING_FILE)
    renewal = load_renewal(file, kmc.directory.deployment) if is_there(file) else None
    return {
        "current": keys.current.public.short_name,
        "number": renewal.number if renewal else None,
        "date": moment(renewal.number) if renewal else None,
        "former": [key.public.short_name for key in keys.former],
    }
