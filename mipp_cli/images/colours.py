"""The colours of a picture, upright and 8 bits a channel, for descriptors that look at them."""

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


def upright_rgb(image: Image.Image, *, grey_bits: int = 16) -> Image.Image:
    """Return a picture of any mode as an upright one of mode RGB, 8 bits a channel.

    The EXIF orientation is applied, and then gone: turning the result again changes nothing. Palettes, CMYK
    and YCbCr become RGB as Pillow does it; an alpha channel or a transparent colour is dropped. Grey becomes
    R = G = B; of grey samples of 16 or 32 bits ``grey_bits`` are significant, 8…16: a sample v becomes
    min(255, v >> (grey_bits − 8)), a negative one 0. An RGB picture that is upright already may be returned
    itself, not a copy.

    Raises UnreadableImageError if the mode has no levels of known range (F, LAB), InvalidRequestError if
    ``grey_bits`` is out of range.
    """
    image.load()  # at which Pillow turns a TIFF file upright itself, and drops its orientation
    plain = grey_or_rgb(image, grey_bits=grey_bits)
    rgb = plain.convert("RGB") if plain.mode == "L" else plain
    turn = _TURNS.get(exif_orientation(image))
    if turn is None:
        return rgb
    upright = rgb.transpose(turn)
    # The copy took the EXIF data along, and with them the orientation.
    upright.info = {}
    return upright
