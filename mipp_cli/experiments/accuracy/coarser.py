"""Accuracy with fewer bits per number and fewer numbers: how small a descriptor can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mipp_cli.experiments.accuracy.measures import MEAN_AVERAGE_PRECISION, PRECISION, Figures, measure_label
from mipp_cli.experiments.accuracy.orders import Ranker, by_codes, by_vectors, figures_of
from mipp_cli.experiments.base.bootstrap import mean_interval
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.result import Observation, Result
from mipp_cli.experiments.base.seeds import Purpose, generator
from mipp_cli.progress import Progress
from mipp_cli.scheme.descriptor import L2, Codes, Descriptor

BITS, DIMENSIONS = "descriptors-bits", "descriptors-dimensions"
FLOAT_BITS: Final = 32
COARSER_MEASURES: Final = (MEAN_AVERAGE_PRECISION, PRECISION)
_MOST_LEVELS: Final = 256
_FEW_LEVELS: Final = 8  # as an edge histogram: too few to make coarser
_LEAST_NUMBERS: Final = 8
_DRAWS: Final = 5


@dataclass(frozen=True)
class _Trial:
    """A reduced descriptor: its value on the axis, and a function per draw that makes its ranker."""

    descriptor: str
    place: int
    draws: Sequence[Callable[[], Ranker]]


def quantised(vectors: NDArray[np.float32], levels: int) -> Codes:
    """Quantise real ``vectors``, shape (n, l), to ``levels``, like a deployment with `l2`.

    An all-zero vector has no direction, and gets the codes of 0.
    """
    descriptor = Descriptor("own", vectors.shape[1], levels, L2)
    codes = np.full(vectors.shape, levels // 2, dtype=np.uint8)
    good = descriptor.quantisable(vectors)
    codes[good] = descriptor.quantised(vectors[good])[0]
    return codes


def coarser(codes: Codes, levels: int, fewer: int) -> Codes:
    """Reduce codes of ``levels`` levels to ``fewer``: x becomes ⌊x · fewer / levels⌋."""
    return (codes.astype(np.uint32) * fewer // levels).astype(np.uint8)


def measure_bits(
    datasets: Sequence[DataSet], queries: NDArray[np.int64], returned: int, seed: int, progress: Progress
) -> Result:
    """Rank by codes of 2, 4, 8, … 256 levels (1 to 8 bits per number), and by the real numbers themselves.

    Real numbers are quantised as in a deployment; codes of more than 8 levels are made coarser.
    """
    trials = [trial for each in datasets if _can_be_smaller(each) for trial in _bit_trials(each)]
    rows = _rows("bits", trials, datasets[0].labels, queries, returned, seed, progress)
    notes = (
        f"Codes of 2, 4, 8, … {_MOST_LEVELS} levels have 1 to 8 bits per number and are ranked by Eq. 7; "
        f"{FLOAT_BITS} bits are the real numbers before quantisation. As in a deployment, vectors are "
        "divided by their norm and quantised in equal steps over ±8/√l, so with 4 levels the middle two "
        "hold nearly all numbers. Codes that were given as codes are made coarser: x becomes ⌊x · fewer / "
        "levels⌋.",
    )
    return Result(BITS, "Accuracy by bits per number", rows, (), notes)


def _bit_trials(dataset: DataSet) -> Iterator[_Trial]:
    vectors = dataset.vectors
    most = dataset.described.descriptor.levels if vectors is None else _MOST_LEVELS
    for bits in range(1, (most - 1).bit_length() + 1):
        yield _Trial(dataset.label, bits, (partial(_of_levels, dataset, min(1 << bits, most)),))
    if vectors is not None:
        yield _Trial(dataset.label, FLOAT_BITS, (partial(by_vectors, vectors, dataset.names),))


def _of_levels(dataset: DataSet, levels: int) -> Ranker:
    if dataset.vectors is not None:
        return by_codes(quantised(dataset.vectors, levels), dataset.names)
    fewer = coarser(dataset.features, dataset.described.descriptor.levels, levels)
    return by_codes(fewer, dataset.names)


def measure_dimensions(
    datasets: Sequence[DataSet], queries: NDArray[np.int64], returned: int, seed: int, progress: Progress
) -> Result:
    """Rank by 8, 16, 32, … of a descriptor's numbers, drawn at random from the seed, and by all of them.

    A random subset is used because a projection cannot be computed from codes alone, and the first numbers
    depend on the model's arbitrary order, or would be the upper part of a histogram of 4 × 4 sub-images.
    Smaller subsets are contained in larger ones. Figures are means over 5 draws. A subset of real numbers is
    divided by its norm and quantised again.
    """
    trials = [trial for each in datasets if _can_be_smaller(each) for trial in _part_trials(each, seed)]
    rows = _rows("dimension", trials, datasets[0].labels, queries, returned, seed, progress)
    notes = (
        f"Random subsets of a descriptor's numbers, drawn {_DRAWS} times from the seed; smaller subsets are "
        "contained in larger ones. Figures are means over the draws, ranked by Eq. 7. Real numbers are "
        "divided by the norm of the subset and quantised again. Subsets are random because codes cannot be "
        "projected, and because the order of the numbers is arbitrary in a model and spatial in a histogram.",
    )
    return Result(DIMENSIONS, "Accuracy by dimension", rows, (), notes)


def _part_trials(dataset: DataSet, seed: int) -> Iterator[_Trial]:
    l = dataset.features.shape[1]
    random = generator(seed, Purpose.FEWER_NUMBERS)
    orders = [random.permutation(l) for _ in range(_DRAWS)]
    size = _LEAST_NUMBERS
    while size < l:
        yield _Trial(dataset.label, size, [partial(_of_part, dataset, order[:size]) for order in orders])
        size *= 2
    yield _Trial(dataset.label, l, (partial(by_codes, dataset.features, dataset.names),))


def _of_part(dataset: DataSet, chosen: NDArray[np.int64]) -> Ranker:
    if dataset.vectors is None:
        return by_codes(dataset.features[:, chosen], dataset.names)
    codes = quantised(dataset.vectors[:, chosen], dataset.described.descriptor.levels)
    return by_codes(codes, dataset.names)


def _can_be_smaller(dataset: DataSet) -> bool:
    return dataset.vectors is not None or dataset.described.descriptor.levels > _FEW_LEVELS


def _rows(
    axis: str,
    trials: Sequence[_Trial],
    labels: NDArray[np.int64],
    queries: NDArray[np.int64],
    returned: int,
    seed: int,
    progress: Progress,
) -> list[Observation]:
    """Measure each trial: means over its draws, then over queries, with intervals over queries."""
    rows: list[Observation] = []
    with progress(f"ranking with reduced {axis}", len(trials), "ranking") as advance:
        for trial in trials:
            draws = [figures_of(make(), labels, queries, returned) for make in trial.draws]
            for measure in COARSER_MEASURES:
                values: Figures = np.mean([figures[measure] for figures in draws], axis=0)
                interval = mean_interval(values, seed)
                rows.append(
                    {
                        "descriptor": trial.descriptor,
                        axis: trial.place,
                        "measure": measure_label(measure, returned),
                        "mean": interval.mean,
                        "low": interval.low,
                        "high": interval.high,
                        "draws": len(draws),
                        "queries": len(queries),
                    }
                )
            advance(1)
    return rows
