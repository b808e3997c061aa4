"""Whom an owner authorised, as the KMC keeps it: the list, `users/OID.json`, and tags, `users/OID.tags`.

A tag is 16 bytes of HMAC-SHA256 of a user's identifier and key under a key of the KMC's own. They are sorted,
so that a query is looked up by a few reads, however many users an owner lists.
"""

from __future__ import annotations

import hmac
import os
from pathlib import Path

from mipp_cli.containers.membership import AuthorisedUsers
from mipp_cli.errors import MalformedError
from mipp_cli.scheme.image_cipher import length_prefixed

TAG_BYTES = 16


def tag_of(key: bytes, user: tuple[str, bytes]) -> bytes:
    """Return the tag of a user, (UID, AK)."""
    return hmac.digest(key, length_prefixed(*user), "sha256")[:TAG_BYTES]


def tags_of(key: bytes, users: AuthorisedUsers) -> bytes:
    """Return the tags of ``users``, sorted, end to end."""
    return b"".join(sorted(tag_of(key, user) for user in users))


def has_tag(path: Path, tag: bytes) -> bool:
    """Say whether a file of tags holds one; raises MalformedError if the file is missing or damaged."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            count, rest = divmod(os.fstat(descriptor).st_size, TAG_BYTES)
            if rest:
                raise OSError
            low, high = 0, count
            while low < high:
                middle = (low + high) // 2
                if os.pread(descriptor, TAG_BYTES, middle * TAG_BYTES) < tag:
                    low = middle + 1
                else:
                    high = middle
            return hmac.compare_digest(os.pread(descriptor, TAG_BYTES, low * TAG_BYTES), tag)
        finally:
            os.close(descriptor)
    except OSError:
        raise MalformedError(
            "is missing or damaged",
            path=path,
            hint="restore it from a backup, or let the owner enrol again: mipp owner authorize, then "
            "mipp kmc enroll KMC enrolment.h5",
        ) from None
