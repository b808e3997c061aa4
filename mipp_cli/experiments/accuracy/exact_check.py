"""Checks scheme `exact`: the KMC's ranking of encrypted features is Eq. 7 on plaintext codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mipp_cli.cloud.search import search
from mipp_cli.experiments.accuracy.equality_check import EqualityOptions, check_equality
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.result import Observation, Result
from mipp_cli.experiments.base.trial_deployment import SchemeSetting, TrialDeployment, trial_deployment
from mipp_cli.images.collection import ImageFile
from mipp_cli.kmc.index import index_at_kmc
from mipp_cli.kmc.rank import rank
from mipp_cli.kmc.reencrypt import reencrypt
from mipp_cli.progress import Progress, silent
from mipp_cli.scheme.similarity import euclidean_distances
from mipp_cli.user.decrypt import decrypt_answer

EXACT_NAME, EQUALITY_NAME = "descriptors-exact", "descriptors-equality"
_EXACT = SchemeSetting("exact", None)
_QUERIES = 5


def check_descriptors(
    datasets: Sequence[DataSet], options: EqualityOptions, progress: Progress = silent
) -> list[Result]:
    """Check each descriptor on an encrypted sample: scheme `exact` against Eq. 7, Sim against NewDis."""
    equality = [check_equality(dataset, options, progress) for dataset in datasets]
    rows = [
        {"descriptor": dataset.label, **row}
        for dataset, result in zip(datasets, equality, strict=True)
        for row in result.observations
    ]
    notes = [
        f"{dataset.label}: {note}"
        for dataset, result in zip(datasets, equality, strict=True)
        for note in result.notes
    ]
    sums = replace(equality[0], name=EQUALITY_NAME, observations=rows, notes=notes)
    return [_check_exact(datasets, options, progress), sums]


def _check_exact(datasets: Sequence[DataSet], options: EqualityOptions, progress: Progress) -> Result:
    rows: list[Observation] = []
    for dataset in datasets:
        sample = options.draw(dataset)
        with trial_deployment(_EXACT, dataset, options.parallelism, progress, image_names="path") as trial:
            rows.append({"descriptor": dataset.label, **_compared(dataset, sample, trial)})
    equal = all(row["distances_equal"] and row["orders_equal"] for row in rows)
    verdict = (
        "every distance equals EucDis, and every order is the same except for ties"
        if equal
        else "DISTANCES OR ORDERS DIFFER: the ranking of plaintext codes does not apply to the encrypted "
        "search"
    )
    matches = sum(row["matches"] for row in rows)
    notes = [
        f"Checked on {rows[0]['images']} images of this data set per descriptor, by owner encrypt, cloud "
        "index, kmc index, user query, kmc rank, cloud search, kmc reencrypt and user decrypt, with "
        f"{matches} matches in total: {verdict}."
    ]
    notes += [f"{each.label}: {each.described.brought}" for each in datasets if each.described.brought]
    return Result(
        EXACT_NAME, "Check: scheme exact end to end against Eq. 7 on plaintext codes", rows, (), notes
    )


def _compared(dataset: DataSet, sample: NDArray[np.int64], trial: TrialDeployment) -> Observation:
    features, images = dataset.features[sample], dataset.files(sample)
    # a set of fewer than _QUERIES images is queried with all of them
    asked = np.linspace(0, len(sample) - 1, min(_QUERIES, len(sample)), dtype=np.int64)
    found = exact_search(trial, images, [images[row] for row in asked])
    row_of = {image.name: row for row, image in enumerate(images)}
    largest, distances_equal, orders_equal = 0.0, True, True
    for query, answer in zip(asked.tolist(), found, strict=True):
        plain = euclidean_distances(features, features[query])
        order = [row_of[name] for name, _ in answer]
        distances = np.array([distance for _, distance in answer])
        largest = max(largest, float(np.abs(distances - plain[order]).max(initial=0)))
        distances_equal &= np.array_equal(
            distances, plain[order]
        )  # NaN would not show in the largest difference
        # every image occurs exactly once, and distances never decrease
        complete = sorted(order) == list(range(len(sample)))
        orders_equal &= complete and np.array_equal(plain[order], np.sort(plain))
    return {
        "images": len(sample),
        "queries": len(asked),
        "matches": sum(map(len, found)),
        "largest_difference": largest,
        "distances_equal": bool(distances_equal),
        "orders_equal": bool(orders_equal),
    }


def exact_search(
    trial: TrialDeployment, images: list[ImageFile], asked: list[ImageFile]
) -> list[list[tuple[str, float]]]:
    """Encrypt, index, rank and search images; return for each query the names and distances of all images."""
    root, kmc = trial.root, trial.kmc_file.parent
    cloud = trial.new_cloud("cloud", [trial.encrypt("owner", images, "upload")])
    index_at_kmc(kmc, [root / "upload.features.h5"], progress=trial.progress)
    answers: list[list[tuple[str, float]]] = []
    # one image per query: matches.csv would merge two images of the same name
    for number, image in enumerate(asked):
        query = trial.query([image], f"query-{number}", len(images))
        names = ("selection", "results", "answer", "matches")
        selection, results, answer, matches = (root / f"{name}-{number}.h5" for name in names)
        rank(kmc, query, selection)
        search(cloud, selection, results)
        reencrypt(kmc, results, answer)
        _, written = decrypt_answer(trial.user, answer, Path(matches), top=len(images))
        answers.append([(match.name, match.distance) for match in written])
    return answers
