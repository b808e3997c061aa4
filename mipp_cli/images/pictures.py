"""Reading pictures that may be damaged or hostile: which formats, how large, and what is said of the rest."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final

from PIL import Image, ImageFile, UnidentifiedImageError

from mipp_cli.errors import UnreadableImageError
from mipp_cli.images.grey_levels import exif_orientation

MAX_PIXELS: Final = 2**27
"""Pixels a picture may have: 134 million, half a gigabyte decoded. Pillow's own limit lies above it."""

PICTURE_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"})
"""Suffixes, in lower case, of the files that a walk through a folder takes for pictures."""

COLOUR_DEPTH_LOST: Final = "mipp:colour-depth-lost"
"""Key in ``image.info`` of a colour picture whose samples of 16 bits were cut to 8 on reading."""

_FORMATS: Final = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")

_MEDIA_TYPES: Final = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",  # a JPEG file with further pictures behind the first
    "PNG": "image/png",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
    "WEBP": "image/webp",
}

_EXTENSIONS: Final = {
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/tiff": ".tif",
    "image/bmp": ".bmp",
    "image/webp": ".webp",
}

_DAMAGED_HINT: Final = "restore the file from its source, or leave it out"


def open_picture(data: bytes, *, path: str | None) -> Image.Image:
    """Decode a picture file completely.

    Of a file with several pictures (MPO, TIFF pages, animations) the first is read. Threads may call this
    at the same time; while one of them is in here, warnings that Pillow raises are not shown.

    Args:
        data: the file, bit for bit: JPEG, PNG, TIFF, BMP or WebP.
        path: what to call the file in errors.

    Returns:
        The picture as stored, its EXIF orientation not yet applied (TIFF excepted, which Pillow turns
        upright itself), holding no open file.

    Raises:
        UnreadableImageError: the file is empty, in another format, damaged, cut short, or has more than
            ``MAX_PIXELS`` pixels.
    """
    if not data:
        raise UnreadableImageError("the file is empty", path=path, hint=_DAMAGED_HINT)
    with _PILLOW.silenced():
        try:
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
            _check_size(image.size, path)
            depth_lost = _loses_colour_depth(image)
            image.load()
            # Reads and keeps the EXIF data now, so that a later look at it cannot warn.
            exif_orientation(image)
        except UnreadableImageError:
            raise
        except UnidentifiedImageError as error:
            raise UnreadableImageError(
                "this is no JPEG, PNG, TIFF, BMP or WebP picture, or its header is damaged",
                path=path,
                hint="convert the file to one of these formats, or leave it out",
            ) from error
        except Image.DecompressionBombError as error:
            raise _too_large(f"more than {MAX_PIXELS}", path) from error
        except MemoryError as error:
            raise UnreadableImageError(
                "there is not enough memory to decode the picture", path=path, hint="scale the picture down"
            ) from error
        # Decoders meet hostile data here, and what they raise is not bounded by what they document.
        except Exception as error:
            raise UnreadableImageError(
                f"the picture is damaged or cut short ({_reason(error)})", path=path, hint=_DAMAGED_HINT
            ) from error
    image.info.pop(COLOUR_DEPTH_LOST, None)
    if depth_lost:
        image.info[COLOUR_DEPTH_LOST] = True
    return image


def media_type(image: Image.Image) -> str:
    """Name the media type of the file that a picture was read from.

    Returns:
        "image/jpeg" and so on; "application/octet-stream" for a picture that comes from no such file.
    """
    return _MEDIA_TYPES.get(image.format or "", "application/octet-stream")


def extension(media_type: str) -> str:
    """Name the suffix, with its dot, of files of a media type; ".bin" for one that is not known."""
    return _EXTENSIONS.get(media_type, ".bin")


def _check_size(size: tuple[int, int], path: str | None) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise UnreadableImageError("the picture has no pixels", path=path, hint=_DAMAGED_HINT)
    if width * height > MAX_PIXELS:
        raise _too_large(f"{width}×{height}", path)


def _too_large(pixels: str, path: str | None) -> UnreadableImageError:
    return UnreadableImageError(
        f"the picture claims {pixels} pixels; the limit is {MAX_PIXELS}",
        path=path,
        hint="scale the picture down, or leave it out",
    )


def _loses_colour_depth(image: ImageFile.ImageFile) -> bool:
    """Tell, before decoding, whether samples of 16 bits will be cut to 8: Pillow keeps 16 only for grey."""
    if image.mode.startswith("I"):
        return False
    # What a tile's decoder is told begins with the layout of the stored samples, as in "RGB;16B".
    return any(";16" in str(tile.args) for tile in image.tile)


def _reason(error: Exception) -> str:
    """Quote an error of a decoder, in which bytes of the file may stand, on one line of bounded length."""
    words = " ".join(str(error).split()) or type(error).__name__
    return "".join(letter if letter.isprintable() else "?" for letter in words[:200])


@dataclass
class _WarningFilter:
    """Turns warnings off while at least one thread is inside, and back on when the last one leaves.

    ``warnings.catch_warnings`` alone swaps the filters of the whole process: of two threads that overlap,
    the later one out would leave them off for good.
    """

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _inside: int = 0
    _saved: ExitStack = field(default_factory=ExitStack)

    @contextmanager
    def silenced(self) -> Iterator[None]:
        with self._lock:
            if self._inside == 0:
                self._saved.enter_context(warnings.catch_warnings(action="ignore"))
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._saved.close()


_PILLOW: Final = _WarningFilter()
