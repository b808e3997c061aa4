"""Readers of columns: type, shape, layout and storage are checked before memory is taken for a row."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import h5py
import numpy as np
from numpy.typing import NDArray

from mipp_cli.containers.base.columns import CHUNK_BYTES, Matrix, Ragged, hdf5_errors
from mipp_cli.containers.base.header import BLOCK_BYTES
from mipp_cli.containers.base.source import BlockVerifiedSource, Source
from mipp_cli.errors import MalformedError


class MatrixReader:
    """A dataset whose type, shape, layout and storage were checked; rows are read when asked for."""

    def __init__(self, group: h5py.Group, name: str, shape: Matrix, source: Source):
        self._source = source
        self._where = f"{group.name}/{name}".lstrip("/")
        with hdf5_errors(self._where):
            dataset = _hard_linked(group, name)
            if not isinstance(dataset, h5py.Dataset):
                raise MalformedError(f"{self._where} is not a dataset")
            self._dataset = dataset
            _check_dataset(dataset, shape, source.size, self._where)
            self._offset = dataset.id.get_offset()  # None if the rows lie in chunks

    def __len__(self) -> int:
        return int(self._dataset.shape[0])

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return int(self._dataset.dtype.itemsize * np.prod(self._dataset.shape[1:], dtype=np.int64))

    def rows(self, begin: int, end: int) -> NDArray[np.generic]:
        """Return rows ``begin`` to ``end`` (not included)."""
        if not 0 <= begin <= end <= len(self):
            raise MalformedError(f"{self._where} has no rows {begin} to {end}")
        if self._offset is not None:
            return self._piece(begin, end)
        with hdf5_errors(self._where):
            result: NDArray[np.generic] = self._dataset[begin:end]
            return result

    def _piece(self, begin: int, end: int) -> NDArray[np.generic]:
        """Read rows that lie in one piece without going through HDF5, which costs much for a few bytes."""
        return self._piece_from(self._source, begin, end)

    def unverified(self, begin: int, end: int) -> NDArray[np.generic]:
        """Return rows as :meth:`rows` does, but as they lie on the disk, their blocks not checked."""
        if self._offset is None or not isinstance(self._source, BlockVerifiedSource):
            return self.rows(begin, end)
        return self._piece_from(self._source.unverified, begin, end)

    def _piece_from(self, source: Source, begin: int, end: int) -> NDArray[np.generic]:
        size = self.row_bytes
        data = source.read_at(BLOCK_BYTES + self._offset + begin * size, (end - begin) * size)
        if len(data) != (end - begin) * size:
            raise MalformedError(f"{self._where} claims more data than the file holds")
        return np.frombuffer(data, self._dataset.dtype).reshape(-1, *self._dataset.shape[1:])

    def all(self) -> NDArray[np.generic]:
        """Return all rows; for columns that are small by nature."""
        return self.rows(0, len(self))


class RaggedReader:
    """Rows of bytes; an offset outside the bytes, or a row over the limit, is refused when it is read."""

    def __init__(self, group: h5py.Group, name: str, shape: Ragged, source: Source):
        self._where = f"{group.name}/{name}".lstrip("/")
        with hdf5_errors(self._where):
            inner = _hard_linked(group, name)
            if not isinstance(inner, h5py.Group) or sorted(inner.id) != [b"bytes", b"offsets"]:
                raise MalformedError(f"{self._where} is not a ragged column")
            _refuse_attributes(inner)
        self._offsets = MatrixReader(inner, "offsets", Matrix("<u8"), source)
        self._bytes = MatrixReader(inner, "bytes", Matrix("u1"), source)
        self._limit = shape.limit
        ends = [int(self._offsets.rows(i, i + 1)[0]) for i in (0, len(self))] if len(self._offsets) else [1]
        if ends != [0, len(self._bytes)]:
            raise MalformedError(f"{self._where} has an offset table that does not fit its bytes")

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @property
    def total_bytes(self) -> int:
        """Bytes of all rows together."""
        return len(self._bytes)

    def sizes(self, begin: int, end: int) -> list[int]:
        """Return the lengths of rows ``begin`` to ``end`` (not included)."""
        offsets = [int(offset) for offset in self._offsets.rows(begin, end + 1)]
        sizes = [end - start for start, end in pairwise(offsets)]
        if any(size < 0 or size > self._limit for size in sizes):
            raise MalformedError(f"{self._where} has a row of impossible length")
        return sizes

    def rows(self, begin: int, end: int) -> list[bytes]:
        """Return rows ``begin`` to ``end`` (not included)."""
        sizes = self.sizes(begin, end)
        start = int(self._offsets.rows(begin, begin + 1)[0])
        data = self._bytes.rows(start, start + sum(sizes)).tobytes()
        result, position = [], 0
        for size in sizes:
            result.append(data[position : position + size])
            position += size
        return result

    def row(self, number: int) -> bytes:
        """Return one row."""
        return self.rows(number, number + 1)[0]

    def unverified_row(self, number: int) -> bytes:
        """Return one row as it lies on the disk, for whoever checks it by its own digest."""
        size = self.sizes(number, number + 1)[0]
        start = int(self._offsets.rows(number, number + 1)[0])
        return self._bytes.unverified(start, start + size).tobytes()

    def texts(self) -> list[str]:
        """Return all rows as text, what is not ASCII replaced; for columns that are small by nature."""
        return [row.decode("ascii", "replace") for batch in self.batches() for row in batch]

    def batches(self, size: int = 4096) -> Iterator[list[bytes]]:
        """Yield all rows, ``size`` at a time."""
        for begin in range(0, len(self), size):
            yield self.rows(begin, min(begin + size, len(self)))


def _hard_linked(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """Return a member of ``group``; links into other files or places are refused, not followed."""
    if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise MalformedError(f"{name} is a link, which a container never holds")
    member = group[name]
    if h5py.h5o.get_info(member.id).rc != 1:
        raise MalformedError(f"{name} is there under two names")
    return member


def _refuse_attributes(node: h5py.Group | h5py.Dataset) -> None:
    if h5py.h5a.get_num_attrs(node.id):
        raise MalformedError(f"{node.name} has attributes that do not belong there")


def _check_dataset(dataset: h5py.Dataset, shape: Matrix, file_bytes: int, where: str) -> None:
    """Refuse whatever the writers above would not have written, before memory is taken for it."""
    _refuse_attributes(dataset)
    creation = dataset.id.get_create_plist()
    layout = creation.get_layout()
    if layout not in (h5py.h5d.CHUNKED, h5py.h5d.CONTIGUOUS):  # to ask a virtual dataset more opens files
        raise MalformedError(f"{where} is not stored in one piece, nor in chunks")
    if creation.get_nfilters() or creation.get_external_count():
        raise MalformedError(f"{where} uses filters or external storage")
    if shape.width is None and dataset.ndim == 2:
        shape = Matrix(shape.dtype, dataset.shape[1])
    tail, dtype = shape.tail, h5py.h5t.py_create(np.dtype(shape.dtype))
    if not dataset.id.get_type().equal(dtype) or dataset.ndim != 1 + len(tail) or dataset.shape[1:] != tail:
        raise MalformedError(f"{where} has another type or shape than its kind asks for")
    chunk = (max(1, CHUNK_BYTES // shape.row_bytes), *tail)
    if layout == h5py.h5d.CHUNKED and creation.get_chunk() != chunk:
        raise MalformedError(f"{where} is stored in chunks of another size")
    if not dataset.shape[0] * shape.row_bytes <= dataset.id.get_storage_size() <= file_bytes:
        raise MalformedError(f"{where} claims more data than the file holds")
