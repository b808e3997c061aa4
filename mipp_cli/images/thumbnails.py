"""Small copies of pictures for a contact sheet, whatever their colour mode.

Matches are large and many; a sheet needs each only at the size of its cell. What comes from an owner is not
trusted to be a sound picture: every way in which it can fail to decode is one error.
"""

from __future__ import annotations

from typing import Final

from PIL import Image, ImageOps

from mipp_cli.errors import UnreadableImageError
from mipp_cli.images.grey_levels import grey_or_rgb, is_deep

Size = tuple[int, int]

NEUTRAL_GROUND: Final = (240, 238, 233)
"""What shows through transparent pixels, and around a picture that does not fill its cell."""


def thumbnail(picture: Image.Image, size: Size, *, enlarge: float = 1.0) -> Image.Image:
    """Return an upright RGB copy of ``picture`` that fits into ``size`` = (width, height).

    The copy keeps the proportions and is at most ``enlarge`` times as large. The orientation tag is applied.
    Greys of more than 8 bits are windowed as for descriptors, so that one sees what is compared.
    Transparency is laid over :data:`NEUTRAL_GROUND`; palettes, CMYK and bilevel pictures become plain
    colours. The picture itself stays as it is, except that Pillow loads it.

    Raises :class:`UnreadableImageError` if the picture has no pixels or its data is damaged.
    """
    try:
        picture.load()
        upright = _resizable(ImageOps.exif_transpose(picture))
        scale = min(enlarge, size[0] / upright.width, size[1] / upright.height)
        # A panorama's short side must not vanish.
        width, height = max(1, round(upright.width * scale)), max(1, round(upright.height * scale))
        return _flat(upright.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0))
    except Exception as error:  # of damaged files, Pillow's decoders raise whatever comes
        raise UnreadableImageError(f"the picture cannot be shown: {error}") from error


def _resizable(picture: Image.Image) -> Image.Image:
    """Return the picture in a mode whose pixels may be averaged: RGBA or RGB."""
    if is_deep(picture):
        return grey_or_rgb(picture).convert("RGB")
    if picture.mode in ("RGBa", "La"):
        return picture.convert("LA" if picture.mode == "La" else "RGBA").convert("RGBA")
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB")


def _flat(small: Image.Image) -> Image.Image:
    """Return a resized picture as RGB, its transparency filled."""
    if small.mode == "RGBA":
        ground = Image.new("RGBA", small.size, NEUTRAL_GROUND)
        return Image.alpha_composite(ground, small).convert("RGB")
    return small
