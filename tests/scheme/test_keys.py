"""Ed25519 against RFC 8032, and the sealing of SK and USK against RFC 9180 written out."""

from __future__ import annotations

import hashlib
import hmac
from contextlib import suppress
from dataclasses import FrozenInstanceError

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from mipp_cli.errors import MalformedError, TamperedError, WrongDeploymentError
from mipp_cli.scheme.keys import (
    HPKE_SUITE,
    SealingKey,
    SealingKeys,
    SealingPublicKey,
    SigningKey,
    check_public_key,
    verify_signature,
)
from tests.support.examples import repeatable

# RFC 8032, section 7.1: seed, public key, message, signature
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
]
SIGNING = SigningKey(bytes.fromhex(RFC_8032[0][0]))
SEALING = SealingKey(bytes(range(96)))
INFO = b"mipp/1 enrolment of owner-a"


@pytest.mark.parametrize(("seed", "public", "message", "signature"), RFC_8032)
def test_signatures_are_those_of_rfc_8032(seed: str, public: str, message: str, signature: str) -> None:
    key = SigningKey(bytes.fromhex(seed))
    assert key.public.hex() == public
    assert key.sign(bytes.fromhex(message)).hex() == signature
    verify_signature(bytes.fromhex(public), bytes.fromhex(signature), bytes.fromhex(message))


@repeatable(150)
@given(which=st.integers(0, 2), place=st.integers(0, 10**6), change=st.integers(1, 255))
def test_a_changed_byte_of_key_signature_or_message_is_detected(which: int, place: int, change: int) -> None:
    parts = [bytearray(SIGNING.public), bytearray(SIGNING.sign(b"a message")), bytearray(b"a message")]
    parts[which][place % len(parts[which])] ^= change
    with pytest.raises(MalformedError):  # about every second changed key is no point at all
        verify_signature(*map(bytes, parts))


@pytest.mark.parametrize(("key_size", "signature_size"), [(0, 64), (31, 64), (33, 64), (32, 0), (32, 63)])
def test_keys_and_signatures_of_a_wrong_length_are_refused(key_size: int, signature_size: int) -> None:
    key, signature = SIGNING.public.ljust(33, b"\0"), SIGNING.sign(b"a message")
    with pytest.raises(MalformedError):
        verify_signature(key[:key_size], signature[:signature_size], b"a message")


def test_a_signature_by_another_key_is_tampering() -> None:
    with pytest.raises(TamperedError):
        verify_signature(bytes.fromhex(RFC_8032[1][1]), SIGNING.sign(b"a message"), b"a message")


# Ed25519 by its formulas: the points of order 1, 2, 4 and 8, and every way to spell them.

P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]


def added(a: Point, b: Point) -> Point:
    """RFC 8032, section 5.1.4, in affine coordinates."""
    (x1, y1), (x2, y2) = a, b
    t = D * x1 * x2 * y1 * y2
    return (x1 * y2 + x2 * y1) * pow(1 + t, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - t, -1, P) % P


def times(number: int, point: Point) -> Point:
    total = (0, 1)
    for bit in f"{number:b}":
        total = added(total, total)
        total = added(total, point) if bit == "1" else total
    return total


def x_of(y: int) -> int | None:
    """RFC 8032, section 5.1.3: a square root of (y² − 1)/(d·y² + 1); None where there is none."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    root = pow(square, (P + 3) // 8, P)
    roots = (root, root * pow(2, (P - 1) // 4, P) % P)
    return next((x for x in roots if x * x % P == square), None)


def small_order_points() -> list[Point]:
    """Return the multiples of a point of order 8; L times any point lies among them."""
    for y in range(2, 100):
        x = x_of(y)
        if x is not None and times(4, point := times(L, (x, y))) != (0, 1):
            return [times(number, point) for number in range(8)]
    raise AssertionError


SMALL_ORDER = small_order_points()
SMALL_ORDER_KEYS = sorted(
    {
        (value | sign << 255).to_bytes(32, "little")
        for _, y in SMALL_ORDER
        for value in (y, y + P)
        for sign in (0, 1)
        if value < 2**255
    }
)


def forged(key: bytes) -> tuple[bytes, bytes]:
    """Return a signature, and the message that it fits, made without any secret: R of small order, S = 0."""
    for number in range(1000):
        message = b"message %d" % number
        for x, y in SMALL_ORDER:
            signature = (y | (x & 1) << 255).to_bytes(32, "little") + bytes(32)
            with suppress(InvalidSignature):
                Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
                return signature, message
    raise AssertionError


def test_eight_points_and_fourteen_keys_have_small_order() -> None:
    assert len(set(SMALL_ORDER)) == 8
    assert len(SMALL_ORDER_KEYS) == 14


@pytest.mark.parametrize("key", SMALL_ORDER_KEYS, ids=bytes.hex)
def test_a_key_of_small_order_verifies_no_forgery(key: bytes) -> None:
    """The library lets anybody sign for it."""
    with pytest.raises(MalformedError, match="small order"):
        verify_signature(key, *forged(key))


@pytest.mark.parametrize("key", SMALL_ORDER_KEYS, ids=bytes.hex)
def test_a_key_of_small_order_is_refused(key: bytes) -> None:
    with pytest.raises(MalformedError, match="small order"):
        check_public_key(key)


@pytest.mark.parametrize("sign", [0, 1])
def test_a_key_whose_number_is_not_reduced_is_refused(sign: int) -> None:
    for value in range(P, 2**255):
        with pytest.raises(MalformedError):
            check_public_key((value | sign << 255).to_bytes(32, "little"))


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64])
def test_a_key_of_a_wrong_length_is_refused(size: int) -> None:
    with pytest.raises(MalformedError, match="not a point"):
        check_public_key((SIGNING.public * 2)[:size])


@repeatable(200)
@given(y=st.integers(2, P - 2), sign=st.integers(0, 1))
def test_a_key_is_taken_where_it_is_a_point(y: int, sign: int) -> None:
    key = (y | sign << 255).to_bytes(32, "little")
    if x_of(y) is not None:
        check_public_key(key)
    else:
        with pytest.raises(MalformedError, match="not a point"):
            check_public_key(key)


@repeatable(100)
@given(seed=st.binary(min_size=32, max_size=32))
def test_the_key_of_every_seed_is_taken(seed: bytes) -> None:
    check_public_key(SigningKey(seed).public)


def test_keygen_draws_another_pair_each_time() -> None:
    assert len({SigningKey.generate().seed for _ in range(20)}) == 20
    sealing = [SealingKey.generate().seeds for _ in range(20)]
    assert len({seeds[:64] for seeds in sealing}) == len({seeds[64:] for seeds in sealing}) == 20
    assert {len(seeds) for seeds in sealing} == {96}


@pytest.mark.parametrize(("key", "secret"), [(SIGNING, SIGNING.seed), (SEALING, SEALING.seeds)])
def test_a_key_pair_shows_no_secret(key: SigningKey | SealingKey, secret: bytes) -> None:
    for shown in (repr(key), str(key), f"{key}", repr([key])):
        assert type(key).__name__ in shown
        for part in (secret, secret[:32], secret[-32:]):
            assert part.hex() not in shown
            assert repr(part)[2:-1] not in shown


def test_a_key_pair_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        SIGNING.seed = bytes(32)
    with pytest.raises(FrozenInstanceError):
        SEALING.seeds = bytes(96)


@repeatable(30)
@given(plaintext=st.binary(max_size=100), info=st.binary(max_size=100))
def test_what_was_sealed_opens_with_the_same_key_and_info(plaintext: bytes, info: bytes) -> None:
    sealed = SealingPublicKey(SEALING.public.data).seal(plaintext, info)
    assert SealingKey(SEALING.seeds).open(sealed, info) == plaintext


def test_sealing_is_hpke_with_the_suite_that_it_names() -> None:
    """RFC 9180 in base mode; the shared secret of ML-KEM-768 and X25519 as X-Wing combines it."""
    assert HPKE_SUITE == "MLKEM768-X25519/HKDF-SHA256/AES-256-GCM"
    sealed = SEALING.public.seal(b"the seed of an image key", INFO)
    mlkem = MLKEM768PrivateKey.from_seed_bytes(bytes(range(64)))
    x25519 = X25519PrivateKey.from_private_bytes(bytes(range(64, 96)))
    own_point = x25519.public_key().public_bytes_raw()
    assert SEALING.public.data == mlkem.public_key().public_bytes_raw() + own_point
    sent_point, body = sealed[1088:1120], sealed[1120:]
    shared = hashlib.sha3_256(
        mlkem.decapsulate(sealed[:1088])
        + x25519.exchange(X25519PublicKey.from_public_bytes(sent_point))
        + sent_point
        + own_point
        + b"\\.//^\\"
    ).digest()

    suite = b"HPKE" + bytes.fromhex("647a 0001 0002")

    def extract(salt: bytes, label: bytes, data: bytes) -> bytes:
        return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + data, "sha256")

    def expand(secret: bytes, label: bytes, context: bytes, size: int) -> bytes:
        info = size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + context
        return hmac.digest(secret, info + b"\1", "sha256")[:size]

    context = b"\0" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", INFO)
    secret = extract(shared, b"secret", b"")
    key, nonce = expand(secret, b"key", context, 32), expand(secret, b"base_nonce", context, 12)
    assert AESGCM(key).decrypt(nonce, body, b"") == b"the seed of an image key"


def test_sealing_the_same_twice_gives_nothing_in_common() -> None:
    first, second = (SEALING.public.seal(bytes(32), INFO) for _ in range(2))
    assert first[:1088] != second[:1088]
    assert first[1088:1120] != second[1088:1120]
    assert first[1120:] != second[1120:]


@pytest.mark.parametrize("info", [b"", INFO[:-1], INFO + b"\0", INFO.replace(b"-a", b"-b")])
def test_what_was_sealed_does_not_open_under_another_info(info: bytes) -> None:
    with pytest.raises(WrongDeploymentError):
        SEALING.open(SEALING.public.seal(bytes(32), INFO), info)


@pytest.mark.parametrize("changed", [0, 31, 64, 95])
def test_a_key_changed_in_either_half_opens_nothing(changed: int) -> None:
    seeds = bytearray(SEALING.seeds)
    seeds[changed] ^= 0x20  # a bit that X25519 does not fix
    with pytest.raises(WrongDeploymentError):
        SealingKey(bytes(seeds)).open(SEALING.public.seal(bytes(32), INFO), INFO)


@repeatable(150)
@given(place=st.integers(0, 10**6), change=st.integers(1, 255))
def test_a_changed_byte_of_a_sealed_part_is_detected(place: int, change: int) -> None:
    """Even the highest bit of a point, which X25519 takes for nothing: the combined secret binds it."""
    sealed = bytearray(SEALING.public.seal(bytes(32), INFO))
    sealed[place % len(sealed)] ^= change
    with pytest.raises(WrongDeploymentError):
        SEALING.open(bytes(sealed), INFO)


@pytest.mark.parametrize("size", [0, 1, 32, 1087, 1088, 1119, 1120, 1135, 1136, 1167, 1169])
def test_a_sealed_part_of_a_wrong_length_does_not_open(size: int) -> None:
    sealed = SEALING.public.seal(bytes(32), INFO) + b"\0"
    assert len(sealed) == 1169
    with pytest.raises(WrongDeploymentError):
        SEALING.open(sealed[:size], INFO)


@pytest.mark.parametrize("size", [0, 32, 1184, 1215, 1217])
def test_a_sealing_key_of_a_wrong_length_is_refused(size: int) -> None:
    with pytest.raises(MalformedError):
        SealingPublicKey((SEALING.public.data + b"\0")[:size])


def test_a_sealing_key_whose_lattice_half_is_none_is_refused() -> None:
    with pytest.raises(MalformedError):
        SealingPublicKey(b"\xff" * 1184 + SEALING.public.data[1184:])


@pytest.mark.parametrize("point", [bytes(32), b"\1" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"])
def test_a_sealing_key_whose_point_is_of_small_order_is_refused(point: bytes) -> None:
    """Sealing to it would fail, or share a secret that everyone knows."""
    with pytest.raises(MalformedError):
        SealingPublicKey(SEALING.public.data[:1184] + point)


def test_former_sealing_keys_open_what_was_sealed_to_them() -> None:
    keys = [SealingKey.generate() for _ in range(3)]
    held = SealingKeys(keys[0], tuple(keys[1:]))
    for key in keys:
        assert held.open(key.public.seal(b"USK", b"info"), b"info") == b"USK"
    with pytest.raises(WrongDeploymentError):
        held.open(SealingKey.generate().public.seal(b"USK", b"info"), b"info")
    with pytest.raises(WrongDeploymentError):
        held.open(keys[2].public.seal(b"USK", b"info"), b"other info")
