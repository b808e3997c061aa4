"""What h5py writes and reads of a container: all but the rows, which go from and to where it says they lie.

Every dataset lies in one piece, one behind the other, after all that describes them.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import h5py
import numpy as np

from mipp_cli.containers.base.columns import Dataset
from mipp_cli.containers.base.form import check_form
from mipp_cli.containers.base.header import HEAD_BYTES
from mipp_cli.containers.base.source import BodyView, Source
from mipp_cli.errors import MalformedError, MippError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_END_PLACE = HEAD_BYTES + 40  # where the superblock says where the file ends
_MOST_METADATA = 1 << 17


class _Metadata(io.BytesIO):
    """The beginning of a file; what is written far behind it, among the rows, is not kept."""

    def write(self, data: ReadableBuffer) -> int:
        size = memoryview(data).nbytes
        if self.tell() + size <= _MOST_METADATA:
            return super().write(data)
        self.seek(size, io.SEEK_CUR)
        return size


def lay_out(datasets: Sequence[Dataset], numbers: Mapping[str, int]) -> tuple[bytes, list[int]]:
    """Return a file up to its first row, and where the rows of each dataset begin, and the last end.

    How much stands before the first row depends on the names and types alone.
    """
    file = _Metadata()
    with h5py.File(file, "w", userblock_size=HEAD_BYTES) as hdf5:
        made = [hdf5.create_dataset(each.name, each.shape, each.dtype) for each in datasets]
        for name, value in numbers.items():
            hdf5.attrs.create(name, np.uint64(value), dtype="<u8")
        for dataset in made:
            if dataset.size:
                dataset[:1] = 0  # at its first row a dataset gets its place
        places = [dataset.id.get_offset() if dataset.size else None for dataset in made]
    data = file.getvalue()
    end = int.from_bytes(data[_END_PLACE : _END_PLACE + 8], "little")
    first = min((place for place in places if place is not None), default=end)
    if first > _MOST_METADATA:
        raise ValueError("a container has more columns than there is room for")
    return data[:first], [end if place is None else place for place in [*places, end]]


def read_layout(
    source: Source, wanted: Sequence[Dataset], numbers: Sequence[str]
) -> tuple[list[tuple[Dataset, int]], dict[str, int]]:
    """Return the datasets that a file holds, each with where its rows begin, and the numbers.

    Raises MalformedError for anything but the datasets ``wanted`` and the ``numbers``, and for data that are
    not there; no row is read.
    """
    with hdf5_errors("HDF5 content"):
        if source.read_at(HEAD_BYTES, len(_SIGNATURE)) != _SIGNATURE:
            raise MalformedError("holds no HDF5 where its content begins")
        check_form(source, HEAD_BYTES)
        with h5py.File(BodyView(source, HEAD_BYTES), "r") as file:
            names = {each.name for each in wanted}
            outermost = {name.partition("/")[0] for name in names}
            met: list[str] = []
            file.visit(met.append)  # which follows no link, and meets nothing twice
            if set(file) != outermost or set(met) != names | outermost:
                raise MalformedError("holds other parts than a container of its kind")
            if h5py.h5a.get_num_attrs(file.id) != len(numbers):
                raise MalformedError("holds other parts than a container of its kind")
            if any(h5py.h5a.get_num_attrs(file[name].id) for name in met):
                raise MalformedError("has attributes that do not belong there")
            found = [_found(file, each, source.size) for each in wanted]
            return found, {name: _number(file, name) for name in numbers}


def _found(file: h5py.File, wanted: Dataset, file_bytes: int) -> tuple[Dataset, int]:
    """Return a dataset with what ``wanted`` leaves open, and where its rows begin."""
    dataset = file[wanted.name]
    if not isinstance(dataset, h5py.Dataset):
        raise MalformedError(f"{wanted.name} is not a dataset")
    creation = dataset.id.get_create_plist()
    if (
        creation.get_layout() != h5py.h5d.CONTIGUOUS
        or creation.get_nfilters()
        or creation.get_external_count()
    ):
        raise MalformedError(f"{wanted.name} is not stored in one piece")
    shape = dataset.shape
    fits = len(shape) == len(wanted.shape) and all(
        asked in (None, side) for asked, side in zip(wanted.shape, shape, strict=True)
    )
    if not fits or not dataset.id.get_type().equal(h5py.h5t.py_create(np.dtype(wanted.dtype))):
        raise MalformedError(f"{wanted.name} has another type or shape than its kind asks for")
    size, place = math.prod(shape) * dataset.dtype.itemsize, dataset.id.get_offset()
    if size and (place is None or not size <= dataset.id.get_storage_size() <= file_bytes):
        raise MalformedError(f"{wanted.name} claims more data than the file holds")
    return Dataset(wanted.name, wanted.dtype, shape), HEAD_BYTES + (place or 0)


def _number(file: h5py.File, name: str) -> int:
    attribute = h5py.h5a.open(file.id, name.encode())
    if attribute.shape != () or not attribute.get_type().equal(h5py.h5t.STD_U64LE):
        raise MalformedError(f"the number {name} has another type than its kind asks for")
    value = np.zeros((), dtype="<u8")
    attribute.read(value)
    return int(value)


@contextmanager
def hdf5_errors(where: str) -> Iterator[None]:
    """Turn whatever HDF5 raises on a bad file into a MalformedError that names the place."""
    try:
        yield
    except MippError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise MalformedError(
            f"has no readable {where}", hint="the file is damaged, or was made to mislead"
        ) from error
