"""The three shapes of data in a container, with their writers and readers.

A *matrix* has rows of one width. A *ragged* column has rows of bytes of any length, stored as the joined
bytes and an offset table. A *number* is a single value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mipp_cli.containers.base.source import BlockVerifiedSource, Source
from mipp_cli.errors import MalformedError
from mipp_cli.files.system_errors import output_error

Shape = TypeVar("Shape")
ROW_LIMIT = 1 << 31
_ENDS_AT_ONCE = 1 << 10


@dataclass(frozen=True)
class Dataset:
    """An HDF5 dataset: ``dtype`` is numpy's name, little-endian; the shape has one or two dimensions.

    When reading, None stands for a dimension of any length.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Matrix:
    """Rows of ``width`` items of ``dtype`` (numpy's name, little-endian); width 0 means a plain column.

    Width None stands for any width, for readers that do not know the deployment.
    """

    dtype: str
    width: int | None = 0

    @property
    def tail(self) -> tuple[int | None, ...]:
        """The shape of a row."""
        return () if self.width == 0 else (self.width,)

    def dataset(self, name: str, rows: int | None = None) -> Dataset:
        """Return the dataset for so many rows; None stands for any number."""
        return Dataset(name, self.dtype, (rows, *self.tail))


@dataclass(frozen=True)
class Ragged:
    """Rows of bytes, each at most ``limit`` long."""

    limit: int = ROW_LIMIT


class MatrixWriter:
    """Appends rows to ``file``: a spool, or the file that becomes ``path``, at the column's place."""

    def __init__(self, path: Path, name: str, shape: Matrix, file: IO[bytes]):
        self._path, self._name, self._shape, self._file = path, name, shape, file
        self._row_bytes = np.dtype(shape.dtype).itemsize * math.prod(filter(None, shape.tail))
        self.rows = 0

    def append(self, rows: ArrayLike) -> None:
        """Append rows, shape (n, width), or (n,) for a plain column; bytes are joined rows.

        Raises OutputError, which names the container, as several may be written at the same time.
        """
        if isinstance(rows, bytes):
            self._write(rows)
            return
        given = np.asarray(rows)
        if np.dtype(self._shape.dtype).kind == "u" and given.dtype.kind != "u" and (given < 0).any():
            raise OverflowError(f"{self._name} takes no negative number")  # older numpy would wrap it
        # Not from `given`: a list of small and large numbers becomes floats there, which lose digits.
        data = np.ascontiguousarray(rows, dtype=self._shape.dtype)
        if data.shape[1:] != self._shape.tail:
            raise ValueError(f"{self._name} has a different row width")
        self._write(data.data)

    def _write(self, data: bytes | memoryview) -> None:
        count, rest = divmod(memoryview(data).nbytes, self._row_bytes)
        if rest:
            raise ValueError(f"{self._name} has a different row width")
        try:
            self._file.write(data)
        except OSError as error:
            raise output_error(error, self._path) from error
        self.rows += count

    @property
    def dataset(self) -> Dataset:
        """The dataset of the rows written so far."""
        return self._shape.dataset(self._name, self.rows)


class RaggedWriter:
    """Appends rows of bytes."""

    def __init__(self, data: MatrixWriter, offsets: MatrixWriter):
        self._bytes, self._offsets = data, offsets
        self._ends = [0]  # written in batches: writing one per row would take longer than the row

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self._offsets.rows + len(self._ends) - 1

    def append(self, row: bytes | str) -> None:
        """Append one row."""
        self.extend([row])

    def extend(self, rows: Iterable[bytes | str]) -> None:
        """Append rows."""
        for row in rows:
            self._bytes.append(row.encode() if isinstance(row, str) else row)
            self._ends.append(self._bytes.rows)
            if len(self._ends) >= _ENDS_AT_ONCE:
                self.flush()

    def flush(self) -> None:
        """Write the pending row ends; called once more after the last row."""
        self._offsets.append(np.array(self._ends, dtype=np.uint64))
        self._ends.clear()


class MatrixReader:
    """A matrix whose type, shape and place were checked; rows are read on demand."""

    def __init__(self, dataset: Dataset, place: int, source: Source):
        self._dataset, self._place, self._source = dataset, place, source
        self.name = dataset.name

    def __len__(self) -> int:
        return int(self._dataset.shape[0] or 0)

    @property
    def row_bytes(self) -> int:
        """Bytes per row."""
        sides = (side or 0 for side in self._dataset.shape[1:])
        return np.dtype(self._dataset.dtype).itemsize * math.prod(sides)

    def rows(self, begin: int, end: int) -> NDArray[np.generic]:
        """Return rows ``begin`` to ``end``, exclusive."""
        return self._read(self._source, begin, end)

    def unverified(self, begin: int, end: int) -> NDArray[np.generic]:
        """Return rows as :meth:`rows` does, but without verifying their blocks."""
        source = self._source
        return self._read(
            source.unverified if isinstance(source, BlockVerifiedSource) else source, begin, end
        )

    def _read(self, source: Source, begin: int, end: int) -> NDArray[np.generic]:
        if not 0 <= begin <= end <= len(self):
            raise MalformedError(f"{self.name} has no rows {begin} to {end}")
        size = self.row_bytes
        data = source.read_at(self._place + begin * size, (end - begin) * size)
        if len(data) != (end - begin) * size:
            raise MalformedError(f"{self.name} claims more data than the file holds")
        shape = (end - begin, *(side or 0 for side in self._dataset.shape[1:]))
        return np.frombuffer(data, self._dataset.dtype).reshape(shape)

    def all(self) -> NDArray[np.generic]:
        """Return all rows, for columns that are always small."""
        return self.rows(0, len(self))


class RaggedReader:
    """Rows of bytes; reading a row refuses an offset outside the bytes or a length over the limit."""

    def __init__(self, data: MatrixReader, offsets: MatrixReader, limit: int):
        self._bytes, self._offsets, self._limit = data, offsets, limit
        ends = [int(offsets.rows(i, i + 1)[0]) for i in (0, len(self))] if len(offsets) else [1]
        if ends != [0, len(data)]:
            raise MalformedError(f"the offset table {offsets.name} does not match its bytes")

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @property
    def total_bytes(self) -> int:
        """Total bytes of all rows."""
        return len(self._bytes)

    def _bounds(self, begin: int, end: int) -> list[int]:
        """Return the offsets of rows ``begin`` to ``end``, exclusive, and the end of the last."""
        offsets = [int(offset) for offset in self._offsets.rows(begin, end + 1)]
        if any(not 0 <= end - start <= self._limit for start, end in pairwise(offsets)):
            raise MalformedError(f"{self._bytes.name} has a row of invalid length")
        return offsets

    def sizes(self, begin: int, end: int) -> list[int]:
        """Return the lengths of rows ``begin`` to ``end``, exclusive."""
        return [end - start for start, end in pairwise(self._bounds(begin, end))]

    def rows(self, begin: int, end: int) -> list[bytes]:
        """Return rows ``begin`` to ``end``, exclusive."""
        bounds = self._bounds(begin, end)
        data = self._bytes.rows(bounds[0], bounds[-1]).tobytes()
        return [data[start - bounds[0] : end - bounds[0]] for start, end in pairwise(bounds)]

    def row(self, number: int) -> bytes:
        """Return one row."""
        return self.rows(number, number + 1)[0]

    def unverified_row(self, number: int) -> bytes:
        """Return one row without verifying its blocks, for callers that check its own digest."""
        return self._bytes.unverified(*self._bounds(number, number + 1)).tobytes()

    def all(self) -> list[bytes]:
        """Return all rows, for columns that are always small."""
        return self.rows(0, len(self))

    def batches(self, size: int = 4096) -> Iterator[list[bytes]]:
        """Yield all rows, ``size`` at a time."""
        for begin in range(0, len(self), size):
            yield self.rows(begin, min(begin + size, len(self)))


def of_shape(shape: type[Shape], columns: Mapping[str, object], name: str) -> Shape:
    """Return a column of the given shape; raises KeyError if it has another."""
    column = columns[name]
    if not isinstance(column, shape):
        raise KeyError(name)
    return column
