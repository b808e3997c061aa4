"""Whom an owner authorised, as the KMC keeps it: the list, `users/OID.json`, and tags, `users/OID.tags`.

A tag is 16 bytes of HMAC-SHA256 of a user's identifier and key under a key of the KMC's own. They are sorted,
so that a query is looked up in a moment, however many users an owner lists.
"""

from __future__ import annotations

import hmac
from bisect import bisect_left
from pathlib import Path

from mipp_cli.containers.messages.membership import AuthorisedUsers
from mipp_cli.errors import MalformedError
from mipp_cli.scheme.encoding import length_prefixed

TAG_BYTES = 16
_DIGEST_BYTES = 32


def tag_of(key: bytes, user: tuple[str, bytes]) -> bytes:
    """Return the tag of a user, (UID, AK)."""
    return hmac.digest(key, length_prefixed(*user), "sha256")[:TAG_BYTES]


def tags_of(key: bytes, owner: str, users: AuthorisedUsers) -> bytes:
    """Return what a file of tags holds: those of ``users``, sorted, and a digest of all under the key."""
    tags = b"".join(sorted(tag_of(key, user) for user in users))
    return tags + _digest(key, owner, tags)


def _digest(key: bytes, owner: str, tags: bytes) -> bytes:
    return hmac.digest(key, length_prefixed("tags of an owner", owner, tags), "sha256")


def has_tag(path: Path, key: bytes, owner: str, tag: bytes) -> bool:
    """Say whether a file of tags holds one; raises MalformedError if the file is missing or damaged.

    The file has 16 bytes a user, up to 1.6 MB, and is read as a whole: one bit that the disk lost must not
    take an owner from a user's answers without a word.
    """
    try:
        content = path.read_bytes()
    except OSError:
        content = b""
    tags, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if not hmac.compare_digest(digest, _digest(key, owner, tags)):
        raise MalformedError(
            "is missing or damaged",
            path=path,
            hint="restore it from a backup, or let the owner enrol again: mipp owner authorize, then "
            "mipp kmc enroll KMC enrolment.h5",
        )
    numbers = range(0, len(tags), TAG_BYTES)
    place = bisect_left(numbers, tag, key=lambda begin: tags[begin : begin + TAG_BYTES])
    begin = place * TAG_BYTES
    return hmac.compare_digest(tags[begin : begin + TAG_BYTES], tag)
