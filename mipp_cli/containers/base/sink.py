"""The file that HDF5 writes to, which remembers why a write failed."""

from __future__ import annotations

import io
import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


class Sink(io.RawIOBase):
    """A file for HDF5 to write; a context manager that raises, at its end, the OSError of a failed write.

    HDF5 cannot close a file that it could not write: it keeps it open, and complains on stderr for as
    long as the process lives. So it is told that all went well, and nothing more is written.
    """

    def __init__(self, path: Path):
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._position = 0
        self._size = 0
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the OSError of the write that failed, if one did."""
        if self._error is not None:
            raise self._error

    def readable(self) -> bool:
        """Say that the file can be read."""
        return True

    def writable(self) -> bool:
        """Say that the file can be written."""
        return True

    def seekable(self) -> bool:
        """Say that the file can be accessed by position."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill ``buffer`` from the position on."""
        read = os.preadv(self._descriptor, [buffer], self._position)
        self._position += read
        return read

    def write(self, data: ReadableBuffer) -> int:
        """Write all of ``data`` at the position, unless a write failed before."""
        rest = memoryview(data).cast("B")
        size, end = len(rest), self._position + len(rest)
        try:
            while rest and self._error is None:
                rest = rest[os.pwrite(self._descriptor, rest, end - len(rest)) :]
        except OSError as error:
            self._error = error
        self._position = end
        if size:
            self._size = max(self._size, end)
        return size

    def truncate(self, size: int | None = None) -> int:
        """Cut or lengthen the file, unless a write failed before."""
        self._size = self._position if size is None else size
        try:
            if self._error is None:
                os.truncate(self._descriptor, self._size)
        except OSError as error:
            self._error = error
        return self._size

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)
        self.close()
        if kind is None or issubclass(kind, Exception):
            self.check()
