"""The KMC's renewed sealing key, sealing.pub, as owners and users take it over."""

from __future__ import annotations

from pathlib import Path

from mipp_cli.containers.messages.public_files import load_renewal, parse_renewal, read_public_file
from mipp_cli.errors import AlreadyAppliedError, ClockError, ReplayedError, errors_at
from mipp_cli.scheme.keys import SealingPublicKey
from mipp_cli.workdir.directory import SEALING_FILE, RoleDirectory
from mipp_cli.workdir.replay import A_DAY, clock_number, moment


def newer_sealing_key(directory: RoleDirectory, file: Path) -> tuple[bytes, SealingPublicKey]:
    """Return the bytes and key of a sealing.pub; refuse one that is not newer than the one held.

    Raises AlreadyAppliedError for the same one, ReplayedError for an older one or another of its number, and
    ClockError for one of a time that this machine's clock is far from. One that is held, and of such a time,
    keeps no other out: the KMC's clock was wrong, or this one.
    """
    text = read_public_file(file)
    with errors_at(file):
        renewal = parse_renewal(text, directory.deployment)
        now, held = clock_number(), directory.file(SEALING_FILE)
        if renewal.number > now + A_DAY:
            raise ClockError(
                f"has the number {renewal.number} of {moment(renewal.number)}, more than a day ahead of this "
                f"machine's clock ({moment(now)})",
                hint="set the clock that is wrong; if it is the KMC's, then: mipp kmc rotate-key KMC, and "
                "take the new sealing.pub",
            )
        if held.exists():
            known = load_renewal(held, directory.deployment)
            if known.fingerprint == renewal.fingerprint:
                raise AlreadyAppliedError("was taken over before", hint="there is nothing to do")
            if renewal.number <= known.number <= now + A_DAY:
                raise ReplayedError(
                    f"is not newer than the key that is held (number {renewal.number}, held {known.number})",
                    hint="ask the KMC for its latest sealing.pub",
                )
    return text, renewal.sealing_key
