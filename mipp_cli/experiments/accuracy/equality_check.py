"""Checks that Sim on ciphertexts equals NewDis on plaintext codes (Eq. 8, 9), which justifies the latter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipp_cli.cloud.search import search
from mipp_cli.containers.messages.results import open_results
from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.methods import cloud_sim
from mipp_cli.experiments.base.result import Observation, Result
from mipp_cli.experiments.base.trial_deployment import SampleOptions, TrialDeployment, trial_deployment
from mipp_cli.images.collection import ImageFile
from mipp_cli.progress import Progress, silent
from mipp_cli.scheme.retrieval_index import ids_of
from mipp_cli.scheme.similarity import new_distances

LEAST_IMAGES = 50
_QUERIES = 5


@dataclass(frozen=True)
class EqualityOptions(SampleOptions):
    """The schemes to check, and the number of images of the data set to encrypt."""

    images: int = LEAST_IMAGES

    def __post_init__(self) -> None:
        if self.images < LEAST_IMAGES:
            raise InvalidRequestError(
                f"a sample of {self.images} images is too small",
                hint=f"give --sample {LEAST_IMAGES} or more; a smaller data set is encrypted whole",
            )


def check_equality(dataset: DataSet, options: EqualityOptions, progress: Progress = silent) -> Result:
    """Run the roles' own steps on a sample, and compare every Sim and every order with plaintext."""
    sample = options.draw(dataset)
    rows = []
    for setting in options.settings:
        with trial_deployment(setting, dataset, options.parallelism, progress, image_names="path") as trial:
            rows.append({**vars(setting), **_compared(dataset, sample, trial)})
    equal = all(row["sims_equal"] and row["orders_equal"] for row in rows)
    verdict = (
        "every Sim equals NewDis exactly, and every order is the same, so the accuracy of the cloud's "
        "answers can be measured on plaintext codes"
        if equal
        else "SIM AND NEWDIS DIFFER: the accuracy measured here does not apply to the encrypted search"
    )
    pairs = sum(row["pairs"] for row in rows)
    notes = [
        f"Checked on {len(sample)} images of this data set, encrypted, indexed and searched by the code of "
        f"the commands, with {pairs} pairs of query and image in total: {verdict}."
    ]
    if dataset.described.brought:
        notes.append(dataset.described.brought)
    return Result("equality", "Check: Sim on ciphertexts against NewDis on plaintext codes", rows, (), notes)


def _compared(dataset: DataSet, sample: NDArray[np.int64], trial: TrialDeployment) -> Observation:
    features, images = dataset.features[sample], dataset.files(sample)
    # a set of fewer than _QUERIES images is queried with all of them
    asked = np.linspace(0, len(sample) - 1, min(_QUERIES, len(sample)), dtype=np.int64)
    found = _encrypted_search(trial, images, [images[row] for row in asked])
    plain = cloud_sim(features, np.argsort(ids_of(image.name.encode() for image in images)))
    row_of = {image.name: row for row, image in enumerate(images)}
    largest, sims_equal, orders_equal = 0.0, True, True
    for query, answer in zip(asked.tolist(), found, strict=True):
        order = np.array([row_of[name] for name, _ in answer])
        sims = np.array([value for _, value in answer])
        expected = new_distances(features[order], features[query])
        difference = np.abs(sims - expected)
        largest = max(largest, float(difference.max(initial=0)))
        sims_equal &= np.array_equal(sims, expected)  # NaN would not show in the largest difference
        orders_equal &= np.array_equal(order[order != query], plain.order(query))
    return {
        "images": len(sample),
        "queries": len(asked),
        "pairs": sum(map(len, found)),
        "largest_difference": largest,
        "sims_equal": bool(sims_equal),
        "orders_equal": bool(orders_equal),
    }


def _encrypted_search(
    trial: TrialDeployment, images: list[ImageFile], asked: list[ImageFile]
) -> list[list[tuple[str, float]]]:
    """Encrypt, index and search images; return for each query the names and Sims of all images, in order."""
    cloud = trial.new_cloud("cloud", [trial.encrypt("owner", images, "upload")])
    results = trial.root / "results.h5"
    search(cloud, trial.query(asked, "query", len(images)), results)
    reader = open_results(results, trial.public.fingerprint)
    answers: list[list[tuple[str, float]]] = [[] for _ in asked]
    with reader.container:
        for match in reader.matches:
            answers[match.query].append((reader.images[match.image].name, match.sim))
    return answers
