"""Handle what Pillow does not for TIFF files: signed, big-endian and inverted samples, and pages.

Sources: TIFF 6.0 (the tags named here); its supplement 2 for masks and reduced copies.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import numpy as np
from PIL import Image, TiffImagePlugin

from mipp_cli.errors import UnreadableImageError
from mipp_cli.images.grey_levels import is_deep
from mipp_cli.images.windowing import Samples

_SUBFILE, _BITS, _PHOTOMETRIC, _FORMAT, _SUBSAMPLING = 254, 258, 262, 339, 530
_BESIDE: Final = 1 | 4  # bits of pages that belong to another one: a smaller copy, or a transparency mask
_MAX_PAGES: Final = 100  # that are searched for the first independent picture
_UNSIGNED, _SIGNED = 1, 2
_WHITE_IS_ZERO: Final = 0
_YCBCR: Final = 6
_WHOLE: Final = (1, 1)
# libtiff unpacks to the byte order of the machine, whatever the file's.
_NATIVE: Final = {
    swapped: names[sys.byteorder == "big"]
    for names in (("I;16S", "I;16BS"), ("I;32S", "I;32BS"), ("F;32F", "F;32BF"))
    for swapped in names
}

# Layouts that Pillow can read in both byte orders, but only accepts in one.
_layouts: Any = TiffImagePlugin.OPEN_INFO
_layouts.setdefault((b"MM", 1, (1,), 1, (32,), ()), ("I", "I;32BS"))
_layouts.setdefault((b"MM", 1, (1,), 1, (12,), ()), ("I;16", "I;12"))
for (_order, _photometric, *_rest), _modes in [*_layouts.items()]:
    # Deep samples where white is zero have the same layout as others, but Pillow accepts only two kinds of
    # them; `mended` inverts them.
    if _photometric == 1 and _modes[0] in ("I;16", "I;16B", "I", "F"):
        _layouts.setdefault((_order, _WHITE_IS_ZERO, *_rest), _modes)


def prepare(image: TiffImagePlugin.TiffImageFile) -> None:
    """Seek the first picture of a file that is not a smaller copy or mask, and correct its byte order.

    Raises UnreadableImageError for pictures that Pillow would decode wrongly.
    """
    page = 0
    while page < _MAX_PAGES and _tag(image, _SUBFILE, 0) & _BESIDE:
        page += 1
        try:
            image.seek(page)
        except EOFError:
            image.seek(0)
            break
    if image.use_load_libtiff:
        image.tile = [
            tile._replace(args=(_NATIVE.get(tile.args[0], tile.args[0]), *tile.args[1:]))
            for tile in image.tile
            if isinstance(tile.args, tuple)
        ]
        return
    fewer = image.tag_v2.get(_SUBSAMPLING, (2, 2)) != _WHOLE and len(image.getbands()) > 1
    if fewer and _tag(image, _PHOTOMETRIC, 1) == _YCBCR:
        raise UnreadableImageError(
            "uncompressed subsampled colours are not supported",
            hint="convert the picture, or leave it out",
        )


def bits_of(image: TiffImagePlugin.TiffImageFile) -> int:
    """Return the stored bits of a sample; the decoder may keep fewer."""
    return int(max(image.tag_v2.get(_BITS, (1,))))


def mended(image: TiffImagePlugin.TiffImageFile) -> Image.Image | Samples:
    """Return a decoded picture with samples that ascend from dark to bright and whose sign is correct.

    Signed 8-bit samples are raised by half their range. Unsigned 32-bit samples are returned as an array if
    they exceed the range of Pillow's mode.
    """
    if _tag(image, _FORMAT, _UNSIGNED) == _SIGNED and image.mode == "L":
        return image.point([level ^ 128 for level in range(256)])
    if not is_deep(image):
        return image
    unsigned = _tag(image, _FORMAT, _UNSIGNED) == _UNSIGNED
    inverted = _tag(image, _PHOTOMETRIC, 1) == _WHITE_IS_ZERO
    beyond: Any = image.getextrema() if unsigned and image.mode == "I" else (0, 0)
    if not inverted and beyond[0] >= 0:
        return image
    samples = np.asarray(image)
    samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    if inverted and samples.dtype.kind == "f":
        samples = -samples
    elif inverted and unsigned and bits_of(image) < 8 * samples.itemsize:
        samples = ((1 << bits_of(image)) - 1 - samples).astype(samples.dtype)
    elif inverted:
        samples = np.invert(samples)  # the maximum minus v if unsigned, -1 - v if signed
    if unsigned and samples.dtype == np.int32 and int(samples.min()) < 0:
        return samples.view(np.uint32)
    return Image.fromarray(samples)


def _tag(image: TiffImagePlugin.TiffImageFile, tag: int, default: int) -> int:
    value = image.tag_v2.get(tag, default)
    return int(value[0] if isinstance(value, tuple) else value)
