"""Leakage (f): what a cloud infers from selections of groups (scheme `exact`), compared with fresh decoys.

The KMC ranks by exact distance, simulated on plaintext features: the encrypted search gives the same order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mipp_cli.experiments.base.bootstrap import Interval, mean_intervals
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.methods import answers, euclidean
from mipp_cli.experiments.base.result import Observation, Result
from mipp_cli.experiments.base.seeds import Purpose, generator
from mipp_cli.experiments.leakage.groups import images as group_images
from mipp_cli.experiments.leakage.groups import queries as group_queries
from mipp_cli.experiments.leakage.groups.claims import IMAGE, NAME, QUERIES, READ, REPEATED, group_claims
from mipp_cli.experiments.leakage.groups.images import Guess
from mipp_cli.experiments.leakage.groups.partition import GroupTrial, Partition, cut, with_decoys
from mipp_cli.experiments.leakage.groups.queries import Asked
from mipp_cli.experiments.leakage.groups.watching import ATTACKERS, Matrix, watch
from mipp_cli.progress import Progress

_SHUFFLES = 30

_Key = tuple[int, str, str, str]  # observed queries, measure, attacker, what it sees or knows


class _Values(NamedTuple):
    """A measure of each image or query, its value by chance, and means over shuffled categories."""

    values: Matrix
    chances: Matrix
    shuffled: Matrix | None = None


_Found = dict[_Key, list[_Values]]  # one for each partition


def measure_groups(
    dataset: DataSet, sizes: NDArray[np.int64], trial: GroupTrial, seed: int, progress: Progress
) -> Result:
    """Observe the selections of queries, drawn with replacement; ``sizes`` are the images' file sizes."""
    # the queries are those of selections.py
    images = generator(seed, Purpose.WATCHED_QUERIES).integers(len(dataset), size=max(trial.queries))
    unique, place = np.unique(images, return_inverse=True)
    matches = np.stack(answers(euclidean(dataset.features, dataset.ties), unique, trial.matches, progress))[
        place
    ]
    cuts, ties = generator(seed, Purpose.GROUPS), generator(seed, Purpose.GROUP_TIES)
    observations: list[Observation] = []
    settings = trial.settings(len(dataset))
    with progress("observing selections of groups", len(settings), "setting") as advance:
        for size, decoys in settings:
            beside = decoys * matches.shape[1]
            selected = with_decoys(matches, beside, len(dataset), generator(seed, Purpose.DECOYS))
            asked = Asked(images, matches, selected)
            found: _Found = defaultdict(list)
            # there is only one partition into groups of one
            for _ in range(trial.partitions if size > 1 else 1):
                partition = cut(sizes, size, cuts)
                for key, values in _measured(dataset.labels, partition, asked, trial.queries, ties):
                    found[key].append(values)
            observations += _observed({"group_size": size, "decoys": decoys}, found, seed)
            advance(1)
    title = "What selections of groups reveal to the cloud (scheme exact)"
    return Result(NAME, title, observations, group_claims(observations), _notes(trial, matches.shape[1]))


def _measured(
    labels: NDArray[np.int64],
    partition: Partition,
    every: Asked,
    queries: Sequence[int],
    ties: np.random.Generator,
) -> Iterator[tuple[_Key, _Values]]:
    """Yield all measures in one partition, after each number of ``queries``."""
    for guess in group_images.guesses_before(partition, ties):
        yield _of_images(0, guess, labels, ties)
    ways = (
        (False,) if len(partition) == len(labels) else (False, True)
    )  # a group of one has at most one match
    watches = [watch(partition, every.selected, queries, weighted=way) for way in ways]
    for watched in zip(*watches, strict=True):
        for each in watched:
            for guess in group_images.guesses(partition, each, ties):
                yield _of_images(each.queries, guess, labels, ties)
        counted = watched[-1]
        asked = every.until(counted.queries)
        own = labels[asked.images[asked.first]]
        if len(own) < 2:
            continue  # a single query has no others
        stands = {
            attacker: group_queries.places(partition, counted, asked, attacker) for attacker in ATTACKERS
        }
        sizes = np.bincount(own)
        for attacker, stand in stands.items():
            key = (counted.queries, QUERIES, attacker, "")
            yield key, _Values(group_queries.alike(stand, own, ties), (sizes[own] - 1) / (len(own) - 1))
            if len(asked.again):
                values = group_queries.recognised(stand, asked, ties)
                key = (counted.queries, REPEATED, attacker, "")
                yield key, _Values(values, np.full(len(values), 1 / len(own)))
        for knows, by, right in group_queries.readings(partition, asked, stands, labels, ties):
            key = (counted.queries, READ, by, knows)
            yield key, _Values(right, np.full(len(own), sizes.max() / len(own)))


def _of_images(
    queries: int, guess: Guess, labels: NDArray[np.int64], ties: np.random.Generator
) -> tuple[_Key, _Values]:
    attacker, seen, found = guess
    shuffled = found.shuffled(labels, _SHUFFLES, ties)
    values = _Values(found.precisions(labels), found.chances(labels), shuffled)
    return (queries, IMAGE, attacker, seen), values


def _observed(setting: Observation, found: _Found, seed: int) -> list[Observation]:
    """Return a row per measure: means over partitions, then over images or queries."""
    means: dict[_Key, Matrix] = {}
    beside: dict[_Key, Observation] = {}
    for key, partitions in found.items():
        values = np.stack([each.values for each in partitions])
        told = ~np.isnan(values).all(axis=0)  # groups never selected reveal nothing
        means[key] = np.nanmean(values[:, told], axis=0)
        chances = np.stack([each.chances for each in partitions])[:, told]
        shuffled = [each.shuffled for each in partitions if each.shuffled is not None]
        beside[key] = {"chance": float(np.nanmean(chances)), "shuffled_high": _high(shuffled)}
    intervals = _intervals(means, seed)
    return [
        {
            "measure": measure,
            **setting,
            "queries": queries,
            "attacker": attacker,
            "from": seen,
            "of": len(values),
            "share": intervals[key].mean,
            "low": intervals[key].low,
            "high": intervals[key].high,
            **beside[key],
        }
        for key, values in means.items()
        for queries, measure, attacker, seen in (key,)
    ]


def _high(shuffled: Sequence[Matrix]) -> float | None:
    """Return the 97.5 % quantile of means over partitions, from a fitted normal distribution."""
    if not shuffled:
        return None
    means = np.mean(shuffled, axis=0)
    return float(means.mean() + 1.96 * means.std(ddof=1))


def _intervals(means: dict[_Key, Matrix], seed: int) -> dict[_Key, Interval]:
    """Return the interval of each of ``means``; those of equal length are resampled together."""
    found: dict[_Key, Interval] = {}
    for length in sorted({len(values) for values in means.values()}):
        some = {key: values for key, values in means.items() if len(values) == length}
        found |= zip(some, mean_intervals(np.stack(list(some.values()), axis=1), seed), strict=True)
    return found


def _notes(trial: GroupTrial, matches: int) -> Sequence[str]:
    return (
        f"Queries are images drawn with replacement. The answer to a query is its {matches} nearest other "
        "images by EucDis, as in scheme exact. Images are divided into groups by size class (factors of "
        f"16) and at random, {trial.partitions} times; figures are means over these. Decoys, with groups "
        "of one, are drawn anew for every query. A single figure for two attackers is the larger one. "
        "Intervals are over images or queries, and somewhat too narrow, as images of a group are not "
        "independent.",
        "Attacker cosine: the number of queries that select both of two groups, divided by the geometric "
        "mean of those that select each. Attacker eigenvectors: the counts minus their expected value for "
        "independent selections, compared by cosine in the 20 leading eigenvectors. With counts, a group "
        "is weighted by its number of matches in each query.",
        f"{IMAGE}: the share of the 10 images most similar to an image that are of its category, without "
        "images of its group; images of one group cannot be distinguished. With sizes: the standardised "
        "similarity plus the standardised negative distance of the logarithms of the groups' lengths. "
        "Order of rows and sizes alone need no query. shuffled_high: the 97.5 % quantile of the mean if "
        f"categories are shuffled, from a normal distribution fitted to {_SHUFFLES} shuffles.",
        f"{QUERIES}: the share of the 10 queries most similar to a query, by their matches per group, that "
        f"are of its category; only the first query with each image counts, at most 1,000. {REPEATED}: "
        "whether the query most similar to a later query with the same image is the first one with that "
        "image.",
        f"{READ}: whether the cloud, colluding with an authorised user who sent the first tenth of the "
        "queries, guesses the category of a query. images got: from the categories of the images of each "
        "selected group that this user got, weighted by matches; every image: from those of all images, as "
        "an owner knows them; own queries: from the 10 most similar of the user's own queries with other "
        "images. chance: always guess the most frequent category.",
    )
