"""Partial work: images that an interrupted `owner encrypt` had done, kept in the owner's directory.

A *spool* holds the encrypted images of one upload to be, under that upload's sequence number. Nothing of it
has left the owner, so going on with it is as if the run had not been interrupted.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from mipp_cli.containers.atomic import output_error
from mipp_cli.containers.upload import UploadSize
from mipp_cli.errors import ConflictError, InvalidRequestError
from mipp_cli.roles.directory import RoleDirectory
from mipp_cli.roles.ledger import Ledger

_FOLDER = "partial"
_REQUEST_FILE = "request.json"
_HEAD = struct.Struct(">4sIQII")
_MAGIC = b"MPR1"
_DIGEST_BYTES = 32
SYNC_IMAGES = 64  # what was done since the last sync is done again


@dataclass(frozen=True)
class Record:
    """An encrypted image that waits for its upload.

    ``path`` is what its owner calls it, ``version`` tells the file that was read (size and time of
    change); ``name``, ``ew``, ``ef`` and ``eff`` go into the upload.
    """

    path: str
    version: str
    edgeless: bool
    name: str
    ew: bytes
    ef: bytes
    eff: bytes

    @property
    def size(self) -> int:
        """Bytes that it adds to an upload."""
        return len(self.ew) + len(self.ef) + len(self.eff)

    def pack(self) -> bytes:
        """Return the record as bytes, with a digest by which a torn write shows."""
        meta = json.dumps([self.path, self.version, self.edgeless, self.name]).encode()
        head = _HEAD.pack(_MAGIC, len(meta), len(self.ew), len(self.ef), len(self.eff))
        body = b"".join((head, meta, self.ew, self.ef, self.eff))
        return body + hashlib.sha256(body).digest()

    @classmethod
    def read(cls, file: BinaryIO) -> Record | None:
        """Read the next record; None at the end, or where a write was torn."""
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return None
        magic, *sizes = _HEAD.unpack(head)
        if magic != _MAGIC or sum(sizes) > os.fstat(file.fileno()).st_size:
            return None
        parts = [file.read(size) for size in sizes]
        digest = file.read(_DIGEST_BYTES)
        if hashlib.sha256(b"".join((head, *parts))).digest() != digest:
            return None
        path, version, edgeless, name = json.loads(parts[0])
        return cls(path, version, edgeless, name, *parts[1:])


class _Entry(NamedTuple):
    """Which version of an image is done, where it lies, and what it adds to its upload."""

    version: str
    number: int
    offset: int
    name_bytes: int
    ew_bytes: int


class PartialWork:
    """The spools of a run, one for each upload that it will write."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._sizes: dict[int, int] = {}
        self._earlier: dict[str, _Entry] = {}
        self._done: dict[str, _Entry] = {}
        self._spool: BinaryIO | None = None  # of the last upload; the others are complete
        self._since_sync = 0
        self.kept = 0

    @classmethod
    def begin(
        cls, directory: RoleDirectory, request: dict[str, Any], *, resume: bool | None, published: Ledger
    ) -> PartialWork:
        """Begin a run; with ``resume`` go on with an interrupted one, if there is one.

        What is in the ledger ``published`` has left the owner, and is not gone on
        with. Raises ConflictError if there is an interrupted run and ``resume`` is None,
        InvalidRequestError if it was asked for with other options.
        """
        folder = directory.path / _FOLDER
        if (folder / _REQUEST_FILE).exists() and resume is None:
            raise ConflictError(
                "an interrupted run left work behind",
                path=folder,
                hint="give --resume to go on with it, or --no-resume to throw it away",
            )
        if (folder / _REQUEST_FILE).exists() and resume:
            if directory.read_json(f"{_FOLDER}/{_REQUEST_FILE}") != request:
                raise InvalidRequestError(
                    "the interrupted run had other options, other features or another key",
                    path=folder,
                    hint="give the same options and the same file of features, or --no-resume to begin anew",
                )
            work = cls(folder)
            work._load(published)
            return work
        shutil.rmtree(folder, ignore_errors=True)
        directory.folder(_FOLDER)
        directory.write_json(f"{_FOLDER}/{_REQUEST_FILE}", request)
        return cls(folder)

    @staticmethod
    def forget_published(directory: RoleDirectory, published: Ledger) -> None:
        """Remove what a run left whose images all stand in the ledger: there is nothing to go on with."""
        folder = directory.path / _FOLDER
        if all(published.file(int(spool.stem)).exists() for spool in folder.glob("*.spool")):
            shutil.rmtree(folder, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.spool"

    def _load(self, published: Ledger) -> None:
        for path in sorted(self._folder.glob("*.spool")):
            number = int(path.stem)
            if published.file(number).exists():
                path.unlink()
                continue
            self._sizes[number] = 0
            with path.open("r+b") as spool:
                offset = 0
                while (record := Record.read(spool)) is not None:
                    self._earlier[record.path] = self._entry(number, offset, record)
                    offset = spool.tell()
                spool.truncate(offset)
        self.kept = len(self._earlier)

    def _entry(self, number: int, offset: int, record: Record) -> _Entry:
        self._sizes[number] += record.size
        return _Entry(record.version, number, offset, len(record.name.encode()), len(record.ew))

    @property
    def numbers(self) -> list[int]:
        """The sequence numbers of the uploads to be, ascending."""
        return sorted(self._sizes)

    @property
    def done(self) -> int:
        """How many images are done."""
        return len(self._done)

    def size(self, number: int) -> int:
        """Return how large an upload has become."""
        return self._sizes[number]

    def keep(self, path: str, version: str) -> bool:
        """Say whether this very version of an image was done by the interrupted run, and take it over."""
        entry = self._earlier.pop(path, None)
        if entry is None or entry.version != version:
            return False
        self._done[path] = entry
        return True

    def upload_size(self, number: int) -> UploadSize:
        """Return how large the upload will be that :meth:`records` fills."""
        entries = [entry for entry in self._done.values() if entry.number == number]
        names, images = (sum(each.name_bytes for each in entries), sum(each.ew_bytes for each in entries))
        return UploadSize(len(entries), names, images)

    def append(self, number: int, record: Record) -> None:
        """Add an image to the upload ``number``, the last; raises OutputError if the disk is full."""
        try:
            spool = self._open(number)
            offset = spool.tell()
            spool.write(record.pack())
            self._done[record.path] = self._entry(number, offset, record)
            self._since_sync += 1
            if self._since_sync >= SYNC_IMAGES:
                _sync(spool)
                self._since_sync, self.kept = 0, len(self._done) + len(self._earlier)
        except OSError as error:
            raise output_error(error, self._folder) from error

    def _open(self, number: int) -> BinaryIO:
        if self._spool is None or self._spool.name != str(self._path(number)):
            if self._spool is not None:
                _sync(self._spool)
                self._spool.close()
            self._path(number).touch(mode=0o600)
            self._sizes.setdefault(number, 0)
            self._spool = self._path(number).open("ab")
        return self._spool

    def records(self, number: int) -> Iterator[Record]:
        """Yield the images of an upload, each once, and none that the run did not ask for."""
        try:
            if self._spool is not None:
                self._spool.flush()
            with self._path(number).open("rb") as file:
                offset = 0
                while (record := Record.read(file)) is not None:
                    entry = self._done.get(record.path)
                    if entry is not None and (entry.number, entry.offset) == (number, offset):
                        yield record
                    offset = file.tell()
        except OSError as error:
            raise output_error(error, self._folder) from error

    def close(self) -> None:
        """Close the spool; what is worth going on with stays, the rest goes."""
        if self._spool is not None:
            with suppress(OSError):  # the disk is full: what was not written is done again
                self._spool.close()
        if not self.kept:
            self.remove()

    def remove(self) -> None:
        """Remove the partial work."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
