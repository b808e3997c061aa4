"""The image feature: the MPEG-7 Edge Histogram Descriptor, 80 codes of 0…7.

The picture is divided into 4×4 sub-images. Each small block of a sub-image votes for its strongest kind of
edge, and the five shares of each sub-image are quantised to three bits.

Source: MPEG-7 Visual, ISO/IEC 15938-3, Edge Histogram, and its reference software (the eXperimentation
Model); section 3.1 of the MIPP paper takes it as the feature F = (x_1, …, x_l) with l = 80.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mipp_cli.errors import UnreadableImageError
from mipp_cli.images.grey_levels import GreyLevels, exif_orientation, grey_levels, scaled_up, turn_upright
from mipp_cli.scheme.descriptor import DIMENSION, EDGE_HISTOGRAM, Descriptor

_GRID = 4
_SUB_IMAGES = _GRID * _GRID
_KINDS = 5
_SHORTEST_SIDE = 70
_BLOCKS_WANTED = 1100
_THRESHOLD = 11.0

# Rows: vertical, horizontal, 45°, 135°, non-directional; as published with the standard.
_QUANTISER = np.array(
    [
        [0.010867, 0.057915, 0.099526, 0.144849, 0.195573, 0.260504, 0.358031, 0.530128],
        [0.012266, 0.069934, 0.125879, 0.182307, 0.243396, 0.314563, 0.411728, 0.564319],
        [0.004193, 0.025852, 0.046860, 0.068519, 0.093286, 0.123490, 0.161505, 0.228960],
        [0.004174, 0.025924, 0.046232, 0.067163, 0.089655, 0.115391, 0.151904, 0.217745],
        [0.006778, 0.051667, 0.108650, 0.166257, 0.224226, 0.285691, 0.356375, 0.450972],
    ]
)
_MIDPOINTS = (_QUANTISER[:, :-1] + _QUANTISER[:, 1:]) / 2.0

# A column of booleans weighted by _PLACES and summed is an index into _FIRST_PLACE, which gives the position
# of the first true one. argmax takes six times as long.
_PLACES = np.array([[32], [16], [8], [4], [2], [1]], dtype=np.uint8)
_FIRST_PLACE = np.array([6 - number.bit_length() for number in range(64)], dtype=np.intp)


def edge_histogram(image: Image.Image) -> NDArray[np.uint8]:
    """Describe a picture by its edges: the MPEG-7 Edge Histogram Descriptor, shape (80,).

    Codes 0…7, for the sub-images row by row, in each for vertical, horizontal, 45°, 135° and non-directional
    edges. The EXIF orientation is applied; grey levels are those of :func:`grey_levels`.

    Raises UnreadableImageError if the picture has no grey levels, or is so narrow that a sub-image contains
    no block (never for an aspect ratio up to 22 to 1).

    Source: MPEG-7 Visual, ISO/IEC 15938-3, Edge Histogram; the MIPP paper, section 3.1.
    """
    grey = turn_upright(grey_levels(image), exif_orientation(image))
    return quantise(edge_shares(grey))


def is_edgeless(descriptor: Descriptor, codes: NDArray[np.uint8]) -> bool:
    """Return whether a feature is an edge histogram without information: all its codes are 0.

    This is the case for a picture without any edge (one colour, or contrast below the threshold of 11 grey
    levels), and for one whose edges are too few for any share to exceed the lowest level. A search cannot
    distinguish such pictures, so callers count them and warn.
    """
    return descriptor.name == EDGE_HISTOGRAM and not codes.any()


def edge_shares(grey: GreyLevels) -> NDArray[np.float64]:
    """Return the share of blocks with each kind of edge, per sub-image, shape (16, 5).

    A side shorter than 70 pixels is first scaled up to 70. Blocks without an edge count in the total. Raises
    UnreadableImageError if a sub-image contains no block.
    """
    height, width = grey.shape
    scale = _SHORTEST_SIDE / min(height, width) if min(height, width) < _SHORTEST_SIDE else 1.0
    grid = _block_grid(int(height * scale + 0.5), int(width * scale + 0.5))
    if scale != 1.0:
        grey = scaled_up(grey, grid.height, grid.width, scale)
    votes = np.bincount(grid.first_bin + _strongest_edge(grey, grid), minlength=_SUB_IMAGES * (_KINDS + 1))
    counts = votes.reshape(_SUB_IMAGES, _KINDS + 1)
    shares: NDArray[np.float64] = counts[:, :_KINDS] / counts.sum(axis=1, keepdims=True)
    return shares


def quantise(shares: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Quantise shares of edges to three bits, each kind of edge with its own row of the standard's table.

    The code of a share r is the first j with r ≤ (T[j] + T[j+1]) / 2, else 7.
    """
    codes: NDArray[np.uint8] = (shares[:, :, None] > _MIDPOINTS).sum(axis=2, dtype=np.uint8)
    return codes.reshape(DIMENSION)


@dataclass(frozen=True)
class _BlockGrid:
    """The grid of blocks of a picture: ``rows`` × ``columns`` squares of ``2 * half`` pixels.

    ``first_bin`` is, for each block, row by row, the first bin of its sub-image; a sub-image has one bin per
    kind of edge and one for none.
    """

    height: int
    width: int
    half: int
    rows: int
    columns: int
    first_bin: NDArray[np.intp]


@lru_cache(maxsize=64)
def _block_grid(height: int, width: int) -> _BlockGrid:
    half = max(1, int(math.sqrt(width * height // _BLOCKS_WANTED) / 2))
    rows, columns = height // (2 * half), width // (2 * half)
    band = np.arange(rows) * (2 * half * _GRID) // height
    stripe = np.arange(columns) * (2 * half * _GRID) // width
    if not (np.bincount(band, minlength=_GRID).all() and np.bincount(stripe, minlength=_GRID).all()):
        raise UnreadableImageError(
            "the picture is too narrow for its length: some of its 4×4 sub-images contain no whole block "
            f"of {2 * half}×{2 * half} pixels",
            hint="crop the picture so that its long side is at most 22 times its short side",
        )
    first_bin = ((band[:, None] * _GRID + stripe) * (_KINDS + 1)).ravel()
    first_bin.flags.writeable = False
    return _BlockGrid(height, width, half, rows, columns, first_bin)


def _strongest_edge(grey: GreyLevels, grid: _BlockGrid) -> NDArray[np.intp]:
    """Return the kind of edge of each block, row by row: 0…4, or 5 for none.

    Floating-point operations are in the order of the reference software, because its rounding decides between
    equal strengths.
    """
    d = _quadrant_sums(grey, grid) / float(grid.half * grid.half)
    strengths = np.empty((_KINDS + 1, d.shape[1]))
    # Vertical and horizontal at once: d1 + d3 − (d2 + d4) and d1 + d2 − (d3 + d4).
    np.subtract(d[0] + d[2:0:-1], d[1:3] + d[3], out=strengths[:2])
    # 45° and 135° at once: d1 − d4 and d2 − d3.
    np.multiply(d[:2] - d[:1:-1], math.sqrt(2.0), out=strengths[2:4])
    np.multiply(d[0] - d[1] - d[2] + d[3], 2.0, out=strengths[4])
    np.abs(strengths[:_KINDS], out=strengths[:_KINDS])
    # "No edge" is the sixth candidate, always with the strength of the threshold.
    strengths[_KINDS] = _THRESHOLD
    largest = (strengths == strengths.max(axis=0)).view(np.uint8) * _PLACES
    kinds: NDArray[np.intp] = _FIRST_PLACE.take(largest.sum(axis=0, dtype=np.uint8))
    return kinds


def _quadrant_sums(grey: GreyLevels, grid: _BlockGrid) -> NDArray[np.uint32]:
    """Sum the grey levels of each quadrant of each block; d1 d2 over d3 d4 of the blocks row by row.

    It adds whole planes, one per line of a quadrant: for few lines this takes a quarter of the time of a sum
    over axes.
    """
    rows, columns, half = grid.rows, grid.columns, grid.half
    lines = grey[: 2 * rows * half, : 2 * columns * half].reshape(2 * rows, half, 2 * columns * half)
    fits_16_bits = half * 255 <= np.iinfo(np.uint16).max
    line_sums: NDArray[Any] = lines[:, 0].astype(np.uint16 if fits_16_bits else np.uint32)
    for line in range(1, half):
        line_sums += lines[:, line]
    parts = line_sums.reshape(2 * rows * 2 * columns, half)
    sums: NDArray[np.uint32] = parts[:, 0].astype(np.uint32)
    for part in range(1, half):
        sums += parts[:, part]
    return sums.reshape(rows, 2, columns, 2).transpose(1, 3, 0, 2).reshape(4, rows * columns)
