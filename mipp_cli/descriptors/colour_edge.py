"""The second built-in descriptor: the edge histogram plus a colour histogram, 168 codes.

Edges capture contours but not colour, which distinguishes most photographs. The colour histogram is global:
the position of colours adds little, and would multiply the number of codes.

Sources: Swain and Ballard, Color Indexing, International Journal of Computer Vision 7 (1991), for colour
histograms; Smith, Color Gamut Transform Pairs, SIGGRAPH 1978, for hue, saturation and value; MPEG-7 Visual,
ISO/IEC 15938-3, for the edges.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mipp_cli.descriptors.edge_histogram import edge_histogram
from mipp_cli.images.colours import upright_rgb
from mipp_cli.scheme.descriptor import COLOUR_EDGE_LEVELS

_GREYS: Final = 16
_HUES: Final = 8
_SATURATIONS: Final = 3
_VALUES: Final = 3
_COLOURS: Final = _GREYS + _HUES * _SATURATIONS * _VALUES

# Noise and chroma compression shift channels by less; below this chroma, a hue would be random.
_LEAST_CHROMA: Final = 16
_PIXELS_WANTED: Final = 1 << 14


def colour_edge(image: Image.Image) -> NDArray[np.uint8]:
    """Describe a picture by its edges and its colours, shape (168,), uint8, 0…31.

    The first 80 codes are those of :func:`edge_histogram`. The other 88 describe the colours of the whole
    picture: for the share c/n of pixels in a bin of :func:`colour_histogram`, the code is ⌊31·√(c/n) + ½⌋.
    With the square root, squared distances of codes are Hellinger distances of histograms, in which large
    bins do not dominate small ones. The factor 31 is the weight of colours against edges of 0…7; any factor
    from 20 to 31 ranks photographs and radiographs about equally well.

    Colours are those of :func:`upright_rgb`. Their codes are computed with integers only, so the same pixels
    have the same codes on every machine.

    Raises UnreadableImageError where :func:`edge_histogram` does.
    """
    # From the picture itself: for a grey one, three equal channels would take three times as long.
    edges = edge_histogram(image)
    counts = colour_histogram(upright_rgb(image))
    # ⌊√y + ½⌋ = ⌊(⌊√4y⌋ + 1) / 2⌋, and for integers below 2^52 the floating-point root has the right floor.
    doubled = np.sqrt(4 * (COLOUR_EDGE_LEVELS - 1) ** 2 * counts // counts.sum()).astype(np.uint8)
    return np.concatenate([edges, (doubled + np.uint8(1)) // np.uint8(2)])


def colour_histogram(rgb: Image.Image) -> NDArray[np.intp]:
    """Count the pixels of an RGB picture in each colour bin, shape (88,).

    A picture of W·H ≥ 4·2^14 pixels is first scaled down: with k = ⌊√⌊W·H / 2^14⌋⌋, each block of k×k pixels
    (smaller at the right and the bottom) becomes one pixel. Its level is the mean of the block's n levels
    with sum s, as rounded by Pillow's ``reduce``: ⌊(s + ⌊n/2⌋)·⌊2^24/n⌋ / 2^24⌋.

    With M and m the largest and smallest of a pixel's R, G and B, and C = M − m, a pixel has

    - if C < 16, no colour: bin ⌊(R + G + B) / 48⌋, the first 16 bins, from black to white;
    - else bin 16 + 9·hue + 3·saturation + value, with value = ⌊3·M / 256⌋, saturation =
      min(2, ⌊3·C / M⌋), and hue = ⌊(8·a + 3·C) / (6·C)⌋ mod 8, where a/C is the angle of the hue in units of
      60°: a = G − B if M = R; else 2·C + B − R if M = G; else 4·C + R − G. So hue 0 is the 45° around red,
      hue 1 the 45° after it towards yellow and green, and so on.

    """
    factor = math.isqrt(rgb.width * rgb.height // _PIXELS_WANTED)
    if factor > 1:
        rgb = rgb.reduce(factor)
    red, green, blue = (np.asarray(channel).ravel().astype(np.int16) for channel in rgb.split())
    most = np.maximum(np.maximum(red, green), blue)
    chroma = most - np.minimum(np.minimum(red, green), blue)
    angle = np.where(
        most == red,
        green - blue,
        np.where(most == green, 2 * chroma + blue - red, 4 * chroma + red - green),
    )
    # Divisions by zero occur only for grey pixels, whose result is not used.
    hue = (8 * angle + 3 * chroma) // np.maximum(6 * chroma, 1) % _HUES
    saturation = np.minimum(3 * chroma // np.maximum(most, 1), _SATURATIONS - 1)
    value = (_VALUES * most) >> 8
    bins = np.where(
        chroma < _LEAST_CHROMA,
        (red + green + blue) // (3 * 256 // _GREYS),
        _GREYS + (hue * _SATURATIONS + saturation) * _VALUES + value,
    )
    return np.bincount(bins, minlength=_COLOURS)
