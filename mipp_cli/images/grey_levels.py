"""Compute the grey levels of a picture, from which the edge histogram is extracted.

This covers reading the EXIF orientation, turning pixels upright, reducing every colour mode to levels 0…255,
and enlarging small pictures. The mean of the channels and the scaling follow the MPEG-7 reference software,
because a difference of one level can change a code.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mipp_cli.errors import UnreadableImageError
from mipp_cli.images.windowing import windowed

GreyLevels = NDArray[np.uint8]

_ORIENTATION_TAG = 0x0112
_PART = 1 << 22  # pixels of a large picture that are processed at once


def exif_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of a picture, 1…8.

    It is 1 (upright) if there is none or it cannot be read: like viewers, we show a picture with damaged EXIF
    data as it is stored.
    """
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, struct.error):
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def turn_upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return a view of stored pixels, shape (height, width, …), turned upright by EXIF orientation (1…8)."""
    if orientation in (3, 4, 6, 7):
        pixels = pixels[::-1]
    if orientation in (2, 3, 7, 8):
        pixels = pixels[:, ::-1]
    return pixels.swapaxes(0, 1) if orientation >= 5 else pixels


def is_deep(image: Image.Image) -> bool:
    """Return whether a picture is grey of more than 8 bits, integer or float."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def grey_levels(image: Image.Image) -> GreyLevels:
    """Return the grey levels of a picture for the descriptor: floor((R + G + B) / 3), 0…255.

    Pillow converts palettes, CMYK and YCbCr to RGB. An alpha channel or a transparent colour is dropped, so
    hidden colours count like visible ones. Grey samples of 16 or 32 bits are windowed by the picture's own
    range (:func:`windowed`). The orientation is not applied. Raises UnreadableImageError if the mode has no
    grey levels.

    Source: the MPEG-7 reference software; ISO/IEC 15938-3 leaves the grey level open.
    """
    plain = grey_or_rgb(image)
    return np.asarray(plain) if plain.mode == "L" else _mean_of_channels(plain)


def grey_or_rgb(image: Image.Image) -> Image.Image:
    """Return a picture in mode L if it is grey, else in mode RGB: 8 bits per sample, no alpha channel.

    Modes are reduced, and errors raised, as by :func:`grey_levels`. The orientation is not applied. A
    picture in mode L or RGB is returned itself, not a copy.
    """
    if image.mode == "L":
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("LA", "La"):
        return image.getchannel(0)
    if is_deep(image):
        return Image.fromarray(windowed(np.asarray(image)).levels)
    return _as_rgb(image)


def scaled_up(grey: GreyLevels, height: int, width: int, scale: float) -> NDArray[np.uint8]:
    """Enlarge grey levels bilinearly by ``scale``, to ``height`` rows and ``width`` columns.

    Floating-point operations are in the order of the reference software, so that the levels are the same.
    """
    top, bottom, down = _neighbours(grey.shape[0], height, scale)
    left, right, across = _neighbours(grey.shape[1], width, scale)
    levels = grey.astype(np.float64)
    columns = levels[:, left] + across * (levels[:, right] - levels[:, left])
    return (columns[top] + down[:, None] * (columns[bottom] - columns[top]) + 0.5).astype(np.uint8)


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode in ("P", "PA") and "transparency" in image.info:
        # Pillow warns when a palette loses its transparency; here it is meant to.
        image = image.copy()
        del image.info["transparency"]
    if image.mode in ("RGBa", "PA"):
        image = image.convert("RGBA")
    if image.mode not in ("P", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"):
        raise UnreadableImageError(
            f"the grey levels of a picture in mode {image.mode} have no known range",
            hint="convert it to 8-bit or 16-bit grey, or to RGB",
        )
    return image.convert("RGB")


def _mean_of_channels(image: Image.Image) -> NDArray[np.uint8]:
    mean = np.empty((image.height, image.width), dtype=np.uint8)
    rows = max(1, _PART // image.width)
    for top in range(0, image.height, rows):
        part = image
        if rows < image.height:
            part = image.crop((0, top, image.width, min(top + rows, image.height)))
        # One channel after the other: a strided pass over RGB triples takes twice as long.
        red, green, blue = (np.frombuffer(part.tobytes("raw", each), dtype=np.uint8) for each in "RGB")
        total = np.add(red, green, dtype=np.uint16)
        total += blue
        total //= 3
        mean[top : top + rows] = total.reshape(part.height, part.width)
    return mean


def _neighbours(
    source: int, target: int, scale: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    position = np.arange(target) / scale
    before = np.floor(position).astype(np.intp)
    return before, np.minimum(before + 1, source - 1), position - before
