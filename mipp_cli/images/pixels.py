"""The pixel payload: the M×N pixel matrix that Algorithm 1 encrypts, as a PNG file without metadata."""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from PIL import Image

from mipp_cli.errors import UnreadableImageError
from mipp_cli.images.colours import turned
from mipp_cli.images.grey_levels import exif_orientation
from mipp_cli.images.refusals import MAX_PIXELS

_MAX_SIDE: Final = 1_000_000  # the reference PNG library refuses wider and taller pictures
_HINT: Final = "encrypt the file itself (--payload file), which keeps every bit"


def png_of_pixels(image: Image.Image) -> bytes:
    """Return a PNG file with exactly the pixels of a decoded picture; equal pictures give equal files.

    The EXIF orientation is applied. Palettes become their colours, a transparent colour becomes an alpha
    channel, and grey of more than 8 bits gets 16. CMYK, which PNG lacks, becomes RGB: not exactly, but as
    viewers show it. No metadata is kept: no EXIF data, text or profile.

    Raises UnreadableImageError if PNG cannot hold the pixels without loss (LAB, floating point, 16-bit
    grey with a transparent level, …), or there are too many.

    Source: Algorithm 1 of the MIPP paper, whose image is an M×N matrix of pixels.
    """
    width, height = image.size
    if not (1 <= width <= _MAX_SIDE and 1 <= height <= _MAX_SIDE and width * height <= MAX_PIXELS):
        raise UnreadableImageError(
            f"the picture has {width}×{height} pixels; the limit is 1 to {_MAX_SIDE} per side and "
            f"{MAX_PIXELS} in all",
            hint=_HINT,
        )
    plain = turned(_in_lossless_mode(image), exif_orientation(image))
    if plain is image:
        plain = image.copy()
    plain.info = {}  # Pillow would copy a profile
    png = io.BytesIO()
    # For photographs, higher levels take twice the time and save about 5 %.
    plain.save(png, format="PNG", compress_level=1)
    return png.getvalue()


def _in_lossless_mode(image: Image.Image) -> Image.Image:
    mode = image.mode
    transparent = image.has_transparency_data
    if mode == "CMYK":
        return image.convert("RGB")
    if mode in ("P", "PA"):
        return image.convert("RGBA" if transparent else "RGB")
    if mode in ("1", "L") and transparent:
        return image.convert("LA")
    if mode == "RGB" and transparent:
        return image.convert("RGBA")
    if mode in ("1", "L", "LA", "RGB", "RGBA"):
        return image
    if (mode == "I" or mode.startswith("I;16")) and not transparent:
        samples = np.asarray(image)
        if not 0 <= int(samples.min()) <= int(samples.max()) <= 0xFFFF:
            raise UnreadableImageError("the pixel payload holds only grey levels of 0 to 65535", hint=_HINT)
        return Image.fromarray(samples.astype(np.uint16))
    what = f"mode {mode} with a transparent level" if transparent else f"mode {mode}"
    raise UnreadableImageError(f"the pixel payload cannot hold a picture in {what} without loss", hint=_HINT)
