"""Keys under passphrases: only the right one opens, in its place, at a price that no file can raise."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import pytest

from mipp_cli.errors import MalformedError, MissingKeyError, PassphraseError, TamperedError
from mipp_cli.scheme import passphrase as module
from mipp_cli.scheme.aead import seal, unseal
from mipp_cli.scheme.passphrase import STRETCHING, PassphraseKey, Stretching
from mipp_cli.scheme.secret_keys import generate_key

KEY = bytes(range(32))


@pytest.fixture
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STRETCHING", Stretching(16, 8, 1))


def reopened(made: PassphraseKey, passphrase: bytes) -> PassphraseKey:
    return PassphraseKey.derive(passphrase, made.stretching, made.salt)


def test_the_real_parameters_make_a_guess_expensive() -> None:
    assert Stretching(1 << 17, 8, 1) == STRETCHING
    made = PassphraseKey.new(b"correct horse")
    started = time.perf_counter()
    assert reopened(made, b"correct horse") == made
    assert time.perf_counter() - started > 0.05
    assert made.stretching == STRETCHING


@pytest.mark.usefixtures("_cheap")
@pytest.mark.parametrize("guess", [b"", b"Correct", b"correct\n", b"correct\0", b"correc"])
def test_another_passphrase_opens_nothing(guess: bytes) -> None:
    made = PassphraseKey.new(b"correct")
    sealed = made.seal(b"text", b"here")
    assert reopened(made, b"correct").unseal(sealed, b"here") == b"text"
    with pytest.raises(PassphraseError, match="the passphrase is wrong") as caught:
        reopened(made, guess).unseal(sealed, b"here")
    assert isinstance(caught.value, MissingKeyError)
    assert caught.value.exit_code == 8


@pytest.mark.usefixtures("_cheap")
def test_a_seal_opens_at_its_place_and_parameters_alone() -> None:
    made = PassphraseKey.new(b"p")
    sealed = made.seal(b"text", b"here")
    changed = bytes([sealed[0] ^ 1]) + sealed[1:]
    for key, data, place in (
        (PassphraseKey.derive(b"p", made.stretching, bytes(16)), sealed, b"here"),
        (replace(made, salt=bytes(16)), sealed, b"here"),
        (PassphraseKey.derive(b"p", Stretching(32, 8, 1), made.salt), sealed, b"here"),
        (replace(made, stretching=Stretching(32, 8, 1)), sealed, b"here"),
        (made, changed, b"here"),
        (made, sealed[:5], b"here"),
        (made, sealed, b"there"),
    ):
        with pytest.raises(PassphraseError):
            key.unseal(data, place)


@pytest.mark.usefixtures("_cheap")
def test_the_same_passphrase_never_gives_the_same_twice() -> None:
    one, two = PassphraseKey.new(b"p"), PassphraseKey.new(b"p")
    assert one.salt != two.salt
    assert one.key != two.key
    assert one.seal(KEY, b"")[:12] != one.seal(KEY, b"")[:12]


@pytest.mark.parametrize(
    "parameters",
    [
        (0, 8, 1), (1, 8, 1), (-2, 8, 1), (1000, 8, 1), (16, 0, 1), (16, 8, 0), (1 << 40, 8, 1),
        (1 << 21, 8, 1), (1 << 10, 1 << 20, 1), (16, 8, 17), (16.0, 8, 1), ("16", 8, 1), (16, True, 1),
        (None, 8, 1),
    ],
    ids=str,
)  # fmt: skip
def test_parameters_that_cannot_be_or_take_too_much_are_refused(parameters: tuple[Any, ...]) -> None:
    with pytest.raises(MalformedError, match="scrypt's parameters"):
        Stretching(*parameters)


def test_sealed_data_is_bound_to_its_key_and_place() -> None:
    sealed = seal(KEY, b"text", b"here")
    assert unseal(KEY, sealed, b"here") == b"text"
    for key, data, place in (
        (generate_key(), sealed, b"here"),
        (KEY, sealed, b"there"),
        (KEY, sealed[:-1], b"here"),
        (KEY, sealed[:5], b"here"),
        (KEY, b"", b"here"),
    ):
        with pytest.raises(TamperedError):
            unseal(key, data, place)


def test_too_little_memory_is_an_error_that_says_how_much() -> None:
    code = """
import resource
from mipp_cli.errors import PassphraseError
from mipp_cli.scheme.passphrase import PassphraseKey
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (64 << 20), resource.RLIM_INFINITY))
try:
    PassphraseKey.new(b"p")
except PassphraseError as error:
    print(error.message)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert (ran.stdout, ran.stderr) == ("deriving a key from the passphrase needs 128 MiB of memory\n", "")
