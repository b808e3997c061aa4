"""The KMC's sealing key renewed: drawn and dropped at the KMC, and taken over by users and owners."""

from __future__ import annotations

from pathlib import Path

from mipp_cli.containers.atomic import unchanged_on_failure, write_bytes
from mipp_cli.containers.public_files import (
    load_renewal,
    parse_renewal,
    read_public_file,
    render_renewal,
)
from mipp_cli.errors import AlreadyAppliedError, ReplayedError, at_path
from mipp_cli.roles.directory import SEALING_FILE, RoleDirectory
from mipp_cli.roles.kmc import Kmc
from mipp_cli.roles.owner import ENROLMENT_FILE, MEMBERS_FILE, NOT_IN_FORCE, Owner
from mipp_cli.roles.protection import SECRETS_FILE
from mipp_cli.roles.report import Output, Report
from mipp_cli.roles.sequence import clock_number
from mipp_cli.scheme.keys import SealingKey, SealingPublicKey, SigningKey

_TAKE_OVER = "owners and users seal to it once they took sealing.pub: mipp owner renew, mipp user renew"


def rotate_kmc(path: Path, *, drop_former: bool = False) -> Report:
    """Renew the KMC's sealing key, and sign the new one: KMC/sealing.pub, for all owners and users.

    The former key is kept, so that what is under way still opens, or dropped with all former ones. A
    rotation that was interrupted before its key was published is finished, not begun anew.
    """
    kmc = Kmc.open(path)
    changed = [kmc.directory.file(name) for name in (SECRETS_FILE, SEALING_FILE)]
    with kmc.directory.lock(), unchanged_on_failure(*changed):
        if kmc.sealing_key.public == kmc.directory.sealing_key:
            former = [*kmc.directory.secret_list("former_sealing"), kmc.sealing_key.seeds]
            fresh = SealingKey.generate().seeds
            kmc.directory.change_secrets({"sealing": fresh, "former_sealing": former})
        _publish(kmc)
        if drop_former:
            _drop_former(kmc)
        former_keys = len(kmc.sealing_keys.former)
    output = Output(kmc.directory.file(SEALING_FILE), "sealing.pub")
    return Report((output,), {"former keys kept": former_keys}, _warnings(kmc.directory), {}, (_TAKE_OVER,))


def forget_sealing_keys(path: Path) -> Report:
    """Drop the KMC's former sealing keys: what was sealed to them opens never again.

    Raises AlreadyAppliedError if there are none.
    """
    kmc = Kmc.open(path)
    with kmc.directory.lock():
        dropped = len(kmc.sealing_keys.former)
        if not dropped:
            raise AlreadyAppliedError("holds no former sealing key", path=path, hint="there is nothing to do")
        if kmc.sealing_key.public != kmc.directory.sealing_key:
            # a rotation was interrupted: what is called former is what everybody still seals to
            _publish(kmc)
        _drop_former(kmc)
    return Report((), {"keys dropped": dropped}, _warnings(kmc.directory))


def _publish(kmc: Kmc) -> None:
    directory = kmc.directory
    file, number = directory.file(SEALING_FILE), clock_number()
    if file.exists():
        number = max(number, load_renewal(file, directory.deployment).number + 1)
    signing_key = SigningKey(directory.secret("signing"))
    text = render_renewal(number, kmc.sealing_key.public, directory.deployment.fingerprint, signing_key)
    write_bytes(file, text, force=True)


def _drop_former(kmc: Kmc) -> None:
    kmc.directory.change_secrets({"former_sealing": []})


def renew_user(path: Path, file: Path) -> Report:
    """Take over the KMC's renewed sealing key: queries are sealed to it from now on."""
    directory = RoleDirectory.open(path, "user")
    with directory.lock():
        text, _ = _newer(directory, file)
        write_bytes(directory.file(SEALING_FILE), text, force=True)
    output = Output(directory.file(SEALING_FILE), "sealing.pub")
    return Report((output,), {}, _warnings(directory))


def renew_owner(path: Path, file: Path) -> Report:
    """Take over the KMC's renewed sealing key, and rewrite the files that enrol the owner."""
    owner = Owner.open(path)
    directory = owner.directory
    changed = [directory.file(name) for name in (ENROLMENT_FILE, MEMBERS_FILE, SEALING_FILE)]
    with directory.lock():
        text, sealing_key = _newer(directory, file)
        with unchanged_on_failure(*changed):
            outputs = owner.write_membership(owner.users, sealing_key)
            # last: whoever is killed before runs the command again, and is not told that all was done
            write_bytes(directory.file(SEALING_FILE), text, force=True)
    shown = owner.shown(outputs)
    outputs = (Output(directory.file(SEALING_FILE), "sealing.pub"), *outputs)
    return Report(outputs, {"users": len(owner.users)}, _warnings(directory), shown, (NOT_IN_FORCE,))


def _newer(directory: RoleDirectory, file: Path) -> tuple[bytes, SealingPublicKey]:
    """Read a sealing.pub and refuse one that is not newer than the one held.

    Raises AlreadyAppliedError for the same one, ReplayedError for an older one or another of its number.
    """
    text = read_public_file(file)
    with at_path(file):
        renewal = parse_renewal(text, directory.deployment)
        held = directory.file(SEALING_FILE)
        if held.exists():
            known = load_renewal(held, directory.deployment)
            if known.fingerprint == renewal.fingerprint:
                raise AlreadyAppliedError("was taken over before", hint="there is nothing to do")
            if renewal.number <= known.number:
                raise ReplayedError(
                    f"is not newer than the key that is held (number {renewal.number}, held {known.number})",
                    hint="ask the KMC for its latest sealing.pub",
                )
    return text, renewal.sealing_key


def _warnings(directory: RoleDirectory) -> tuple[str, ...]:
    return tuple(directory.deployment.parameters.warnings)
