"""Read a caller's own feature file: `.npy` with rows in the order of the images, or HDF5 with names.

It is not a container: it comes from the caller and is not signed. Rows are read on demand. References to
other files are not followed.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mipp_cli.containers.base.source import FileSource, Source
from mipp_cli.containers.features_process import HINT, Hdf5Features, check_table
from mipp_cli.errors import MalformedError, errors_at

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_READ_BYTES = 1 << 20
_NPY_HEADER_LIMIT = 1 << 14  # numpy itself refuses headers of more than 10,000 characters


class FeatureFile(Protocol):
    """An open feature file of ``shape`` (rows, dimension), with integers or floats of at most 64 bits."""

    shape: tuple[int, int]

    def rows(self, begin: int, end: int) -> NDArray[np.number]:
        """Return rows ``begin`` to ``end``, exclusive, as stored."""

    def names(self) -> Iterator[str] | None:
        """Yield the name of each row; None if rows have no names."""

    def digest(self) -> bytes:
        """Return the SHA-256 of the whole file."""

    def close(self) -> None:
        """Close the file."""


def open_feature_file(path: Path) -> FeatureFile:
    """Open a feature file by its first bytes; raises MalformedError if it is not one."""
    with errors_at(path):
        source = FileSource(path)
        try:
            if source.read_at(0, len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
                return _NpyFeatures(source)
            if _is_hdf5(source):
                return _Hdf5Features(path, source)
            raise MalformedError("is not a feature file", hint=HINT)
        except BaseException:
            source.close()
            raise


def _is_hdf5(source: Source) -> bool:
    """Return whether a file is HDF5, which may begin after a user block of 512 · 2^n bytes."""
    places = [0]
    while (following := max(512, 2 * places[-1])) < source.size:
        places.append(following)
    return any(source.read_at(place, len(_HDF5_MAGIC)) == _HDF5_MAGIC for place in places)


def _digest(source: Source) -> bytes:
    digest = hashlib.sha256()
    for offset in range(0, source.size, _READ_BYTES):
        digest.update(source.read_at(offset, _READ_BYTES))
    return digest.digest()


class _NpyFeatures:
    """An `.npy` file, read by position: if memory-mapped, shortening it would crash the process."""

    def __init__(self, source: Source):
        self._source = source
        view = io.BytesIO(source.read_at(0, _NPY_HEADER_LIMIT))  # a header may claim gigabytes
        try:
            version = npy.read_magic(view)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, by_columns, self._dtype = read(view)
        # numpy parses the header as Python, and raises more than it documents
        except Exception as error:
            raise MalformedError("is a damaged .npy file", hint="save it again") from error
        self.shape = check_table(shape, self._dtype)
        if by_columns and 1 not in self.shape:
            raise MalformedError(
                "is stored column by column", hint="save numpy.ascontiguousarray(features) instead"
            )
        self._start = view.tell()
        self._row_bytes = self.shape[1] * self._dtype.itemsize
        if self._start + self.shape[0] * self._row_bytes != source.size:
            raise MalformedError("does not have the size that its header states", hint="save it again")

    def rows(self, begin: int, end: int) -> NDArray[np.number]:
        size = self._row_bytes
        data = self._source.read_at(self._start + begin * size, (end - begin) * size)
        return np.frombuffer(data, self._dtype).reshape(end - begin, self.shape[1])

    def names(self) -> None:
        return None

    def digest(self) -> bytes:
        return _digest(self._source)

    def close(self) -> None:
        self._source.close()


class _Hdf5Features(Hdf5Features):
    """An HDF5 file; this process computes its digest."""

    def __init__(self, path: Path, source: Source):
        super().__init__(path)
        self._source = source

    def digest(self) -> bytes:
        return _digest(self._source)

    def close(self) -> None:
        super().close()
        self._source.close()
