"""A data set: a folder a category, every image described once by its edge histogram, or by a file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mipp_cli.compute.processes import LOCAL, Parallelism, open_workers
from mipp_cli.containers.feature_file import open_feature_file
from mipp_cli.descriptors.edge_histogram import edge_histogram, is_edgeless
from mipp_cli.descriptors.external import OwnFeatures
from mipp_cli.errors import InvalidRequestError, UnreadableImageError, errors_at
from mipp_cli.images.collection import ImageFile, collect_images
from mipp_cli.images.pictures import open_picture
from mipp_cli.progress import Progress, silent
from mipp_cli.scheme.descriptor import EDGES, Descriptor

_FORM = "make a folder for each category, and put its images inside"


@dataclass(frozen=True)
class DataSet:
    """Images with categories and features, in the order of their names, by which ties are broken.

    An image is called by its POSIX path below the folder, as `--image-names path` has it; ``labels``, shape
    (n,), says which of the categories is its. ``features`` has shape (n, l). ``digest`` (SHA-256, hex) covers
    every name, every file's content and the file of features, if there is one. ``skipped`` says which images
    were left out and why.
    """

    folder: Path
    categories: tuple[str, ...]
    images: tuple[ImageFile, ...]
    labels: NDArray[np.int64]
    features: NDArray[np.uint8]
    digest: str
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What each image is called."""
        return tuple(image.name for image in self.images)

    @property
    def edgeless(self) -> int:
        """How many images have no edge: their features are all alike."""
        return sum(is_edgeless(EDGES, codes) for codes in self.features)

    def files(self, positions: NDArray[np.int64]) -> list[ImageFile]:
        """Return the images at these positions."""
        return [self.images[position] for position in positions.tolist()]


def describe_dataset(dataset: DataSet) -> dict[str, Any]:
    """Return name, size and digest of a data set as JSON fields."""
    return {
        "name": dataset.folder.resolve().name,
        "images": len(dataset),
        "categories": len(dataset.categories),
        "sha256": dataset.digest,
        "unreadable, left out": len(dataset.skipped),
        "without edges": dataset.edgeless,
    }


def load_dataset(
    folder: Path,
    *,
    parallelism: Parallelism = LOCAL,
    progress: Progress = silent,
    collection_categories: Sequence[str] | None = None,
    skip_unreadable: bool = False,
    grey_bits: int = 16,
    features_file: Path | None = None,
) -> DataSet:
    """Describe every image of a data set; its categories are the folders in ``folder``.

    ``collection_categories`` keeps only the categories named; one number alone keeps the first so many,
    by name. ``features_file`` has codes in the place of edge histograms, for every image found. Raises
    InvalidRequestError if there are fewer than two categories or one is empty, or if that file does not fit,
    UnreadableImageError for the first image that cannot be read, unless they are skipped.
    """
    categories = _chosen(_categories(folder), collection_categories, folder)
    if len(categories) < 2:
        raise InvalidRequestError(
            f"has one category only, {categories[0]!r}: every answer would be right",
            path=folder,
            hint=f"two or more are needed: {_FORM}",
        )
    found = [image for name in categories for image in collect_images([folder / name], root=folder)]
    found.sort(key=lambda image: image.name.encode())
    images: list[ImageFile] = []
    features: list[NDArray[np.uint8]] = []
    skipped: list[UnreadableImageError] = []
    digest = hashlib.sha256()
    own, identity = ({}, "") if features_file is None else _own_codes(features_file, found)
    digest.update(identity.encode())
    describe = partial(_describe, grey_bits=grey_bits)
    parallelism = parallelism.at_most(len(found) // 16)  # as many take less time than to start a process
    with (
        open_workers(describe, parallelism) as workers,
        progress("describing", len(found), "image") as advance,
    ):
        for (image, _), described in workers.in_order(_tasks(found), under_way=4 * workers.count):
            advance(1)
            if isinstance(described, UnreadableImageError):
                if not skip_unreadable:
                    raise described
                skipped.append(described)
                continue
            codes, content_digest = described
            images.append(image)
            features.append(own.get(image.name, codes))
            digest.update(f"{content_digest} {image.name}\n".encode())
    category_of = [image.name.partition("/")[0] for image in images]
    for name in categories:
        if name not in category_of:
            raise InvalidRequestError(
                f"the category {name!r} has no image that can be read",
                hint=f"the first that cannot: {skipped[0].path}: {skipped[0].message}",
            )
    labels = np.array([categories.index(name) for name in category_of], dtype=np.int64)
    reasons = tuple(f"{each.path}: {each.message}" for each in skipped)
    return DataSet(folder, categories, tuple(images), labels, np.stack(features), digest.hexdigest(), reasons)


def _own_codes(path: Path, images: Sequence[ImageFile]) -> tuple[dict[str, NDArray[np.uint8]], str]:
    """Return the codes of each image, by its name, from a file of features, and the digest of that file."""
    file = open_feature_file(path)
    try:
        with errors_at(path):
            own = OwnFeatures(path, file, images, Descriptor("own", file.shape[1], 256))
            return {image.name: own.codes(image) for image in images}, own.identity
    finally:
        file.close()


_Task = tuple[ImageFile, bytes | UnreadableImageError]
"""An image for a worker; its content goes along, since workers may be on other machines."""


def _tasks(images: Sequence[ImageFile]) -> Iterator[_Task]:
    for image in images:
        try:
            yield image, image.read()
        except UnreadableImageError as error:
            yield image, error


def _describe(task: _Task, *, grey_bits: int) -> tuple[NDArray[np.uint8], str] | UnreadableImageError:
    """Return the codes of an image and the digest of its file; an error is a result too."""
    image, content = task
    if isinstance(content, UnreadableImageError):
        return content
    try:
        with errors_at(image.path):
            codes = edge_histogram(open_picture(content, path=str(image.path)), grey_bits=grey_bits)
    except UnreadableImageError as error:
        return error
    return codes, hashlib.sha256(content).hexdigest()


def _categories(folder: Path) -> tuple[str, ...]:
    """Return the names of the folders in ``folder``, but hidden ones."""
    try:
        with os.scandir(folder) as entries:
            names = [each.name for each in entries if each.is_dir() and not each.name.startswith(".")]
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise InvalidRequestError(
            f"the data set cannot be read: {reason}", path=folder, hint="give a folder of folders of images"
        ) from error
    if not names:
        raise InvalidRequestError("has no folders, so no categories", path=folder, hint=_FORM)
    return tuple(sorted(names, key=os.fsencode))


def _chosen(categories: tuple[str, ...], wanted: Sequence[str] | None, folder: Path) -> tuple[str, ...]:
    if wanted is None:
        return categories
    if len(wanted) == 1 and wanted[0].isdecimal() and wanted[0] not in categories:
        if not 2 <= int(wanted[0]) <= len(categories):
            raise InvalidRequestError(
                f"has {len(categories)} categories; {wanted[0]} of them cannot be searched",
                path=folder,
                hint=f"a number from 2 to {len(categories)}, or names of categories",
            )
        return categories[: int(wanted[0])]
    for name in wanted:
        if name not in categories:
            raise InvalidRequestError(
                f"has no category {name!r}", path=folder, hint="it has: " + ", ".join(categories)
            )
    return tuple(name for name in categories if name in wanted)
