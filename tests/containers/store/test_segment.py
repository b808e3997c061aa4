"""`segment` keeps whose it was, of an upload the rows that did not leave, of a deletion digests of names."""

from __future__ import annotations

import hashlib
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mipp_cli.containers.base.container import open_container, open_one_of
from mipp_cli.containers.base.writer import write_container
from mipp_cli.containers.messages.upload import UploadReader, upload_schema, write_upload
from mipp_cli.containers.store import segment as module
from mipp_cli.containers.store.segment import (
    Origin,
    any_segment_schemas,
    deleted_in,
    origin_of,
    segment_schema,
    write_deletion_segment,
    write_upload_segment,
)
from mipp_cli.errors import MalformedError
from mipp_cli.scheme.retrieval_index import Ids, ids_of
from tests.containers.conftest import ALICE, DEPLOYMENT, EXACT, MASK

ORIGIN = Origin("north", b"\x05" * 32, 7, bytes(range(32)), (2, 5))
FIELDS = {"owner": b"north", "owner_key": bytes(32), "digest": bytes(32)}
WIDTH = 320
Image = tuple[str, bytes, bytes, bytes]


def images(count: int, *, largest: int = 300) -> list[Image]:
    random = np.random.default_rng(count)
    return [
        (
            f"image {'x' * (row % 7)}{row:04d}",
            random.bytes(28 + int(random.integers(largest))),
            random.bytes(WIDTH),
            random.bytes(WIDTH),
        )
        for row in range(count)
    ]


def write_images(path: Path, rows: list[Image]) -> UploadReader:
    with write_upload(path, MASK, ALICE, 7, 5, force=True) as writer:
        for row in rows:
            name, ew, *features = row
            writer.append(name, ew, features)
    return UploadReader(open_container(path, upload_schema(MASK), deployment=DEPLOYMENT), MASK)


def read_images(path: Path) -> tuple[Origin, int, list[Image]]:
    with open_container(path, segment_schema(MASK), deployment=DEPLOYMENT) as container:
        reader = UploadReader(container, MASK)
        ef, eff = reader.encrypted_features(0, len(reader))
        rows = [
            (name, reader.encrypted_image(row), ef[row].tobytes(), eff[row].tobytes())
            for row, name in enumerate(reader.names())
        ]
        return origin_of(container), reader.key_id, rows


def read_deleted(path: Path) -> Ids:
    with open_container(path, segment_schema(MASK), deployment=DEPLOYMENT) as container:
        return deleted_in(container)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(1, 40), st.sets(st.integers(0, 39)), st.sampled_from([1, 3, 4096]))
def test_a_segment_holds_what_did_not_leave_its_upload(
    tmp_path_factory: pytest.TempPathFactory, count: int, gone: set[int], batch: int
) -> None:
    folder, rows = tmp_path_factory.mktemp("segment"), images(count)
    dropped = np.array(sorted(row for row in gone if row < count), dtype=np.int64)
    upload = write_images(folder / "upload", rows)
    with upload.container, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BATCH_ROWS", batch)
        write_upload_segment(folder / "segment", MASK, ALICE, ORIGIN, upload, dropped)
    left = [row for number, row in enumerate(rows) if number not in gone]
    assert read_images(folder / "segment") == (ORIGIN, 5, left)


def test_a_segment_of_a_segment_loses_more(tmp_path: Path) -> None:
    rows = images(9)
    upload = write_images(tmp_path / "upload", rows)
    with upload.container:
        write_upload_segment(tmp_path / "one", MASK, ALICE, ORIGIN, upload, np.array([0, 4]))
    with open_container(tmp_path / "one", segment_schema(MASK)) as container:
        reader = UploadReader(container, MASK)
        write_upload_segment(tmp_path / "two", MASK, ALICE, ORIGIN, reader, np.array([0, 6]))
    assert read_images(tmp_path / "two")[2] == [rows[2], rows[3], rows[5], rows[6], rows[7]]


def test_the_segment_of_an_upload_may_have_no_rows(tmp_path: Path) -> None:
    upload = write_images(tmp_path / "upload", images(3))
    with upload.container:
        write_upload_segment(tmp_path / "a", MASK, ALICE, ORIGIN, upload, np.arange(3))
    assert read_images(tmp_path / "a") == (ORIGIN, 5, [])


def test_the_segment_of_an_upload_deletes_no_name(tmp_path: Path) -> None:
    upload = write_images(tmp_path / "upload", images(3))
    with upload.container:
        write_upload_segment(tmp_path / "a", MASK, ALICE, ORIGIN, upload, np.array([1]))
    assert len(read_deleted(tmp_path / "a")) == 0


def test_the_segment_of_an_upload_counts_rows_as_it_writes(tmp_path: Path) -> None:
    upload, counted = write_images(tmp_path / "upload", images(5)), []
    with upload.container, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BATCH_ROWS", 2)
        write_upload_segment(tmp_path / "a", MASK, ALICE, ORIGIN, upload, np.array([1]), counted.append)
    assert counted == [2, 2, 1]


def test_the_segment_of_a_deletion_has_ids_and_no_rows(tmp_path: Path) -> None:
    write_deletion_segment(tmp_path / "a", MASK, ALICE, ORIGIN, ids_of([b"x", b"y"]))
    assert read_images(tmp_path / "a") == (ORIGIN, 0, [])
    digests = sorted(hashlib.sha256(name).digest()[:16] for name in (b"x", b"y"))
    assert read_deleted(tmp_path / "a").tobytes() == b"".join(digests)


def test_all_names_of_a_deletion_are_known_by_their_ids(tmp_path: Path) -> None:
    ids = ids_of(f"image {number}".encode() for number in range(20))
    write_deletion_segment(tmp_path / "a", MASK, ALICE, ORIGIN, ids)
    assert (read_deleted(tmp_path / "a") == np.sort(ids)).all()


def test_the_segment_of_a_deletion_may_delete_nothing(tmp_path: Path) -> None:
    write_deletion_segment(tmp_path / "a", MASK, ALICE, ORIGIN, ids_of([]))
    assert len(read_deleted(tmp_path / "a")) == 0


def test_a_deleted_name_itself_is_nowhere_in_a_segment(tmp_path: Path) -> None:
    write_deletion_segment(tmp_path / "a", MASK, ALICE, ORIGIN, ids_of([b"a name that says much"]))
    assert b"a name that says much" not in (tmp_path / "a").read_bytes()


def test_a_segment_keeps_the_number_of_its_message(tmp_path: Path) -> None:
    write_deletion_segment(tmp_path / "a", MASK, ALICE, ORIGIN, ids_of([b"x"]))
    with open_container(tmp_path / "a", segment_schema(MASK), deployment=DEPLOYMENT) as container:
        assert container.header.number == "7"
        assert container.header.sender == "alice"
        assert origin_of(container) == ORIGIN


def test_the_bytes_of_what_left_are_nowhere_in_a_segment(tmp_path: Path) -> None:
    rows = images(50)
    upload = write_images(tmp_path / "upload", rows)
    with upload.container:
        write_upload_segment(tmp_path / "a", MASK, ALICE, ORIGIN, upload, np.array([7, 20]))
    content = (tmp_path / "a").read_bytes()
    for number, (name, *ciphertexts) in enumerate(rows):
        parts = [name.encode(), *(each[:40] for each in ciphertexts)]
        assert [part in content for part in parts] == 4 * [number not in (7, 20)]


def test_memory_does_not_grow_with_a_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH_BYTES", 1 << 20)
    upload = write_images(tmp_path / "upload", images(400, largest=200_000))
    with upload.container:
        tracemalloc.start()
        write_upload_segment(tmp_path / "a", MASK, ALICE, ORIGIN, upload, np.array([200]))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (tmp_path / "a").stat().st_size > 30 << 20
    assert peak < 16 << 20


def write_groups_of(path: Path, sizes: list[int]) -> UploadReader:
    """Write an upload of scheme `exact`: how many rows each group has; row 7 is called "7"."""
    row = 0
    with write_upload(path, EXACT, ALICE, 7, 5, force=True) as writer:
        for size in sizes:
            for _ in range(size):
                writer.append(str(row), bytes(28 + row))
                row += 1
            writer.end_group()
    return UploadReader(open_container(path, upload_schema(EXACT), deployment=DEPLOYMENT), EXACT)


def read_groups(path: Path) -> list[list[str]]:
    with open_container(path, segment_schema(EXACT), deployment=DEPLOYMENT) as container:
        reader = UploadReader(container, EXACT)
        groups = range(len(reader.group_ends()))
        return [[reader.name(row) for row in reader.group_rows(group)] for group in groups]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=9),
    st.sets(st.integers(0, 26)),
    st.sampled_from([1, 3, 4096]),
)
def test_groups_of_a_segment_keep_their_numbers(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], gone: set[int], batch: int
) -> None:
    folder = tmp_path_factory.mktemp("segment")
    dropped = np.array(sorted(row for row in gone if row < sum(sizes)), dtype=np.int64)
    upload = write_groups_of(folder / "upload", sizes)
    with upload.container, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BATCH_ROWS", batch)
        write_upload_segment(folder / "segment", EXACT, ALICE, ORIGIN, upload, dropped)
    ends = np.cumsum(sizes).tolist()
    whole = [range(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    assert read_groups(folder / "segment") == [
        [str(row) for row in rows if row not in gone] for rows in whole
    ]


def test_a_segment_of_a_segment_keeps_the_numbers_of_its_groups(tmp_path: Path) -> None:
    upload = write_groups_of(tmp_path / "upload", [2, 2, 3])
    with upload.container:
        write_upload_segment(tmp_path / "one", EXACT, ALICE, ORIGIN, upload, np.array([2, 3]))
    with open_container(tmp_path / "one", segment_schema(EXACT)) as container:
        reader = UploadReader(container, EXACT)
        write_upload_segment(tmp_path / "two", EXACT, ALICE, ORIGIN, reader, np.array([0, 3]))
    assert read_groups(tmp_path / "two") == [["1"], [], ["4", "6"]]


def test_the_segment_of_a_deletion_has_no_groups(tmp_path: Path) -> None:
    write_deletion_segment(tmp_path / "a", EXACT, ALICE, ORIGIN, ids_of([b"x"]))
    assert read_groups(tmp_path / "a") == []


@pytest.mark.parametrize("ends", [[], [1], [3], [2, 1, 2], [2, 3, 2]], ids=str)
def test_groups_that_do_not_fit_a_segment_are_malformed(tmp_path: Path, ends: list[int]) -> None:
    with write_container(tmp_path / "a", segment_schema(EXACT), ALICE, 7) as writer:
        writer.number("key_id", 0)
        writer.matrix("group_ends").append(np.array(ends, np.uint32))
        for name in (b"x", b"y"):
            writer.ragged("image_names").append(name)
            writer.ragged("EW").append(bytes(40))
    with (
        open_container(tmp_path / "a", segment_schema(EXACT)) as container,
        pytest.raises(MalformedError, match="do not match its images"),
    ):
        UploadReader(container, EXACT)


def test_a_segment_is_read_without_knowing_its_scheme(tmp_path: Path) -> None:
    for parameters, column in ((MASK, "EF"), (EXACT, "group_ends")):
        write_deletion_segment(tmp_path / column, parameters, ALICE, ORIGIN, ids_of([b"x"]))
        opened, schema = open_one_of(tmp_path / column, any_segment_schemas())
        with opened:
            assert column in schema.columns


@pytest.mark.parametrize(
    "change",
    [
        {"owner": b""},
        {"owner": b"../x"},
        {"owner": b"n\xff"},
        {"owner": b"x" * 65},
        {"owner_key": b""},
        {"owner_key": bytes(31)},
        {"owner_key": bytes(33)},
        {"digest": b""},
        {"digest": bytes(31)},
        {"digest": bytes(33)},
    ],
    ids=lambda change: "".join(f"{name} of {len(value)}" for name, value in change.items()),
)
def test_a_segment_of_nobody_is_malformed_though_signed(tmp_path: Path, change: dict[str, bytes]) -> None:
    with write_container(tmp_path / "a", segment_schema(MASK), ALICE, 7) as writer:
        writer.number("key_id", 0)
        for name, data in (FIELDS | change).items():
            writer.matrix(name).append(np.frombuffer(data, np.uint8))
    with open_container(tmp_path / "a", segment_schema(MASK)) as container, pytest.raises(MalformedError):
        origin_of(container)


@pytest.mark.parametrize("change", [{"owner": "../x"}, {"owner": ""}, {"key": bytes(31)}, {"digest": b"x"}])
def test_an_origin_that_cannot_be_is_never_made(change: dict[str, object]) -> None:
    with pytest.raises(MalformedError):
        replace(ORIGIN, **change)
