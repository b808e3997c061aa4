"""Writers of columns: rows are appended as they come, and memory holds a megabyte of them at the most."""

from __future__ import annotations

from collections.abc import Sequence

import h5py
import numpy as np
from numpy.typing import NDArray

from mipp_cli.containers.base.columns import CHUNK_BYTES, Matrix

_BUFFER_BYTES = 1 << 20  # what is smaller than this is stored without chunks
_MOST_PENDING = 1024  # arrays; each takes memory beside its rows


class MatrixWriter:
    """Appends rows to a dataset; memory holds a megabyte at the most beyond the rows given."""

    def __init__(self, group: h5py.Group, name: str, shape: Matrix):
        self._group, self._name, self._shape = group, name, shape
        self._pending: list[NDArray[np.generic]] = []
        self._pending_bytes = 0
        self._dataset: h5py.Dataset | None = None
        self._written = 0
        self.rows = 0

    def expect(self, rows: int) -> None:
        """Say how many rows there will be, so that they are stored in one piece."""
        self._dataset = self._group.create_dataset(self._name, (rows, *self._shape.tail), self._shape.dtype)

    def append(self, rows: NDArray[np.generic]) -> None:
        """Append ``rows``, shape (n, width), or (n,) for a plain column."""
        self._pending.append(np.ascontiguousarray(rows, dtype=self._shape.dtype))
        self._pending_bytes += self._pending[-1].nbytes
        self.rows += len(rows)
        if self._pending_bytes >= _BUFFER_BYTES:
            self._flush()
        elif len(self._pending) == _MOST_PENDING:
            self._pending = [np.concatenate(self._pending)]

    def _take(self) -> NDArray[np.generic]:
        empty = np.empty((0, *self._shape.tail), dtype=self._shape.dtype)
        data = np.concatenate([empty, *self._pending])
        self._pending, self._pending_bytes = [], 0
        return data

    def _flush(self) -> None:
        data = self._take()
        if self._dataset is None:
            chunk_rows = max(1, CHUNK_BYTES // self._shape.row_bytes)
            tail = self._shape.tail
            self._dataset = self._group.create_dataset(
                self._name, (0, *tail), self._shape.dtype, chunks=(chunk_rows, *tail), maxshape=(None, *tail)
            )
        if self._written + len(data) > len(self._dataset):
            self._dataset.resize(self._written + len(data), axis=0)
        self._dataset[self._written : self._written + len(data)] = data
        self._written += len(data)

    def finish(self) -> None:
        """Write what is pending; small data becomes one contiguous dataset."""
        if self._dataset is None:
            self._group.create_dataset(self._name, data=self._take())
        elif self._pending:
            self._flush()
        if self._dataset is not None and self._written != len(self._dataset):
            raise ValueError(f"{self._name} has other rows than were expected")


class RaggedWriter:
    """Appends rows of bytes."""

    def __init__(self, group: h5py.Group):
        self._offsets = MatrixWriter(group, "offsets", Matrix("<u8"))
        self._bytes = MatrixWriter(group, "bytes", Matrix("u1"))
        self._offsets.append(np.zeros(1, dtype=np.uint64))

    def expect(self, rows: int, size: int) -> None:
        """Say how many rows there will be, of how many bytes together."""
        self._offsets.expect(rows + 1)
        self._bytes.expect(size)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self._offsets.rows - 1

    def append(self, row: bytes) -> None:
        """Append one row."""
        self.extend([row])

    def extend(self, rows: Sequence[bytes]) -> None:
        """Append rows."""
        ends = np.cumsum([len(row) for row in rows], dtype=np.uint64) + np.uint64(self._bytes.rows)
        self._bytes.append(np.frombuffer(b"".join(rows), dtype=np.uint8))
        self._offsets.append(ends)

    def finish(self) -> None:
        """Write what is pending."""
        self._offsets.finish()
        self._bytes.finish()
