"""`reencrypted` opens with USK, for the query that was sent, and holds exactly what its manifest says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mipp_cli.containers.messages.manifest import Manifest, ManifestMatch, SearchedOwner
from mipp_cli.containers.messages.reencrypted import (
    Answer,
    AnswerCipher,
    open_answer,
    open_reencrypted,
    write_reencrypted,
)
from mipp_cli.errors import (
    MalformedError,
    NotAuthorisedError,
    OutputError,
    TamperedError,
    WrongDeploymentError,
)
from tests.containers.conftest import ALICE, DEPLOYMENT, OTHER_DEPLOYMENT, QUERY_ID
from tests.support.ciphers import KEY, gcm_decrypt, hkdf, prefixed

CIPHER = AnswerCipher(b"\7" * 32, DEPLOYMENT, "carol", QUERY_ID)
DIGEST = b"\3" * 32
OWNERS = (SearchedOwner("north", 5), SearchedOwner("south", 7))
MATCHES = (ManifestMatch(0, 2, "south"), ManifestMatch(0, 0, "north", 9), ManifestMatch(1, 1, "south"))
MANIFEST = Manifest(DIGEST.hex(), 3, OWNERS, MATCHES)
ELSEWHERE = {
    "another key": replace(CIPHER, usk=bytes(32)),
    "another deployment": replace(CIPHER, deployment=OTHER_DEPLOYMENT),
    "another user": replace(CIPHER, user="mallory"),
    "another query": replace(CIPHER, query_id="f" * 32),
}


def rows_of(images: int = MANIFEST.images) -> list[bytes]:
    return [CIPHER.encrypt_image(f"picture {place}".encode(), place) for place in range(images)]


def sealed(manifest: Manifest = MANIFEST, cipher: AnswerCipher = CIPHER) -> bytes:
    return cipher.seal_manifest(manifest.pack(10, 4))


def answered(path: Path, ner: list[bytes], manifest: bytes, cipher: AnswerCipher = CIPHER) -> Answer:
    write_reencrypted(path, ALICE, QUERY_ID, ner, lambda: manifest, force=True)
    return open_answer(open_reencrypted(path, DEPLOYMENT), cipher, DIGEST)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.binary(max_size=3000), max_size=6), st.data(), st.binary(min_size=32, max_size=32))
def test_an_answer_comes_back_as_it_was_written(
    place: Path, images: list[bytes], data: st.DataObject, usk: bytes
) -> None:
    cipher = replace(CIPHER, usk=usk)
    matched = st.builds(
        ManifestMatch,
        st.integers(0, 999),
        st.integers(0, max(0, len(images) - 1)),
        st.sampled_from(["north", "south"]),
        st.none() | st.integers(0, 2**40),
    )
    matches = data.draw(st.lists(matched, max_size=8)) if images else []
    manifest = Manifest(DIGEST.hex(), len(images), OWNERS, tuple(matches))
    ner = [cipher.encrypt_image(content, number) for number, content in enumerate(images)]
    answer = answered(place, ner, sealed(manifest, cipher), cipher)
    with answer.container:
        assert answer.manifest == manifest
        assert [answer.envelope(number) for number in range(len(images))] == images


def test_an_existing_answer_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(OutputError):
        write_reencrypted(tmp_path / "a", ALICE, QUERY_ID, [], bytes)
    assert (tmp_path / "a").read_bytes() == b"old"


def test_the_check_of_the_sender_is_asked_and_obeyed(tmp_path: Path) -> None:
    def refuse(header: object) -> None:
        raise NotAuthorisedError("no")

    write_reencrypted(tmp_path / "a", ALICE, QUERY_ID, [], bytes)
    with pytest.raises(NotAuthorisedError):
        open_reencrypted(tmp_path / "a", DEPLOYMENT, refuse)


def test_another_deployment_is_refused_as_such(tmp_path: Path) -> None:
    write_reencrypted(tmp_path / "a", ALICE, QUERY_ID, [], bytes)
    with pytest.raises(WrongDeploymentError):
        open_reencrypted(tmp_path / "a", OTHER_DEPLOYMENT)


def test_names_do_not_stand_in_the_file(tmp_path: Path) -> None:
    manifest = Manifest(DIGEST.hex(), 0, (SearchedOwner("hospital-north", 5),), ())
    answered(tmp_path / "a", [], sealed(manifest)).container.close()
    assert b"hospital-north" not in (tmp_path / "a").read_bytes()


@pytest.mark.parametrize("cipher", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_manifest_opens_where_it_belongs_and_nowhere_else(cipher: AnswerCipher) -> None:
    assert CIPHER.open_manifest(sealed()) == MANIFEST
    with pytest.raises(TamperedError):
        cipher.open_manifest(sealed())


@pytest.mark.parametrize("cipher", ELSEWHERE.values(), ids=ELSEWHERE)
def test_an_image_opens_where_it_belongs_and_nowhere_else(cipher: AnswerCipher) -> None:
    ner = CIPHER.encrypt_image(b"picture", 1)
    assert CIPHER.decrypt_image(ner, 1) == b"picture"
    with pytest.raises(TamperedError):
        cipher.decrypt_image(ner, 1)


@pytest.mark.parametrize("place", [0, 2, 257, 2**63])
def test_an_image_does_not_open_at_another_place(place: int) -> None:
    with pytest.raises(TamperedError):
        CIPHER.decrypt_image(CIPHER.encrypt_image(b"picture", 1), place)


def test_an_image_is_no_manifest_and_a_manifest_no_image() -> None:
    with pytest.raises(TamperedError):
        CIPHER.open_manifest(CIPHER.encrypt_image(MANIFEST.pack(10, 4), 0))
    with pytest.raises(TamperedError):
        CIPHER.decrypt_image(sealed(), 0)


def test_an_answer_to_another_query_is_tampering(tmp_path: Path) -> None:
    write_reencrypted(tmp_path / "a", ALICE, QUERY_ID, rows_of(), sealed)
    with (
        open_reencrypted(tmp_path / "a", DEPLOYMENT) as container,
        pytest.raises(TamperedError, match="does not answer the query"),
    ):
        open_answer(container, CIPHER, b"\4" * 32)


@pytest.mark.parametrize("change", [lambda rows: rows[:-1], lambda rows: [*rows, rows[0]], lambda _rows: []])
def test_dropped_and_added_images_are_tampering(tmp_path: Path, change: object) -> None:
    assert callable(change)
    with pytest.raises(TamperedError, match="dropped or added"):
        answered(tmp_path / "a", change(rows_of()), sealed())


def test_swapped_images_are_tampering(tmp_path: Path) -> None:
    answer = answered(tmp_path / "a", rows_of()[::-1], sealed())
    with answer.container:
        assert answer.envelope(1) == b"picture 1"
        for number in (0, 2):
            with pytest.raises(TamperedError):
                answer.envelope(number)


@pytest.mark.parametrize("size", [0, 1, 27, 28, 100])
def test_a_manifest_that_is_none_is_tampering(tmp_path: Path, size: int) -> None:
    with pytest.raises(TamperedError):
        answered(tmp_path / "a", [], bytes(size))


def test_every_changed_byte_of_the_sealed_manifest_is_tampering() -> None:
    data = CIPHER.seal_manifest(MANIFEST.pack(3, len(OWNERS)))
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1
        with pytest.raises(TamperedError):
            CIPHER.open_manifest(bytes(changed))


def test_a_manifest_can_be_made_once_the_images_are_written(tmp_path: Path) -> None:
    written = []

    def images() -> Iterator[bytes]:
        for row in rows_of():
            written.append(row)
            yield row

    def manifest() -> bytes:
        assert len(written) == MANIFEST.images
        return sealed(replace(MANIFEST, left_out=len(written)))

    write_reencrypted(tmp_path / "a", ALICE, QUERY_ID, images(), manifest)
    with open_reencrypted(tmp_path / "a", DEPLOYMENT) as container:
        assert open_answer(container, CIPHER, DIGEST).manifest == replace(MANIFEST, left_out=3)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 2**30), st.lists(st.booleans(), max_size=9))
def test_an_answer_is_as_long_whatever_matches(place: Path, left_out: int, real: list[bool]) -> None:
    matches = tuple(
        ManifestMatch(0, number, "north", number) for number, is_real in enumerate(real) if is_real
    )
    manifest = Manifest(DIGEST.hex(), len(real), OWNERS, matches, left_out)
    ner = [bytes(100) for _ in real]
    answered(place, ner, sealed(manifest)).container.close()
    length = place.stat().st_size
    answered(place, ner, sealed(Manifest(DIGEST.hex(), len(real), (), ()))).container.close()
    assert place.stat().st_size == length


def test_a_manifest_over_its_limit_is_malformed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mipp_cli.containers.messages import reencrypted

    monkeypatch.setattr(reencrypted, "_MANIFEST_LIMIT", 100)
    with pytest.raises(MalformedError, match="too long"):
        answered(tmp_path / "a", [], bytes(101))


def test_a_cipher_does_not_print_its_key() -> None:
    assert repr(CIPHER.usk) not in repr(CIPHER)


# What binds an image to its place

ANSWER = AnswerCipher(KEY, "fingerprint", "user-a", "00112233445566778899aabbccddeeff")


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
def test_an_answer_image_is_bound_to_user_query_and_key(other: AnswerCipher) -> None:
    with pytest.raises(TamperedError):
        other.decrypt_image(ANSWER.encrypt_image(b"an image", 7), 7)


@pytest.mark.parametrize("place", [0, 6, 8, 7 << 8, 7 + 2**32])
def test_an_image_of_an_answer_opens_at_no_other_place(place: int) -> None:
    with pytest.raises(TamperedError):
        ANSWER.decrypt_image(ANSWER.encrypt_image(b"an image", 7), place)


@OTHER_ANSWERS
def test_an_answer_manifest_is_bound_to_user_query_and_key(other: AnswerCipher) -> None:
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
