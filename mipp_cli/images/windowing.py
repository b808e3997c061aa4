"""Samples of more than 8 bits become 8 bits by the picture itself: its dark end black, its bright one white.

How many of its 16 bits a picture uses, and where in their range, depends on the device that made it. So does
the slope and the offset of its samples. What comes out here does not.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Levels = NDArray[np.uint8]
Samples = NDArray[Any]

FLAT: Final = 128
"""The level of a picture that has only one value."""

_TAIL: Final = 200  # one sample in so many lies beyond either limit: half a per cent
_CROWD: Final = 20  # a value that one sample in so many has is left out where it is the lowest or highest
_TABLE: Final = 1 << 16  # values for which a table is made; others are computed in blocks of so many samples


class Windowed(NamedTuple):
    """The 8-bit levels of a picture, in the shape of its samples; ``flat`` if it has only one value."""

    levels: Levels
    flat: bool


def windowed(
    samples: Samples, *, counted: NDArray[np.bool_] | None = None, inverted: bool = False
) -> Windowed:
    """Return samples as levels 0…255; all channels of a picture in colour have the same limits.

    ``samples`` are integers or floats of any shape. ``counted`` is false for samples that count for nothing,
    such as padding; they become 0. So does what is not a number; infinite samples become 0 or 255.

    Of n samples that count and are finite, the lowest value is left out if it alone is that of more than
    n/20, as the padding around the circle of a tomograph is; likewise the highest. Of the m others (of all
    n, if none is left) in ascending order, counted from 0, the one at k = ⌊(m − 1)/200⌋ is the lower limit a
    and the one at m − 1 − k the upper limit b: the 0.5th and 99.5th percentile by the methods "lower" and
    "higher" of ``numpy.percentile``. If they are equal, a and b are the lowest and highest of all n. A sample
    v becomes ⌊255·(v − a)/(b − a) + ½⌋, at least 0 and at most 255; of an ``inverted`` picture, whose samples
    grow towards black, b − v takes the place of v − a. If all n are equal, the picture is flat, and becomes
    :data:`FLAT`.

    Integers of up to 32 bits are computed with exactly, and others in double precision in the order of the
    formula, so that the same samples give the same levels on every machine.
    """
    samples = _plain(samples)
    ranked = samples.ravel() if counted is None else samples[counted]
    if samples.dtype.kind == "f":
        ranked = ranked[np.isfinite(ranked)]
    limits = _limits(ranked) if ranked.size else None
    if limits is None:
        levels = np.full(samples.shape, FLAT if ranked.size else 0, dtype=np.uint8)
    else:
        levels = _scaled(samples, *limits, inverted=inverted)
    if counted is not None:
        levels[~counted] = 0
    if samples.dtype.kind == "f":
        levels[np.isnan(samples)] = 0
    return Windowed(levels, limits is None)


def _plain(samples: Samples) -> Samples:
    """Return samples in the byte order of the machine; floats and longer integers in double precision."""
    if samples.dtype.kind == "b":
        return samples.view(np.uint8)
    if samples.dtype.kind == "f" or samples.dtype.itemsize > 4:
        return samples.astype(np.float64)
    return samples.astype(samples.dtype.newbyteorder("="), copy=False)


def _limits(ranked: Samples) -> tuple[Any, Any] | None:
    """Return the limits of some samples in one dimension; None if all are equal."""
    lowest, highest, size = ranked.min(), ranked.max(), ranked.size
    if lowest == highest:
        return None
    lows, highs = int(np.count_nonzero(ranked == lowest)), int(np.count_nonzero(ranked == highest))
    start = lows if lows * _CROWD > size else 0
    stop = size - highs if highs * _CROWD > size else size
    if start >= stop:
        start, stop = 0, size
    tail = (stop - start - 1) // _TAIL
    places = [start + tail, stop - 1 - tail]
    low, high = np.partition(ranked, places)[places]
    if low == high:
        low, high = lowest, highest
    return low.item(), high.item()


def _scaled(samples: Samples, low: Any, high: Any, *, inverted: bool) -> Levels:
    if samples.dtype.kind != "f" and samples.dtype.itemsize <= 2:
        span = np.iinfo(samples.dtype)
        table = _block(np.arange(span.min, span.max + 1), low, high, inverted=inverted)
        levels: Levels = table[samples.astype(np.intp) - span.min]
        return levels
    flat, levels = samples.ravel(), np.empty(samples.size, dtype=np.uint8)
    for start in range(0, flat.size, _TABLE):
        part = slice(start, start + _TABLE)
        levels[part] = _block(flat[part], low, high, inverted=inverted)
    return levels.reshape(samples.shape)


def _block(values: Samples, low: Any, high: Any, *, inverted: bool) -> Levels:
    if values.dtype.kind == "f":
        within = np.clip(np.where(np.isnan(values), low, values), low, high)
        if high - low > np.finfo(np.float64).max / 255:  # a range that a float cannot hold 255 times
            within, low, high = within / 1024, low / 1024, high / 1024
        above = high - within if inverted else within - low
        rounded: Samples = np.floor(above * 255 / (high - low) + 0.5)
    else:
        within = np.clip(values.astype(np.int64), low, high)
        above = high - within if inverted else within - low
        rounded = (above * 510 + (high - low)) // (2 * (high - low))
    return rounded.astype(np.uint8)
