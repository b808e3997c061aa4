"""`kmc enroll`: verifies and applies the enrolments of owners and clouds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mipp_cli.containers.base.header import Header
from mipp_cli.containers.messages.membership import (
    FORGOTTEN_LIMIT,
    KEYS_LIMIT,
    Membership,
    read_enrolment,
)
from mipp_cli.containers.messages.public_files import Party, is_public_file, load_party, read_public_file
from mipp_cli.errors import AlreadyAppliedError, ConflictError, MalformedError
from mipp_cli.files.atomic import unchanged_on_failure, write_bytes
from mipp_cli.files.folders import is_there
from mipp_cli.kmc.kmc import EnrolledOwner, Kmc
from mipp_cli.report import Report
from mipp_cli.scheme.secret_keys import generate_key
from mipp_cli.workdir.fingerprints import check_fingerprints
from mipp_cli.workdir.floors import floor_file, set_floor_of_return
from mipp_cli.workdir.removals import check_return, check_spelling, removal_of
from mipp_cli.workdir.replay import check_clock, check_pinned_key, check_sequence, each_new


def enroll_at_kmc(path: Path, files: Sequence[Path], *, fingerprints: Sequence[str] = ()) -> Report:
    """Enrol owners and clouds; either all of ``files`` or none.

    Files applied before are skipped; AlreadyAppliedError if none is left. The fingerprints shown and required
    are those of all ``files``, including owners whose names are pinned here.
    """
    kmc = Kmc.open(path)
    found: dict[Path, str] = {}
    pending: dict[str, EnrolledOwner] = {}
    clouds: dict[Path, Party] = {}
    back: dict[str, Header] = {}  # owners who return after a removal

    def read(file: Path) -> None:
        if is_public_file(file):
            clouds[file] = _new_cloud(kmc, file, found)
        else:
            owner = _new_enrolment(kmc, file, pending, found, back)
            pending[owner.name] = owner

    with kmc.directory.lock():
        _, skipped = each_new(files, read, lambda: check_fingerprints(found, fingerprints))
        changed = [file for name in pending for file in (*kmc.users_files(name), kmc.owner_file(name))]
        changed += [floor_file(kmc.directory, name) for name in back]
        with unchanged_on_failure(*changed, *(kmc.cloud_file(cloud.key) for cloud in clouds.values())):
            for header in back.values():
                set_floor_of_return(kmc.directory, header)
            for owner in pending.values():
                kmc.store_owner(owner)
            for file, cloud in clouds.items():
                write_bytes(kmc.cloud_file(cloud.key), read_public_file(file), force=True)
    counts = {"owners": len(pending), "clouds": len(clouds), "already enrolled": skipped}
    shown = {str(file): fingerprint for file, fingerprint in found.items()}
    warnings = [*kmc.directory.warnings, *_forgotten_warnings(pending)]
    notes = tuple(
        f"the images of {owner} from before the removal are gone: mipp owner encrypt --again sends them again"
        for owner in sorted(back)
    )
    return Report((), counts, tuple(warnings), shown, notes)


def _forgotten_warnings(owners: Mapping[str, EnrolledOwner]) -> list[str]:
    """Warn of owners without any usable image key: a backup restored a key that was forgotten."""
    return [
        f"{name} enrols only image keys that it dropped before, so its images cannot be re-encrypted; the "
        "owner needs a new key: mipp owner rotate-key"
        for name, owner in owners.items()
        if not owner.image_keys
    ]


def _new_cloud(kmc: Kmc, file: Path, found: dict[Path, str]) -> Party:
    cloud = load_party(file, "cloud", kmc.directory.deployment.fingerprint)
    found[file] = cloud.fingerprint
    if kmc.knows_cloud(cloud.key):
        raise AlreadyAppliedError("is enrolled already", hint="there is nothing to do")
    return cloud


def _new_enrolment(
    kmc: Kmc,
    file: Path,
    pending: dict[str, EnrolledOwner],
    found: dict[Path, str],
    back: dict[str, Header],
) -> EnrolledOwner:
    digest = ""
    owner: EnrolledOwner | None = None

    def check(header: Header) -> None:
        nonlocal digest, owner
        digest, found[file] = header.digest, header.key
        check_spelling(kmc.directory, header.sender, [*kmc.owner_names(), *pending])
        owner = pending.get(header.sender) or kmc.owner(header.sender)
        check_return(kmc.directory, header, enrolled=owner is not None)
        if owner is not None:
            check_pinned_key(header, owner.key)
            check_sequence(header, owner.number, owner.digest)
        elif _was_removed(kmc, header.sender) and kmc.directory.deployment.parameters.protocol.grouped:
            back[header.sender] = header
        check_clock(header, owner.number if owner else 0)

    enrolment = read_enrolment(file, kmc.directory.deployment.fingerprint, kmc.sealing_keys, check)
    # keys not listed are kept: an owner who restored an old backup does not know the newer ones
    held, forgotten = _known_keys(kmc, enrolment.membership, owner)
    forgotten |= enrolment.forgotten
    keys = {key: value for key, value in held.items() if key not in enrolment.image_keys}
    keys |= enrolment.image_keys
    keys = {key: value for key, value in keys.items() if key not in forgotten}
    # each enrolment is bounded; bound their sum, too
    if len(keys) > KEYS_LIMIT or len(forgotten) > FORGOTTEN_LIMIT:
        raise MalformedError(
            f"would make {len(keys)} image keys and {len(forgotten)} forgotten ones; the limits per owner "
            f"are {KEYS_LIMIT} and {FORGOTTEN_LIMIT}",
            hint="ask the owner to drop unused keys (mipp owner forget-key), or to start over",
        )
    membership = enrolment.membership
    storage_key = owner.storage_key if owner else generate_key()
    return EnrolledOwner(
        membership.owner,
        membership.number,
        membership.key,
        digest,
        keys,
        forgotten,
        storage_key,
        lambda: membership.users,
    )


def _was_removed(kmc: Kmc, owner: str) -> bool:
    """Return whether an owner who enrols was removed before; ConflictError if the removal is unfinished."""
    if removal_of(kmc.directory, owner) is None:
        return False
    if is_there(kmc.features_folder(owner)):  # a list of users may stem from an interrupted re-enrolment
        raise ConflictError(
            f"the removal of {owner!r} was interrupted before all was removed",
            hint=f"finish it first: mipp kmc remove KMC {owner}",
        )
    return True


def _known_keys(
    kmc: Kmc, membership: Membership, owner: EnrolledOwner | None
) -> tuple[dict[int, bytes], frozenset[int]]:
    """Return an owner's SKs held here and the ids of forgotten ones, also after a removal."""
    if owner is not None:
        return owner.image_keys, owner.forgotten
    removal = removal_of(kmc.directory, membership.owner)
    same = removal is not None and removal.key == membership.key
    return {}, removal.forgotten if removal and same else frozenset()
