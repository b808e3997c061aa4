"""The pixel payload: the M×N pixel matrix that Algorithm 1 encrypts, and a PNG file out of it again.

A payload is 17 bytes of header and the matrix, nothing else::

    8 bytes  "MIPPPIX1"
    1 byte   layout of a pixel, a code of ``_LAYOUTS``
    4 bytes  width, big-endian
    4 bytes  height, big-endian
    rows from top to bottom, each from left to right, without padding between them; samples of 16 bits
    big-endian; in a picture of 1 bit, 8 pixels a byte, leftmost highest, each row filled up with 0 bits
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mipp_cli.errors import MalformedError, UnreadableImageError
from mipp_cli.images.grey_levels import exif_orientation, turn_upright
from mipp_cli.images.pictures import COLOUR_DEPTH_LOST, MAX_PIXELS

PIXELS_MEDIA_TYPE: Final = "application/x-mipp-pixels"
_MAGIC: Final = b"MIPPPIX1"
_HEADER: Final = struct.Struct(">8sBII")
_MAX_SIDE: Final = 1_000_000  # the reference PNG library refuses wider and taller pictures
_LIMIT: Final = f"the limit is 1 to {_MAX_SIDE} a side and {MAX_PIXELS} in all"
_HINT: Final = "encrypt the file itself (--payload file), which keeps every bit of it"


@dataclass(frozen=True)
class _Layout:
    """How the pixels of one mode of Pillow lie in a payload."""

    code: int
    mode: str
    bits: int

    def row_bytes(self, width: int) -> int:
        return (width * self.bits + 7) // 8


_LAYOUTS: Final = (
    _Layout(1, "1", 1),
    _Layout(2, "L", 8),
    _Layout(3, "LA", 16),
    _Layout(4, "RGB", 24),
    _Layout(5, "RGBA", 32),
    _Layout(6, "I;16", 16),
)


def pack_pixels(image: Image.Image) -> bytes:
    """Lay out the pixel matrix of a picture as the bytes that Algorithm 1 encrypts.

    Args:
        image: the picture, decoded. Its EXIF orientation is applied; a palette becomes the colours it
            stands for, a transparent colour becomes an alpha channel.

    Returns:
        The payload, from which :func:`unpack_pixels` makes a PNG file with exactly these pixels.

    Raises:
        UnreadableImageError: a PNG file cannot hold the pixels without loss (CMYK, floating point, 16-bit
            grey with a transparent level, …), they were cut to 8 bits on reading, or there are too many.

    Source: Algorithm 1 of the MIPP paper, whose image is an M×N matrix of pixels.
    """
    if not _fits_a_png(image.width, image.height):
        raise UnreadableImageError(
            f"the picture has {image.width}×{image.height} pixels; {_LIMIT}", hint=_HINT
        )
    if image.info.get(COLOUR_DEPTH_LOST):
        raise UnreadableImageError("the pixel payload holds colours of 8 bits, not of 16", hint=_HINT)
    image_as_stored = image
    image = _in_lossless_mode(image)
    layout = next(layout for layout in _LAYOUTS if layout.mode == image.mode)
    pixels = turn_upright(np.asarray(image), exif_orientation(image_as_stored))
    height, width = pixels.shape[:2]
    return _HEADER.pack(_MAGIC, layout.code, width, height) + _matrix_bytes(pixels)


def unpack_pixels(data: bytes) -> bytes:
    """Make a PNG file out of a pixel payload.

    Args:
        data: what :func:`pack_pixels` gave; checked as if an attacker had made it.

    Returns:
        The bytes of a PNG file with the pixels of the payload and no metadata.

    Raises:
        MalformedError: the header is not one, claims no pixels or too many, or does not fit the length of
            the data; or bits that fill up rows are set.
    """
    layout, width, height = _checked_header(data)
    pixels = memoryview(data)[_HEADER.size :]
    if layout.mode == "1":
        _check_filling(pixels, layout.row_bytes(width), width)
    raw_mode = "I;16B" if layout.mode == "I;16" else layout.mode
    png = io.BytesIO()
    Image.frombytes(layout.mode, (width, height), pixels, "raw", raw_mode).save(png, format="PNG")
    return png.getvalue()


def _fits_a_png(width: int, height: int) -> bool:
    return 1 <= width <= _MAX_SIDE and 1 <= height <= _MAX_SIDE and width * height <= MAX_PIXELS


def _in_lossless_mode(image: Image.Image) -> Image.Image:
    mode = image.mode
    transparent = image.has_transparency_data
    if mode in ("P", "PA"):
        return image.convert("RGBA" if transparent else "RGB")
    if mode in ("1", "L") and transparent:
        return image.convert("LA")
    if mode == "RGB" and transparent:
        return image.convert("RGBA")
    if mode in ("1", "L", "LA", "RGB", "RGBA"):
        return image
    if (mode == "I" or mode.startswith("I;16")) and not transparent:
        return _sixteen_bit_grey(image)
    what = f"mode {mode} with a transparent level" if transparent else f"mode {mode}"
    raise UnreadableImageError(f"the pixel payload cannot hold a picture of {what} without loss", hint=_HINT)


def _sixteen_bit_grey(image: Image.Image) -> Image.Image:
    samples = np.asarray(image)
    if samples.size and not 0 <= int(samples.min()) <= int(samples.max()) <= 0xFFFF:
        raise UnreadableImageError("the pixel payload holds grey levels of 0 to 65535 only", hint=_HINT)
    return Image.fromarray(samples.astype(np.uint16))


def _matrix_bytes(pixels: NDArray[Any]) -> bytes:
    if pixels.dtype == np.bool_:
        return np.packbits(pixels, axis=1).tobytes()
    if pixels.dtype.itemsize == 2:
        return pixels.astype(">u2").tobytes()
    return pixels.tobytes()


def _checked_header(data: bytes) -> tuple[_Layout, int, int]:
    if len(data) < _HEADER.size:
        raise MalformedError("the pixel payload is shorter than its header")
    magic, code, width, height = _HEADER.unpack_from(data)
    layout = next((layout for layout in _LAYOUTS if layout.code == code), None)
    if magic != _MAGIC or layout is None:
        raise MalformedError("the pixel payload has no header of a known kind")
    if not _fits_a_png(width, height):
        raise MalformedError(f"the pixel payload claims {width}×{height} pixels; {_LIMIT}")
    wanted = _HEADER.size + layout.row_bytes(width) * height
    if len(data) != wanted:
        raise MalformedError(f"the pixel payload has {len(data)} bytes; its header asks for {wanted}")
    return layout, width, height


def _check_filling(pixels: memoryview, row_bytes: int, width: int) -> None:
    """Refuse filling that is not 0: two payloads of one picture must not differ."""
    last_bytes = np.frombuffer(pixels, dtype=np.uint8)[row_bytes - 1 :: row_bytes]
    if (last_bytes & (0xFF >> ((width - 1) % 8 + 1))).any():
        raise MalformedError("bits that fill up a row of the pixel payload are set")
