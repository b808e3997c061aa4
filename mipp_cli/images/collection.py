"""Collect the images that an owner or user names: files, folders to walk, or a list of paths."""

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

_SETTLED_SECONDS = 3  # some file systems store times in steps of two seconds


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image on disk, and its name: the POSIX path that :func:`name_of` returns.

    ``location`` is text where possible, which saves memory in a large collection.
    """

    location: str | os.PathLike[str]
    name: str

    @property
    def path(self) -> Path:
        """The location of the image."""
        return Path(self.location)

    def version(self) -> str:
        """Return a text that identifies this version of the file: its size, mtime and ctime.

        Two files from one archive may have equal sizes and mtimes, and one may replace the other; the ctime
        is never set back. Where times are whole seconds, a file just written could be written again without
        a visible change, so its version is unique to this call.
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
        """Return the kind of picture from the content; None if it is not a picture, or unreadable."""
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
                f"cannot be read: {reason}", path=self.path, hint="check the path and its permissions"
            ) from error


NO_PICTURE: Final = "is not a picture"
PICTURE_SUFFIXES: Final = frozenset({*(kind.extension for kind in KINDS), ".jpeg", ".jfif", ".tiff", ".heif"})
"""Suffixes, in lower case, of picture files."""


@timed("looking for images")
def collect_images(
    paths: Sequence[Path],
    *,
    root: Path | None = None,
    left_out: list[Problem] | None = None,
    passed_over: list[Problem] | None = None,
) -> list[ImageFile]:
    """Return the images that ``paths`` name, in order; folders are walked, their images sorted by path.

    In a folder, pictures are recognised by their content, whatever their name. A file with a picture's
    suffix counts as one, too, so that a damaged picture is reported. Links to folders are followed, and each
    folder is walked once. Hidden files and folders are skipped unless named in ``paths``; other files of a
    folder are listed in ``passed_over``. An image's name is its path relative to ``root`` or to the folder
    in ``paths``; for a file in ``paths``, its file name. With ``left_out``, folders that cannot be read are
    listed there and skipped. Raises InvalidRequestError if there are no paths, a folder has no images or
    cannot be read, a path is outside ``root``, or two images would have the same name.
    """
    images = [*_found(paths, root, left_out, [] if passed_over is None else passed_over)]
    _check_names(images, "name each image once, or give a --root below which their paths differ")
    return images


def holds_pictures(folder: Path) -> bool:
    """Return whether :func:`collect_images` finds images in a folder or is denied access to it."""
    denied: list[Problem] = []
    return any(_walk(folder, denied, [])) or bool(denied)


@timed("looking for example images")
def collect_examples(paths: Sequence[Path]) -> list[ImageFile]:
    """Return the images that ``paths`` name as :func:`collect_images` does, but allow equal names.

    Images that would have the same name are named by the path given instead; a path given twice is refused.
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
        raise InvalidRequestError("no images were given", hint="name image files or folders")
    seen: dict[str, ImageFile] = {}
    for image in images:
        other = seen.setdefault(image.name, image)
        if other is not image:
            raise InvalidRequestError(
                f"two images would have the name '{image.name}': {other.path} and {image.path}",
                path=image.path,
                hint=hint,
            )


def _found(
    paths: Sequence[Path], root: Path | None, left_out: list[Problem] | None, passed_over: list[Problem]
) -> Iterator[ImageFile]:
    for path in paths:
        if not os.path.isdir(path):  # noqa: PTH112 -- Path.is_dir raises if a parent folder is inaccessible
            yield from _named([str(path)], root or path.parent)
            continue
        denied: list[Problem] | None = None if left_out is None else []
        found = sorted(_walk(path, denied, passed_over), key=os.fsencode)
        if not found and not denied:
            kinds = ", ".join(kind.name for kind in KINDS)
            raise InvalidRequestError("contains no images", path=path, hint=f"supported kinds are {kinds}")
        if left_out is not None:
            left_out += denied or []
        yield from _named(found, root or path)


def _named(found: Iterable[str], root: Path) -> Iterator[ImageFile]:
    for path in found:
        name = PurePosixPath(os.path.relpath(path, root)).as_posix()
        if name == "." or name.split("/")[0] == "..":
            raise InvalidRequestError(
                f"is not below {root}, so it has no name", path=path, hint="move it, or give another --root"
            )
        yield ImageFile(path, name_of(name))


def _walk(folder: Path, left_out: list[Problem] | None, passed_over: list[Problem]) -> Iterator[str]:
    """Yield the pictures in a folder and its subfolders; each folder is walked once, even if linked."""

    def refuse(error: OSError) -> None:
        message = f"the folder cannot be read: {os.strerror(error.errno or 0)}"
        if left_out is None:
            raise InvalidRequestError(message, path=error.filename, hint="check its permissions")
        left_out.append(Problem(error.filename, message))

    walked: set[str] = set()  # by path: on network file systems, inodes do not identify folders
    for directory, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        place = os.path.realpath(directory)
        if place in walked:
            passed_over.append(Problem(directory, "is a link to a folder that is walked already"))
            folders.clear()
            continue
        walked.add(place)
        folders[:] = [name for name in folders if not name.startswith(".")]  # do not walk hidden folders
        for name in names:
            path = f"{directory}{os.sep}{name}"
            if name.startswith("."):
                continue
            if _is_picture(path):
                yield path
            else:
                passed_over.append(Problem(path, NO_PICTURE))


def _is_picture(path: str) -> bool:
    """Return whether a file has a picture's suffix or first bytes."""
    if os.path.splitext(path)[1].lower() in PICTURE_SUFFIXES:  # noqa: PTH122 -- no Path for each file
        return True
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 -- as above; a pipe has no end
            return False
        with open(path, "rb") as file:  # noqa: PTH123 -- as above
            return kind_of(file.read(HEAD_BYTES)) is not None
    except OSError:
        return True  # reading it will report the error
