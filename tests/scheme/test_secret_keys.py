"""SK and USK: drawn, called by an id, and others derived from them."""

from __future__ import annotations

import os

import pytest

from mipp_cli.scheme.secret_keys import derive_key, generate_key, key_id
from tests.support.ciphers import KEY, hkdf, prefixed


def test_keygen_draws_keys_of_256_bits_from_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "urandom", lambda size: bytes(range(100, 100 + size)))
    assert generate_key() == bytes(range(100, 132))


def test_keygen_draws_another_key_each_time() -> None:
    assert len({generate_key() for _ in range(100)}) == 100


def test_derived_keys_are_hkdf_of_the_seed() -> None:
    """The HKDF of this test gives RFC 5869's test case 3, and ``derive_key`` gives what it gives."""
    printed = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    assert hkdf(b"\x0b" * 22, b"", 42).hex() == printed
    assert derive_key(KEY, "a purpose", b"context") == hkdf(KEY, prefixed(b"a purpose", b"context"), 32)


def test_derived_keys_differ_by_seed_purpose_and_context() -> None:
    keys = [
        derive_key(seed, purpose, context)
        for seed in (KEY, bytes(32))
        for purpose, context in (("a", b"bc"), ("ab", b"c"), ("abc", b""), ("", b"abc"), ("a", b"bd"))
    ]
    assert len(set(keys)) == 10


def test_a_key_is_called_by_64_bits_of_a_digest_of_it() -> None:
    assert key_id(KEY) == int.from_bytes(hkdf(KEY, prefixed(b"mipp/1 key id", b""), 32)[:8], "big")
    assert len({key_id(generate_key()) for _ in range(100)}) == 100
