"""`upload` carries EW under names that come once, and EF and EFF or groups; EW belongs to one place."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mipp_cli.containers.base.container import open_container, open_one_of
from mipp_cli.containers.messages.upload import (
    NAME_LIMIT,
    UploadCipher,
    UploadReader,
    any_upload_schemas,
    check_names,
    upload_schema,
    write_upload,
)
from mipp_cli.errors import MalformedError, OutputError, TamperedError
from mipp_cli.scheme.parameters import Parameters
from mipp_cli.scheme.secret_keys import key_id
from mipp_cli.scheme.sum_groups import PrimeGroup, standard_prime
from tests.containers.conftest import ALICE, DEPLOYMENT, EXACT, MASK, OTHER_DEPLOYMENT, Fill, forge
from tests.support.ciphers import KEY, gcm_decrypt, hkdf, prefixed

PAPER = Parameters("paper", PrimeGroup(standard_prime(768), 2))
WIDTH = 320
names_of_images = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


def fill_upload(
    names: list[bytes],
    *,
    earlier: tuple[int, ...] = (),
    rows: dict[str, int] | None = None,
    width: int = WIDTH,
    ew_bytes: int = 50,
) -> Fill:
    """Return what fills an upload; ``rows`` gives columns another number of rows than names."""
    counts = dict.fromkeys(("image_names", "EW", "EF", "EFF"), len(names)) | (rows or {})

    def fill(file: h5py.File) -> None:
        for column, content in (("image_names", names), ("EW", [bytes(ew_bytes)] * counts["EW"])):
            group = file.create_group(column)
            group["offsets"] = np.cumsum([0, *map(len, content)]).astype("<u8")
            group["bytes"] = np.frombuffer(b"".join(content), np.uint8)
        for column in ("EF", "EFF"):
            file[column] = np.zeros((counts[column], width), np.uint8)
        file["earlier"] = np.array(earlier, "<u8")
        file.attrs.create("key_id", 5, dtype="<u8")

    return fill


def open_upload(path: Path, parameters: Parameters = MASK) -> UploadReader:
    return UploadReader(open_container(path, upload_schema(parameters), deployment=DEPLOYMENT), parameters)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.lists(names_of_images, min_size=1, max_size=9, unique=True),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**32 - 1),
)
def test_an_upload_comes_back_as_it_was_written(
    place: Path, names: list[str], key: int, number: int, seed: int
) -> None:
    source = random.Random(seed)
    images = [source.randbytes(source.choice([28, 100, 70_000])) for _ in names]
    features = np.random.default_rng(seed).integers(0, 8, (len(names), 80), dtype=np.uint8)
    ef, eff = MASK.protocol.beside_image(features)
    with write_upload(place, MASK, ALICE, number, key, force=True) as writer:
        for row, name in enumerate(names):
            writer.append(name, images[row], (ef[row].tobytes(), eff[row].tobytes()))
            writer.end_group()
    upload = open_upload(place)
    with upload.container:
        assert len(upload) == len(names)
        assert upload.names() == names
        assert [upload.name(row) for row in range(len(names))] == names
        assert [upload.encrypted_image(row) for row in range(len(names))] == images
        read_ef, read_eff = upload.encrypted_features(0, len(names))
        assert (read_ef == ef.reshape(-1, 80, 4)).all()
        assert (read_eff == eff.reshape(-1, 80, 4)).all()
        assert (upload.encrypted_features(len(names) - 1, len(names))[0] == read_ef[-1:]).all()
        assert (upload.key_id, upload.earlier()) == (key, ())
        assert upload.container.header.sequence_number == number
        upload.check_images()


def test_a_product_cipher_feature_survives_a_round_trip(tmp_path: Path) -> None:
    rows = np.random.default_rng(2).integers(0, 256, (2, 80, 192), dtype=np.uint8)
    with write_upload(tmp_path / "a", PAPER, ALICE, 1, 5) as writer:
        for number, row in enumerate(rows):
            writer.append(f"image {number}", bytes(40), (row.tobytes(), row[::-1].tobytes()))
    upload = open_upload(tmp_path / "a", PAPER)
    with upload.container:
        ef, eff = upload.encrypted_features(0, 2)
        assert (ef == rows).all()
        assert (eff == rows[:, ::-1]).all()


def test_the_width_of_a_feature_is_that_of_its_ciphertexts() -> None:
    assert dict(MASK.protocol.upload_columns) == {"EF": 80 * 4, "EFF": 80 * 4}
    assert dict(PAPER.protocol.upload_columns) == {"EF": 80 * 192, "EFF": 80 * 192}


def test_an_upload_of_another_scheme_is_malformed(tmp_path: Path) -> None:
    path = forge(tmp_path / "a", fill_upload([b"x"]), kind="upload")
    with pytest.raises(MalformedError, match="wrong type or shape"):
        open_upload(path, PAPER)
    with pytest.raises(MalformedError, match="does not have the parts"):
        open_upload(path, EXACT)
    groups = write_groups_of(tmp_path / "b", [["x"]])
    with pytest.raises(MalformedError, match="does not have the parts"):
        open_upload(groups, MASK)


def test_an_upload_is_read_without_knowing_its_scheme(tmp_path: Path) -> None:
    path = forge(tmp_path / "a", fill_upload([b"x", b"y"], width=7), kind="upload")
    opened, schema = open_one_of(path, any_upload_schemas())
    with opened:
        assert (opened.matrix("EF").row_bytes, "group_ends" in schema.columns) == (7, False)
    opened, schema = open_one_of(write_groups_of(tmp_path / "b", [["x", "y"]]), any_upload_schemas())
    with opened:
        assert (opened.matrix("group_ends").all().tolist(), "EF" in schema.columns) == ([2], False)


def write_groups_of(path: Path, groups: list[list[str]]) -> Path:
    """Write an upload of scheme `exact`: names by group."""
    with write_upload(path, EXACT, ALICE, 7, 5, force=True) as writer:
        for group in groups:
            for name in group:
                writer.append(name, bytes(40))
            writer.end_group()
    return path


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=8))
def test_the_groups_of_an_upload_come_back(place: Path, sizes: list[int]) -> None:
    groups = [[f"{group} {row}" for row in range(size)] for group, size in enumerate(sizes)]
    upload = open_upload(write_groups_of(place, groups), EXACT)
    with upload.container:
        rows = [upload.group_rows(group) for group in range(len(groups))]
        assert [[upload.name(row) for row in each] for each in rows] == groups
        assert upload.group_ends().tolist() == np.cumsum(sizes).tolist()


@pytest.mark.parametrize("group", [-1, 2, 2**32 - 1])
def test_a_group_that_there_is_not_has_no_rows(tmp_path: Path, group: int) -> None:
    upload = open_upload(write_groups_of(tmp_path / "a", [["x"], ["y", "z"]]), EXACT)
    with upload.container:
        assert upload.group_rows(group) == range(0)


def fill_groups(ends: list[int], *, images: int = 3, dtype: str = "<u4") -> Fill:
    """Return what fills an upload of scheme `exact` with groups that end where ``ends`` says."""

    def fill(file: h5py.File) -> None:
        fill_upload([b"abcd"[row : row + 1] for row in range(images)])(file)
        del file["EF"], file["EFF"]
        file["group_ends"] = np.array(ends, dtype)

    return fill


def test_groups_made_by_hand_are_read(tmp_path: Path) -> None:
    upload = open_upload(forge(tmp_path / "a", fill_groups([1, 3]), kind="upload"), EXACT)
    with upload.container:
        assert [upload.group_rows(0), upload.group_rows(1)] == [range(1), range(1, 3)]


@pytest.mark.parametrize(
    "ends",
    [[], [0], [2], [4], [3, 3], [0, 3], [2, 1, 3], [3, 2, 3], [1, 2], [1, 1, 3], [2**32 - 1, 3], [1, 4]],
    ids=str,
)
def test_groups_that_are_no_partition_are_malformed(tmp_path: Path, ends: list[int]) -> None:
    with pytest.raises(MalformedError, match="do not match its images"):
        open_upload(forge(tmp_path / "a", fill_groups(ends), kind="upload"), EXACT)


def test_a_group_of_too_many_images_is_malformed(tmp_path: Path) -> None:
    largest = open_upload(forge(tmp_path / "a", fill_groups([3]), kind="upload"), EXACT)
    with largest.container:
        largest.check_images()
    larger = open_upload(forge(tmp_path / "b", fill_groups([4], images=4), kind="upload"), EXACT)
    with larger.container, pytest.raises(MalformedError, match="a group of more than 3 images"):
        larger.check_images()


def test_an_upload_without_groups_is_malformed_in_scheme_exact(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        fill_groups([3])(file)
        del file["group_ends"]

    with pytest.raises(MalformedError, match="does not have the parts"):
        open_upload(forge(tmp_path / "a", fill, kind="upload"), EXACT)


def test_an_upload_of_scheme_exact_has_no_features() -> None:
    assert dict(EXACT.protocol.upload_columns) == {}
    assert EXACT.protocol.beside_image(np.zeros((2, 80), np.uint8)) == ()


def test_an_existing_upload_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(OutputError), write_upload(tmp_path / "a", MASK, ALICE, 1, 5):
        pass
    assert (tmp_path / "a").read_bytes() == b"old"


def test_an_upload_lists_the_earlier_messages_asked_for(tmp_path: Path) -> None:
    with write_upload(tmp_path / "a", MASK, ALICE, 9, 5, earlier={8, 2, 3}) as writer:
        writer.append("x", bytes(40), (bytes(WIDTH), bytes(WIDTH)))
    upload = open_upload(tmp_path / "a")
    with upload.container:
        assert upload.earlier() == (2, 3, 8)


def test_an_upload_whose_earlier_messages_are_not_is_malformed(tmp_path: Path) -> None:
    path = forge(tmp_path / "a", fill_upload([b"x"], earlier=(2, 7)), kind="upload")
    upload = open_upload(path)
    with upload.container, pytest.raises(MalformedError, match="out of order"):
        upload.earlier()


def test_an_upload_with_a_mark_of_version_1_is_malformed(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        fill_upload([b"x"])(file)
        file.attrs.create("replace", 0, dtype="<u8")

    with pytest.raises(MalformedError, match="does not have the parts"):
        open_upload(forge(tmp_path / "a", fill, kind="upload"))


def test_an_upload_without_a_list_of_earlier_is_malformed(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        fill_upload([b"x"])(file)
        del file["earlier"]

    with pytest.raises(MalformedError, match="does not have the parts"):
        open_upload(forge(tmp_path / "a", fill, kind="upload"))


def test_an_upload_of_no_images_is_malformed(tmp_path: Path) -> None:
    with pytest.raises(MalformedError, match="no images"):
        open_upload(forge(tmp_path / "a", fill_upload([]), kind="upload"))


@pytest.mark.parametrize("column", ["EW", "EF", "EFF"])
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_columns_of_different_lengths_are_malformed(tmp_path: Path, column: str, rows: int) -> None:
    path = forge(tmp_path / "a", fill_upload([b"x", b"y"], rows={column: rows}), kind="upload")
    with pytest.raises(MalformedError, match="different lengths"):
        open_upload(path)


@pytest.mark.parametrize(
    "names",
    [
        [b""],
        [b"x", b""],
        [b"x", b"x"],
        [b"a\0b"],
        [b"\0"],
        [b"\xff"],
        [b"\xed\xa0\x80"],
        [b"\xc0\x80"],
        [b"x" * (NAME_LIMIT + 1)],
    ],
    ids=lambda names: str(names)[:20],
)
def test_names_that_are_none_or_come_twice_are_malformed(tmp_path: Path, names: list[bytes]) -> None:
    upload = open_upload(forge(tmp_path / "a", fill_upload(names), kind="upload"))
    with upload.container, pytest.raises(MalformedError):
        upload.names()


def test_a_name_that_comes_twice_far_apart_is_malformed(tmp_path: Path) -> None:
    names = [str(number).encode() for number in range(5000)]
    names[4999] = names[0]
    upload = open_upload(forge(tmp_path / "a", fill_upload(names, width=WIDTH), kind="upload"))
    with upload.container, pytest.raises(MalformedError, match="same name"):
        upload.names()


def test_one_name_is_checked_as_all_are(tmp_path: Path) -> None:
    upload = open_upload(forge(tmp_path / "a", fill_upload([b"x", b"\xff"]), kind="upload"))
    with upload.container:
        assert upload.name(0) == "x"
        with pytest.raises(MalformedError):
            upload.name(1)


def test_the_longest_name_and_names_like_paths_are_read(tmp_path: Path) -> None:
    names = ["x" * NAME_LIMIT, "../../etc/passwd", "/", "é", "e\N{COMBINING ACUTE ACCENT}", "\n", " "]
    assert check_names([name.encode() for name in names]) == names


def test_an_image_that_is_too_large_is_malformed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mipp_cli.containers.messages import upload as module

    upload = open_upload(forge(tmp_path / "a", fill_upload([b"x"]), kind="upload"))
    with upload.container:
        upload.check_images()
        monkeypatch.setattr(module, "LONGEST_ROW", 49)
        with pytest.raises(MalformedError, match="too large"):
            upload.check_images()


@pytest.mark.parametrize("size", [0, 1, 27])
def test_an_image_shorter_than_nonce_and_tag_is_malformed(tmp_path: Path, size: int) -> None:
    upload = open_upload(forge(tmp_path / "a", fill_upload([b"x"], ew_bytes=size), kind="upload"))
    with upload.container, pytest.raises(MalformedError, match="too short"):
        upload.check_images()
    least = open_upload(forge(tmp_path / "b", fill_upload([b"x"], ew_bytes=28), kind="upload"))
    with least.container:
        least.check_images()


def test_ew_opens_where_it_belongs_and_nowhere_else() -> None:
    cipher = UploadCipher(bytes(32), DEPLOYMENT, "alice", 7)
    ew = cipher.encrypt(b"picture", "image 1")
    assert cipher.decrypt(ew, "image 1") == b"picture"
    elsewhere = [
        (replace(cipher, image_key=b"\1" * 32), "image 1"),
        (replace(cipher, deployment=OTHER_DEPLOYMENT), "image 1"),
        (replace(cipher, owner="mallory"), "image 1"),
        (replace(cipher, number=8), "image 1"),
        (cipher, "image 2"),
        (cipher, ""),
    ]
    for other, name in elsewhere:
        with pytest.raises(TamperedError):
            other.decrypt(ew, name)


def test_every_changed_or_missing_byte_of_ew_is_tampering() -> None:
    cipher = UploadCipher(bytes(32), DEPLOYMENT, "alice", 7)
    ew = cipher.encrypt(b"picture", "image 1")
    for position in range(len(ew)):
        changed = bytearray(ew)
        changed[position] ^= 1
        for wrong in (bytes(changed), ew[:position], ew[position + 1 :]):
            with pytest.raises(TamperedError):
                cipher.decrypt(wrong, "image 1")


def test_the_same_picture_twice_gives_two_ciphertexts() -> None:
    cipher = UploadCipher(bytes(32), DEPLOYMENT, "alice", 7)
    first, second = (cipher.encrypt(b"picture", "image 1") for _ in range(2))
    assert first != second
    assert first[:12] != second[:12]


def test_a_cipher_does_not_print_its_key() -> None:
    key = bytes(range(32))
    shown = repr(UploadCipher(key, DEPLOYMENT, "alice", 7))
    assert repr(key) not in shown
    assert str(key_id(key)) not in shown


# What binds an image to its place

UPLOAD = UploadCipher(KEY, "fingerprint", "owner-a", 1_700_000_000_000_000)


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
def test_an_upload_image_is_bound_to_owner_number_and_key(other: UploadCipher) -> None:
    with pytest.raises(TamperedError):
        other.decrypt(UPLOAD.encrypt(b"an image", "name"), "name")


@pytest.mark.parametrize("name", ["", "nam", "names", "Name"])
def test_an_image_of_an_upload_opens_under_no_other_name(name: str) -> None:
    with pytest.raises(TamperedError):
        UPLOAD.decrypt(UPLOAD.encrypt(b"an image", "name"), name)


def test_an_upload_image_is_bound_to_where_its_owner_name_ends() -> None:
    with pytest.raises(TamperedError):
        replace(UPLOAD, owner="owner").decrypt(UPLOAD.encrypt(b"an image", "name"), "-aname")
