"""Of HDF5 only what a container uses reaches the library: no list without end, no tree that is none.

Each of the first files below kept HDF5 2.0 busy for good, or took all memory, though it had a few kilobytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from mipp_cli.containers.base.columns import Matrix
from mipp_cli.containers.base.container import Schema, open_container
from mipp_cli.containers.base.form import check_form
from mipp_cli.containers.base.header import HEAD_BYTES
from mipp_cli.containers.base.source import BytesSource, FileSource
from mipp_cli.containers.base.writer import write_container
from mipp_cli.errors import MalformedError, TamperedError
from tests.containers.conftest import ALICE, fill_toy, forge, read_toy, sign_body, write_toy

UNDEFINED = 2**64 - 1
END_OF_FILE, DRIVER = 40, 48  # where the superblock says so
COLUMN = Schema("members", {"plain": Matrix("<u8")})


def number(body: bytes, place: int) -> int:
    return int(struct.unpack_from("<Q", body, place)[0])


def put(body: bytearray, place: int, *values: int) -> None:
    struct.pack_into(f"<{len(values)}Q", body, place, *values)


def root_table(body: bytes) -> tuple[int, int]:
    """Return where the root group's tree and names are."""
    return number(body, 80), number(body, 88)


def point(body: bytearray, old: int, new: int) -> None:
    """Let whatever leads to ``old`` lead to ``new``."""
    whole = bytes(body)
    body[56:] = whole[56:].replace(struct.pack("<Q", old), struct.pack("<Q", new))


def append(body: bytearray, data: bytes) -> int:
    """Append to the file and return where."""
    place = len(body)
    body += data
    put(body, END_OF_FILE, len(body) + HEAD_BYTES)
    return place


def node(kind: int, level: int, children: list[int], key: bytes, *, right: int = UNDEFINED) -> bytes:
    """Return a node of a tree, filled up to the size that HDF5 reads."""
    head = struct.pack("<4sBBHQQ", b"TREE", kind, level, len(children), UNDEFINED, right)
    return (head + key + b"".join(struct.pack("<Q", child) + key for child in children)).ljust(4096, b"\0")


def shared_twigs(body: bytearray) -> None:
    """Give the root group a tree of 32^8 ways to its names."""
    tree, _ = root_table(body)
    child = tree
    for level in range(1, 9):
        child = append(body, node(0, level, [child] * 32, bytes(8)))
    old = struct.pack("<Q", tree)
    places = [place for place in range(80, tree + 4096) if body[place : place + 8] == old]
    for place in places[:2]:  # where the superblock and the group's header name the tree
        put(body, place, child)


def free_list_in_a_circle(body: bytearray) -> None:
    _, heap = root_table(body)
    free, data = number(body, heap + 16), number(body, heap + 24)
    put(body, data + free, free)


def header_in_a_circle(body: bytearray) -> None:
    """Let the second piece of the root group's header continue in itself."""
    header = number(body, 64)
    kind, _ = struct.unpack_from("<HH", body, header + 16)
    assert kind == 0x10
    piece, size = number(body, header + 24), number(body, header + 32)
    first = struct.pack("<HHB3xQQ", 0x10, 16, 0, piece, size)
    rest = size - len(first)
    body[piece : piece + size] = first + struct.pack("<HHB3x", 0, rest - 8, 0) + bytes(rest - 8)


def symbols_twice(body: bytearray) -> None:
    tree, _ = root_table(body)
    symbols = number(body, tree + 32)
    struct.pack_into("<H", body, tree + 6, 2)
    put(body, tree + 48, symbols)


def group_in_a_tree_of_two_levels(body: bytearray) -> None:
    tree, _ = root_table(body)
    point(body, tree, append(body, node(0, 1, [tree], bytes(8))))


def group_with_a_neighbour(body: bytearray) -> None:
    tree, _ = root_table(body)
    put(body, tree + 16, tree)


def link(body: bytearray) -> None:
    tree, _ = root_table(body)
    struct.pack_into("<I", body, number(body, tree + 32) + 8 + 16, 2)


def name_outside(body: bytearray) -> None:
    tree, _ = root_table(body)
    put(body, number(body, tree + 32) + 8, 1 << 15)


def kept_table_that_differs(body: bytearray) -> None:
    put(body, 80, number(body, 80) + 8)


def one_column_twice(body: bytearray) -> None:
    tree, _ = root_table(body)
    symbols = number(body, tree + 32) + 8
    put(body, symbols + 8, number(body, symbols + 40 + 8))


def driver(body: bytearray) -> None:
    put(body, DRIVER, 0)


def too_long(body: bytearray) -> None:
    put(body, END_OF_FILE, number(body, END_OF_FILE) + 1)


def heap_beyond_the_end(body: bytearray) -> None:
    _, heap = root_table(body)
    put(body, heap + 24, 1 << 62)


def heap_without_end(body: bytearray) -> None:
    _, heap = root_table(body)
    put(body, heap + 8, 1 << 40)


def more_symbols_than_fit(body: bytearray) -> None:
    tree, _ = root_table(body)
    struct.pack_into("<H", body, number(body, tree + 32) + 6, 60_000)


Spoil = Callable[[bytearray], None]
SPOILERS: list[Spoil] = [
    shared_twigs,
    free_list_in_a_circle,
    header_in_a_circle,
    symbols_twice,
    group_in_a_tree_of_two_levels,
    group_with_a_neighbour,
    link,
    name_outside,
    kept_table_that_differs,
    one_column_twice,
    driver,
    too_long,
    heap_beyond_the_end,
    heap_without_end,
    more_symbols_than_fit,
]


def refused_before_hdf5(path: Path, body: bytes, monkeypatch: pytest.MonkeyPatch, schema: Schema) -> None:
    """Demand that a signed body is malformed, and that HDF5 was not asked about it."""
    calls = []
    monkeypatch.setattr(h5py, "File", lambda *arguments, **_options: calls.append(arguments))
    with pytest.raises(MalformedError) as caught:
        open_container(sign_body(path, body), schema)
    assert not isinstance(caught.value, TamperedError)
    assert calls == []


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda spoil: spoil.__name__)
@pytest.mark.timeout(60)  # far above what it takes
def test_foreign_structures_are_refused_before_hdf5_sees_them(
    toy: Path, monkeypatch: pytest.MonkeyPatch, spoil: Spoil
) -> None:
    body = bytearray(toy.read_bytes()[HEAD_BYTES:])
    spoil(body)
    refused_before_hdf5(toy, bytes(body), monkeypatch, Schema("members", {}))


@pytest.mark.parametrize("libver", ["v108", "v110", "latest"])
@pytest.mark.parametrize("options", [{}, {"track_order": True}])
def test_newer_formats_of_hdf5_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, libver: str, options: dict[str, bool]
) -> None:
    with h5py.File(tmp_path / "a", "w", userblock_size=HEAD_BYTES, libver=libver, **options) as file:
        fill_toy(file)
    body = (tmp_path / "a").read_bytes()[HEAD_BYTES:]
    refused_before_hdf5(tmp_path / "a", body, monkeypatch, Schema("members", {}))


def group_in_a_group(file: h5py.File) -> None:
    file["words"].create_group("inner").create_group("innermost")


def type_with_a_name(file: h5py.File) -> None:
    file["extra"] = np.dtype("u1")


def many_attributes(file: h5py.File) -> None:
    for place in range(5000):
        file.attrs[f"note {place}"] = 1


def text_as_attribute(file: h5py.File) -> None:
    file.attrs["note"] = "hello"


def column_in_chunks(file: h5py.File) -> None:
    file.create_dataset("extra", data=np.zeros(10), chunks=(2,), maxshape=(None,))


def attribute_of_a_column(file: h5py.File) -> None:
    file["rows"].attrs["note"] = 1


def attribute_of_a_ragged_column(file: h5py.File) -> None:
    file["words"].attrs["note"] = 1


def filter_that_is_not_there(file: h5py.File) -> None:
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk((10,))
    creation.set_filter(32_015, h5py.h5z.FLAG_OPTIONAL, (3,))
    h5py.h5d.create(file.id, b"extra", h5py.h5t.STD_U8LE, h5py.h5s.create_simple((10,)), creation)


def type_of_parts(file: h5py.File) -> None:
    inner: np.dtype[np.void] = np.dtype([("a", "u1")])
    for _ in range(20):
        inner = np.dtype([("a", inner)])
    file.create_dataset("extra", (3,), inner)


@pytest.mark.parametrize(
    "spoil",
    [
        group_in_a_group,
        type_with_a_name,
        many_attributes,
        text_as_attribute,
        column_in_chunks,
        attribute_of_a_column,
        attribute_of_a_ragged_column,
        filter_that_is_not_there,
        type_of_parts,
    ],
    ids=lambda spoil: spoil.__name__,
)
def test_unused_hdf5_features_are_refused_before_hdf5_sees_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[h5py.File], None]
) -> None:
    def fill(file: h5py.File) -> None:
        fill_toy(file)
        spoil(file)

    body = forge(tmp_path / "a", fill).read_bytes()[HEAD_BYTES:]
    refused_before_hdf5(tmp_path / "a", body, monkeypatch, Schema("members", {}))


@pytest.mark.parametrize("size", range(0, 3000, 47))
def test_a_file_that_ends_anywhere_is_refused(toy: Path, size: int) -> None:
    body = bytearray(toy.read_bytes()[HEAD_BYTES:])
    assert len(body) > 3000
    cut = body[: min(size, len(body) - 1)]
    if len(cut) > END_OF_FILE + 8:
        put(cut, END_OF_FILE, len(cut) + HEAD_BYTES)
    with pytest.raises(MalformedError):
        check_form(BytesSource(bytes(HEAD_BYTES) + bytes(cut)), HEAD_BYTES)


def test_a_container_is_walked_by_small_reads(tmp_path: Path) -> None:
    with write_container(tmp_path / "a", COLUMN, ALICE, 1) as writer:
        writer.add(plain=np.arange(1 << 20))
    source, read = FileSource(tmp_path / "a"), []

    class Counted(BytesSource):
        def read_at(self, offset: int, size: int) -> bytes:
            read.append(size)
            return source.read_at(offset, size)

    counted = Counted(b"")
    counted.size = source.size
    check_form(counted, HEAD_BYTES)
    source.close()
    assert sum(read) < 20_000 < source.size


def test_what_the_package_writes_is_of_the_form(toy: Path) -> None:
    assert read_toy(write_toy(toy, force=True)).count == 3
