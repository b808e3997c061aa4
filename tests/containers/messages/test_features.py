"""`features` carries digests and codes of an upload's rows, and its groups, bound to owner and upload."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mipp_cli.containers.base.writer import Sender
from mipp_cli.containers.messages import features as module
from mipp_cli.containers.messages.features import (
    LONGEST_ROW,
    FeatureCipher,
    FeaturesReader,
    chunk_rows,
    open_features,
    write_features,
)
from mipp_cli.errors import (
    MalformedError,
    MippError,
    NotAuthorisedError,
    OutputError,
    TamperedError,
    WrongDeploymentError,
)
from mipp_cli.scheme.secret_keys import key_id
from tests.containers.conftest import (
    ALICE,
    DEPLOYMENT,
    EXACT,
    OTHER_DEPLOYMENT,
    Fill,
    forge,
    open_descriptors,
)

SK = bytes(range(32))
NUMBER = 7
CIPHER = FeatureCipher(SK, DEPLOYMENT, ALICE.name, NUMBER)
NAMES = ("8f", "image of an owner", "naïve")
CODES = np.random.default_rng(3).integers(0, 8, (3, 80), dtype=np.uint8)
LARGEST = 3  # images of a group, where groups are of two


def digests_of(names: tuple[str, ...]) -> np.ndarray:
    return np.frombuffer(
        b"".join(hashlib.sha256(name.encode()).digest() for name in names), np.uint8
    ).reshape(-1, 32)


def write(
    path: Path,
    sizes: tuple[int, ...] = (1, 2),
    *,
    codes: np.ndarray = CODES,
    sender: Sender = ALICE,
    earlier: tuple[int, ...] = (),
) -> Path:
    """Write features of as many images as the groups have."""
    row = 0
    with write_features(path, 80, sender, NUMBER, SK, earlier=earlier, force=True) as writer:
        for group, size in enumerate(sizes):
            for _ in range(size):
                writer.append(f"image {row}", hashlib.sha256(b"image %d" % row).digest(), codes[row])
                row += 1
            writer.end_group(1000 + group)
    return path


def opened(path: Path) -> FeaturesReader:
    return open_features(path, EXACT, DEPLOYMENT)


def codes_in(path: Path, cipher: FeatureCipher | None = CIPHER) -> np.ndarray:
    reader = opened(path)
    with reader.container:
        chunks = [codes for _, _, codes in reader.chunks(cipher) if codes is not None]
        return np.concatenate(chunks) if chunks else np.empty((0, 80), np.uint8)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(1, LARGEST), min_size=1, max_size=7),
    st.sampled_from([80, 160, 81 * 80, 1 << 20]),
    st.integers(0, 2**32 - 1),
)
def test_features_come_back_as_they_were_written(
    place: Path, sizes: list[int], chunk: int, seed: int
) -> None:
    rows = sum(sizes)
    codes = np.random.default_rng(seed).integers(0, 8, (rows, 80), dtype=np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK_BYTES", chunk)
        write(place, tuple(sizes), codes=codes, earlier=(2, 5))
        reader = opened(place)
        with reader.container:
            chunks = list(reader.chunks(CIPHER))
            assert (np.concatenate([found for _, _, found in chunks if found is not None]) == codes).all()
            assert [begin for begin, _, _ in chunks] == list(range(0, rows, chunk // 80))
            assert [begin for begin, _, _ in chunks][1:] == [end for _, end, _ in chunks][:-1]
            assert len(reader) == rows
            assert (reader.number, reader.key_id, reader.earlier()) == (NUMBER, key_id(SK), (2, 5))
            assert reader.group_ends.tolist() == np.cumsum(sizes).tolist()
            assert reader.group_lengths.tolist() == [1000 + group for group in range(len(sizes))]
            names = tuple(f"image {row}" for row in range(rows))
            assert (reader.name_digests == digests_of(names)).all()
            assert (reader.image_digests(0, rows) == digests_of(names)).all()
            assert (reader.image_digests(rows - 1, rows) == digests_of(names[-1:])).all()


def test_without_a_key_there_are_rows_and_no_codes(tmp_path: Path) -> None:
    reader = opened(write(tmp_path / "a"))
    with reader.container:
        assert list(reader.chunks(None)) == [(0, 3, None)]


def test_some_thousand_rows_are_sealed_together() -> None:
    assert (chunk_rows(80), chunk_rows(1280), chunk_rows(65_535)) == (3_276, 204, 4)


def test_an_existing_features_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(OutputError), write_features(tmp_path / "a", 80, ALICE, NUMBER, SK):
        pass
    assert (tmp_path / "a").read_bytes() == b"old"


def test_neither_names_nor_codes_nor_the_key_stand_in_the_file(tmp_path: Path) -> None:
    data = write(tmp_path / "a").read_bytes()
    assert all(part not in data for part in (b"image 1", SK, *(row[:16].tobytes() for row in CODES)))


def test_a_cipher_of_features_does_not_print_its_key() -> None:
    assert repr(SK) not in repr(CIPHER)


# What codes are bound to

ELSEWHERE: dict[str, dict[str, Any]] = {
    "another key": {"image_key": b"\1" * 32},
    "another deployment": {"deployment": OTHER_DEPLOYMENT},
    "another owner": {"owner": "mallory"},
    "another upload": {"number": NUMBER + 1},
}


@pytest.mark.parametrize("change", ELSEWHERE.values(), ids=ELSEWHERE)
def test_codes_open_where_they_belong_and_nowhere_else(change: dict[str, Any]) -> None:
    names = digests_of(NAMES)
    sealed = CIPHER.encrypt(CODES, 0, names)
    assert CIPHER.decrypt(sealed, 0, names) == CODES.tobytes()
    with pytest.raises(TamperedError):
        replace(CIPHER, **change).decrypt(sealed, 0, names)


@pytest.mark.parametrize("first", [1, 3, 2**32])
def test_codes_do_not_open_at_another_place(first: int) -> None:
    names = digests_of(NAMES)
    with pytest.raises(TamperedError):
        CIPHER.decrypt(CIPHER.encrypt(CODES, 0, names), first, names)


@pytest.mark.parametrize("names", [NAMES[:2], NAMES[::-1], (*NAMES[:2], "other"), (*NAMES, "other"), ()])
def test_codes_do_not_open_under_other_names(names: tuple[str, ...]) -> None:
    with pytest.raises(TamperedError):
        CIPHER.decrypt(CIPHER.encrypt(CODES, 0, digests_of(NAMES)), 0, digests_of(names))


def test_the_same_codes_twice_give_two_ciphertexts() -> None:
    first, second = (CIPHER.encrypt(CODES, 0, digests_of(NAMES)) for _ in range(2))
    assert first[:12] != second[:12]
    assert first[12:] != second[12:]


@pytest.mark.parametrize("change", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_file_opens_under_its_own_key_and_no_other(tmp_path: Path, change: dict[str, Any]) -> None:
    path = write(tmp_path / "a")
    assert (codes_in(path) == CODES).all()
    with pytest.raises(TamperedError, match="could not be decrypted"):
        codes_in(path, replace(CIPHER, **change))


# What a hostile owner writes


def fill_features(
    *,
    rows: int = 3,
    ends: tuple[int, ...] = (1, 3),
    lengths: tuple[int, ...] = (1000, 1001),
    codes: tuple[bytes, ...] | None = None,
    change: Callable[[h5py.File], object] = lambda _file: None,
) -> Fill:
    """Return what fills a features file; ``codes`` are the sealed chunks."""
    names = digests_of(tuple(f"image {row}" for row in range(rows)))
    chunks = (CIPHER.encrypt(np.zeros((rows, 80), np.uint8), 0, names),) if codes is None else codes

    def fill(file: h5py.File) -> None:
        file["name_digests"] = names
        file["image_digests"] = names
        group = file.create_group("codes")
        group["offsets"] = np.cumsum([0, *map(len, chunks)]).astype("<u8")
        group["bytes"] = np.frombuffer(b"".join(chunks), np.uint8)
        file["group_ends"] = np.array(ends, "<u4")
        file["group_lengths"] = np.array(lengths, "<u8")
        file["earlier"] = np.array([], "<u8")
        file.attrs.create("key_id", key_id(SK), dtype="<u8")
        change(file)

    return fill


def forged(path: Path, fill: Fill) -> Path:
    return forge(path, fill, kind="features", number=str(NUMBER))


def sealed_codes(codes: bytes) -> tuple[bytes]:
    """Seal anything in the place of codes of three images."""
    names = digests_of(tuple(f"image {row}" for row in range(3)))
    return (CIPHER.encrypt(np.frombuffer(codes, np.uint8), 0, names),)


def test_features_made_by_hand_are_read(tmp_path: Path) -> None:
    assert (codes_in(forged(tmp_path / "a", fill_features())) == np.zeros((3, 80))).all()


@pytest.mark.parametrize("code", [8, 9, 255])
def test_a_code_out_of_range_is_malformed(tmp_path: Path, code: int) -> None:
    codes = sealed_codes(bytes(239) + bytes([code]))
    with pytest.raises(MalformedError, match="not below 8"):
        codes_in(forged(tmp_path / "a", fill_features(codes=codes)))


@pytest.mark.parametrize("size", [0, 1, 79, 80, 239, 241, 320])
def test_codes_of_more_or_fewer_images_are_malformed(tmp_path: Path, size: int) -> None:
    with pytest.raises(MalformedError, match="more or fewer codes than images"):
        codes_in(forged(tmp_path / "a", fill_features(codes=sealed_codes(bytes(size)))))


@pytest.mark.parametrize("chunk", [b"", bytes(27), bytes(28), bytes(268)])
def test_codes_that_were_never_sealed_are_tampering(tmp_path: Path, chunk: bytes) -> None:
    with pytest.raises(TamperedError, match="could not be decrypted"):
        codes_in(forged(tmp_path / "a", fill_features(codes=(chunk,))))


@pytest.mark.parametrize("chunks", [0, 2, 3])
def test_an_impossible_number_of_chunks_is_malformed(tmp_path: Path, chunks: int) -> None:
    with pytest.raises(MalformedError, match="more or fewer codes than images"):
        opened(forged(tmp_path / "a", fill_features(codes=(bytes(268),) * chunks)))


def test_codes_longer_than_a_chunk_are_malformed(tmp_path: Path) -> None:
    chunk = bytes((1 << 18) + 29)
    with pytest.raises(TamperedError):
        codes_in(forged(tmp_path / "a", fill_features(codes=(chunk[1:],))))
    with pytest.raises(MalformedError, match="invalid length"):
        codes_in(forged(tmp_path / "b", fill_features(codes=(chunk,))))


def test_chunks_that_were_swapped_are_tampering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK_BYTES", 80)
    names = digests_of(("image 0", "image 1"))
    chunks = [CIPHER.encrypt(CODES[row : row + 1], row, names[row : row + 1]) for row in range(2)]
    shape: dict[str, Any] = {"rows": 2, "ends": (2,), "lengths": (1000,)}
    right = forged(tmp_path / "a", fill_features(**shape, codes=tuple(chunks)))
    assert (codes_in(right) == CODES[:2]).all()
    with pytest.raises(TamperedError):
        codes_in(forged(tmp_path / "b", fill_features(**shape, codes=tuple(chunks[::-1]))))


@pytest.mark.parametrize(
    "ends",
    [(0, 3), (3, 3), (2, 1), (1, 2), (1, 4), (3, 2), (2**32 - 1, 3)],
    ids=str,
)
def test_groups_that_are_no_partition_are_malformed(tmp_path: Path, ends: tuple[int, ...]) -> None:
    with pytest.raises(MalformedError, match="do not match its images"):
        opened(forged(tmp_path / "a", fill_features(ends=ends)))


def test_features_without_groups_are_malformed(tmp_path: Path) -> None:
    with pytest.raises(MalformedError, match="do not match its images"):
        opened(forged(tmp_path / "a", fill_features(ends=(), lengths=())))


def test_a_group_may_have_as_many_images_as_the_remainder_makes(tmp_path: Path) -> None:
    reader = opened(forged(tmp_path / "a", fill_features(rows=LARGEST, ends=(LARGEST,), lengths=(99,))))
    with reader.container:
        assert reader.group_ends.tolist() == [LARGEST]


@pytest.mark.parametrize("ends", [(4,), (4, 5), (1, 5)], ids=str)
def test_a_group_of_too_many_images_is_malformed(tmp_path: Path, ends: tuple[int, ...]) -> None:
    fill = fill_features(rows=ends[-1], ends=ends, lengths=(1000,) * len(ends))
    with pytest.raises(MalformedError, match="a group of more than 3 images"):
        opened(forged(tmp_path / "a", fill))


@pytest.mark.parametrize("length", [0, 1, 27, LONGEST_ROW + 1, 2**63, 2**64 - 1])
def test_a_length_that_no_image_has_is_malformed(tmp_path: Path, length: int) -> None:
    with pytest.raises(MalformedError, match="a length that no encrypted image has"):
        opened(forged(tmp_path / "a", fill_features(lengths=(1000, length))))


def test_the_least_and_the_largest_length_are_read(tmp_path: Path) -> None:
    reader = opened(forged(tmp_path / "a", fill_features(lengths=(28, LONGEST_ROW))))
    with reader.container:
        assert reader.group_lengths.tolist() == [28, LONGEST_ROW]


@pytest.mark.parametrize("lengths", [(), (1000,), (1000,) * 3], ids=len)
def test_groups_without_a_length_each_are_malformed(tmp_path: Path, lengths: tuple[int, ...]) -> None:
    with pytest.raises(MalformedError, match="different lengths"):
        opened(forged(tmp_path / "a", fill_features(lengths=lengths)))


@pytest.mark.parametrize("column", ["name_digests", "image_digests"])
@pytest.mark.parametrize("rows", [0, 2, 4])
def test_images_without_a_digest_each_are_malformed(tmp_path: Path, column: str, rows: int) -> None:
    def change(file: h5py.File) -> None:
        del file[column]
        file[column] = np.zeros((rows, 32), np.uint8)

    with pytest.raises(MalformedError, match="different lengths"):
        opened(forged(tmp_path / "a", fill_features(change=change)))


@pytest.mark.parametrize("width", [20, 31, 33, 64])
def test_digests_of_another_size_are_malformed(tmp_path: Path, width: int) -> None:
    def change(file: h5py.File) -> None:
        del file["name_digests"]
        file["name_digests"] = np.zeros((3, width), np.uint8)

    with pytest.raises(MalformedError, match="wrong type or shape"):
        opened(forged(tmp_path / "a", fill_features(change=change)))


def test_features_of_no_images_are_malformed(tmp_path: Path) -> None:
    fill = fill_features(rows=0, ends=(), lengths=(), codes=())
    with pytest.raises(MalformedError, match="contains no images"):
        opened(forged(tmp_path / "a", fill))


def test_features_of_too_many_images_are_malformed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a")
    opened(path).container.close()
    monkeypatch.setattr(module, "_ROWS_LIMIT", 2)
    with pytest.raises(MalformedError, match="too many"):
        opened(path)


def test_earlier_messages_out_of_order_are_malformed(tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        del file["earlier"]
        file["earlier"] = np.array([5, 2], "<u8")

    reader = opened(forged(tmp_path / "a", fill_features(change=change)))
    with reader.container, pytest.raises(MalformedError, match="out of order"):
        reader.earlier()


def test_refused_features_are_closed(tmp_path: Path) -> None:
    path = forged(tmp_path / "a", fill_features(ends=(1, 2)))
    before = open_descriptors()
    with pytest.raises(MalformedError):
        opened(path)
    assert open_descriptors() == before


def test_another_deployment_is_refused_as_such(tmp_path: Path) -> None:
    with pytest.raises(WrongDeploymentError):
        open_features(write(tmp_path / "a"), EXACT, OTHER_DEPLOYMENT)


def test_the_check_of_the_sender_is_asked_and_obeyed(tmp_path: Path) -> None:
    def refuse(header: object) -> None:
        raise NotAuthorisedError("no")

    with pytest.raises(NotAuthorisedError):
        open_features(write(tmp_path / "a"), EXACT, DEPLOYMENT, refuse)


@pytest.mark.slow
def test_every_changed_byte_of_the_file_is_refused(tmp_path: Path) -> None:
    data = write(tmp_path / "a").read_bytes()
    read = []
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1
        (tmp_path / "a").write_bytes(changed)
        with suppress(MippError):
            codes_in(tmp_path / "a")
            read.append(position)
    assert read == []


@pytest.mark.parametrize("size", [0, 1023, 1024, 2000, -1])
def test_a_file_cut_short_is_refused(tmp_path: Path, size: int) -> None:
    path = write(tmp_path / "a")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(MippError):
        codes_in(path)
