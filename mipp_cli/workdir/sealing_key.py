"""Check the KMC's renewed sealing key, sealing.pub, for owners and users."""

from __future__ import annotations

from pathlib import Path

from mipp_cli.containers.messages.public_files import load_renewal, parse_renewal, read_public_file
from mipp_cli.errors import AlreadyAppliedError, ClockError, ReplayedError, errors_at
from mipp_cli.files.folders import is_there
from mipp_cli.scheme.keys import SealingPublicKey
from mipp_cli.workdir.directory import SEALING_FILE, RoleDirectory
from mipp_cli.workdir.replay import A_DAY, clock_number, moment


def newer_sealing_key(directory: RoleDirectory, file: Path) -> tuple[bytes, SealingPublicKey]:
    """Return the bytes and key of a sealing.pub; refuse one that is not newer than the present one.

    Raises AlreadyAppliedError for the same key, ReplayedError for one whose number is not higher, and
    ClockError for a number more than a day ahead of this machine's clock. A present key whose number is that
    far ahead is replaced by any other: the KMC's clock was wrong, or this machine's.
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
                "use the new sealing.pub",
            )
        if is_there(held):
            known = load_renewal(held, directory.deployment)
            if known.fingerprint == renewal.fingerprint:
                raise AlreadyAppliedError("was already accepted", hint="there is nothing to do")
            if renewal.number <= known.number <= now + A_DAY:
                raise ReplayedError(
                    f"is not newer than the present key (number {renewal.number}, present {known.number})",
                    hint="ask the KMC for its latest sealing.pub",
                )
    return text, renewal.sealing_key
