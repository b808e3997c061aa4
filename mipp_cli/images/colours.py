"""Turn pictures upright and reduce them to 8 bits per channel, as descriptors need them."""

from __future__ import annotations

from typing import Final

from PIL import Image

from mipp_cli.images.grey_levels import exif_orientation, grey_or_rgb

# The transposition that turns stored pixels upright, by EXIF orientation.
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(image: Image.Image) -> Image.Image:
    """Return a picture of any mode upright and in mode L or RGB, as :func:`grey_or_rgb` reduces it.

    The EXIF orientation is applied and removed, so turning the result again changes nothing. A picture that
    is upright and in mode L or RGB may be returned itself, not a copy. Raises UnreadableImageError if the
    range of the mode's levels is unknown (LAB).
    """
    image.load()  # Pillow turns a TIFF file upright here, and drops its orientation
    return turned(grey_or_rgb(image), exif_orientation(image))


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Turn stored pixels upright by their EXIF orientation (1…8); return the image itself if they are.

    A copy has no EXIF data, so it is not turned again.
    """
    turn = _TURNS.get(orientation)
    if turn is None:
        return image
    copy = image.transpose(turn)
    copy.info = {}
    return copy


def upright_rgb(image: Image.Image) -> Image.Image:
    """Return a picture as :func:`upright` does, but always in mode RGB; grey becomes R = G = B."""
    plain = upright(image)
    return plain.convert("RGB") if plain.mode == "L" else plain
