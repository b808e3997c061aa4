"""A picture upright and at 8 bits a channel, as descriptors look at it."""

from __future__ import annotations

from typing import Final

from PIL import Image

from mipp_cli.images.grey_levels import exif_orientation, grey_or_rgb

# What turns stored pixels upright, by their EXIF orientation.
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
    """Return a picture of any mode as an upright one of mode L or RGB, as :func:`grey_or_rgb` reduces it.

    The EXIF orientation is applied, and then gone: turning the result again changes nothing. A picture that
    is of mode L or RGB and upright already may be returned itself, not a copy. Raises UnreadableImageError
    if the mode has no levels of known range (LAB).
    """
    image.load()  # at which Pillow turns a TIFF file upright itself, and drops its orientation
    return turned(grey_or_rgb(image), exif_orientation(image))


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Return stored pixels as their EXIF orientation of 1…8 demands; itself if they are upright.

    A copy has no EXIF data any more, so it is not turned again.
    """
    turn = _TURNS.get(orientation)
    if turn is None:
        return image
    copy = image.transpose(turn)
    copy.info = {}
    return copy


def upright_rgb(image: Image.Image) -> Image.Image:
    """Return a picture of any mode as :func:`upright` does, in mode RGB; grey becomes R = G = B."""
    plain = upright(image)
    return plain.convert("RGB") if plain.mode == "L" else plain
