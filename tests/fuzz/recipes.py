"""Containers that HDF5 itself wrote and that no command would: a valid one, changed as a recipe says."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import h5py
import numpy as np

from mipp_cli.containers.base.header import HEAD_BYTES
from tests.fuzz.choices import Choices

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

CHUNK_BYTES = 1 << 16
MOST_CHANGES = 6
MOST_BYTES = 1 << 22  # of a file that a recipe makes
MOST_WRITTEN = 1 << 20  # bytes of one dataset that a recipe really writes
DTYPES = (
    "u1",
    "<u2",
    "<u4",
    "<u8",
    ">u8",
    "i1",
    "<i8",
    "<f8",
    "<f4",
    "?",
    "S1",
    "S7",
    "V3",
    "c16",
    "u1,<u4",
    "(2,)u1",
)
NAMES = (b"", b"a", b"\0", b"\xff\xfe", b"../x", b"north", b"n" * 64, b"n" * 65, b"x" * 4096, b"x" * 4097)
LIBVERS = (*[("earliest", "v108")] * 6, ("earliest", "latest"), ("v108", "v108"), ("latest", "latest"))
_REFUSED = (
    OSError,
    KeyError,
    ValueError,
    TypeError,
    RuntimeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
)


class _Bounded(io.BytesIO):
    """A file in memory that does not grow over its limit: what is written beyond is not there."""

    def write(self, data: ReadableBuffer) -> int:
        """Write, unless that would pass the limit."""
        size = len(memoryview(data).cast("B"))
        if self.tell() + size <= MOST_BYTES:
            return super().write(data)
        self.seek(size, io.SEEK_CUR)
        return size


def cook(body: bytes, recipe: bytes) -> bytes:
    """Return the HDF5 file ``body`` as ``recipe`` changes it; what HDF5 itself refuses to do is left out."""
    choices = Choices(recipe)
    memory = _Bounded()
    options = {"libver": choices.of(LIBVERS), "track_order": choices.below(16) == 1}
    with (
        h5py.File(io.BytesIO(body), "r") as valid,
        h5py.File(memory, "w", userblock_size=HEAD_BYTES, **options) as file,
    ):
        for name in valid:
            valid.copy(name, file)
        for name, value in valid.attrs.items():
            file.attrs.create(name, value, dtype="<u8")
        for _ in range(MOST_CHANGES):
            if choices:
                with suppress(*_REFUSED):
                    choices.of(CHANGES)(file, choices)
    return _patched(memory.getvalue()[HEAD_BYTES:], choices)


def _patched(body: bytes, choices: Choices) -> bytes:
    """Overwrite some numbers of the file with others, wherever they lie."""
    damaged = bytearray(body)
    for _ in range(choices.below(4)):
        place, size = choices.below(len(body)), choices.of((1, 2, 4, 8))
        data = (choices.number() % (1 << 8 * size)).to_bytes(size, "little")
        damaged[place : place + size] = data[: len(body) - place]
    return bytes(damaged)


def _nodes(file: h5py.File) -> list[str]:
    names: list[str] = []
    file.visit(names.append)
    return sorted(names) or ["/"]


def _dataset(file: h5py.File, choices: Choices) -> h5py.Dataset:
    nodes = ((name, file.get(name)) for name in _nodes(file))
    return file[
        choices.of([name for name, node in nodes if isinstance(node, h5py.Dataset) and _is_tame(node)])
    ]


def _is_tame(dataset: h5py.Dataset) -> bool:
    """Say whether a dataset can be read and written here: HDF5 does not survive a virtual one of itself."""
    if dataset.is_virtual or dataset.shape is None:
        return False
    size = _size(dataset.shape, dataset.dtype)
    chunk = _size(dataset.chunks, dataset.dtype) if dataset.chunks else size
    return max(size, chunk) <= MOST_WRITTEN and size <= 64 * chunk


def _change_values(file: h5py.File, choices: Choices) -> None:
    dataset = _dataset(file, choices)
    values = dataset[...]
    flat = values.reshape(-1).view(f"<u{values.dtype.itemsize}")
    for _ in range(1 + choices.below(4)):
        flat[choices.below(flat.size)] = choices.number() % (1 << 8 * values.dtype.itemsize)
    dataset[...] = values


def _change_rows(file: h5py.File, choices: Choices) -> None:
    """Give a ragged column other rows, with offsets that fit them."""
    groups = [name for name in file if isinstance(file.get(name), h5py.Group)]
    group = file[choices.of(groups)]
    rows = [choices.of((*NAMES, choices.data(9))) for _ in range(choices.below(6))]
    offsets = np.cumsum([0, *map(len, rows)]).astype(group["offsets"].dtype)
    del group["offsets"], group["bytes"]
    group["offsets"] = offsets
    group["bytes"] = np.frombuffer(b"".join(rows), np.uint8)


def _change_numbers(file: h5py.File, choices: Choices) -> None:
    """Give a plain column of numbers other rows, in order or not."""
    nodes = ((name, file.get(name)) for name in _nodes(file))
    plain = [
        name
        for name, node in nodes
        if isinstance(node, h5py.Dataset) and node.dtype == "<u8" and node.ndim == 1 and "/" not in name
    ]
    name, rows = choices.of(plain), [choices.number() % (1 << 64) for _ in range(choices.below(6))]
    del file[name]
    file[name] = np.array(sorted(rows) if choices.below(2) else rows, dtype="<u8")


def _change_number(file: h5py.File, choices: Choices) -> None:
    names = sorted(file.attrs) or ["count"]
    name, value = choices.of(names), choices.number() % (1 << 64)
    match choices.below(8):
        case 0:
            file.attrs.create(name, value, dtype=choices.of(DTYPES))
        case 1:
            file.attrs.create(name, np.full(1 + choices.below(9000), value, "<u8"))
        case 2:
            del file.attrs[name]
        case 3:
            file.attrs[name] = "x" * choices.below(70_000)
        case _:
            file.attrs.create(name, value, dtype="<u8")


def _remake(file: h5py.File, choices: Choices) -> None:
    """Make a dataset again: of another type, shape, layout, or with data that are not there."""
    old = _dataset(file, choices)
    name, values = old.name, old[...]
    dtype = np.dtype(choices.of(DTYPES)) if choices.below(3) == 1 else values.dtype
    tail = values.shape[1:]
    if choices.below(4) == 1:
        tail = tuple(choices.below(70) for _ in range(choices.below(4)))
    rows = choices.number() % (1 << 63) if choices.below(2) else max(0, len(values) + choices.of((0, 1, -1)))
    shape = (rows, *tail)
    del file[name]
    dataset = file.create_dataset(name, shape, dtype, **_layout(shape, dtype, choices))
    if _is_tame(dataset) and choices.below(4) != 1:
        data = np.resize(values.reshape(-1).view("u1"), _size(shape, dtype))
        dataset[...] = data.view(dtype).reshape(shape)
    elif dataset.chunks == _chunk(shape, dtype) and None in dataset.maxshape and choices.below(2):
        dataset[:1] = np.zeros((1, *tail), dtype)


def _size(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> int:
    return math.prod(shape) * dtype.itemsize


def _chunk(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> tuple[int, ...]:
    """Return the chunk that the package would take for a shape."""
    return (max(1, CHUNK_BYTES // max(1, _size(shape[1:], dtype))), *shape[1:])


def _layout(shape: tuple[int, ...], dtype: np.dtype[np.generic], choices: Choices) -> dict[str, object]:
    chunked: dict[str, object] = {"chunks": _chunk(shape, dtype), "maxshape": (None, *shape[1:])}
    external = ("/etc/hostname", choices.below(4), choices.of((1, 1 << 20, h5py.h5f.UNLIMITED)))
    layouts: tuple[dict[str, object], ...] = (
        {},
        chunked,
        chunked,
        {**chunked, "chunks": tuple(1 + choices.number() % (1 << 32) for _ in shape)},
        {**chunked, "compression": choices.of(("gzip", "lzf"))},
        {**chunked, choices.of(("shuffle", "fletcher32")): True},
        {**chunked, "fillvalue": choices.below(256)},
        {"external": [external]},
        {"maxshape": tuple(max(1, side) for side in shape), "chunks": True},
    )
    return choices.of(layouts)


def _compact(file: h5py.File, choices: Choices) -> None:
    old = _dataset(file, choices)
    name, values = old.name, old[...]
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple(values.shape)
    del file[name]
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(values.dtype), space, creation)
    file[name][...] = values


def _virtual(file: h5py.File, choices: Choices) -> None:
    old = _dataset(file, choices)
    name, shape, dtype = old.name, old.shape, old.dtype
    layout = h5py.VirtualLayout(shape, dtype)
    source = choices.of((".", "/etc/hostname", "%b.h5", "/proc/self/fd/0"))
    layout[...] = h5py.VirtualSource(source, choices.of(_nodes(file)), shape, dtype)
    del file[name]
    file.create_virtual_dataset(name, layout)


def _link(file: h5py.File, choices: Choices) -> None:
    """Put a link, a type, an alias or nothing in the place of a node, or beside it."""
    node = choices.of(_nodes(file))
    place = node if choices.below(3) else choices.of(("extra", f"{node}/extra", f"{node}2", "."))
    target = choices.of((*_nodes(file), "/nowhere", "."))
    kept = file.get(target)
    if place in file:
        del file[place]
    match choices.below(6):
        case 0:
            file[place] = h5py.SoftLink(target)
        case 1:
            file[place] = h5py.ExternalLink(choices.of(("/etc/hostname", ".", "")), target)
        case 2:
            file[place] = np.dtype(choices.of(DTYPES))
        case 3:
            file.create_group(place)
        case 4 if kept is not None:
            file[place] = kept
        case _:
            pass


def _attribute(file: h5py.File, choices: Choices) -> None:
    node = file[choices.of(("/", *_nodes(file)))]
    for number in range(choices.of((1, 1, 9))):  # more than eight are stored another way
        node.attrs[f"note {number}"] = np.zeros(1 + choices.below(100), "u1")


def _move(file: h5py.File, choices: Choices) -> None:
    file.move(choices.of(_nodes(file)), choices.of(("other", *_nodes(file))))


def _swap(file: h5py.File, choices: Choices) -> None:
    one, two = choices.of(_nodes(file)), choices.of(_nodes(file))
    file.move(one, "between")
    file.move(two, one)
    file.move("between", two)


CHANGES: tuple[Callable[[h5py.File, Choices], None], ...] = (
    _change_values,
    _change_values,
    _change_values,
    _change_rows,
    _change_rows,
    _change_numbers,
    _change_number,
    _remake,
    _remake,
    _remake,
    _compact,
    _virtual,
    _link,
    _attribute,
    _move,
    _swap,
)
