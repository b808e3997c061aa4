"""The images that an owner or user names: files, folders to walk, or a list of paths."""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from mipp_cli.errors import InvalidRequestError, Problem, UnreadableImageError
from mipp_cli.images.kinds import HEAD_BYTES, KINDS, Kind, kind_of
from mipp_cli.log import timed
from mipp_cli.names import name_of
from mipp_cli.scheme.envelope import IMAGE_LIMIT

_SETTLED_SECONDS = 3  # some file systems count by two


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image on disk, and the POSIX path by which its owner calls it, as :func:`name_of` gives it.

    ``location`` is kept as text where it can be: of a large collection there are many.
    """

    location: str | os.PathLike[str]
    name: str

    @property
    def path(self) -> Path:
        """Where the image lies."""
        return Path(self.location)

    def version(self) -> str:
        """Return what tells this version of the file from others: size, and times of writing and of change.

        Two files of one size from one archive may have been written at the same time, and one may be moved
        to the place of the other; the time of change is never set back. Where times are whole seconds, a file
        that was just written may be written again and look the same: such a version is like no other.
        """
        try:
            status = os.stat(self.location)  # noqa: PTH116 -- a Path for each image keeps its parts in memory
        except OSError:
            return "unreadable"
        version = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
        is_coarse = status.st_ctime_ns % 10**9 == 0
        if is_coarse and abs(time.time() - status.st_ctime) < _SETTLED_SECONDS:
            return f"{version} {secrets.token_hex(8)}"
        return version

    def kind(self) -> Kind | None:
        """Return the kind of picture that the file is by its content; None if of none, or unreadable."""
        try:
            if not stat.S_ISREG(os.stat(self.location).st_mode):  # noqa: PTH116 -- as above
                return None
            with open(self.location, "rb") as file:  # noqa: PTH123 -- as above
                return kind_of(file.read(HEAD_BYTES))
        except OSError:
            return None

    def read(self) -> bytes:
        """Return the file's bytes; raises UnreadableImageError."""
        try:
            status = os.stat(self.location)  # noqa: PTH116 -- as above
            if not stat.S_ISREG(status.st_mode):  # reading a pipe might never end
                raise UnreadableImageError("is not a regular file", path=self.path, hint="leave it out")
            if status.st_size > IMAGE_LIMIT:
                raise UnreadableImageError(
                    "the image is too large", path=self.path, hint="images of 2 GiB or more are refused"
                )
            with open(self.location, "rb") as file:  # noqa: PTH123 -- as above
                return file.read()
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise UnreadableImageError(
                f"cannot be read: {reason}", path=self.path, hint="check the path and the rights"
            ) from error


NO_PICTURE: Final = "is no picture"
PICTURE_SUFFIXES: Final = frozenset({*(kind.extension for kind in KINDS), ".jpeg", ".jfif", ".tiff", ".heif"})
"""Suffixes, in lower case, by which a file is called a picture."""


@timed("looking for images")
def collect_images(
    paths: Sequence[Path],
    *,
    root: Path | None = None,
    left_out: list[Problem] | None = None,
    passed_over: list[Problem] | None = None,
) -> list[ImageFile]:
    """Return the images that ``paths`` name, in order; folders are walked, their images sorted by path.

    In a folder, pictures are known by their content, whatever they are called; a file that is called as a
    picture is taken for one, too, so that a damaged one is missed. Linked folders are walked, each folder
    once. Hidden files and folders are not looked at, unless they are named themselves; other files of a
    folder are listed in ``passed_over``. An image is called by its path below the folder named, or below
    ``root``; a file named itself, by its name. With ``left_out``, folders that cannot be read are listed
    there and left out. Raises InvalidRequestError if nothing is named, a folder holds no images or cannot be
    read, a path lies outside ``root``, or two images would be called the same.
    """
    images = [*_found(paths, root, left_out, [] if passed_over is None else passed_over)]
    _check_names(images, "name each image once; give --root, below which paths differ")
    return images


def holds_pictures(folder: Path) -> bool:
    """Say whether :func:`collect_images` finds something in a folder, or may not look."""
    denied: list[Problem] = []
    return any(_walk(folder, denied, [])) or bool(denied)


@timed("looking for example images")
def collect_examples(paths: Sequence[Path]) -> list[ImageFile]:
    """Return the images that ``paths`` name, for whom names need not tell them apart.

    As :func:`collect_images`, but images that would be called the same are called by the path given; a
    path given twice is refused.
    """
    images = [*_found(paths, None, None, [])]
    times = Counter(image.name for image in images)
    named = [
        image if times[image.name] == 1 else ImageFile(image.location, name_of(image.location))
        for image in images
    ]
    _check_names(named, "name each image once")
    return named


def _check_names(images: Sequence[ImageFile], hint: str) -> None:
    if not images:
        raise InvalidRequestError("no images were named", hint="name image files or folders")
    seen: dict[str, ImageFile] = {}
    for image in images:
        other = seen.setdefault(image.name, image)
        if other is not image:
            raise InvalidRequestError(
                f"two images would be called '{image.name}': {other.path} and {image.path}",
                path=image.path,
                hint=hint,
            )


def _found(
    paths: Sequence[Path], root: Path | None, left_out: list[Problem] | None, passed_over: list[Problem]
) -> Iterator[ImageFile]:
    for path in paths:
        if not os.path.isdir(path):  # noqa: PTH112 -- Path.is_dir raises where a folder on the way is closed
            yield from _named([str(path)], root or path.parent)
            continue
        denied: list[Problem] | None = None if left_out is None else []
        found = sorted(_walk(path, denied, passed_over), key=os.fsencode)
        if not found and not denied:
            kinds = ", ".join(kind.name for kind in KINDS)
            raise InvalidRequestError("holds no images", path=path, hint=f"images are {kinds}")
        if left_out is not None:
            left_out += denied or []
        yield from _named(found, root or path)


def _named(found: Iterable[str], root: Path) -> Iterator[ImageFile]:
    for path in found:
        name = PurePosixPath(os.path.relpath(path, root)).as_posix()
        if name == "." or name.split("/")[0] == "..":
            raise InvalidRequestError(
                f"cannot be named: it is not below {root}", path=path, hint="rename or move it"
            )
        yield ImageFile(path, name_of(name))


def _walk(folder: Path, left_out: list[Problem] | None, passed_over: list[Problem]) -> Iterator[str]:
    """Yield the pictures in a folder and in all below it, each folder once however often it is linked."""

    def refuse(error: OSError) -> None:
        message = f"the folder cannot be read: {os.strerror(error.errno or 0)}"
        if left_out is None:
            raise InvalidRequestError(message, path=error.filename, hint="check the rights")
        left_out.append(Problem(error.filename, message))

    walked: set[str] = set()  # not by inode: on network file systems many have one, or one has many
    for directory, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        place = os.path.realpath(directory)
        if place in walked:
            passed_over.append(Problem(directory, "is a folder that was walked already, by a link"))
            folders.clear()
            continue
        walked.add(place)
        folders[:] = [name for name in folders if not name.startswith(".")]  # walk in what is not hidden
        for name in names:
            path = f"{directory}{os.sep}{name}"
            if name.startswith("."):
                continue
            if _is_picture(path):
                yield path
            else:
                passed_over.append(Problem(path, NO_PICTURE))


def _is_picture(path: str) -> bool:
    """Say whether a file is a picture by its first bytes, or is called as one."""
    if os.path.splitext(path)[1].lower() in PICTURE_SUFFIXES:  # noqa: PTH122 -- as above
        return True
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 -- as above; a pipe has no end
            return False
        with open(path, "rb") as file:  # noqa: PTH123 -- as above
            return kind_of(file.read(HEAD_BYTES)) is not None
    except OSError:
        return True  # that it cannot be read is said where it is read
