"""Several values as the bytes that a key is derived from, or that a ciphertext is bound to."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from mipp_cli.scheme.encoding import length_prefixed, name_digest
from tests.support.ciphers import prefixed
from tests.support.examples import repeatable


@repeatable(200)
@given(parts=st.lists(st.binary(max_size=20), max_size=6))
def test_length_prefixed_parts_can_be_told_apart(parts: list[bytes]) -> None:
    joined, read = length_prefixed(*parts), []
    assert joined == prefixed(*parts)
    while joined:
        size = int.from_bytes(joined[:8], "big")
        read.append(joined[8 : 8 + size])
        joined = joined[8 + size :]
    assert read == parts


def test_length_prefixed_encodes_text_and_numbers() -> None:
    assert length_prefixed("é", 258) == prefixed(b"\xc3\xa9", b"\0\0\0\0\0\0\1\2")


def test_a_name_is_called_by_the_digest_of_its_utf_8() -> None:
    assert name_digest("bäum") == hashlib.sha256("bäum".encode()).digest()
