"""Make small copies of pictures of any colour mode for a contact sheet.

Matches are large and many, and a sheet needs each only at the size of its cell. Owners' pictures are not
trusted: any failure to decode one becomes the same error.
"""

from __future__ import annotations

import math
from typing import Final

from PIL import Image

from mipp_cli.errors import UnreadableImageError
from mipp_cli.images.colours import turned
from mipp_cli.images.grey_levels import exif_orientation, grey_or_rgb, is_deep

Size = tuple[int, int]
_GAP: Final = 3.0  # box reduction stops at this multiple of the final size; reducing further would be visible
_PART: Final = 1024  # pixels per side that are reduced at once

NEUTRAL_GROUND: Final = (240, 238, 233)
"""The colour behind transparent pixels, and around a picture that does not fill its cell."""


def thumbnail(picture: Image.Image, size: Size, *, enlarge: float = 1.0) -> Image.Image:
    """Return an upright RGB copy of ``picture`` that fits into ``size`` = (width, height).

    The copy keeps the proportions and is at most ``enlarge`` times as large. The EXIF orientation is applied.
    Grey of more than 8 bits is windowed as for descriptors, so that the copy shows what is compared.
    Transparent pixels are laid over :data:`NEUTRAL_GROUND`. The picture itself is unchanged, except that
    Pillow loads it.

    Raises UnreadableImageError if the picture has no pixels or its data is damaged.
    """
    return _small(picture, size, enlarge, _GAP)


def reduced_to(picture: Image.Image, size: Size) -> Image.Image:
    """Return a copy as :func:`thumbnail` does, but scaled down by a whole factor.

    It may be half as large as ``size``. It takes almost no memory beside the picture and the copy.
    """
    return _small(picture, size, 1.0, None)


def _small(picture: Image.Image, size: Size, enlarge: float, gap: float | None) -> Image.Image:
    try:
        picture.load()
        orientation = exif_orientation(picture)
        room = size[::-1] if orientation >= 5 else size
        scale = min(enlarge, room[0] / picture.width, room[1] / picture.height)
        # A panorama's short side must not vanish.
        width, height = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        if gap is None:
            factor = max(1, math.ceil(1 / scale))
            reduced = _reduced(picture, (min(factor, picture.width), min(factor, picture.height)))
            return turned(_flat(reduced), orientation)
        factors = int(picture.width / width / gap) or 1, int(picture.height / height / gap) or 1
        whole = 0, 0, picture.width / factors[0], picture.height / factors[1]
        small = _reduced(picture, factors).resize((width, height), Image.Resampling.LANCZOS, whole)
        return turned(_flat(small), orientation)
    except Exception as error:  # Pillow's decoders raise anything for damaged files
        raise UnreadableImageError(f"the picture cannot be shown: {error}") from error


def _reduced(picture: Image.Image, factors: Size) -> Image.Image:
    """Return a picture in a mode that can be resized, scaled down by whole factors.

    It is done part by part, so that there is never a second copy of a large picture.
    """
    across, down = factors
    if factors == (1, 1):
        return _resizable(picture)
    picture = _resizable(picture) if is_deep(picture) else picture
    step_x, step_y = (each * (_PART // each or 1) for each in factors)
    mode = _resizable(picture.crop((0, 0, 1, 1))).mode
    small = Image.new(mode, (-(-picture.width // across), -(-picture.height // down)))
    for top in range(0, picture.height, step_y):
        for left in range(0, picture.width, step_x):
            box = left, top, min(left + step_x, picture.width), min(top + step_y, picture.height)
            part = _resizable(picture.crop(box)).reduce(factors)
            small.paste(part, (left // across, top // down))
    return small


def _resizable(picture: Image.Image) -> Image.Image:
    """Return the picture, or a copy in a mode whose pixels can be averaged: RGBA, RGB or L."""
    if is_deep(picture) or picture.mode == "1":
        return grey_or_rgb(picture)
    if picture.mode in ("RGBa", "La"):
        return picture.convert("LA" if picture.mode == "La" else "RGBA").convert("RGBA")
    wanted = "RGBA" if picture.has_transparency_data else "L" if picture.mode == "L" else "RGB"
    return picture if picture.mode == wanted else picture.convert(wanted)


def _flat(small: Image.Image) -> Image.Image:
    """Return a resized picture as RGB, its transparent pixels filled."""
    if small.mode == "RGBA":
        ground = Image.new("RGBA", small.size, NEUTRAL_GROUND)
        return Image.alpha_composite(ground, small).convert("RGB")
    return small if small.mode == "RGB" else small.convert("RGB")
