"""Write and read the HDF5 structures of a container by h5py; rows are read and written directly.

Datasets are contiguous and follow one another, after all metadata.
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
_END_PLACE = HEAD_BYTES + 40  # of the field in the superblock with the end of the file
_MOST_METADATA = 1 << 17


class _Metadata(io.BytesIO):
    """The beginning of a file; writes far beyond it, among the rows, are discarded."""

    def write(self, data: ReadableBuffer) -> int:
        size = memoryview(data).nbytes
        if self.tell() + size <= _MOST_METADATA:
            return super().write(data)
        self.seek(size, io.SEEK_CUR)
        return size


def lay_out(datasets: Sequence[Dataset], numbers: Mapping[str, int]) -> tuple[bytes, list[int]]:
    """Return a file up to its first row, the offset of each dataset's rows, and the end of the last.

    The offset of the first row depends only on names and types.
    """
    file = _Metadata()
    with h5py.File(file, "w", userblock_size=HEAD_BYTES) as hdf5:
        made = [hdf5.create_dataset(each.name, each.shape, each.dtype) for each in datasets]
        for name, value in numbers.items():
            hdf5.attrs.create(name, np.uint64(value), dtype="<u8")
        for dataset in made:
            if dataset.size:
                dataset[:1] = 0  # writing the first row allocates the dataset
        places = [dataset.id.get_offset() if dataset.size else None for dataset in made]
    data = file.getvalue()
    end = int.from_bytes(data[_END_PLACE : _END_PLACE + 8], "little")
    first = min((place for place in places if place is not None), default=end)
    if first > _MOST_METADATA:
        raise ValueError("the container has too many columns")
    return data[:first], [end if place is None else place for place in [*places, end]]


def read_layout(
    source: Source, wanted: Sequence[Dataset], numbers: Sequence[str]
) -> tuple[list[tuple[Dataset, int]], dict[str, int]]:
    """Return the datasets of a file, each with the offset of its rows, and the numbers.

    Raises MalformedError unless the file has exactly the datasets ``wanted`` and the ``numbers``, and if
    data are missing; no row is read.
    """
    with hdf5_errors("HDF5 content"):
        if source.read_at(HEAD_BYTES, len(_SIGNATURE)) != _SIGNATURE:
            raise MalformedError("has no HDF5 content after its header")
        check_form(source, HEAD_BYTES)
        with h5py.File(BodyView(source, HEAD_BYTES), "r") as file:
            names = {each.name for each in wanted}
            outermost = {name.partition("/")[0] for name in names}
            met: list[str] = []
            file.visit(met.append)  # follows no links, and visits no object twice
            if set(file) != outermost or set(met) != names | outermost:
                raise MalformedError("does not have the parts of a container of its kind")
            if h5py.h5a.get_num_attrs(file.id) != len(numbers):
                raise MalformedError("does not have the parts of a container of its kind")
            if any(h5py.h5a.get_num_attrs(file[name].id) for name in met):
                raise MalformedError("has unexpected attributes")
            found = [_found(file, each, source.size) for each in wanted]
            return found, {name: _number(file, name) for name in numbers}


def _found(file: h5py.File, wanted: Dataset, file_bytes: int) -> tuple[Dataset, int]:
    """Return a dataset with its actual shape, and the offset of its rows, after checking it."""
    dataset = file[wanted.name]
    if not isinstance(dataset, h5py.Dataset):
        raise MalformedError(f"{wanted.name} is not a dataset")
    creation = dataset.id.get_create_plist()
    if (
        creation.get_layout() != h5py.h5d.CONTIGUOUS
        or creation.get_nfilters()
        or creation.get_external_count()
    ):
        raise MalformedError(f"{wanted.name} is not stored contiguously")
    shape = dataset.shape
    fits = len(shape) == len(wanted.shape) and all(
        asked in (None, side) for asked, side in zip(wanted.shape, shape, strict=True)
    )
    if not fits or not dataset.id.get_type().equal(h5py.h5t.py_create(np.dtype(wanted.dtype))):
        raise MalformedError(f"{wanted.name} has the wrong type or shape for this kind of container")
    size, place = math.prod(shape) * dataset.dtype.itemsize, dataset.id.get_offset()
    if size and (place is None or not size <= dataset.id.get_storage_size() <= file_bytes):
        raise MalformedError(f"{wanted.name} claims more data than the file holds")
    return Dataset(wanted.name, wanted.dtype, shape), HEAD_BYTES + (place or 0)


def _number(file: h5py.File, name: str) -> int:
    attribute = h5py.h5a.open(file.id, name.encode())
    if attribute.shape != () or not attribute.get_type().equal(h5py.h5t.STD_U64LE):
        raise MalformedError(f"the number {name} has the wrong type")
    value = np.zeros((), dtype="<u8")
    attribute.read(value)
    return int(value)


@contextmanager
def hdf5_errors(where: str) -> Iterator[None]:
    """Turn any error of HDF5 into a MalformedError that says ``where`` it occurred."""
    try:
        yield
    except MippError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise MalformedError(f"has no readable {where}", hint="the file is damaged or forged") from error
