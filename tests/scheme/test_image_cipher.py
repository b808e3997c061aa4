"""Algorithms 1 and 2 (ImageEnc, ImageDec), their keys, the envelope, and what binds an image to its place."""

from __future__ import annotations

import hmac
import os
import struct
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from mipp_cli.containers.messages.manifest import Manifest, ManifestMatch, SearchedOwner
from mipp_cli.containers.messages.reencrypted import AnswerCipher
from mipp_cli.containers.messages.upload import UploadCipher
from mipp_cli.errors import MalformedError, TamperedError, UnreadableImageError
from mipp_cli.scheme.encoding import length_prefixed
from mipp_cli.scheme.envelope import IMAGE_LIMIT, Envelope, padme
from mipp_cli.scheme.image_cipher import image_dec, image_enc
from mipp_cli.scheme.secret_keys import derive_key, generate_key, key_id
from tests.support.examples import repeatable

KEY = bytes(range(32))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def hkdf(seed: bytes, info: bytes, size: int) -> bytes:
    """HKDF-SHA256 without salt, as RFC 5869 writes it."""
    key = hmac.digest(bytes(32), seed, "sha256")
    out, block = b"", b""
    for i in range(1, 1 + -(-size // 32)):
        block = hmac.digest(key, block + info + bytes([i]), "sha256")
        out += block
    return out[:size]


def prefixed(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">Q", len(part)) + part for part in parts)


def gcm_decrypt(key: bytes, ew: bytes, associated_data: bytes) -> bytes:
    """AES-256-GCM of nonce (12), ciphertext, tag (16), by the streaming interface."""
    decryptor = Cipher(algorithms.AES(key), modes.GCM(ew[:12], ew[-16:])).decryptor()
    decryptor.authenticate_additional_data(associated_data)
    return decryptor.update(ew[12:-16]) + decryptor.finalize()


# Keys


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


def test_length_prefixed_takes_text_as_utf_8_and_numbers_as_eight_bytes() -> None:
    assert length_prefixed("é", 258) == prefixed(b"\xc3\xa9", b"\0\0\0\0\0\0\1\2")


# ImageEnc and ImageDec


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


CHANGES = {"place": st.integers(0, 10**6), "change": st.integers(1, 255)}


def changed(data: bytes, place: int, change: int) -> bytes:
    out = bytearray(data)
    out[place % len(out)] ^= change
    return bytes(out)


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
def test_algorithm_2_detects_any_changed_byte_of_the_associated_data(
    associated_data: bytes, place: int, change: int
) -> None:
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
def test_algorithm_2_detects_a_byte_of_the_envelope_flipped_through_the_key_stream(
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


# Padmé


@pytest.mark.parametrize(
    ("size", "padded"),
    [
        *((0, 0), (1, 1), (2, 2), (3, 3), (8, 8), (9, 10), (15, 16), (17, 18), (100, 104), (1000, 1024)),
        *((10**6, 1015808), (2**20, 2**20), (2**20 + 1, 2**20 + 2**15)),
    ],
)
def test_padme_gives_the_lengths_worked_out_by_hand(size: int, padded: int) -> None:
    assert padme(size) == padded


@repeatable(500)
@given(size=st.integers(2, 2**40))
def test_padme_is_the_algorithm_of_its_paper(size: int) -> None:
    """Least length from ``size`` whose last E − S bits are zero, E = ⌊log2 L⌋, S = ⌊log2 E⌋ + 1."""
    e = 0
    while 2 ** (e + 1) <= size:
        e += 1
    s = 1
    while 2**s <= e:
        s += 1
    step = 2 ** max(0, e - s)
    assert padme(size) == -(-size // step) * step


@repeatable(300)
@given(size=st.integers(0, 2**31))
def test_padme_adds_less_than_an_eighth_part_and_nothing_to_a_padded_length(size: int) -> None:
    padded = padme(size)
    assert size <= padded <= size + size / 8
    assert padme(padded) == padded


def test_padme_leaves_sixteen_lengths_between_32_and_64_kibibytes() -> None:
    assert {padme(size) for size in range(2**15 + 1, 2**16 + 1)} == set(range(34 * 1024, 66 * 1024, 2048))


# Envelope


@repeatable(200)
@given(
    path=TEXT,
    media_type=st.sampled_from(["", "image/png", "image/x-portable-anymap"]),
    feature=st.lists(st.integers(0, 255), max_size=90),
    content=st.binary(max_size=300),
)
def test_an_envelope_packed_and_unpacked_is_the_same(
    path: str, media_type: str, feature: list[int], content: bytes
) -> None:
    packed = Envelope(path, media_type, np.array(feature, np.uint8), content).pack()
    unpacked = Envelope.unpack(packed)
    assert (unpacked.path, unpacked.media_type, unpacked.content) == (path, media_type, content)
    assert unpacked.feature.dtype == np.uint8
    assert unpacked.feature.tolist() == feature
    assert len(packed) == padme(len(packed))


def by_hand(*, version: int = 1, path: bytes = "ä.png".encode(), media_type: bytes = b"image/png") -> bytes:
    """An envelope of codes 1 and 203 and the content ``abc``, packed field by field."""
    head = b"".join(
        (
            version.to_bytes(1, "big"),
            len(path).to_bytes(2, "big"),
            len(media_type).to_bytes(1, "big"),
            (2).to_bytes(2, "big"),
            (3).to_bytes(8, "big"),
        )
    )
    packed = head + path + media_type + bytes([1, 203]) + b"abc"
    return packed + bytes(padme(len(packed)) - len(packed))


def test_an_envelope_lies_as_its_format_says() -> None:
    envelope = Envelope("ä.png", "image/png", np.array([1, 203], dtype=np.uint8), b"abc")
    assert envelope.pack() == by_hand()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        by_hand()[:13],
        by_hand(version=0),
        by_hand(version=2),
        by_hand(path=b"\xff"),
        by_hand(path=b"\xed\xb3\xbf"),
        by_hand(media_type=b"\xc3\xa9"),
        by_hand()[:-1],
        by_hand() + b"\1",
        by_hand()[:-1] + b"\1",
        by_hand() + bytes(100) + b"\1",
        by_hand()[:6] + b"\xff" * 8 + by_hand()[14:],
    ],
    ids=range(12),
)
def test_an_envelope_that_departs_from_its_format_is_refused(data: bytes) -> None:
    assert by_hand()[-1] == 0  # so that the last cases change padding, not content
    with pytest.raises(MalformedError):
        Envelope.unpack(data)


@repeatable(100)
@given(content=st.binary(max_size=100), length=st.integers(0, 3000))
def test_an_envelope_padded_further_unpacks_to_the_same(content: bytes, length: int) -> None:
    """Rows of a group are padded to the largest of it."""
    envelope = Envelope("ä.png", "image/png", np.array([1, 203], dtype=np.uint8), content)
    packed = envelope.pack(length)
    assert len(packed) == max(length, len(envelope.pack()))
    assert packed == envelope.pack().ljust(length, b"\0")
    assert Envelope.unpack(packed).content == content


@repeatable(500)
@given(head=st.binary(max_size=14), rest=st.binary(max_size=60))
def test_no_bytes_upset_the_reading_of_an_envelope(head: bytes, rest: bytes) -> None:
    """Whatever is read as an envelope is one: packed again to its length it gives the same bytes."""
    data = b"\1" + head + rest
    try:
        envelope = Envelope.unpack(data)
    except MalformedError:
        return
    assert envelope.pack(len(data)) == data


@repeatable(300)
@given(**CHANGES)
def test_no_changed_byte_upsets_the_reading_of_an_envelope(place: int, change: int) -> None:
    data = changed(by_hand(), place, change)
    try:
        envelope = Envelope.unpack(data)
    except MalformedError:
        return
    assert envelope.pack(len(data)) == data


def test_an_image_that_is_too_large_is_refused_with_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mipp_cli.scheme.envelope.IMAGE_LIMIT", 10)
    Envelope("a.png", "image/png", np.zeros(80, dtype=np.uint8), bytes(10))
    with pytest.raises(UnreadableImageError) as refused:
        Envelope("a.png", "image/png", np.zeros(80, dtype=np.uint8), bytes(11))
    assert refused.value.path == "a.png"


def test_the_largest_image_still_fits_aes_gcm_when_padded() -> None:
    names = 2**16 + 2**8 + 2**16 + 14
    assert padme(IMAGE_LIMIT + names) + 28 < 2**31


@pytest.mark.parametrize(("path", "media_type"), [("ä" * 2**15, "image/png"), ("a.png", "i" * 256)])
def test_names_that_are_too_long_for_the_envelope_are_refused(path: str, media_type: str) -> None:
    with pytest.raises(MalformedError):
        Envelope(path, media_type, np.zeros(80, dtype=np.uint8), b"")


# What binds an image to its place

UPLOAD = UploadCipher(KEY, "fingerprint", "owner-a", 1_700_000_000_000_000)
ANSWER = AnswerCipher(KEY, "fingerprint", "user-a", "00112233445566778899aabbccddeeff")


def test_an_image_of_an_upload_is_encrypted_as_the_design_says() -> None:
    """Key: HKDF of SK and the number. Associated data: purpose, deployment, owner, key id, number, name."""
    number = UPLOAD.number.to_bytes(8, "big")
    key = hkdf(KEY, prefixed(b"mipp/1 images of an upload", number), 32)
    calls = hkdf(KEY, prefixed(b"mipp/1 key id", b""), 32)[:8]
    place = prefixed(b"image", b"fingerprint", b"owner-a", calls, number, "bäum".encode())
    assert gcm_decrypt(key, UPLOAD.encrypt(b"an image", "bäum"), place) == b"an image"


def test_an_image_of_an_upload_opens_with_the_same_cipher() -> None:
    assert replace(UPLOAD).decrypt(UPLOAD.encrypt(b"an image", "name"), "name") == b"an image"


@pytest.mark.parametrize(
    "other",
    [
        replace(UPLOAD, owner="owner-b"),
        replace(UPLOAD, owner="owner-an"),
        replace(UPLOAD, deployment="another"),
        replace(UPLOAD, number=UPLOAD.number + 1),
        replace(UPLOAD, image_key=bytes(32)),
    ],
    ids=["owner", "longer owner", "deployment", "number", "key"],
)
def test_an_image_of_an_upload_opens_for_no_other_owner_number_or_key(other: UploadCipher) -> None:
    with pytest.raises(TamperedError):
        other.decrypt(UPLOAD.encrypt(b"an image", "name"), "name")


@pytest.mark.parametrize("name", ["", "nam", "names", "Name"])
def test_an_image_of_an_upload_opens_under_no_other_name(name: str) -> None:
    with pytest.raises(TamperedError):
        UPLOAD.decrypt(UPLOAD.encrypt(b"an image", "name"), name)


def test_an_image_of_an_upload_does_not_open_where_owner_and_name_are_cut_elsewhere() -> None:
    with pytest.raises(TamperedError):
        replace(UPLOAD, owner="owner").decrypt(UPLOAD.encrypt(b"an image", "name"), "-aname")


def test_an_image_of_an_answer_is_encrypted_as_the_design_says() -> None:
    key = hkdf(KEY, prefixed(b"mipp/1 answer images", bytes.fromhex(ANSWER.query_id)), 32)
    place = prefixed(
        b"answer images", b"fingerprint", b"user-a", ANSWER.query_id.encode(), b"\0\0\0\0\0\0\1\2"
    )
    assert gcm_decrypt(key, ANSWER.encrypt_image(b"an image", 258), place) == b"an image"


def test_an_image_of_an_answer_opens_with_the_same_cipher() -> None:
    ner = ANSWER.encrypt_image(b"an image", 7)
    assert replace(ANSWER).decrypt_image(ner, 7) == b"an image"


OTHER_ANSWERS = pytest.mark.parametrize(
    "other",
    [
        replace(ANSWER, user="user-b"),
        replace(ANSWER, deployment="another"),
        replace(ANSWER, query_id="00112233445566778899aabbccddeefe"),
        replace(ANSWER, usk=bytes(32)),
    ],
    ids=["user", "deployment", "query id", "key"],
)


@OTHER_ANSWERS
def test_an_image_of_an_answer_opens_for_no_other_user_query_or_key(other: AnswerCipher) -> None:
    with pytest.raises(TamperedError):
        other.decrypt_image(ANSWER.encrypt_image(b"an image", 7), 7)


@pytest.mark.parametrize("place", [0, 6, 8, 7 << 8, 7 + 2**32])
def test_an_image_of_an_answer_opens_at_no_other_place(place: int) -> None:
    with pytest.raises(TamperedError):
        ANSWER.decrypt_image(ANSWER.encrypt_image(b"an image", 7), place)


@OTHER_ANSWERS
def test_the_manifest_of_an_answer_opens_for_no_other_user_query_or_key(other: AnswerCipher) -> None:
    owners = (SearchedOwner("owner-a", 3), SearchedOwner("owner-b"))
    matches = (ManifestMatch(0, 1, "owner-a", 9), ManifestMatch(1, 0, "owner-a"))
    manifest = Manifest("ab" * 32, 2, owners, matches)
    sealed = ANSWER.seal_manifest(manifest.pack(2, 2))
    assert replace(ANSWER).open_manifest(sealed) == manifest
    with pytest.raises(TamperedError):
        other.open_manifest(sealed)


def test_an_image_of_an_answer_does_not_pass_for_its_manifest() -> None:
    forged = Manifest("ab" * 32, 0, (), ()).pack(0, 0)
    with pytest.raises(TamperedError):
        ANSWER.open_manifest(ANSWER.encrypt_image(forged, 0))


def test_the_ciphers_show_no_key() -> None:
    for shown in (repr(UPLOAD), str(UPLOAD), repr(ANSWER), str(ANSWER)):
        assert KEY.hex() not in shown
        assert repr(KEY)[2:-1] not in shown
        assert "Cipher" in shown
