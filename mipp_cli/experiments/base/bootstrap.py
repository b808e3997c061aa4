"""95 % bootstrap intervals of many means at once, by resampling queries; reproducible from the seed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mipp_cli.experiments.base.seeds import Purpose, generator

RESAMPLES = 2000
_AT_A_TIME = 100  # resamples in memory at once: each takes eight bytes per query


class Interval(NamedTuple):
    """A mean and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """The mean and its interval, such as 0.412 [0.380, 0.444]; zero has no sign."""
        return f"{self.mean:z.3f} [{self.low:z.3f}, {self.high:z.3f}]"

    @property
    def percent(self) -> str:
        """A share as text, such as 41.2 [38.0, 44.4] %."""
        return f"{100 * self.mean:z.1f} [{100 * self.low:z.1f}, {100 * self.high:z.1f}] %"

    @property
    def points(self) -> str:
        """A difference of shares as text, such as 4.1 [2.0, 6.2] points."""
        return self.percent.replace("%", "points")


def mean_intervals(values: NDArray[np.float64], seed: int) -> list[Interval]:
    """Mean over the first axis of ``values``, shape (queries, k), and its interval, for each column.

    Percentile bootstrap: each resample draws as many queries as there are, with replacement, the same for
    every column. Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993.
    """
    queries = len(values)
    random = generator(seed, Purpose.BOOTSTRAP)
    shares = np.full(queries, 1 / queries)
    means = []
    for begin in range(0, RESAMPLES, _AT_A_TIME):
        counts = random.multinomial(queries, shares, size=min(_AT_A_TIME, RESAMPLES - begin))
        means.append(counts @ values / queries)
    low, high = np.percentile(np.concatenate(means), (2.5, 97.5), axis=0)
    mean = values.mean(axis=0)
    # if all values are equal, rounding could put the mean outside
    low, high = np.minimum(low, mean), np.maximum(high, mean)
    columns = zip(mean.tolist(), low.tolist(), high.tolist(), strict=True)
    return [Interval(*column) for column in columns]


def interval_columns(values: NDArray[np.float64], seed: int) -> dict[str, tuple[float, ...]]:
    """Return :func:`mean_intervals` as table columns: mean, low and high."""
    return dict(zip(Interval._fields, zip(*mean_intervals(values, seed), strict=True), strict=True))


def mean_interval(values: NDArray[np.float64], seed: int) -> Interval:
    """Mean of ``values``, shape (queries,), and its interval."""
    return mean_intervals(values[:, np.newaxis], seed)[0]
