"""Reading pictures that may be damaged or hostile: which formats, how large, and what is said of the rest."""

from __future__ import annotations

import io
import warnings
from contextlib import nullcontext
from typing import Final

from PIL import Image, ImageFile, UnidentifiedImageError

from mipp_cli.errors import UnreadableImageError, errors_at
from mipp_cli.images.grey_levels import exif_orientation
from mipp_cli.images.refusals import DAMAGED_HINT, MAX_PIXELS, check_size, damaged, too_large

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


def open_picture(data: bytes, *, path: str | None, at_least: tuple[int, int] | None = None) -> Image.Image:
    """Decode a picture file, given bit for bit, completely; threads may do so at the same time.

    Of a file with several pictures (MPO, TIFF pages, animations) the first is read. The picture is as
    stored, its EXIF orientation not yet applied (TIFF excepted, which Pillow turns upright itself), and holds
    no open file. ``path`` is what errors call the file. ``at_least`` is a width and height: a format
    that can (JPEG) may be decoded at a half, a quarter or an eighth of its size that is no smaller.

    Raises UnreadableImageError if the file is empty, in another format than JPEG, PNG, TIFF, BMP or WebP,
    damaged, cut short, or has more than :data:`MAX_PIXELS` pixels.
    """
    with errors_at(path) if path is not None else nullcontext():
        image, depth_lost = _decoded(data)
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


def _decoded(data: bytes) -> tuple[Image.Image, bool]:
    """Return a picture, and whether its colours were cut to 8 bits; raises UnreadableImageError."""
    if not data:
        raise UnreadableImageError("the file is empty", hint=DAMAGED_HINT)
    # For good: a filter that is taken back would be taken back from other threads, too.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        image = Image.open(io.BytesIO(data), formats=[*_MEDIA_TYPES])
        check_size(*image.size)
        depth_lost = _loses_colour_depth(image)
        image.load()
        # Reads and keeps the EXIF data now, while errors in it are caught.
        exif_orientation(image)
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError(
            "this is no JPEG, PNG, TIFF, BMP or WebP picture, or its header is damaged",
            hint="convert the file to one of these formats, or leave it out",
        ) from error
    except Image.DecompressionBombError as error:
        raise too_large(f"more than {MAX_PIXELS}") from error
    # Decoders meet hostile data here, and what they raise is not bounded by what they document.
    except Exception as error:
        raise damaged(error) from error
    return image, depth_lost


def _loses_colour_depth(image: ImageFile.ImageFile) -> bool:
    """Tell, before decoding, whether samples of 16 bits will be cut to 8: Pillow keeps 16 only for grey."""
    if image.mode.startswith("I"):
        return False
    # What a tile's decoder is told begins with the layout of the stored samples, as in "RGB;16B".
    return any(";16" in str(tile.args) for tile in image.tile)
