"""The check that allows plain shortcuts: real answers are those of the plain methods.

Sim over ciphertexts equals NewDis over plain codes (Eq. 8, 9); under scheme `exact`, what the user decrypts
is what EucDis (Eq. 7) over plain codes finds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from mipp_cli.containers.results import open_results
from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.dataset import DataSet
from mipp_cli.experiments.exact_answers import exact_answers
from mipp_cli.experiments.methods import CloudSim
from mipp_cli.experiments.result import Observation, Result
from mipp_cli.experiments.settings import SchemeSetting, draw_sample, image_files
from mipp_cli.experiments.trial_deployment import make_trial_deployment
from mipp_cli.roles.cloud_index import index_containers
from mipp_cli.roles.cloud_search import search
from mipp_cli.roles.progress import Progress, silent
from mipp_cli.roles.user import EXACT_CANDIDATES, make_query
from mipp_cli.roles.workers import LOCAL, Workplace
from mipp_cli.scheme.similarity import euclidean_distances, new_distances

LEAST_IMAGES = 50
_QUERIES = 5
SIM, EUCDIS = "Sim with NewDis", "EucDis"

Features = NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class EqualityOptions:
    """Which schemes are checked, and on how many images of the data set."""

    settings: tuple[SchemeSetting, ...]
    images: int = LEAST_IMAGES
    seed: int = 1
    workplace: Workplace = LOCAL

    def __post_init__(self) -> None:
        if self.images < LEAST_IMAGES:
            raise InvalidRequestError(
                f"a sample of {self.images} images is too small",
                hint=f"{LEAST_IMAGES} or more; of a smaller data set all images are taken",
            )


def check_equality(dataset: DataSet, options: EqualityOptions, progress: Progress = silent) -> Result:
    """Run the roles' own steps on a sample, and compare every distance and order with the plain ones."""
    sample = draw_sample(dataset, options.images, options.seed)
    rows = [_check(dataset, sample, setting, options.workplace, progress) for setting in options.settings]
    pairs = sum(int(row["pairs"] or 0) for row in rows)
    note = (
        f"Checked on {len(sample)} images of this data set, encrypted, indexed and searched by the commands' "
        f"own code, {pairs} pairs of query and image in all: {'; '.join(_verdicts(rows))}."
    )
    return Result(
        "equality", "Encrypted answers against the same distances over plain codes", rows, (), [note]
    )


def _verdicts(rows: Sequence[Observation]) -> Iterator[str]:
    """Say of each distance that was compared whether it is equal under every scheme."""
    equal = {
        SIM: "every Sim equals NewDis to the last bit, and every order is the same: the accuracy of the "
        "cloud's answers may be measured on plain codes",
        EUCDIS: f"under exact the {EXACT_CANDIDATES} images that a user decrypts are those that Euclidean "
        "distance on plain codes finds, in the same order: its accuracy is that of Euclidean distance",
    }
    unequal = {
        SIM: "SIM AND NEWDIS DIFFER: the figures of accuracy say nothing about the encrypted search",
        EUCDIS: "ANSWERS UNDER EXACT DIFFER from those of Euclidean distance on plain codes",
    }
    for compared in dict.fromkeys(str(row["compared"]) for row in rows):
        own = [row for row in rows if row["compared"] == compared]
        same = all(row["largest_difference"] == 0 and row["orders_equal"] for row in own)
        yield equal[compared] if same else unequal[compared]


def _check(
    dataset: DataSet,
    sample: NDArray[np.int64],
    setting: SchemeSetting,
    workplace: Workplace,
    progress: Progress,
) -> Observation:
    features = dataset.features[sample]
    # of a set of fewer than _QUERIES images all are asked for
    asked = np.linspace(0, len(sample) - 1, min(_QUERIES, len(sample)), dtype=np.int64)
    exact = setting.scheme == "exact"
    run = _exact_search if exact else _encrypted_search
    found = run(dataset, sample, sample[asked], setting, workplace, progress)
    compare = _compare_exact if exact else _compare_sims
    names = {dataset.names[position]: row for row, position in enumerate(sample.tolist())}
    largest, orders_equal = 0.0, True
    for query, answer in zip(asked.tolist(), found, strict=True):
        order = np.array([names[name] for name, _ in answer], dtype=np.int64)
        difference, same = compare(features, query, order, np.array([value for _, value in answer]))
        largest, orders_equal = max(largest, difference), orders_equal and same
    return {
        "scheme": setting.scheme,
        "modulus_bits": setting.modulus_bits,
        "compared": EUCDIS if exact else SIM,
        "images": len(sample),
        "queries": len(asked),
        "pairs": sum(map(len, found)),
        "largest_difference": largest,
        "orders_equal": orders_equal,
    }


def _compare_sims(
    features: Features, query: int, order: NDArray[np.int64], sims: NDArray[np.float64]
) -> tuple[float, bool]:
    """Return how far Sims are from NewDis, and whether all images stand in its order."""
    plain = CloudSim(DataSet(Path(), (), (), features, ""))
    difference = np.abs(sims - new_distances(features[order], features[query]))
    return float(difference.max()), bool(np.array_equal(order[order != query], plain.order(query)))


def _compare_exact(
    features: Features, query: int, order: NDArray[np.int64], distances: NDArray[np.float64]
) -> tuple[float, bool]:
    """Return how far an answer is from EucDis, and whether it is its nearest images, in their order.

    The query is among the images, and is part of its own answer as of the plain one.
    """
    plain = euclidean_distances(features, features[query])
    nearest = np.argsort(plain, kind="stable")[:EXACT_CANDIDATES]
    difference = np.abs(distances - plain[order])
    return float(difference.max(initial=0)), bool(np.array_equal(order, nearest))


def _exact_search(
    dataset: DataSet,
    sample: NDArray[np.int64],
    asked: NDArray[np.int64],
    setting: SchemeSetting,
    workplace: Workplace,
    progress: Progress,
) -> list[list[tuple[str, float]]]:
    """Encrypt and index the sample; return for each query names and EucDis of what the user decrypts."""
    with TemporaryDirectory(prefix="mipp-experiment-") as folder:
        trial = make_trial_deployment(Path(folder), setting.scheme, setting.modulus_bits, image_ids="path")
        cloud = trial.new_cloud("cloud")
        upload = trial.encrypt("owner", image_files(dataset, sample), "upload", workplace, progress)
        index_containers(cloud, [upload], workplace=workplace, progress=progress)
        return exact_answers(trial, cloud, image_files(dataset, asked))


def _encrypted_search(
    dataset: DataSet,
    sample: NDArray[np.int64],
    asked: NDArray[np.int64],
    setting: SchemeSetting,
    workplace: Workplace,
    progress: Progress,
) -> list[list[tuple[str, float]]]:
    """Encrypt, index and search the sample; return for each query all images' names and Sims, in order."""
    with TemporaryDirectory(prefix="mipp-experiment-") as folder:
        trial = make_trial_deployment(Path(folder), setting.scheme, setting.modulus_bits, image_ids="path")
        cloud = trial.new_cloud("cloud")
        upload = trial.encrypt("owner", image_files(dataset, sample), "upload", workplace, progress)
        index_containers(cloud, [upload], workplace=workplace, progress=progress)
        query, results = Path(folder, "query.h5"), Path(folder, "results.h5")
        make_query(trial.user, image_files(dataset, asked), query, candidates=len(sample))
        search(cloud, query, results)
        reader = open_results(results, trial.public.fingerprint)
        with reader.container:
            answers: list[list[tuple[str, float]]] = [[] for _ in asked]
            for match in reader.matches:
                answers[match.query].append((reader.images[match.image].name, match.sim))
    return answers
