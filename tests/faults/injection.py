"""Write boundaries: every change that a process asks the file system for is counted, and made to fail."""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FAULTS = {
    "kill": "SIGKILL before the boundary",
    "torn": "SIGKILL after half of a write",
    "power": "SIGKILL, and what was written without being synced is lost",
    "full": "ENOSPC, after half of a write, and from there on for all that takes space",
    "read-only": "EROFS from there on",
    "error": "EIO, once",
}
KILLS = ("kill", "torn", "power")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_WRITES = ("write", "pwrite")
_TAKES_SPACE = (*_WRITES, "create", "mkdir", "posix_fallocate", "link", "symlink")
_BY_PATH = ("rename", "replace", "unlink", "remove", "rmdir", "truncate", "chmod", "link", "symlink")
_BY_DESCRIPTOR = ("ftruncate", "fsync", "fdatasync", "posix_fallocate", "fchmod")


@dataclass(frozen=True)
class Boundary:
    """A call that changes something on the disk: which, and of what file."""

    call: str
    place: str

    @property
    def is_write(self) -> bool:
        """Say whether it can be done by half."""
        return self.call in _WRITES


class Injector:
    """Counts the write boundaries of this process, and lets ``fault`` happen at the ``at``-th, from 1.

    What it wraps stays wrapped: it is for a process that ends afterwards.
    """

    def __init__(self, fault: str | None = None, at: int = 0):
        self._fault, self._at = fault, at
        self._struck = False
        self._unsynced: dict[tuple[int, int], int] = {}
        self._fstat, self._ftruncate, self._dup, self._open = os.fstat, os.ftruncate, os.dup, os.open
        self.boundaries: list[Boundary] = []

    def install(self) -> None:
        """Wrap what the package, pathlib, shutil and tempfile call; all look it up when they do."""
        for name in _BY_PATH:
            setattr(os, name, self._wrapped_by_path(name, getattr(os, name)))
        for name in _BY_DESCRIPTOR:
            setattr(os, name, self._wrapped_by_descriptor(name, getattr(os, name)))
        for name in _WRITES:
            setattr(os, name, self._wrapped_write(name, getattr(os, name)))
        os.mkdir = self._wrapped_mkdir(os.mkdir)
        os.open = self._wrapped_open(os.open)
        io.open = builtins.open = self._wrapped_io_open(io.open)

    def reach(self, call: str, place: object, half: Callable[[], object] = lambda: None) -> None:
        """Pass a boundary, or fail there; ``half`` does half of it."""
        boundary = Boundary(call, self._name(place))
        self.boundaries.append(boundary)
        if len(self.boundaries) == self._at:
            self._struck = True
            self._strike(boundary, half)
        elif self._struck and self._stays_broken(boundary):
            raise self._failure(boundary)

    def written(self, descriptor: int) -> None:
        """Remember that the file has content that a power cut would take."""
        status = self._fstat(descriptor)
        key = (status.st_dev, status.st_ino)
        if key not in self._unsynced:
            self._unsynced[key] = self._dup(descriptor)

    def is_file(self, descriptor: int) -> bool:
        """Say whether a descriptor is of a file, and not of a pipe or a terminal."""
        return stat.S_ISREG(self._fstat(descriptor).st_mode)

    def _strike(self, boundary: Boundary, half: Callable[[], object]) -> None:
        if self._fault == "torn" or (self._fault == "full" and boundary.is_write):
            half()
        if self._fault == "power":
            for descriptor in self._unsynced.values():
                self._ftruncate(descriptor, 0)
        if self._fault in KILLS:
            os.kill(os.getpid(), signal.SIGKILL)
        raise self._failure(boundary)

    def _stays_broken(self, boundary: Boundary) -> bool:
        if self._fault == "full":
            return boundary.call in _TAKES_SPACE
        return self._fault == "read-only"

    def _failure(self, boundary: Boundary) -> OSError:
        number = {"full": errno.ENOSPC, "read-only": errno.EROFS, "error": errno.EIO}[str(self._fault)]
        return OSError(number, os.strerror(number), boundary.place)

    def _name(self, place: object) -> str:
        if isinstance(place, int):
            try:
                return str(Path(f"/proc/self/fd/{place}").readlink())
            except OSError:
                return str(place)
        return os.fsdecode(place)

    def _wrapped_by_path(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *arguments: Any, **options: Any) -> Any:
            self.reach(name, path)
            if name == "truncate" and isinstance(path, int):
                self.written(path)
            return real(path, *arguments, **options)

        return call

    def _wrapped_by_descriptor(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(descriptor: int, *arguments: Any) -> Any:
            self.reach(name, descriptor)
            if name in ("fsync", "fdatasync"):
                status = self._fstat(descriptor)
                kept = self._unsynced.pop((status.st_dev, status.st_ino), None)
                if kept is not None:
                    os.close(kept)
            else:
                self.written(descriptor)
            return real(descriptor, *arguments)

        return call

    def _wrapped_write(self, name: str, real: Callable[..., int]) -> Callable[..., int]:
        def call(descriptor: int, data: Any, *arguments: Any) -> int:
            if self.is_file(descriptor):
                view = memoryview(data).cast("B")
                self.reach(name, descriptor, lambda: real(descriptor, view[: len(view) // 2], *arguments))
                self.written(descriptor)
            return real(descriptor, data, *arguments)

        return call

    def _wrapped_mkdir(self, real: Callable[..., None]) -> Callable[..., None]:
        def call(path: Any, *arguments: Any, **options: Any) -> None:
            if not os.path.lexists(path):  # the system looks whether it is there before it looks at the disk
                self.reach("mkdir", path)
            real(path, *arguments, **options)

        return call

    def _wrapped_open(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            creates = flags & os.O_CREAT and not os.path.lexists(path)
            if flags & _WRITING:
                self.reach("create" if creates else "open", path)
            return real(path, flags, *arguments, **options)

        return call

    def _wrapped_io_open(self, real: Callable[..., Any]) -> Callable[..., Any]:
        injector = self

        class CountedFile(io.FileIO):
            """A file whose writes are boundaries."""

            def write(self, data: Any) -> int:
                if injector.is_file(self.fileno()):
                    view = memoryview(data).cast("B")
                    real_write = super().write
                    injector.reach("write", self.fileno(), lambda: real_write(view[: len(view) // 2]))
                    injector.written(self.fileno())
                return super().write(data)

            def truncate(self, size: int | None = None) -> int:
                injector.reach("ftruncate", self.fileno())
                injector.written(self.fileno())
                return super().truncate(size)

        def call(
            file: Any,
            mode: str = "r",
            buffering: int = -1,
            encoding: str | None = None,
            errors: str | None = None,
            newline: str | None = None,
            closefd: bool = True,
            opener: Any = None,
        ) -> Any:
            if not set(mode) & set("wax+"):
                return real(file, mode, buffering, encoding, errors, newline, closefd, opener)
            if not isinstance(file, int) and opener is None:
                injector.reach("open" if os.path.lexists(file) else "create", file)
            raw = CountedFile(file, mode.replace("b", "").replace("t", ""), closefd, opener)
            if buffering == 0:
                return raw
            size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
            buffered = io.BufferedRandom(raw, size) if "+" in mode else io.BufferedWriter(raw, size)
            if "b" in mode:
                return buffered
            text = io.TextIOWrapper(buffered, encoding, errors, newline)
            text.mode = mode
            return text

        return call
