"""Fig. 3 and 4: precision, recall and F1 by number of images returned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.accuracy.comparison import Comparison, ComparisonOptions, compare, query_list
from mipp_cli.experiments.accuracy.measures import Figures, measures
from mipp_cli.experiments.base.bootstrap import Interval, interval_columns, mean_interval
from mipp_cli.experiments.base.conclusions import about_lower
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.result import Claim, Observation, Result, table
from mipp_cli.progress import Progress, silent

DEFAULT_RETURNED = tuple(range(10, 101, 10))
CHANCE, SIM = "chance", "sim"
_CLAIMS = {
    "precision": (
        "Fig. 3",
        "retrieval accuracy about 10 % lower than by Euclidean distance, on average",
        0.10,
    ),
    "recall": ("Fig. 3", "recall about 5 % lower than by Euclidean distance, on average", 0.05),
    "f1": ("Fig. 4", "F1 about 7 % lower than by Euclidean distance", 0.07),
}


@dataclass(frozen=True)
class AccuracyOptions(ComparisonOptions):
    """The comparison, and the numbers of images returned (None: chosen by the data set's size)."""

    returned: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(count < 1 for count in self.returned or ()):
            raise InvalidRequestError("--returned must be at least 1", hint="give --returned 1 or more")


@dataclass(frozen=True)
class Curve:
    """A method's figures: for each measure an array of shape (queries, numbers returned)."""

    name: str
    label: str
    returned: tuple[int, ...]
    figures: Mapping[str, Figures]


def run_accuracy(dataset: DataSet, options: AccuracyOptions, progress: Progress = silent) -> list[Result]:
    """Measure every method; return means with intervals and claims, figures per query, and the queries."""
    comparison = compare(dataset, options)
    returned = _returned(comparison, options.returned)
    curves = [*method_curves(comparison, returned, progress), chance_curve(comparison, returned)]
    seed = options.queries.seed
    means = Result(
        "accuracy",
        "Fig. 3 and 4: precision, recall and F1 by number of images returned",
        _mean_rows(curves, seed),
        _claims(curves, dataset.label, seed),
        [*comparison.notes(seed), *_notes(returned)],
    )
    each = Result(
        "accuracy-queries", "Precision, recall and F1 of each query", _query_rows(comparison, curves)
    )
    return [means, each, query_list(comparison)]


def _returned(comparison: Comparison, wanted: Sequence[int] | None) -> tuple[int, ...]:
    others = comparison.others
    if wanted is None:
        if others >= DEFAULT_RETURNED[-1]:
            return DEFAULT_RETURNED
        step = max(1, others // 20)
        return tuple(range(step, min(10 * step, others) + 1, step))
    if max(wanted) > others:
        raise InvalidRequestError(
            f"{max(wanted)} images cannot be returned: only {others} are searched per query",
            path=comparison.dataset.folder,
            hint=f"give --returned numbers up to {others}",
        )
    return tuple(sorted(set(wanted)))


def method_curves(comparison: Comparison, returned: Sequence[int], progress: Progress) -> Iterator[Curve]:
    """Yield each method's figures, at the numbers returned for which it answers every query in full."""
    for method in comparison.methods:
        rows = comparison.hits(method, max(returned), progress)
        shortest = min(map(len, rows))
        reached = tuple(count for count in returned if count <= shortest)
        if reached:
            true_positives = np.cumsum([row[:shortest] for row in rows], axis=1)[:, np.array(reached) - 1]
            figures = measures(true_positives, np.array(reached), comparison.relevant[:, None])
            yield Curve(method.name, method.label, reached, figures)


def chance_curve(comparison: Comparison, returned: Sequence[int]) -> Curve:
    """Return the expected figures of a random answer, computed exactly: each measure is linear in TP."""
    counts, relevant = np.array(returned), comparison.relevant[:, None]
    expected = relevant * counts / comparison.others
    return Curve(CHANCE, "chance", tuple(returned), measures(expected, counts, relevant))


def _mean_rows(curves: Sequence[Curve], seed: int) -> list[Observation]:
    rows: list[Observation] = []
    for curve in curves:
        for measure, figures in curve.figures.items():
            rows += table(
                method=curve.name,
                label=curve.label,
                measure=measure,
                returned=curve.returned,
                **interval_columns(figures, seed),
                queries=len(figures),
            )
    return rows


def _query_rows(comparison: Comparison, curves: Sequence[Curve]) -> list[Observation]:
    dataset = comparison.dataset
    rows: list[Observation] = []
    for number, query in enumerate(comparison.queries.tolist()):
        for curve in curves:
            if curve.name != CHANCE:
                rows += table(
                    query=dataset.names[query],
                    category=dataset.categories[dataset.labels[query]],
                    method=curve.name,
                    returned=curve.returned,
                    **{measure: figures[number] for measure, figures in curve.figures.items()},
                )
    return rows


def _claims(curves: Sequence[Curve], descriptor: str, seed: int) -> list[Claim]:
    plain, *others = (curve for curve in curves if curve.name != CHANCE)
    cloud = next((curve for curve in others if curve.name == SIM), None)
    claims = []
    for measure, (where, claimed, share) in _CLAIMS.items():
        figures = plain.figures[measure].mean(axis=1)
        lines = [f"{plain.label}: {mean_interval(figures, seed).percent}"]
        lines += [_against(plain, curve, measure, seed) for curve in others]
        span = " to ".join(map(str, dict.fromkeys((plain.returned[0], plain.returned[-1]))))
        lines.append(f"(means over {span} images returned; descriptor {descriptor})")
        conclusion = "not measured"
        if cloud is not None:
            drop, whole = _drop(plain, cloud, measure, seed)
            conclusion = about_lower(share, drop, whole)
        claims.append(Claim(where, claimed, "\n".join(lines), conclusion))
    return claims


def _against(plain: Curve, other: Curve, measure: str, seed: int) -> str:
    """Describe how far a method is below Euclidean distance, averaged over the numbers returned by both."""
    below = other.figures[measure].mean(axis=1)
    drop, whole = _drop(plain, other, measure, seed)
    relative = f" (a drop of {100 * drop.mean / whole:.0f} %)" if whole else ""
    reach = "" if other.returned == plain.returned else f", up to {other.returned[-1]} images"
    return f"{other.label}: {100 * below.mean():.1f} %, {drop.points} lower{relative}{reach}"


def _drop(plain: Curve, other: Curve, measure: str, seed: int) -> tuple[Interval, float]:
    """Return the mean difference from Euclidean distance, query by query, and the latter's mean."""
    columns = [plain.returned.index(count) for count in other.returned]
    above = plain.figures[measure][:, columns].mean(axis=1)
    return mean_interval(above - other.figures[measure].mean(axis=1), seed), float(above.mean())


def _notes(returned: Sequence[int]) -> list[str]:
    return [
        f"Numbers of images returned: {', '.join(map(str, returned))}. Means over them have equal weights. "
        "Differences from Euclidean distance are taken per query.",
        "Chance: the expected value of a random answer, computed exactly.",
    ]
