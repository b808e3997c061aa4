"""What a header says of the content of a container, for whoever makes one by hand."""

from __future__ import annotations

from mipp_cli.containers.base.header import HEAD_BYTES
from mipp_cli.containers.base.source import BytesSource, block_digests, digest_of


def body_digest(body: bytes) -> str:
    """Return the digest of a content that a header states."""
    return digest_of(block_digests(BytesSource(bytes(HEAD_BYTES) + body)))
