"""The paper's secure channel: a sealed part inside a container, bound to that container's header."""

from __future__ import annotations

from mipp_cli.containers.base.container import Sender
from mipp_cli.containers.base.header import Header
from mipp_cli.scheme.encoding import length_prefixed
from mipp_cli.scheme.keys import SealingPublicKey


def seal_to_kmc(
    plaintext: bytes, sealing_key: SealingPublicKey, kind: str, sender: Sender, number: str
) -> bytes:
    """Seal ``plaintext`` to the KMC for one container, so that it cannot be lifted into another."""
    info = _info(kind, sender.deployment, sender.name, sender.signing_key.public, number)
    return sealing_key.seal(plaintext, info)


def sealing_info(header: Header) -> bytes:
    """Return the HPKE info that the sealed part of a container with this header was bound to."""
    return _info(header.kind, header.deployment, header.sender, header.sender_key, header.number)


def _info(kind: str, deployment: str, sender: str, key: bytes, number: str) -> bytes:
    return length_prefixed("mipp/1", kind, deployment, sender, key, number)
