"""`kmc rotate-key` and `kmc forget-key`: rotates the KMC's sealing key, and drops former ones."""

from __future__ import annotations

from pathlib import Path

from mipp_cli.containers.messages.public_files import load_renewal, render_renewal
from mipp_cli.errors import AlreadyAppliedError
from mipp_cli.files.atomic import unchanged_on_failure, write_bytes
from mipp_cli.files.folders import is_there
from mipp_cli.kmc.kmc import Kmc
from mipp_cli.report import Output, Report
from mipp_cli.scheme.keys import SealingKey, SigningKey
from mipp_cli.workdir.directory import SEALING_FILE
from mipp_cli.workdir.replay import A_DAY, clock_number
from mipp_cli.workdir.secrets_file import SECRETS_FILE

_TAKE_OVER = (
    "send sealing.pub to all owners and users, who then run mipp owner update-kmc-key or "
    "mipp user update-kmc-key"
)


def rotate_sealing_key(path: Path, *, drop_former: bool = False) -> Report:
    """Rotate the KMC's sealing key, and sign the new one: KMC/sealing.pub, for all owners and users.

    The former key is kept, so that messages on their way can still be decrypted, or dropped with all former
    ones. A rotation that was interrupted before its key was published is finished, not started again.
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
    return Report((output,), {"former keys kept": former_keys}, kmc.directory.warnings, {}, (_TAKE_OVER,))


def forget_sealing_keys(path: Path) -> Report:
    """Drop the KMC's former sealing keys: what was sealed to them can never be decrypted again.

    Raises AlreadyAppliedError if there are none.
    """
    kmc = Kmc.open(path)
    with kmc.directory.lock():
        dropped = len(kmc.sealing_keys.former)
        if not dropped:
            raise AlreadyAppliedError("has no former sealing key", path=path, hint="there is nothing to do")
        if kmc.sealing_key.public != kmc.directory.sealing_key:
            # a rotation was interrupted: everybody still seals to the former key
            _publish(kmc)
        _drop_former(kmc)
    return Report((), {"keys dropped": dropped}, kmc.directory.warnings)


def _publish(kmc: Kmc) -> None:
    directory = kmc.directory
    file, number = directory.file(SEALING_FILE), clock_number()
    if is_there(file):
        held = load_renewal(file, directory.deployment).number
        if held <= number + A_DAY:  # one further ahead comes from a wrong clock, and nobody accepts it
            number = max(number, held + 1)
    signing_key = SigningKey(directory.secret("signing"))
    text = render_renewal(number, kmc.sealing_key.public, directory.deployment.fingerprint, signing_key)
    write_bytes(file, text, force=True)


def _drop_former(kmc: Kmc) -> None:
    kmc.directory.change_secrets({"former_sealing": []})
