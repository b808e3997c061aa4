"""The KMC's renewed sealing key, sealing.pub, as owners and users take it over."""

from __future__ import annotations

from pathlib import Path

from mipp_cli.containers.messages.public_files import load_renewal, parse_renewal, read_public_file
from mipp_cli.errors import AlreadyAppliedError, ReplayedError, errors_at
from mipp_cli.scheme.keys import SealingPublicKey
from mipp_cli.workdir.directory import SEALING_FILE, RoleDirectory


def newer_sealing_key(directory: RoleDirectory, file: Path) -> tuple[bytes, SealingPublicKey]:
    """Return the bytes and key of a sealing.pub; refuse one that is not newer than the one held.

    Raises AlreadyAppliedError for the same one, ReplayedError for an older one or another of its number.
    """
    text = read_public_file(file)
    with errors_at(file):
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
