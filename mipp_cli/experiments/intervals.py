"""Means with 95 % bootstrap intervals, as every measured figure is given (section 7.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 2000
_TAILS = (2.5, 97.5)


@dataclass(frozen=True)
class Interval:
    """An estimate and the bounds of its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def percent(self) -> str:
        """The estimate and its interval in per cent, as it stands in a sentence."""
        return f"{100 * self.mean:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"

    def is_above(self, value: float) -> bool:
        """Say whether the whole interval lies above ``value``."""
        return self.low > value

    def is_below(self, value: float) -> bool:
        """Say whether the whole interval lies below ``value``."""
        return self.high < value


def bootstrap_mean(values: ArrayLike, seed: int) -> Interval:
    """Return the mean of ``values``, shape (n,), with its percentile bootstrap interval."""
    array = np.asarray(values, dtype=np.float64)
    return bootstrap_ratio(array, np.ones_like(array), seed)


def bootstrap_ratio(parts: ArrayLike, wholes: ArrayLike, seed: int) -> Interval:
    """Return Σparts / Σwholes over n observations, and its interval when observations are resampled.

    The same ``seed`` gives the same interval; an empty sample, or wholes of 0, give nan.
    """
    part = np.asarray(parts, dtype=np.float64)
    whole = np.asarray(wholes, dtype=np.float64)
    if not whole.sum():
        return Interval(np.nan, np.nan, np.nan)
    rng = np.random.default_rng(seed)
    ratios: NDArray[np.float64] = np.empty(RESAMPLES)
    for resample in range(RESAMPLES):
        drawn = rng.integers(len(part), size=len(part))
        total = whole[drawn].sum()
        ratios[resample] = part[drawn].sum() / total if total else np.nan
    low, high = np.nanpercentile(ratios, _TAILS).tolist()
    return Interval(float(part.sum() / whole.sum()), low, high)
