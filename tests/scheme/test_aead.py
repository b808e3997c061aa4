"""Algorithms 1 and 2 (ImageEnc, ImageDec), which are AES-256-GCM."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from mipp_cli.errors import TamperedError
from mipp_cli.scheme.aead import image_dec, image_enc
from mipp_cli.scheme.envelope import Envelope
from tests.support.ciphers import CHANGES, KEY, changed, gcm_decrypt
from tests.support.examples import repeatable

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@repeatable(100)
@given(plaintext=st.binary(max_size=200), associated_data=st.binary(max_size=40))
def test_algorithm_1_is_aes_256_gcm_with_the_nonce_first(plaintext: bytes, associated_data: bytes) -> None:
    ew = image_enc(KEY, plaintext, associated_data)
    assert len(ew) == 12 + len(plaintext) + 16
    assert gcm_decrypt(KEY, ew, associated_data) == plaintext


@repeatable(100)
@given(plaintext=st.binary(max_size=200))
def test_algorithm_1_is_a_byte_wise_xor_with_a_key_stream(plaintext: bytes) -> None:
    """The key stream is AES-256 in counter mode under the image's nonce; GCM's blocks start at 2."""
    ew = image_enc(KEY, plaintext, b"")
    counter = Cipher(algorithms.AES(KEY), modes.CTR(ew[:12] + b"\0\0\0\2")).encryptor()
    key_stream = counter.update(bytes(len(plaintext)))
    assert bytes(p ^ k for p, k in zip(plaintext, key_stream, strict=True)) == ew[12:-16]


def test_algorithm_1_takes_a_nonce_of_its_own_for_each_image() -> None:
    encrypted = [image_enc(KEY, bytes(32), b"") for _ in range(200)]
    assert len({ew[:12] for ew in encrypted}) == 200
    assert len({ew[12:44] for ew in encrypted}) == 200  # no two under one key stream


@repeatable(100)
@given(plaintext=st.binary(max_size=300), associated_data=st.binary(max_size=40))
def test_algorithm_2_gives_back_what_algorithm_1_took(plaintext: bytes, associated_data: bytes) -> None:
    assert image_dec(KEY, image_enc(KEY, plaintext, associated_data), associated_data) == plaintext


def test_algorithm_2_opens_a_ciphertext_made_by_other_means() -> None:
    encryptor = Cipher(algorithms.AES(KEY), modes.GCM(b"a nonce of12")).encryptor()
    encryptor.authenticate_additional_data(b"its place")
    body = encryptor.update(b"an image") + encryptor.finalize()
    assert image_dec(KEY, b"a nonce of12" + body + encryptor.tag, b"its place") == b"an image"


@repeatable(200)
@given(plaintext=st.binary(max_size=60), **CHANGES)
def test_algorithm_2_detects_any_changed_byte_of_the_ciphertext(
    plaintext: bytes, place: int, change: int
) -> None:
    ew = image_enc(KEY, plaintext, b"its place")
    with pytest.raises(TamperedError):
        image_dec(KEY, changed(ew, place, change), b"its place")


@repeatable(100)
@given(associated_data=st.binary(min_size=1, max_size=60), **CHANGES)
def test_algorithm_2_detects_changed_associated_data(associated_data: bytes, place: int, change: int) -> None:
    ew = image_enc(KEY, b"an image", associated_data)
    with pytest.raises(TamperedError):
        image_dec(KEY, ew, changed(associated_data, place, change))


@repeatable(100)
@given(**CHANGES)
def test_algorithm_2_detects_any_changed_byte_of_the_key(place: int, change: int) -> None:
    with pytest.raises(TamperedError):
        image_dec(changed(KEY, place, change), image_enc(KEY, b"an image", b""), b"")


@repeatable(50)
@given(path=TEXT, content=st.binary(max_size=60), **CHANGES)
def test_algorithm_2_detects_a_flipped_byte_of_the_envelope(
    path: str, content: bytes, place: int, change: int
) -> None:
    """A bare XOR, as Algorithm 1 is printed, would let anyone flip bits of the image."""
    packed = Envelope(path, "image/png", np.arange(80, dtype=np.uint8), content).pack()
    ew = image_enc(KEY, packed, b"")
    forged = ew[:12] + changed(ew[12:-16], place, change) + ew[-16:]
    with pytest.raises(TamperedError):
        image_dec(KEY, forged, b"")


@pytest.mark.parametrize("size", range(36))
def test_algorithm_2_detects_a_ciphertext_cut_short(size: int) -> None:
    ew = image_enc(KEY, b"an image", b"")
    assert len(ew) == 36
    with pytest.raises(TamperedError):
        image_dec(KEY, ew[:size], b"")


def test_algorithm_2_detects_bytes_added_behind() -> None:
    with pytest.raises(TamperedError):
        image_dec(KEY, image_enc(KEY, b"an image", b"") + b"\0", b"")
