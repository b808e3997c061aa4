"""Leakage (f): what a cloud that sees selections of groups works out (scheme `exact`), beside fresh decoys.

The KMC ranks by exact distance, simulated on plain features: the encrypted search orders alike.
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

_Key = tuple[int, str, str, str]  # queries watched, measure, attacker, what is seen or known


class _Values(NamedTuple):
    """What was measured of each image or query, what chance gives it, and means over shuffled categories."""

    values: Matrix
    chances: Matrix
    shuffled: Matrix | None = None


_Found = dict[_Key, list[_Values]]  # one for each partition


def measure_groups(
    dataset: DataSet, sizes: NDArray[np.int64], trial: GroupTrial, seed: int, progress: Progress
) -> Result:
    """Watch the selections of queries, drawn with replacement; ``sizes`` are those of the images' files."""
    # the queries are those of selections.py
    images = generator(seed, Purpose.WATCHED_QUERIES).integers(len(dataset), size=max(trial.queries))
    unique, place = np.unique(images, return_inverse=True)
    matches = np.stack(answers(euclidean(dataset.features, dataset.ties), unique, trial.matches, progress))[
        place
    ]
    cuts, ties = generator(seed, Purpose.GROUPS), generator(seed, Purpose.GROUP_TIES)
    observations: list[Observation] = []
    settings = trial.settings(len(dataset))
    with progress("watching selections", len(settings), "setting") as advance:
        for size, decoys in settings:
            beside = decoys * matches.shape[1]
            selected = with_decoys(matches, beside, len(dataset), generator(seed, Purpose.DECOYS))
            asked = Asked(images, matches, selected)
            found: _Found = defaultdict(list)
            # groups of one can be cut in one way alone, but for their order
            for _ in range(trial.partitions if size > 1 else 1):
                partition = cut(sizes, size, cuts)
                for key, values in _measured(dataset.labels, partition, asked, trial.queries, ties):
                    found[key].append(values)
            observations += _observed({"group_size": size, "decoys": decoys}, found, seed)
            advance(1)
    title = "What selections of groups tell the cloud (scheme exact)"
    return Result(NAME, title, observations, group_claims(observations), _notes(trial, matches.shape[1]))


def _measured(
    labels: NDArray[np.int64],
    partition: Partition,
    every: Asked,
    queries: Sequence[int],
    ties: np.random.Generator,
) -> Iterator[tuple[_Key, _Values]]:
    """Yield everything that is measured in one partition, after each number of ``queries``."""
    for guess in group_images.guesses_before(partition, ties):
        yield _of_images(0, guess, labels, ties)
    ways = (False,) if len(partition) == len(labels) else (False, True)  # groups of one hold no two matches
    watches = [watch(partition, every.selected, queries, weighted=way) for way in ways]
    for watched in zip(*watches, strict=True):
        for each in watched:
            for guess in group_images.guesses(partition, each, ties):
                yield _of_images(each.queries, guess, labels, ties)
        counted = watched[-1]
        asked = every.until(counted.queries)
        own = labels[asked.images[asked.first]]
        if len(own) < 2:
            continue  # one query has no others
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
    """Return a row for each thing measured: means over partitions, and then over images or queries."""
    means: dict[_Key, Matrix] = {}
    beside: dict[_Key, Observation] = {}
    for key, partitions in found.items():
        values = np.stack([each.values for each in partitions])
        told = ~np.isnan(values).all(axis=0)  # groups that were never selected tell nothing of their images
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
    """Return what means over partitions stay below in 97.5 % of cases, were they normally distributed."""
    if not shuffled:
        return None
    means = np.mean(shuffled, axis=0)
    return float(means.mean() + 1.96 * means.std(ddof=1))


def _intervals(means: dict[_Key, Matrix], seed: int) -> dict[_Key, Interval]:
    """Return the interval of each of ``means``; those of equally many values are resampled together."""
    found: dict[_Key, Interval] = {}
    for length in sorted({len(values) for values in means.values()}):
        some = {key: values for key, values in means.items() if len(values) == length}
        found |= zip(some, mean_intervals(np.stack(list(some.values()), axis=1), seed), strict=True)
    return found


def _notes(trial: GroupTrial, matches: int) -> Sequence[str]:
    return (
        "Queries are images of the data set, drawn with replacement from the seed, each left out of its own "
        f"answer: the {matches} nearest by EucDis, as the KMC ranks under scheme exact. Images are cut into "
        f"groups by size class (factors of 16) and at random, {trial.partitions} times over; figures are "
        "means over these. Decoys, beside groups of one, are drawn anew for every query. Where one figure "
        "stands for two attackers, it is the larger. Intervals are over images or queries, and somewhat "
        "narrow: images of one group are not independent.",
        "attacker cosine: the queries that select two groups, over the root of those that select either. "
        "eigenvectors: the same less what independent selections would give, by the cosine in its 20 leading "
        "eigenvectors. With counts a group weighs in each query as many as it holds matches.",
        f"{IMAGE}: how many of the 10 images most alike to an image are of its category; its mates are left "
        "out, images of one group are not told apart. With sizes: the likeness and minus the distance of the "
        "logarithms of the groups' lengths, each with mean 0 and deviation 1, are added. order of rows and "
        "sizes alone need no query. shuffled_high: what the mean stays below in 97.5 % of cases when "
        f"categories are shuffled, by a normal distribution fitted to {_SHUFFLES} shuffles.",
        f"{QUERIES}: how many of the 10 queries most alike to a query, by the matches that each group holds, "
        "are of its category; the first query with each image counts, at most 1,000. "
        f"{REPEATED}: whether the most alike of these to a later query with one of their images is the one "
        "with that image.",
        f"{READ}: whether the category of a query is read by the cloud together with an authorised user, who "
        "asked the first tenth of the queries. images got: by the categories of the images of each selected "
        "group that this user got, weighted by matches; every image: by those of all images, as an owner "
        "knows them; own queries: by the 10 most alike of the user's own, with other images. chance: always "
        "the most frequent category.",
    )
