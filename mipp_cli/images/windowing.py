"""Reduce deep samples to 8 bits by the picture's own range: its darkest become black, its brightest white.

The part of its 16 bits that a picture uses, and the slope and offset of its samples, depend on the device
that made it. The 8-bit levels do not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Levels = NDArray[np.uint8]
Samples = NDArray[Any]

FLAT: Final = 128
"""The level of all samples of a picture that has only one value."""

_TAIL: Final = 200  # one sample in 200 lies beyond either limit: half a per cent
_CROWD: Final = 20  # the lowest or highest value is ignored if more than one sample in 20 has it
BLOCK: Final = 1 << 18
"""Number of samples that are processed at once, so that intermediate results fit in a processor's cache."""


class Windowed(NamedTuple):
    """The 8-bit levels of a picture, in the shape of its samples; ``flat`` if it has only one value."""

    levels: Levels
    flat: bool


def windowed(
    samples: Samples, *, counted: NDArray[np.bool_] | None = None, inverted: bool = False
) -> Windowed:
    """Map samples to levels 0…255, with the same limits for all channels of a colour picture.

    ``samples`` are integers or floats of any shape. ``counted`` is false for samples to be ignored, such as
    padding; they become 0. So do NaNs; infinite samples become 0 or 255.

    Of the n samples that count and are finite, those with the lowest value are ignored if there are more
    than n/20, as in the padding around the circle of a CT image; likewise those with the highest. With the
    m others (all n, if none are left) in ascending order, counted from 0, the sample at k = ⌊(m − 1)/200⌋ is
    the lower limit a, and the one at m − 1 − k the upper limit b: the 0.5th and 99.5th percentiles by the
    methods "lower" and "higher" of ``numpy.percentile``. If they are equal, a and b are the minimum and
    maximum of all n. A sample v becomes ⌊255·(v − a)/(b − a) + ½⌋, clipped to 0…255. In an ``inverted``
    picture, whose samples grow towards black, b − v replaces v − a. If all n are equal, the picture is flat
    and becomes :data:`FLAT`.

    Integers of up to 32 bits are computed exactly, and others in double precision in the order of the
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
        del ranked  # may be as large as the picture
        levels = _scaled(samples, *limits, inverted=inverted)
    if counted is not None:
        levels[~counted] = 0
    if samples.dtype.kind == "f":
        levels[np.isnan(samples)] = 0
    return Windowed(levels, limits is None)


def mapped(samples: Samples, function: Callable[[Samples], Levels]) -> Levels:
    """Apply a function to each sample, in little more memory than the levels take.

    For samples of up to 16 bits the function computes a table; others are passed to it block by block.
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
    """Return samples in native byte order; half floats become single, 64-bit integers double precision."""
    if samples.dtype.kind == "b":
        return samples.view(np.uint8)
    if samples.dtype.kind == "f":
        return samples.astype(np.float32 if samples.dtype.itemsize <= 4 else np.float64, copy=False)
    if samples.dtype.itemsize > 4:
        return samples.astype(np.float64)
    return samples.astype(samples.dtype.newbyteorder("="), copy=False)


def _limits(ranked: Samples) -> tuple[Any, Any] | None:
    """Return the lower and upper limit of one-dimensional samples; None if all are equal."""
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
    """Return the samples at some ranks in ascending order."""
    if ranked.dtype.kind == "f" or ranked.dtype.itemsize > 2:
        return [each.item() for each in np.partition(ranked, ranks)[ranks]]
    least = int(ranked.min())  # with few distinct values, counting takes a tenth of the time and no copy
    counts = np.zeros(int(ranked.max()) - least + 1, dtype=np.intp)
    for start in range(0, ranked.size, BLOCK):
        part = ranked[start : start + BLOCK].astype(np.intp) - least
        counts += np.bincount(part, minlength=counts.size)
    return [least + int(each) for each in np.searchsorted(counts.cumsum(), ranks, side="right")]


def _scaled(samples: Samples, low: Any, high: Any, *, inverted: bool) -> Levels:
    return mapped(samples, lambda values: _block(values, low, high, inverted=inverted))


def _block(values: Samples, low: Any, high: Any, *, inverted: bool) -> Levels:
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):  # caused by signalling NaNs, which are harmless
            values = values.astype(np.float64)
        within = np.clip(np.where(np.isnan(values), low, values), low, high)
        if high - low > np.finfo(np.float64).max / 255:  # 255 times this range would overflow
            within, low, high = within / 1024, low / 1024, high / 1024
        above = high - within if inverted else within - low
        rounded: Samples = np.floor(above * 255 / (high - low) + 0.5)
    else:
        within = np.clip(values.astype(np.int64), low, high)
        above = high - within if inverted else within - low
        rounded = (above * 510 + (high - low)) // (2 * (high - low))
    return rounded.astype(np.uint8)
