"""A data set: one folder per category, with every image described once by each descriptor."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mipp_cli.compute.processes import LOCAL, Parallelism
from mipp_cli.descriptors.edge_histogram import is_edgeless
from mipp_cli.errors import InvalidRequestError, UnreadableImageError
from mipp_cli.experiments.base.describing import Described, Feature, features_of, open_sources
from mipp_cli.images.collection import ImageFile, collect_images
from mipp_cli.names import as_called, name_of, recognised
from mipp_cli.progress import Progress, silent
from mipp_cli.scheme.descriptor import EDGE_HISTOGRAM
from mipp_cli.scheme.retrieval_index import ids_of

_FORM = "make one subfolder of images per category"


@dataclass(frozen=True)
class DataSet:
    """Images with categories and features, sorted by name.

    An image's name is its POSIX path in the folder, as with `--image-names path`. ``labels``, shape (n,), are
    indices into the categories. ``features``, shape (n, l), are codes; ``vectors``, of the same shape, are
    the real numbers they were quantised from, or None if features are given as codes. ``digest`` (SHA-256,
    hex) covers every image's name and file. ``skipped`` are the images left out, with reasons; ``described``
    is the descriptor.
    """

    folder: Path
    categories: tuple[str, ...]
    images: tuple[ImageFile, ...]
    labels: NDArray[np.int64]
    features: NDArray[np.uint8]
    digest: str
    skipped: tuple[str, ...] = ()
    described: Described = field(default_factory=Described)
    vectors: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def label(self) -> str:
        """The descriptor's name in tables and plots."""
        return self.described.label

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The name of each image."""
        return tuple(image.name for image in self.images)

    @cached_property
    def ties(self) -> NDArray[np.int64]:
        """The positions of all images in the order by which the cloud breaks ties.

        It is the order of a digest of the name. Names begin with the category, so their own order would rank
        by it.
        """
        return np.argsort(ids_of(name.encode() for name in self.names))

    @cached_property
    def edgeless(self) -> int:
        """The number of images without edges, whose features are identical; 0 except for edge histograms."""
        return sum(is_edgeless(self.described.descriptor, codes) for codes in self.features)

    def files(self, positions: NDArray[np.int64]) -> list[ImageFile]:
        """Return the images at these positions."""
        return [self.images[position] for position in positions.tolist()]

    def codes_of(self, images: Sequence[ImageFile]) -> NDArray[np.uint8]:
        """Return the codes of images, found by their paths, whatever their names; shape (n, l)."""
        return self.features[[self._places[image.location] for image in images]]

    @cached_property
    def _places(self) -> dict[str | os.PathLike[str], int]:
        return {image.location: place for place, image in enumerate(self.images)}


def describe_dataset(dataset: DataSet) -> dict[str, Any]:
    """Return name, size and digest of a data set as JSON fields."""
    fields = {
        "name": name_of(dataset.folder.resolve().name),
        "images": len(dataset),
        "categories": len(dataset.categories),
        "sha256": dataset.digest,
        "unreadable, left out": len(dataset.skipped),
    }
    if dataset.described.descriptor.name == EDGE_HISTOGRAM:
        fields["without edges"] = dataset.edgeless
    return fields


def describe_descriptor(dataset: DataSet) -> dict[str, Any]:
    """Return the descriptor of a data set as JSON fields; a run can only be resumed with the same."""
    descriptor = dataset.described.descriptor
    return {
        "name": dataset.label,
        "dimension": descriptor.l,
        "levels": descriptor.levels,
        "sha256": hashlib.sha256(dataset.described.identity.encode()).hexdigest(),
    }


def load_datasets(
    folder: Path,
    descriptors: Sequence[str] = (EDGE_HISTOGRAM,),
    *,
    parallelism: Parallelism = LOCAL,
    progress: Progress = silent,
    collection_categories: Sequence[str] | None = None,
    skip_unreadable: bool = False,
    device: str = "cpu",
) -> list[DataSet]:
    """Describe every image of a data set by each descriptor; its categories are the subfolders of ``folder``.

    The data sets returned have the same images: one that a descriptor cannot describe is left out of all.
    ``collection_categories`` keeps only the categories named; a single number N keeps the first N by name.
    Image models run on ``device``. Raises InvalidRequestError if there are fewer than two categories or one
    is empty, if a features file does not fit, or if a device is named without a model; UnreadableImageError
    for the first image that cannot be read or described, unless these are skipped.
    """
    folders = _categories(folder)
    categories = _chosen(tuple(folders), collection_categories, folder)
    if len(categories) < 2:
        raise InvalidRequestError(
            f"has only one category, {categories[0]!r}, so every answer would be right",
            path=folder,
            hint=f"use two or more categories: {_FORM}",
        )
    found = [image for name in categories for image in collect_images([folders[name]], root=folder)]
    found.sort(key=lambda image: os.fsencode(image.location))
    sources = open_sources(descriptors, found, device)
    images: list[ImageFile] = []
    rows: list[list[Feature]] = []
    skipped: list[UnreadableImageError] = []
    digest = hashlib.sha256()
    with progress("describing", len(found), "image") as advance:
        for each in features_of(found, sources, parallelism):
            advance(1)
            if isinstance(each, UnreadableImageError):
                if not skip_unreadable:
                    raise each
                skipped.append(each)
                continue
            image, content_digest, features = each
            images.append(image)
            rows.append(features)
            digest.update(f"{content_digest} {image.name}\n".encode())
    labels = _labels(images, categories, skipped)
    reasons = tuple(f"{name_of(each.path or folder)}: {each.message}" for each in skipped)
    return [
        DataSet(
            folder,
            categories,
            tuple(images),
            labels,
            np.stack([feature.codes for feature in features]),
            digest.hexdigest(),
            reasons,
            source.described,
            _stacked(features),
        )
        for source, features in zip(sources, zip(*rows, strict=True), strict=True)
    ]


def _stacked(features: Sequence[Feature]) -> NDArray[np.float32] | None:
    vectors = [feature.vector for feature in features if feature.vector is not None]
    return np.stack(vectors) if vectors else None


def _labels(
    images: Sequence[ImageFile], categories: Sequence[str], skipped: Sequence[UnreadableImageError]
) -> NDArray[np.int64]:
    """Return the category of each image; raises InvalidRequestError for an empty category."""
    category_of = [image.name.partition("/")[0] for image in images]
    for name in categories:
        if name not in category_of:
            raise InvalidRequestError(
                f"the category '{name}' has no image that can be read",
                hint=f"repair or remove its images, the first {skipped[0].path}: {skipped[0].message}",
            )
    return np.array([categories.index(name) for name in category_of], dtype=np.int64)


def _categories(folder: Path) -> dict[str, Path]:
    """Return the subfolders of ``folder`` by name, except hidden ones."""
    try:
        with os.scandir(folder) as entries:
            names = [each.name for each in entries if each.is_dir() and not each.name.startswith(".")]
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise InvalidRequestError(
            f"the data set cannot be read: {reason}",
            path=folder,
            hint="give a folder with one subfolder of images per category",
        ) from error
    if not names:
        raise InvalidRequestError("has no subfolders, so no categories", path=folder, hint=_FORM)
    return {name_of(name): folder / name for name in sorted(names, key=os.fsencode)}


def _chosen(categories: tuple[str, ...], wanted: Sequence[str] | None, folder: Path) -> tuple[str, ...]:
    if wanted is None:
        return categories
    given = [as_called(name) for name in wanted]
    known = recognised(given, categories)
    wanted = [known.get(name, name) for name in given]
    if len(wanted) == 1 and wanted[0].isdecimal() and wanted[0] not in categories:
        if not 2 <= int(wanted[0]) <= len(categories):
            raise InvalidRequestError(
                f"has {len(categories)} categories, so {wanted[0]} cannot be searched",
                path=folder,
                hint=f"give a number from 2 to {len(categories)}, or names of categories",
            )
        return categories[: int(wanted[0])]
    for name in wanted:
        if name not in categories:
            raise InvalidRequestError(
                f"has no category '{name}'", path=folder, hint="choose from: " + ", ".join(categories)
            )
    return tuple(name for name in categories if name in wanted)
