"""`reencrypted` opens with USK, for the query that was sent, and holds exactly what its manifest says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mipp_cli.containers.reencrypted import (
    Answer,
    AnswerCipher,
    Manifest,
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

CIPHER = AnswerCipher(b"\7" * 32, DEPLOYMENT, "carol", QUERY_ID)
DIGEST = b"\3" * 32
IMAGES = (("north", "x"), ("south", "x"), ("south", "y"))
MANIFEST = Manifest(DIGEST.hex(), IMAGES, ((0, 2), (0, 0), (1, 1)))
ELSEWHERE = {
    "another key": replace(CIPHER, usk=bytes(32)),
    "another deployment": replace(CIPHER, deployment=OTHER_DEPLOYMENT),
    "another user": replace(CIPHER, user="mallory"),
    "another query": replace(CIPHER, query_id="f" * 32),
}

identifiers = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
names_of_images = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def rows_of(manifest: Manifest = MANIFEST) -> list[bytes]:
    return [
        CIPHER.encrypt_image(f"picture {number}".encode(), *image)
        for number, image in enumerate(manifest.images)
    ]


def answered(path: Path, ner: list[bytes], sealed: bytes, cipher: AnswerCipher = CIPHER) -> Answer:
    write_reencrypted(path, ALICE, QUERY_ID, ner, sealed, force=True)
    return open_answer(open_reencrypted(path, DEPLOYMENT), cipher, DIGEST)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(identifiers, names_of_images, st.binary(max_size=3000)), max_size=6),
    st.data(),
    st.binary(min_size=32, max_size=32),
)
def test_an_answer_comes_back_as_it_was_written(
    place: Path, images: list[tuple[str, str, bytes]], data: st.DataObject, usk: bytes
) -> None:
    cipher = replace(CIPHER, usk=usk)
    pairs = st.tuples(st.integers(0, 2**32), st.integers(0, max(0, len(images) - 1)))
    matches = data.draw(st.lists(pairs, max_size=8)) if images else []
    manifest = Manifest(DIGEST.hex(), tuple((owner, name) for owner, name, _ in images), tuple(matches))
    ner = [cipher.encrypt_image(content, owner, name) for owner, name, content in images]
    answer = answered(place, ner, cipher.seal_manifest(manifest), cipher)
    with answer.container:
        assert answer.manifest == manifest
        assert [answer.envelope(number) for number in range(len(images))] == [row[2] for row in images]


def test_an_existing_answer_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(OutputError):
        write_reencrypted(tmp_path / "a", ALICE, QUERY_ID, [], b"")
    assert (tmp_path / "a").read_bytes() == b"old"


def test_the_check_of_the_sender_is_asked_and_obeyed(tmp_path: Path) -> None:
    def refuse(header: object) -> None:
        raise NotAuthorisedError("no")

    write_reencrypted(tmp_path / "a", ALICE, QUERY_ID, [], b"")
    with pytest.raises(NotAuthorisedError):
        open_reencrypted(tmp_path / "a", DEPLOYMENT, refuse)


def test_another_deployment_is_refused_as_such(tmp_path: Path) -> None:
    write_reencrypted(tmp_path / "a", ALICE, QUERY_ID, [], b"")
    with pytest.raises(WrongDeploymentError):
        open_reencrypted(tmp_path / "a", OTHER_DEPLOYMENT)


def test_names_do_not_stand_in_the_file(tmp_path: Path) -> None:
    manifest = Manifest(DIGEST.hex(), (("hospital-north", "patient-17"),), ())
    answer = answered(tmp_path / "a", rows_of(manifest), CIPHER.seal_manifest(manifest))
    answer.container.close()
    octets = (tmp_path / "a").read_bytes()
    assert b"hospital-north" not in octets
    assert b"patient-17" not in octets


@pytest.mark.parametrize("cipher", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_manifest_opens_where_it_belongs_and_nowhere_else(cipher: AnswerCipher) -> None:
    sealed = CIPHER.seal_manifest(MANIFEST)
    assert CIPHER.open_manifest(sealed) == MANIFEST
    with pytest.raises(TamperedError):
        cipher.open_manifest(sealed)


@pytest.mark.parametrize("cipher", ELSEWHERE.values(), ids=ELSEWHERE)
def test_an_image_opens_where_it_belongs_and_nowhere_else(cipher: AnswerCipher) -> None:
    ner = CIPHER.encrypt_image(b"picture", "north", "x")
    assert CIPHER.decrypt_image(ner, "north", "x") == b"picture"
    with pytest.raises(TamperedError):
        cipher.decrypt_image(ner, "north", "x")


@pytest.mark.parametrize("place", [("south", "x"), ("north", "y"), ("north", ""), ("nort", "hx")])
def test_an_image_does_not_open_under_another_owner_or_name(place: tuple[str, str]) -> None:
    with pytest.raises(TamperedError):
        CIPHER.decrypt_image(CIPHER.encrypt_image(b"picture", "north", "x"), *place)


def test_an_image_is_no_manifest_and_a_manifest_no_image() -> None:
    with pytest.raises(TamperedError):
        CIPHER.open_manifest(CIPHER.encrypt_image(MANIFEST.pack(), "north", "x"))
    with pytest.raises(TamperedError):
        CIPHER.decrypt_image(CIPHER.seal_manifest(MANIFEST), "north", "x")


def test_an_answer_to_another_query_is_tampering(tmp_path: Path) -> None:
    write_reencrypted(tmp_path / "a", ALICE, QUERY_ID, rows_of(), CIPHER.seal_manifest(MANIFEST))
    with (
        open_reencrypted(tmp_path / "a", DEPLOYMENT) as container,
        pytest.raises(TamperedError, match="another query"),
    ):
        open_answer(container, CIPHER, b"\4" * 32)


@pytest.mark.parametrize("change", [lambda rows: rows[:-1], lambda rows: [*rows, rows[0]], lambda _rows: []])
def test_dropped_and_added_images_are_tampering(tmp_path: Path, change: object) -> None:
    assert callable(change)
    with pytest.raises(TamperedError, match="dropped or added"):
        answered(tmp_path / "a", change(rows_of()), CIPHER.seal_manifest(MANIFEST))


def test_swapped_images_are_tampering(tmp_path: Path) -> None:
    answer = answered(tmp_path / "a", rows_of()[::-1], CIPHER.seal_manifest(MANIFEST))
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
    sealed = CIPHER.seal_manifest(MANIFEST)
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        with pytest.raises(TamperedError):
            CIPHER.open_manifest(bytes(changed))


def spelled(**fields: object) -> bytes:
    """Spell a manifest of two images as it is packed, with other fields."""
    values: dict[str, object] = {"query": DIGEST.hex(), "images": [["north", "x"], ["south", "y"]]}
    values |= {"matches": [[0, 1]], "left_out": 0}
    return json.dumps({**values, **fields}, separators=(",", ":")).encode()


def test_a_manifest_spelled_as_it_is_packed_is_read() -> None:
    manifest = Manifest.unpack(spelled())
    assert manifest == Manifest(DIGEST.hex(), (("north", "x"), ("south", "y")), ((0, 1),))
    assert manifest.pack() == spelled()
    assert Manifest.unpack(spelled(left_out=3)).left_out == 3


def test_a_manifest_can_be_made_once_the_images_are_written(tmp_path: Path) -> None:
    written = []

    def images() -> Iterator[bytes]:
        for row in rows_of():
            written.append(row)
            yield row

    def manifest() -> bytes:
        assert len(written) == len(IMAGES)
        return CIPHER.seal_manifest(replace(MANIFEST, left_out=len(written)))

    write_reencrypted(tmp_path / "a", ALICE, QUERY_ID, images(), manifest)
    with open_reencrypted(tmp_path / "a", DEPLOYMENT) as container:
        assert open_answer(container, CIPHER, DIGEST).manifest == replace(MANIFEST, left_out=3)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b'{"images":[],"matches":[],"left_out":0}',
        b'{"query":"00","matches":[],"left_out":0}',
        b'{"query":"00","images":[],"left_out":0}',
        b'{"query":"00","images":[],"matches":[]}',
        spelled(left_out=-1),
        spelled(left_out=True),
        spelled(left_out=1.0),
        spelled(left_out="1"),
        spelled(left_out=None),
        spelled() + b"\n",
        b" " + spelled(),
        spelled().replace(b",", b", "),
        spelled().replace(b'"x"', b'"\\u0078"'),
        spelled().replace(b'"x"', '"é"'.encode()),
        spelled(note="hello"),
        spelled().replace(b'{"query"', b'{"query":"00","query"'),
        spelled(query=7),
        spelled(query=None),
        spelled(images=[["north"]]),
        spelled(images=[["north", "x", "y"]]),
        spelled(images=["ab", "cd"]),
        spelled(images=[["north", 7], ["south", "y"]]),
        spelled(images=[["../north", "x"], ["south", "y"]]),
        spelled(images=[["", "x"], ["south", "y"]]),
        spelled(images=[["north", "\ud800"], ["south", "y"]]),
        spelled(images={"north": "x"}),
        spelled(images=None),
        spelled(matches=[[0, 2]]),
        spelled(matches=[[0, -1]]),
        spelled(matches=[[-1, 0]]),
        spelled(matches=[[0, 1.0]]),
        spelled(matches=[[0, 0.5]]),
        spelled(matches=[[0, True]]),
        spelled(matches=[[0, "1"]]),
        spelled(matches=[[0, None]]),
        spelled(matches=[[0, float("inf")]]),
        spelled(matches=[[0, float("nan")]]),
        spelled(matches=[[0]]),
        spelled(matches=[0, 1]),
        spelled(matches=["01"]),
        spelled(matches=None),
        spelled(images=[], matches=[[0, 0]]),
        b'{"query":"00","images":[],"matches":[[0,' + b"9" * 5000 + b"]]}",
    ],
    ids=lambda data: data[:60].decode("ascii", "replace"),
)
def test_a_manifest_of_another_form_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        Manifest.unpack(data)


def test_a_manifest_over_its_limit_is_malformed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mipp_cli.containers import reencrypted

    monkeypatch.setattr(reencrypted, "_MANIFEST_LIMIT", 100)
    with pytest.raises(MalformedError, match="too long"):
        answered(tmp_path / "a", [], bytes(101))


def test_a_cipher_does_not_print_its_key() -> None:
    assert repr(CIPHER.usk) not in repr(CIPHER)
