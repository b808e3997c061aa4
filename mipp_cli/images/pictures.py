"""Reading pictures that may be damaged or hostile: which formats, how large, and what is said of the rest."""

from __future__ import annotations

import io
import warnings
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

FULL_SIZE: Final = "mipp:full-size"
"""Key in ``image.info`` of a picture that was decoded at a fraction of its size: (width, height) stored."""

_MEDIA_TYPES: Final = {
    "JPEG": "image/jpeg",
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


def open_picture(data: bytes, *, path: str | None, at_least: tuple[int, int] | None = None) -> Image.Image:
    """Decode a picture file, given bit for bit, completely; threads may do so at the same time.

    Of a file with several pictures (MPO, TIFF pages, animations) the first is read. The picture is as
    stored, its EXIF orientation not yet applied (TIFF excepted, which Pillow turns upright itself), and holds
    no open file. ``path`` is what errors call the file. ``at_least`` is a width and height: a format
    that can (JPEG) may be decoded at a half, a quarter or an eighth of its size that is no smaller.

    Raises UnreadableImageError if the file is empty, in another format than JPEG, PNG, TIFF, BMP or WebP,
    damaged, cut short, or has more than :data:`MAX_PIXELS` pixels.
    """
    if not data:
        raise UnreadableImageError("the file is empty", path=path, hint=_DAMAGED_HINT)
    # For good: a filter that is taken back would be taken back from other threads, too.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        image = Image.open(io.BytesIO(data), formats=[*_MEDIA_TYPES])
        _check_size(image.size, path)
        depth_lost, full_size = _loses_colour_depth(image), image.size
        if at_least is not None:
            image.draft(None, at_least)
        image.load()
        # Reads and keeps the EXIF data now, while errors in it are caught.
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
    image.info.pop(FULL_SIZE, None)
    if at_least is not None and image.size != full_size:
        image.info[FULL_SIZE] = full_size
    return image


def media_type(image: Image.Image) -> str:
    """Name the media type of the file that a picture was read from; "application/octet-stream" if of none."""
    kind = "JPEG" if image.format == "MPO" else image.format  # a JPEG file with further pictures in it
    return _MEDIA_TYPES.get(kind or "", "application/octet-stream")


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
