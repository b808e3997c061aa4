"""Descriptions of images, written by the first pass of `owner encrypt` and kept for ``--resume``.

They are stored in `partial/` in the owner's directory until all uploads of the run are written. They contain
features, plain and encrypted, but no images: the second pass reads each picture again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from typing import Any, BinaryIO, NamedTuple

from mipp_cli.errors import ConflictError, InvalidRequestError
from mipp_cli.files.folders import is_there
from mipp_cli.files.system_errors import output_error
from mipp_cli.images.collection import ImageFile
from mipp_cli.owner.described_image import DescribedImage, PictureFacts
from mipp_cli.workdir.directory import RoleDirectory

_FOLDER = "partial"
_FILE = f"{_FOLDER}/descriptions"
_REQUEST_FILE = f"{_FOLDER}/request.json"
SYNC_IMAGES = 256  # a crash loses what came after the last sync: seconds of work


class Described(NamedTuple):
    """The offset of an image's description, and the sizes needed to assign the image to an upload."""

    offset: int
    sealed_bytes: int
    feature_bytes: int

    @classmethod
    def at(cls, offset: int, image: DescribedImage) -> Described:
        """Return the entry of an image whose description is at ``offset``."""
        return cls(offset, image.sealed_bytes, sum(map(len, image.features)))


def is_interrupted(directory: RoleDirectory, request: dict[str, Any], *, resume: bool | None) -> bool:
    """Return whether an interrupted run left descriptions.

    Raises ConflictError if one did and ``resume`` is None, InvalidRequestError if it is to be resumed but had
    other options.
    """
    interrupted = is_there(directory.file(_REQUEST_FILE))
    if interrupted and resume is None:
        raise ConflictError(
            "an interrupted run left descriptions of images",
            path=directory.file(_FOLDER),
            hint="give --resume to continue it, or --no-resume to discard them",
        )
    if interrupted and resume and directory.read_json(_REQUEST_FILE) != request:
        raise InvalidRequestError(
            "the interrupted run had another --payload or other --features",
            path=directory.file(_FOLDER),
            hint="give the same options and the same features file, or start again with --no-resume",
        )
    return interrupted


class Descriptions:
    """The descriptions of a run; ``done`` lists those of the images that it sends.

    With ``resume`` an interrupted run is continued, if there is one. ``kept`` is how many of the descriptions
    are safe on disk; if none is, :meth:`close` removes them all. Raises what :func:`is_interrupted` raises.
    """

    def __init__(self, directory: RoleDirectory, request: dict[str, Any], *, resume: bool | None):
        self._directory, self._request = directory, request
        self._folder, self._path = directory.file(_FOLDER), directory.file(_FILE)
        self._earlier: dict[str, Described] = {}
        self.done: dict[str, Described] = {}
        self._file: BinaryIO | None = None
        self._end = self._since_sync = 0
        self._flushed = True
        self.kept = 0
        # until it has begun, files there belong to another run
        self._begun = is_interrupted(directory, request, resume=resume) and bool(resume)
        if self._begun and is_there(self._path):
            self._load()

    def _load(self) -> None:
        with self._path.open("r+b") as file:
            offset = 0
            while (description := DescribedImage.read(file)) is not None:
                self._earlier[description.path] = Described.at(offset, description)
                offset = file.tell()
            file.truncate(offset)
        self.kept = len(self._earlier)

    def left(self, names: Collection[str]) -> int:
        """Return how many of the images a resumed run need not describe again if this one ends now."""
        return len(self.done) + sum(name in names for name in self._earlier) if self.kept else 0

    def keep(self, image: ImageFile) -> bool:
        """Reuse the interrupted run's description of this version of an image; return whether it has one."""
        entry = self._earlier.pop(image.name, None)
        if entry is None or self._at(entry.offset).version != image.version():
            return False
        self.done[image.name] = entry
        return True

    def append(self, description: DescribedImage) -> None:
        """Add a description; raises OutputError if the disk is full."""
        try:
            file = self._open()
            entry, line = Described.at(self._end, description), description.pack()
            file.write(line)
            self._end += len(line)
            self._flushed = False
            self.done[description.path] = entry
            self._since_sync += 1
            if self._since_sync >= SYNC_IMAGES:
                self._flush(file)
                os.fsync(file.fileno())
                self._since_sync, self.kept = 0, len(self.done) + len(self._earlier)
        except OSError as error:
            raise output_error(error, self._folder) from error

    def forget(self, path: str) -> None:
        """Have a resumed run describe an image again, because its file has changed."""
        self.append(replace(self.read(path), version=""))
        del self.done[path]

    def _open(self) -> BinaryIO:
        if self._file is None:
            if not self._begun:
                self.remove()
                self._begun = True
                self._directory.folder(_FOLDER)
                self._directory.write_json(_REQUEST_FILE, self._request)
            self._path.touch(mode=0o600)
            self._file = self._path.open("ab+")
            self._end = self._file.seek(0, os.SEEK_END)
        return self._file

    def _flush(self, file: BinaryIO) -> None:
        file.flush()
        self._flushed = True

    def read(self, path: str) -> DescribedImage:
        """Return the description of an image; raises OutputError if the disk cannot be read."""
        return self._at(self.done[path].offset)

    def facts(self, path: str) -> PictureFacts:
        """Return what a report says of an image; raises OutputError if the disk cannot be read."""
        return self.read(path).facts

    def _at(self, offset: int) -> DescribedImage:
        try:
            file = self._open()
            if not self._flushed:
                self._flush(file)
            file.seek(offset)
            description = DescribedImage.read(file)
        except OSError as error:
            raise output_error(error, self._folder) from error
        if description is None:
            raise ConflictError(
                "changed while the command ran", path=self._path, hint="run it again with --no-resume"
            )
        return description

    def put_back(self, path: str) -> None:
        """Take an image out of this run; its description stays available to a resumed one."""
        self._earlier[path] = self.done.pop(path)

    def close(self) -> None:
        """Close the file, and remove it unless it holds enough to be worth resuming."""
        if self._file is not None:
            with suppress(OSError):  # the disk is full: what was not written will be described again
                self._file.close()
        if self._begun and not self.kept:
            self.remove()

    def remove(self) -> None:
        """Remove the descriptions: there is nothing left to resume."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self.kept = 0


class Rehearsal:
    """The results of a dry run: like :class:`Descriptions`, but only facts, and only in memory."""

    def __init__(self) -> None:
        self.done: dict[str, PictureFacts] = {}

    def keep(self, image: ImageFile) -> bool:
        """Return False: a dry run does not use what an interrupted run left."""
        return False

    def append(self, description: DescribedImage) -> None:
        """Add the facts of an image."""
        self.done[description.path] = description.facts

    def facts(self, path: str) -> PictureFacts:
        """Return what a report says of an image."""
        return self.done[path]

    def put_back(self, path: str) -> None:
        """Drop an image that would not be sent after all."""
        del self.done[path]

    def remove(self) -> None:
        """Do nothing: nothing is kept on disk."""
