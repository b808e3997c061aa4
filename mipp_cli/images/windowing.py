"""Samples of more than 8 bits become 8 bits by the picture itself: its dark end black, its bright one white.

How many of its 16 bits a picture uses, and where in their range, depends on the device that made it. So does
the slope and the offset of its samples. What comes out here does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Levels = NDArray[np.uint8]
Samples = NDArray[Any]

FLAT: Final = 128
"""The level of a picture that has only one value."""

_TAIL: Final = 200  # one sample in so many lies beyond either limit: half a per cent
_CROWD: Final = 20  # a value that one sample in so many has is left out where it is the lowest or highest
BLOCK: Final = 1 << 18
"""Samples that are worked on at once: what is computed of them lies in a processor's cache."""


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
        finite = np.isfinite(ranked)
        ranked = ranked if finite.all() else ranked[finite]
    limits = _limits(ranked) if ranked.size else None
    if limits is None:
        levels = np.full(samples.shape, FLAT if ranked.size else 0, dtype=np.uint8)
    else:
        del ranked  # it may be as large as the picture
        levels = _scaled(samples, *limits, inverted=inverted)
    if counted is not None:
        levels[~counted] = 0
    if samples.dtype.kind == "f":
        levels[np.isnan(samples)] = 0
    return Windowed(levels, limits is None)


def mapped(samples: Samples, function: Callable[[Samples], Levels]) -> Levels:
    """Return the level of each sample by a function of samples, in little more memory than the levels take.

    Of samples of up to 16 bits the function is asked for a table; others are given to it block by block.
    """
    flat, levels = samples.ravel(), np.empty(samples.size, dtype=np.uint8)
    least, table = 0, None
    if samples.dtype.kind != "f" and samples.dtype.itemsize <= 2:
        least = int(samples.min())
        table = function(np.arange(least, int(samples.max()) + 1))
    for start in range(0, flat.size, BLOCK):
        part = flat[start : start + BLOCK]
        levels[start : start + BLOCK] = (
            function(part) if table is None else table[part.astype(np.intp) - least]
        )
    return levels.reshape(samples.shape)


def _plain(samples: Samples) -> Samples:
    """Return samples in the byte order of the machine; half floats in single, long integers in double."""
    if samples.dtype.kind == "b":
        return samples.view(np.uint8)
    if samples.dtype.kind == "f":
        return samples.astype(np.float32 if samples.dtype.itemsize <= 4 else np.float64, copy=False)
    if samples.dtype.itemsize > 4:
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
    low, high = _at_ranks(ranked, [start + tail, stop - 1 - tail])
    if low == high:
        low, high = lowest.item(), highest.item()
    return low, high


def _at_ranks(ranked: Samples, ranks: list[int]) -> list[Any]:
    """Return the values that would stand at some places if the samples were sorted."""
    if ranked.dtype.kind == "f" or ranked.dtype.itemsize > 2:
        return [each.item() for each in np.partition(ranked, ranks)[ranks]]
    least = int(ranked.min())  # few values: counting them takes a tenth of the time, and no copy
    counts = np.zeros(int(ranked.max()) - least + 1, dtype=np.intp)
    for start in range(0, ranked.size, BLOCK):
        part = ranked[start : start + BLOCK].astype(np.intp) - least
        counts += np.bincount(part, minlength=counts.size)
    return [least + int(each) for each in np.searchsorted(counts.cumsum(), ranks, side="right")]


def _scaled(samples: Samples, low: Any, high: Any, *, inverted: bool) -> Levels:
    return mapped(samples, lambda values: _block(values, low, high, inverted=inverted))


def _block(values: Samples, low: Any, high: Any, *, inverted: bool) -> Levels:
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):  # of a signalling NaN, which is none the worse for it
            values = values.astype(np.float64)
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
