"""A caller's own file of features: `.npy`, rows in an order agreed on, or HDF5 with names beside the rows.

Not a container: nobody signed it, and it is whoever runs the command who made it. Rows are read when they
are asked for; what a file points to outside of itself is not followed.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mipp_cli.containers.base.hdf5 import hdf5_errors
from mipp_cli.containers.base.source import BodyView, FileSource, Source
from mipp_cli.errors import MalformedError, errors_at
from mipp_cli.names import as_called

ROWS, NAMES = "features", "names"
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_BATCH_NAMES = 4096
_CACHE_BYTES = 1 << 25  # a chunk that does not fit is decompressed again for each of its rows
_WIDEST = 8
_READ_BYTES = 1 << 20
_NPY_HEADER_LIMIT = 1 << 14  # numpy itself reads none of more than 10,000 characters
_HINT = f"give an .npy file of one row an image, or HDF5 with the datasets {NAMES} and {ROWS}"


class FeatureFile(Protocol):
    """An open file of features: ``shape`` (rows, dimension), whole numbers or floats of at most 64 bits."""

    shape: tuple[int, int]

    def rows(self, begin: int, end: int) -> NDArray[np.number]:
        """Return rows ``begin`` to ``end`` (not included), as they are stored."""

    def names(self) -> Iterator[str] | None:
        """Yield the name of each row; None where rows have no names."""

    def digest(self) -> bytes:
        """Return the SHA-256 of the whole file."""

    def close(self) -> None:
        """Close the file."""


def open_feature_file(path: Path) -> FeatureFile:
    """Open a file of features, by what it begins with; raises MalformedError if it is none."""
    with errors_at(path):
        source = FileSource(path)
        try:
            if source.read_at(0, len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
                return _NpyFeatures(source)
            if _is_hdf5(source):
                return _Hdf5Features(source)
            raise MalformedError("is no file of features", hint=_HINT)
        except BaseException:
            source.close()
            raise


def _is_hdf5(source: Source) -> bool:
    """Say whether a file is HDF5, which may begin after a block of its user's of 512 · 2^n bytes."""
    places = [0]
    while (following := max(512, 2 * places[-1])) < source.size:
        places.append(following)
    return any(source.read_at(place, len(_HDF5_MAGIC)) == _HDF5_MAGIC for place in places)


def _digest(source: Source) -> bytes:
    digest = hashlib.sha256()
    for offset in range(0, source.size, _READ_BYTES):
        digest.update(source.read_at(offset, _READ_BYTES))
    return digest.digest()


def _check_table(shape: tuple[int, ...] | None, dtype: np.dtype[np.generic]) -> tuple[int, int]:
    """Return the shape of a table of numbers; raises MalformedError for anything else."""
    if shape is None or len(shape) != 2 or min(shape) < 0:
        raise MalformedError("has features that are not rows and columns", hint="one row an image")
    if dtype.kind not in "uif" or dtype.itemsize > _WIDEST:
        raise MalformedError(
            f"has features of type {dtype}",
            hint="give whole numbers, or floats, of at most 64 bits",
        )
    return int(shape[0]), int(shape[1])


class _NpyFeatures:
    """An `.npy` file; read by position, so that nobody who shortens it meanwhile ends the process."""

    def __init__(self, source: Source):
        self._source = source
        view = io.BytesIO(source.read_at(0, _NPY_HEADER_LIMIT))  # a header may claim to have gigabytes
        try:
            version = npy.read_magic(view)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, by_columns, self._dtype = read(view)
        # numpy reads the header as Python, and what that raises is not bounded by what it documents
        except Exception as error:
            raise MalformedError("is a damaged .npy file", hint="save it again") from error
        self.shape = _check_table(shape, self._dtype)
        if by_columns and 1 not in self.shape:
            raise MalformedError(
                "is stored column by column", hint="save numpy.ascontiguousarray(features) instead"
            )
        self._start = view.tell()
        self._row_bytes = self.shape[1] * self._dtype.itemsize
        if self._start + self.shape[0] * self._row_bytes != source.size:
            raise MalformedError("is longer or shorter than its header says", hint="save it again")

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


class _Hdf5Features:
    """An HDF5 file; links, virtual datasets and external storage, which name other files, are refused."""

    def __init__(self, source: Source):
        self._source = source
        with hdf5_errors("HDF5 content"):
            self._file = h5py.File(BodyView(source, 0), "r", rdcc_nbytes=_CACHE_BYTES)
        try:
            self._rows, self._names = (_own_dataset(self._file, name) for name in (ROWS, NAMES))
            with hdf5_errors("types of its datasets"):
                self.shape = _check_table(self._rows.shape, self._rows.dtype)
                is_text = h5py.check_string_dtype(self._names.dtype) is not None
            if not is_text or self._names.shape != self.shape[:1]:
                raise MalformedError(f"has {NAMES} that are not one text for each row of {ROWS}", hint=_HINT)
        except BaseException:
            self._file.close()
            raise

    def rows(self, begin: int, end: int) -> NDArray[np.number]:
        with hdf5_errors(ROWS):
            rows: NDArray[np.number] = self._rows[begin:end]
            return rows

    def names(self) -> Iterator[str]:
        for begin in range(0, self.shape[0], _BATCH_NAMES):
            with hdf5_errors(NAMES):
                batch = self._names[begin : begin + _BATCH_NAMES].tolist()
            yield from map(as_called, batch)

    def digest(self) -> bytes:
        return _digest(self._source)

    def close(self) -> None:
        self._file.close()
        self._source.close()


def _own_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """Return a dataset that lies in the file itself."""
    with hdf5_errors(f"dataset {name}"):
        if name.encode() not in set(file.id):
            raise MalformedError(f"has no dataset {name}", hint=_HINT)
        if file.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            raise MalformedError(f"{name} is a link, which is not followed", hint=_HINT)
        dataset = file[name]
        if not isinstance(dataset, h5py.Dataset):
            raise MalformedError(f"{name} is not a dataset", hint=_HINT)
        creation = dataset.id.get_create_plist()
        if creation.get_layout() == h5py.h5d.VIRTUAL or creation.get_external_count():
            raise MalformedError(f"{name} lies in other files, which are not opened", hint=_HINT)
        return dataset
