"""The check that allows plain shortcuts: Sim over ciphertexts equals NewDis over plain codes (Eq. 8, 9)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipp_cli.cloud.index import index_containers
from mipp_cli.cloud.search import search
from mipp_cli.compute.processes import LOCAL, Parallelism
from mipp_cli.containers.messages.results import open_results
from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.methods import cloud_sim
from mipp_cli.experiments.base.result import Observation, Result
from mipp_cli.experiments.base.sampling import draw_sample
from mipp_cli.experiments.base.trial_deployment import SchemeSetting, trial_deployment
from mipp_cli.images.collection import ImageFile
from mipp_cli.progress import Progress, silent
from mipp_cli.scheme.similarity import new_distances
from mipp_cli.user.user import make_query

LEAST_IMAGES = 50
_QUERIES = 5


@dataclass(frozen=True)
class EqualityOptions:
    """Which schemes are checked, and on how many images of the data set."""

    settings: tuple[SchemeSetting, ...]
    images: int = LEAST_IMAGES
    seed: int = 1
    parallelism: Parallelism = LOCAL

    def __post_init__(self) -> None:
        if self.images < LEAST_IMAGES:
            raise InvalidRequestError(
                f"a sample of {self.images} images is too small",
                hint=f"{LEAST_IMAGES} or more; of a smaller data set all images are taken",
            )


def check_equality(dataset: DataSet, options: EqualityOptions, progress: Progress = silent) -> Result:
    """Run the roles' own steps on a sample, and compare every Sim and every order with the plain ones."""
    sample = draw_sample(dataset, options.images, options.seed)
    rows = [_check(dataset, sample, setting, options, progress) for setting in options.settings]
    equal = all(row["largest_difference"] == 0 and row["orders_equal"] for row in rows)
    verdict = (
        "every Sim equals NewDis to the last bit, and every order is the same: the accuracy of the cloud's "
        "answers may be measured on plain codes"
        if equal
        else "SIM AND NEWDIS DIFFER: the figures of accuracy say nothing about the encrypted search"
    )
    pairs = sum(row["pairs"] for row in rows)
    note = (
        f"Checked on {len(sample)} images of this data set, encrypted, indexed and searched by the commands' "
        f"own code, {pairs} pairs of query and image in all: {verdict}."
    )
    return Result("equality", "Sim over ciphertexts against NewDis over plain codes", rows, (), [note])


def _check(
    dataset: DataSet,
    sample: NDArray[np.int64],
    setting: SchemeSetting,
    options: EqualityOptions,
    progress: Progress,
) -> Observation:
    features = dataset.features[sample]
    # of a set of fewer than _QUERIES images all are asked for
    asked = np.linspace(0, len(sample) - 1, min(_QUERIES, len(sample)), dtype=np.int64)
    images = dataset.files(sample)
    found = _encrypted_search(images, [images[i] for i in asked], setting, options.parallelism, progress)
    plain = cloud_sim(features)
    row_of = {image.name: row for row, image in enumerate(images)}
    largest, orders_equal = 0.0, True
    for query, answer in zip(asked.tolist(), found, strict=True):
        order = np.array([row_of[name] for name, _ in answer], dtype=np.int64)
        sims = np.array([value for _, value in answer])
        difference = np.abs(sims - new_distances(features[order], features[query]))
        largest = max(largest, float(difference.max()))
        orders_equal &= np.array_equal(order[order != query], plain.order(query))
    return {
        **vars(setting),
        "images": len(sample),
        "queries": len(asked),
        "pairs": sum(map(len, found)),
        "largest_difference": largest,
        "orders_equal": bool(orders_equal),
    }


def _encrypted_search(
    images: list[ImageFile],
    asked: list[ImageFile],
    setting: SchemeSetting,
    parallelism: Parallelism,
    progress: Progress,
) -> list[list[tuple[str, float]]]:
    """Encrypt, index and search images; return for each query all images' names and Sims, in order."""
    with trial_deployment(setting, image_names="path") as trial:
        cloud = trial.new_cloud("cloud")
        upload = trial.encrypt("owner", images, "upload", parallelism, progress)
        index_containers(cloud, [upload], parallelism=parallelism, progress=progress)
        query, results = trial.root / "query.h5", trial.root / "results.h5"
        make_query(trial.user, asked, query, candidates=len(images))
        search(cloud, query, results)
        reader = open_results(results, trial.public.fingerprint)
        with reader.container:
            answers: list[list[tuple[str, float]]] = [[] for _ in asked]
            for match in reader.matches:
                answers[match.query].append((reader.images[match.image].name, match.sim))
    return answers
