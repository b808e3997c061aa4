"""Columns come back as they were written; whatever a writer would not have written is refused."""

from __future__ import annotations

import random
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mipp_cli.containers.base import hdf5
from mipp_cli.containers.base.columns import Matrix, Ragged
from mipp_cli.containers.base.container import Schema, open_container, open_source
from mipp_cli.containers.base.hdf5 import hdf5_errors
from mipp_cli.containers.base.header import HEAD_BYTES
from mipp_cli.containers.base.source import BytesSource
from mipp_cli.containers.base.writer import write_container
from mipp_cli.errors import MalformedError, TamperedError
from tests.containers.conftest import (
    ALICE,
    TOY,
    TOY_READING,
    TOY_WORDS,
    Fill,
    forge_toy,
    read_toy,
    replaced,
    sign_body,
)

MEGABYTE = 1 << 20
WORDS = Schema("members", {"words": Ragged(limit=1 << 24)})
MATRICES = [
    Matrix("u1"),
    Matrix("u1", 1),
    Matrix("u1", 32),
    Matrix("u1", 3000),
    Matrix("u1", 70_000),
    Matrix("<u2"),
    Matrix("<u4"),
    Matrix("<u8"),
    Matrix("<u8", 3),
    Matrix("<f8"),
]


def cuts(total: int, seed: int, most: int) -> list[tuple[int, int]]:
    """Cut ``total`` into pieces of random size, some of them empty: (begin, end)."""
    source, ends = random.Random(seed), [0]
    while ends[-1] < total:
        ends.append(min(total, ends[-1] + source.randint(0, most)))
    return list(pairwise(ends))


@contextmanager
def memory_below(limit: int) -> Iterator[None]:
    """Demand that the block never holds more than ``limit`` bytes that it took."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < limit


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.sampled_from(MATRICES),
    st.sampled_from([0, 1, 2, 1000, 70_000, MEGABYTE - 1, MEGABYTE, 2 * MEGABYTE + 12_345]),
    st.integers(0, 2**32 - 1),
)
def test_a_matrix_comes_back_as_it_was_written(place: Path, shape: Matrix, data: int, seed: int) -> None:
    rows = data // (np.dtype(shape.dtype).itemsize * (shape.width or 1))
    generator = np.random.default_rng(seed)
    data = generator.integers(0, 250, (rows, *shape.tail)).astype(shape.dtype)
    schema = Schema("members", {"rows": shape})
    with write_container(place, schema, ALICE, 1, force=True) as writer:
        for begin, end in cuts(rows, seed, max(1, rows // 4)):
            writer.matrix("rows").append(data[begin:end])
        assert writer.matrix("rows").rows == rows
    with open_container(place, schema) as container:
        reader = container.matrix("rows")
        assert len(reader) == rows
        assert reader.row_bytes * rows == data.nbytes
        assert reader.all().dtype == np.dtype(shape.dtype)
        assert reader.all().shape == data.shape
        assert reader.all().tobytes() == data.tobytes()
        for begin, end in cuts(rows, seed + 1, max(1, rows // 2)):
            assert (reader.rows(begin, end) == data[begin:end]).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from([0, 0, 1, 2, 63, 1000, 65_536, MEGABYTE - 1, MEGABYTE + 1]), max_size=12),
    st.sampled_from([0, 1, 700]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_a_ragged_column_comes_back_as_it_was_written(
    place: Path, sizes: list[int], short_rows: int, in_batches: bool, seed: int
) -> None:
    source = random.Random(seed)
    rows = [source.randbytes(size) for size in sizes]
    rows += [source.randbytes(source.randint(0, 9)) for _ in range(short_rows)]
    source.shuffle(rows)
    with write_container(place, WORDS, ALICE, 1, force=True) as writer:
        for begin, end in cuts(len(rows), seed, 9):
            if in_batches:
                writer.ragged("words").extend(rows[begin:end])
            else:
                for row in rows[begin:end]:
                    writer.ragged("words").append(row)
        assert writer.ragged("words").rows == len(rows)
    with open_container(place, WORDS) as container:
        reader = container.ragged("words")
        assert len(reader) == len(rows)
        assert reader.total_bytes == sum(map(len, rows))
        assert [row for batch in reader.batches(source.randint(1, 9)) for row in batch] == rows
        assert reader.sizes(0, len(rows)) == [len(row) for row in rows]
        for begin, end in cuts(len(rows), seed + 1, 5):
            assert reader.rows(begin, end) == rows[begin:end]
        for number in range(0, len(rows), 50):
            assert reader.row(number) == rows[number]


def test_an_identifier_that_is_none_is_malformed(tmp_path: Path) -> None:
    for number, name in enumerate([b"", "naïve".encode(), b"\xff", b"a b", b"x" * 65]):
        with write_container(tmp_path / f"{number}", WORDS, ALICE, 1) as writer:
            writer.ragged("words").extend([b"plain", name])
        with (
            open_container(tmp_path / f"{number}", WORDS) as container,
            pytest.raises(MalformedError, match="an invalid identifier of an owner in words"),
        ):
            container.identifiers("words", "an owner")


def test_values_of_every_kind_are_added_in_one_call(tmp_path: Path) -> None:
    with write_container(tmp_path / "a", TOY, ALICE, 1) as writer:
        writer.add(count=3, words=["an", b"", "owner"], rows=bytes(range(32)), plain=[0])
        writer.add(words=[b"of images"], rows=bytes(range(32, 96)), plain=np.array([2**64 - 1], np.uint64))
    assert read_toy(tmp_path / "a") == TOY_READING


@pytest.mark.parametrize("rows", [np.zeros(32, "u1"), np.zeros((3, 31), "u1"), [1, 2]])
def test_rows_of_another_width_are_not_written(tmp_path: Path, rows: object) -> None:
    with (
        pytest.raises(ValueError, match="different row width"),
        write_container(tmp_path / "a", TOY, ALICE, 1) as writer,
    ):
        writer.add(rows=rows)
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_do_not_fit_their_column_are_not_written(tmp_path: Path) -> None:
    for values in ([-1], [2**64], [-1, 2**63 + 1]):
        with (
            pytest.raises((ValueError, OverflowError)),
            write_container(tmp_path / "a", TOY, ALICE, 1) as writer,
        ):
            writer.add(plain=values)
    assert list(tmp_path.iterdir()) == []


def test_a_list_of_small_and_large_numbers_keeps_each_digit(tmp_path: Path) -> None:
    with write_container(tmp_path / "a", TOY, ALICE, 1) as writer:
        writer.add(count=3, plain=[0, 2**63 + 1, 2**64 - 1])
    with open_container(tmp_path / "a", TOY) as container:
        assert container.whole_numbers("plain") == [0, 2**63 + 1, 2**64 - 1]


@pytest.mark.parametrize(("begin", "end"), [(0, 4), (4, 4), (2, 1), (-1, 1), (0, 2**63)])
def test_rows_that_are_not_there_are_malformed(toy: Path, begin: int, end: int) -> None:
    with open_container(toy, TOY) as opened, pytest.raises(MalformedError):
        opened.matrix("rows").rows(begin, end)


def test_memory_does_not_grow_with_what_is_written_and_read(tmp_path: Path) -> None:
    path, row = tmp_path / "a", random.Random(1).randbytes(1 << 18)
    with memory_below(8 * MEGABYTE):
        with write_container(path, WORDS, ALICE, 1) as writer:
            for _ in range(256):
                writer.ragged("words").append(row)
        with open_container(path, WORDS) as container:
            assert all(container.ragged("words").row(number) == row for number in range(256))
    assert path.stat().st_size > 64 * MEGABYTE


@pytest.mark.parametrize("row", [b"", b"x"])
def test_memory_does_not_grow_with_many_short_rows(tmp_path: Path, row: bytes) -> None:
    with (
        memory_below(3 * MEGABYTE),
        write_container(tmp_path / "a", WORDS, ALICE, 1) as writer,
    ):
        for _ in range(40_000):
            writer.ragged("words").append(row)


def refuse(path: Path, spoil: Fill, match: str = ".") -> None:
    """Demand that a toy container, spoiled and signed, is malformed, and not for want of a signature.

    The readers must find that by what HDF5 tells them, too, without the check of form before.
    """
    forge_toy(path, spoil)
    with pytest.raises(MalformedError) as caught:
        read_toy(path)
    assert not isinstance(caught.value, TamperedError)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hdf5, "check_form", lambda *_arguments: None)
        with pytest.raises(MalformedError, match=match):
            read_toy(path)


def test_a_toy_container_that_is_not_spoiled_is_read(tmp_path: Path) -> None:
    assert read_toy(forge_toy(tmp_path / "a", lambda _file: None)) == TOY_READING


COLUMNS = ["words", "words/offsets", "words/bytes", "rows", "plain"]
DATASETS = COLUMNS[1:]


@pytest.mark.parametrize("name", COLUMNS)
def test_a_missing_column_is_malformed(tmp_path: Path, name: str) -> None:
    refuse(tmp_path / "a", lambda file: file.__delitem__(name))


@pytest.mark.parametrize("name", ["extra", "rows2", "words/extra", "Rows", " rows", "rows "])
@pytest.mark.parametrize("make", [lambda f, n: f.create_dataset(n, data=1), lambda f, n: f.create_group(n)])
def test_an_extra_member_is_malformed(
    tmp_path: Path, name: str, make: Callable[[h5py.File, str], object]
) -> None:
    refuse(tmp_path / "a", lambda file: make(file, name))


def test_an_extra_dangling_link_is_malformed(tmp_path: Path) -> None:
    refuse(tmp_path / "a", lambda file: file.__setitem__("extra", h5py.SoftLink("/nowhere")))


@pytest.mark.parametrize("name", ["/", *COLUMNS])
def test_an_extra_attribute_is_malformed(tmp_path: Path, name: str) -> None:
    refuse(tmp_path / "a", lambda file: file[name].attrs.__setitem__("note", "hello"))


def test_a_missing_number_is_malformed(tmp_path: Path) -> None:
    refuse(tmp_path / "a", lambda file: file.attrs.__delitem__("count"))


def test_a_number_under_another_name_is_malformed(tmp_path: Path) -> None:
    refuse(tmp_path / "a", lambda file: h5py.h5a.rename(file.id, b"count", b"Count"))


@pytest.mark.parametrize(
    "value",
    [
        3,
        3.0,
        True,
        "3",
        b"3",
        np.uint32(3),
        np.array(3, ">u8"),
        np.array([3], "<u8"),
        np.array([[3, 4]], "<u8"),
        h5py.Empty("<u8"),
        np.array([(3, 4)], "<u8,<u8"),
        np.void(b"12345678"),
        ["a", "b"],
    ],
    ids=repr,
)
def test_a_number_of_another_type_is_malformed(tmp_path: Path, value: object) -> None:
    refuse(tmp_path / "a", lambda file: file.attrs.__setitem__("count", value))


def test_a_number_that_is_an_enumeration_is_malformed(tmp_path: Path) -> None:
    def spoil(file: h5py.File) -> None:
        del file.attrs["count"]
        file.attrs.create("count", 3, dtype=h5py.enum_dtype({"three": 3}, basetype="<u8"))

    refuse(tmp_path / "a", spoil)


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("target", ["/nowhere", "/{name}", "/rows", "/words/offsets", "."])
def test_a_soft_link_is_malformed(tmp_path: Path, name: str, target: str) -> None:
    link = h5py.SoftLink(target.format(name=name))
    refuse(tmp_path / "a", replaced(name, lambda group, leaf: group.__setitem__(leaf, link)))


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("beside", [True, False])
def test_an_external_link_is_malformed_and_not_followed(tmp_path: Path, name: str, beside: bool) -> None:
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["x"] = np.zeros((3, 32), np.uint8)
    link = h5py.ExternalLink("other.h5" if beside else str(other), "/x")
    other.chmod(0)
    refuse(tmp_path / "a", replaced(name, lambda group, leaf: group.__setitem__(leaf, link)))


@pytest.mark.parametrize("name", COLUMNS)
def test_a_circle_of_hard_links_is_malformed(tmp_path: Path, name: str) -> None:
    refuse(tmp_path / "a", replaced(name, lambda group, leaf: group.__setitem__(leaf, group)))


@pytest.mark.parametrize(("name", "target"), [("plain", "words/offsets"), ("words/offsets", "plain")])
def test_a_column_that_is_another_column_is_malformed(tmp_path: Path, name: str, target: str) -> None:
    refuse(tmp_path / "a", replaced(name, lambda group, leaf: group.__setitem__(leaf, group.file[target])))


@pytest.mark.parametrize("name", DATASETS)
def test_a_group_where_a_dataset_belongs_is_malformed(tmp_path: Path, name: str) -> None:
    refuse(tmp_path / "a", replaced(name, lambda group, leaf: group.create_group(leaf)))


@pytest.mark.parametrize("name", COLUMNS)
def test_a_type_where_a_column_belongs_is_malformed(tmp_path: Path, name: str) -> None:
    refuse(tmp_path / "a", replaced(name, lambda group, leaf: group.__setitem__(leaf, np.dtype("u1"))))


def test_a_dataset_where_a_group_belongs_is_malformed(tmp_path: Path) -> None:
    make = replaced("words", lambda group, leaf: group.create_dataset(leaf, data=np.zeros(3, np.uint8)))
    refuse(tmp_path / "a", make)


def bits_of(precision: int, offset: int) -> h5py.h5t.TypeID:
    kind = h5py.h5t.STD_U8LE.copy()
    kind.set_precision(precision)
    kind.set_offset(offset)
    return kind


@pytest.mark.parametrize(
    "dtype",
    [
        "i1",
        "<u2",
        ">u2",
        "<f4",
        "?",
        "S1",
        "V1",
        "c8",
        "u1,u1",
        "(2,)u1",
        h5py.enum_dtype({"a": 1}, basetype="u1"),
        h5py.string_dtype(),
        h5py.vlen_dtype("u1"),
        h5py.ref_dtype,
        h5py.regionref_dtype,
    ],
    ids=str,
)
def test_another_type_is_malformed(tmp_path: Path, dtype: np.dtype[np.generic]) -> None:
    make = replaced("rows", lambda group, leaf: group.create_dataset(leaf, (3, 32), dtype))
    refuse(tmp_path / "a", make)


@pytest.mark.parametrize("dtype", [">u8", "<i8", "<f8", "<u4", "u1", "<M8[us]"])
@pytest.mark.parametrize("name", ["plain", "words/offsets"])
def test_another_type_of_number_is_malformed(tmp_path: Path, name: str, dtype: str) -> None:
    data = np.array([0, 2, 2, 7, 16]).astype(dtype)
    if data.dtype.kind == "M":
        data = data.astype(h5py.opaque_dtype(data.dtype))
    refuse(tmp_path / "a", replaced(name, lambda group, leaf: group.create_dataset(leaf, data=data)))


@pytest.mark.parametrize(("precision", "offset"), [(7, 0), (4, 4), (1, 0)])
def test_bytes_of_which_some_bits_count_are_malformed(tmp_path: Path, precision: int, offset: int) -> None:
    def make(group: h5py.Group, leaf: str) -> None:
        space = h5py.h5s.create_simple((3, 32))
        dataset = h5py.h5d.create(group.id, leaf.encode(), bits_of(precision, offset), space)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.zeros((3, 32), np.uint8))

    refuse(tmp_path / "a", replaced("rows", make))


@pytest.mark.parametrize("shape", [(), (96,), (3, 31), (3, 33), (3, 32, 1), (1, 3, 32), (32, 3), (3, 0)])
def test_another_shape_is_malformed(tmp_path: Path, shape: tuple[int, ...]) -> None:
    make = replaced("rows", lambda group, leaf: group.create_dataset(leaf, data=np.zeros(shape, np.uint8)))
    refuse(tmp_path / "a", make)


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_of_no_shape_is_malformed(tmp_path: Path, name: str) -> None:
    dtype = "u1" if name in ("rows", "words/bytes") else "<u8"
    make = replaced(name, lambda group, leaf: group.create_dataset(leaf, data=h5py.Empty(dtype)))
    refuse(tmp_path / "a", make)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "gzip"},
        {"compression": "lzf"},
        {"shuffle": True},
        {"fletcher32": True},
        {"scaleoffset": 0},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["rows", "words/bytes"])
def test_filters_are_malformed(tmp_path: Path, name: str, options: dict[str, object]) -> None:
    shape, chunk = ((3, 32), (2048, 32)) if name == "rows" else ((16,), (65536,))

    def make(group: h5py.Group, leaf: str) -> None:
        maximum = (None, *shape[1:])
        group.create_dataset(leaf, shape, "u1", chunks=chunk, maxshape=maximum, **options)[...] = 65

    refuse(tmp_path / "a", replaced(name, make))


def test_external_storage_is_malformed_and_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(96))
    make = replaced(
        "rows",
        lambda group, leaf: group.create_dataset(leaf, (3, 32), "u1", external=[(str(secret), 0, 96)]),
    )
    refuse(tmp_path / "a", make)


@pytest.mark.parametrize("source", ["other.h5", "."])
@pytest.mark.parametrize("unlimited", [False, True])
def test_a_virtual_dataset_is_malformed(tmp_path: Path, source: str, unlimited: bool) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other.create_dataset("x", data=np.zeros((3, 32), np.uint8), maxshape=(None, 32))
    maximum = (None, 32) if unlimited else (3, 32)
    layout = h5py.VirtualLayout((3, 32), "u1", maxshape=maximum)
    name = "rows" if source == "." else str(tmp_path / source)
    from_there = h5py.VirtualSource(name, "x", (3, 32), maxshape=maximum)
    rows = slice(0, h5py.h5s.UNLIMITED if unlimited else 3)
    layout[rows, :] = from_there[rows, :]
    refuse(tmp_path / "a", replaced("rows", lambda group, leaf: group.create_virtual_dataset(leaf, layout)))


def test_a_dataset_in_its_own_header_is_malformed(tmp_path: Path) -> None:
    def make(group: h5py.Group, leaf: str) -> None:
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((3, 32))
        dataset = h5py.h5d.create(group.id, leaf.encode(), h5py.h5t.STD_U8LE, space, creation)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.zeros((3, 32), np.uint8))

    refuse(tmp_path / "a", replaced("rows", make))


@pytest.mark.parametrize("chunks", [(1, 32), (2047, 32), (2048, 31), (2048, 1), (4096, 32), (1 << 26, 32)])
def test_chunks_of_another_size_are_malformed(tmp_path: Path, chunks: tuple[int, int]) -> None:
    def make(group: h5py.Group, leaf: str) -> None:
        dataset = group.create_dataset(leaf, (3, 32), "u1", chunks=chunks, maxshape=(None, 32))
        if chunks[0] < 1 << 20:
            dataset[...] = 1

    with memory_below(4 * MEGABYTE):
        refuse(tmp_path / "a", replaced("rows", make))


@pytest.mark.parametrize("rows", [3, 1 << 23, 1 << 40, (1 << 63) // 32])
@pytest.mark.parametrize("fill_value", [None, 7])
def test_rows_claimed_in_missing_chunks_take_no_memory(
    tmp_path: Path, rows: int, fill_value: int | None
) -> None:
    def make(group: h5py.Group, leaf: str) -> None:
        shape, maximum = (rows, 32), (None, 32)
        group.create_dataset(leaf, shape, "u1", chunks=(2048, 32), maxshape=maximum, fillvalue=fill_value)

    with memory_below(4 * MEGABYTE):
        refuse(tmp_path / "a", replaced("rows", make))


def test_rows_claimed_beyond_a_present_chunk_take_no_memory(tmp_path: Path) -> None:
    def make(group: h5py.Group, leaf: str) -> None:
        dataset = group.create_dataset(leaf, (1 << 40, 32), "u1", chunks=(2048, 32), maxshape=(None, 32))
        dataset[:2048] = 1

    with memory_below(4 * MEGABYTE):
        refuse(tmp_path / "a", replaced("rows", make))


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("rows", [1 << 10, 1 << 28, 1 << 45])
def test_rows_claimed_in_a_missing_piece_take_no_memory(tmp_path: Path, name: str, rows: int) -> None:
    shape = (rows, 32) if name == "rows" else (rows,)
    dtype = "u1" if name in ("rows", "words/bytes") else "<u8"
    with memory_below(4 * MEGABYTE):
        make = replaced(name, lambda group, leaf: group.create_dataset(leaf, shape, dtype))
        refuse(tmp_path / "a", make)


@pytest.mark.parametrize(
    "offsets",
    [
        [],
        [1],
        [16],
        [1, 16],
        [0, 2, 2, 7, 15],
        [0, 2, 2, 7, 17],
        [1, 2, 2, 7, 16],
        [0, 7, 2, 7, 16],
        [0, 2, 1, 7, 16],
        [0, 16, 0, 16, 16],
        [0, 17, 17, 17, 16],
        [0, 2, 2**40, 7, 16],
        [0, 2, 2**63, 7, 16],
        [0, 2, 2**64 - 1, 7, 16],
        [2**64 - 16, 2, 2, 7, 16],
        [0, 2, 2, 7, 2**64 - 1],
        [16, 7, 2, 2, 0],
    ],
    ids=str,
)
def test_an_offset_table_that_does_not_fit_is_malformed(tmp_path: Path, offsets: list[int]) -> None:
    assert sum(map(len, TOY_WORDS)) == 16
    data = np.array(offsets, dtype="<u8")
    make = replaced("words/offsets", lambda group, leaf: group.create_dataset(leaf, data=data))
    with memory_below(4 * MEGABYTE):
        refuse(tmp_path / "a", make)


@pytest.mark.parametrize("number", range(4))
def test_one_row_is_not_read_by_offsets_that_leave_the_bytes(tmp_path: Path, number: int) -> None:
    offsets = np.array([0, *(2**50 + step for step in range(number)), *[16] * (4 - number)], "<u8")
    make = replaced("words/offsets", lambda group, leaf: group.create_dataset(leaf, data=offsets))
    with open_container(forge_toy(tmp_path / "a", make), TOY) as container:
        for row in range(max(0, number - 1), number + 1 if number else 0):
            with pytest.raises(MalformedError):
                container.ragged("words").row(row)


@pytest.mark.parametrize(("size", "fits"), [(64, True), (65, False)])
def test_a_row_over_its_limit_is_malformed(tmp_path: Path, size: int, fits: bool) -> None:
    def spoil(file: h5py.File) -> None:
        del file["words/offsets"], file["words/bytes"]
        file["words/offsets"] = np.array([0, size], "<u8")
        file["words/bytes"] = np.zeros(size, "u1")

    if fits:
        assert read_toy(forge_toy(tmp_path / "a", spoil)).words == [bytes(64)]
    else:
        refuse(tmp_path / "a", spoil)


@pytest.mark.parametrize("address", ["last byte", "end", 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 2])
def test_a_piece_that_leaves_the_file_is_malformed(tmp_path: Path, address: int | str) -> None:
    path = forge_toy(tmp_path / "a", lambda _file: None)
    with h5py.File(path, "r") as file:
        offset = file["rows"].id.get_offset()
    body = path.read_bytes()[HEAD_BYTES:]
    named = {"last byte": len(body) - 1, "end": len(body)}
    value = named[address] if isinstance(address, str) else address
    places = [stored.to_bytes(8, "little") for stored in (offset, offset - HEAD_BYTES)]
    found = [place for place in places if body.count(place) == 1]
    assert len(found) == 1
    sign_body(path, body.replace(found[0], value.to_bytes(8, "little")))
    with pytest.raises(MalformedError):
        read_toy(path)


def test_a_piece_of_which_the_source_gives_less_is_malformed(toy: Path) -> None:
    class Cut(BytesSource):
        missing = 0

        def read_at(self, offset: int, size: int) -> bytes:
            return super().read_at(offset, size - self.missing)

    source = Cut(toy.read_bytes())
    with open_source(source, TOY) as container:
        source.missing = 1
        with pytest.raises(MalformedError, match="claims more data"):
            container.matrix("rows").all()


DAMAGE = """
import random, sys
from pathlib import Path
from mipp_cli.errors import MalformedError
from tests.containers.conftest import TOY_READING, read_toy, sign_body, write_toy
path = Path(sys.argv[1])
body = write_toy(path).read_bytes()[1024:]
extremes = [bytes(8), b"\\xff" * 8, (1 << 40).to_bytes(8, "little"), len(body).to_bytes(8, "little")]
refused = 0
for seed in range(int(sys.argv[2])):
    source = random.Random(seed)
    damaged = bytearray(body)
    for _ in range(source.choice([1, 1, 2, 4])):
        place = source.randrange(len(body) - 8)
        if source.random() < 0.3:
            damaged[place : place + 8] = source.choice(extremes)
        else:
            damaged[place] = source.choice([0, 1, 127, 255, damaged[place] ^ 1 << source.randrange(8)])
    try:
        read_toy(sign_body(path, bytes(damaged)))
    except MalformedError:
        refused += 1
print(refused)
"""


def test_damage_under_a_valid_signature_is_always_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DAMAGE, str(tmp_path / "a"), "600"]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert (done.returncode, done.stderr) == (0, "")
    assert 100 < int(done.stdout) < 600


@pytest.mark.parametrize("error", [OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError])
def test_whatever_hdf5_raises_is_malformed_and_names_the_place(error: type[Exception]) -> None:
    with pytest.raises(MalformedError, match="no readable words"), hdf5_errors("words"):
        raise error


def test_an_error_of_ours_comes_through_as_it_is() -> None:
    with pytest.raises(TamperedError, match="block 3"), hdf5_errors("words"):
        raise TamperedError("block 3")
