"""Draws from a data set: queries as in the paper's protocol (section 7.1), and samples to encrypt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.seeds import Purpose, generator


@dataclass(frozen=True)
class QueryChoice:
    """The queries: ``per_category`` images in each of ``categories``; if both are None, every image."""

    per_category: int | None = 5
    categories: int | None = 10
    seed: int = 1

    def __post_init__(self) -> None:
        for number, what in ((self.per_category, "query in each category"), (self.categories, "category")):
            if number is not None and number < 1:
                raise InvalidRequestError(f"at least one {what} is required", hint="give 1 or more")


def draw_queries(dataset: DataSet, choice: QueryChoice) -> NDArray[np.int64]:
    """Draw the queries: positions in ``dataset.images``, ascending.

    If there are fewer categories than asked for, all are used. Raises InvalidRequestError if a category has
    fewer images than queries, or only one image, for which no answer could be right.
    """
    random = generator(choice.seed, Purpose.QUERIES)
    count = len(dataset.categories)
    wanted = count if choice.categories is None else min(choice.categories, count)
    chosen = np.sort(random.choice(count, size=wanted, replace=False))
    drawn = []
    for category in chosen.tolist():
        members = np.flatnonzero(dataset.labels == category)
        _check_members(dataset, category, len(members), choice.per_category)
        if choice.per_category is None:
            drawn.append(members)
        else:
            drawn.append(random.choice(members, size=choice.per_category, replace=False))
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def _check_members(dataset: DataSet, category: int, members: int, queries: int | None) -> None:
    name = dataset.categories[category]
    if members < 2:
        raise InvalidRequestError(
            f"the category {name!r} has only one image, so no answer to it could be right",
            path=dataset.folder,
            hint="put two or more images into it, or leave it out with --collection-categories",
        )
    if queries is not None and members < queries:
        raise InvalidRequestError(
            f"the category {name!r} has {members} images, fewer than the {queries} queries asked for",
            path=dataset.folder,
            hint=f"use fewer queries (--queries {members}), or every image as a query (--queries all)",
        )


def draw_sample(
    dataset: DataSet, images: int, seed: int, purpose: Purpose = Purpose.SAMPLES
) -> NDArray[np.int64]:
    """Draw images of a data set from a seed, or all if it has no more. Returns positions, ascending."""
    count = min(images, len(dataset))
    drawn = generator(seed, purpose).choice(len(dataset), size=count, replace=False)
    return np.sort(drawn).astype(np.int64)
