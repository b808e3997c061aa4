"""Describes the pictures of a data set: by built-in descriptors, image models or features files.

Each picture is read and decoded once, for all descriptors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mipp_cli.compute.processes import Parallelism, open_workers
from mipp_cli.containers.feature_file import open_feature_file
from mipp_cli.descriptors.choice import chosen_describer
from mipp_cli.descriptors.describer import Describer, Prepared, check_device
from mipp_cli.descriptors.external import OwnFeatures
from mipp_cli.descriptors.image_model import ImageModel
from mipp_cli.errors import InvalidRequestError, UnreadableImageError, errors_at
from mipp_cli.images.collection import ImageFile
from mipp_cli.images.pictures import open_picture
from mipp_cli.names import name_of
from mipp_cli.scheme.descriptor import EDGE_HISTOGRAM, EDGES, L2, Codes, Descriptor

_FEATURES: Final = "features:"
_MODEL: Final = "model:"
_OWN: Final = "own"
_GENERIC_NAMES: Final = ("model", "onnx")  # names of files and folders common to all models
_BATCH_IMAGES: Final = 8  # models are faster on small batches
_SENTENCES: Final = {
    EDGE_HISTOGRAM: "the edge histogram of MPEG-7, the paper's descriptor",
}

Vectors = NDArray[np.float32]


class Feature(NamedTuple):
    """A picture's feature: codes, shape (l,), and the real numbers before quantisation, or None."""

    codes: Codes
    vector: Vectors | None


@dataclass(frozen=True)
class Described:
    """The descriptor of a data set: its ``label`` in tables, the ``descriptor``, and its ``identity``.

    ``identity`` changes with anything that may change a feature; ``about`` describes it in a sentence.
    """

    label: str = EDGE_HISTOGRAM
    descriptor: Descriptor = EDGES
    identity: str = EDGE_HISTOGRAM
    about: str = ""

    @property
    def for_deployment(self) -> str:
        """The descriptor as an argument of `kmc init --descriptor`: built in, or with codes from a file."""
        name, l, levels = self.descriptor.name, self.descriptor.l, self.descriptor.levels
        return name if self.built_in else f"{_OWN}:{l}:{levels}"

    @property
    def built_in(self) -> bool:
        """Whether the commands compute the same codes without a model or a file."""
        return self.descriptor.computed and self.descriptor.model is None

    @property
    def brought(self) -> str:
        """A sentence on how a deployment gets codes that it does not compute; empty if it does."""
        if self.built_in:
            return ""
        no_model = "; the model itself is not run there" if self.descriptor.model is not None else ""
        return (
            f"The deployments checked have the descriptor {self.for_deployment}; owner and user give these "
            f"codes in features files{no_model}."
        )


@dataclass(frozen=True)
class _Source:
    """A source of features: a describer, or features of each image by its name."""

    described: Described
    describer: Describer | None = None
    given: dict[str, Feature] | None = None


def open_sources(texts: Sequence[str], images: Sequence[ImageFile], device: str = "cpu") -> list[_Source]:
    """Open the sources of features of ``images``: names of built-in descriptors, model:PATH or features:FILE.

    Models run on ``device``. Raises InvalidRequestError for any other text, for a repeated one and for a
    device without a model, and what the model or the features file raises.
    """
    check_device(device, is_model=any(text.startswith(_MODEL) for text in texts))
    if len(set(texts)) != len(texts):
        raise InvalidRequestError("a descriptor is given twice", hint="give each --descriptor once")
    sources: list[_Source] = []
    taken: set[str] = set()
    for text in texts:
        source = _own(text, images) if text.startswith(_FEATURES) else _computed(text, device)
        label, number = source.described.label, 1
        while source.described.label in taken:  # two models may be in folders of the same name
            number += 1
            source = replace(source, described=replace(source.described, label=f"{label} ({number})"))
        taken.add(source.described.label)
        sources.append(source)
    return sources


def _computed(text: str, device: str) -> _Source:
    if not text.startswith(_MODEL):
        device = "cpu"  # the device is for models only
    try:
        describer = chosen_describer(text, device=device)
    except InvalidRequestError as error:
        if not text.startswith(_MODEL):
            error.hint = f"{error.hint}; or features:FILE for your own features"
        raise
    descriptor = describer.descriptor
    if descriptor.model is None:
        what = _SENTENCES.get(descriptor.name, "built into mipp")
        label, identity = text, str(descriptor)
    else:
        label = f"{_MODEL}{_model_name(Path(text.removeprefix(_MODEL)))}"
        pinned = descriptor.model
        what = (
            f"{pinned.output} of an ONNX image model (SHA-256 {pinned.sha256[:16]}…), divided by its norm "
            "and quantised"
        )
        identity = str(descriptor.to_fields())
        if device != "cpu":  # its rounding may differ, and so a code
            what, identity = f"{what}; run on {device}", f"{identity}, {device}"
    return _Source(Described(label, descriptor, identity, _sentence(label, what, descriptor)), describer)


def _own(text: str, images: Sequence[ImageFile]) -> _Source:
    """Read a features file: integers are codes of 256 levels, floats are quantised with l2."""
    path = Path(text.removeprefix(_FEATURES))
    file = open_feature_file(path)
    try:
        with errors_at(path):
            real = file.shape[0] > 0 and file.rows(0, 1).dtype.kind == "f"
            descriptor = Descriptor(_OWN, file.shape[1], 256, L2 if real else None)
            own = OwnFeatures(path, file, images, descriptor)
            vectors = own.vectors()
            rows: Sequence[Vectors | None] = [None] * len(images) if vectors is None else [*vectors]
            given = {
                image.name: Feature(own.codes(image), row) for image, row in zip(images, rows, strict=True)
            }
    finally:
        file.close()
    label = f"{_FEATURES}{name_of(path.stem)}"
    what = "features from a file, " + ("divided by their norm and quantised" if real else "codes as given")
    return _Source(
        Described(label, descriptor, own.identity, _sentence(label, what, descriptor)), None, given
    )


def _sentence(label: str, what: str, descriptor: Descriptor) -> str:
    return f"Descriptor {label}: {what}; {descriptor.l} codes of {descriptor.levels} levels."


def _model_name(path: Path) -> str:
    """Return a model's name: the last component of its path that is not generic."""
    names = [path.stem if path.suffix == ".onnx" else path.name, *(each.name for each in path.parents)]
    return name_of(next((name for name in names if name and name not in _GENERIC_NAMES), "model"))


def features_of(
    images: Sequence[ImageFile], sources: Sequence[_Source], parallelism: Parallelism
) -> Iterator[tuple[ImageFile, str, list[Feature]] | UnreadableImageError]:
    """Yield each image, the digest of its file, and its feature from each of ``sources``, in order.

    For an image that cannot be read, or not described by all of them, yield the error.
    """
    computing = [source.describer for source in sources if source.describer is not None]
    if parallelism.scheduler:
        computing = [describer.travelling() for describer in computing]
    if any(describer.in_threads for describer in computing):
        parallelism = replace(parallelism, threads=True)
    parallelism = parallelism.at_most(
        len(images) // _BATCH_IMAGES
    )  # a batch takes less time than starting a process
    for (image, _), found in _work(partial(_describe, describers=computing), _batches(images), parallelism):
        if isinstance(found, UnreadableImageError):
            yield found
            continue
        digest, computed = found[0], iter(found[1])
        features = [
            next(computed) if source.given is None else source.given[image.name] for source in sources
        ]
        yield image, digest, features


_Task = tuple[ImageFile, bytes | UnreadableImageError]
"""An image for a worker, with its content, since workers may be on other machines."""
_Found = tuple[str, list[Feature]] | UnreadableImageError


def _work(
    describe: Callable[[list[_Task]], list[_Found]], batches: Iterator[list[_Task]], parallelism: Parallelism
) -> Iterator[tuple[_Task, _Found]]:
    with open_workers(describe, parallelism) as workers:
        for batch, found in workers.in_order(batches, under_way=2 * workers.count):
            yield from zip(batch, found, strict=True)


def _batches(images: Sequence[ImageFile]) -> Iterator[list[_Task]]:
    left = iter(images)
    while batch := [*islice(left, _BATCH_IMAGES)]:
        yield [(image, _read(image)) for image in batch]


def _read(image: ImageFile) -> bytes | UnreadableImageError:
    try:
        return image.read()
    except UnreadableImageError as error:
        return error


def _describe(batch: Sequence[_Task], *, describers: Sequence[Describer]) -> list[_Found]:
    """Return the digest of each file, and its feature by each describer, or the error."""
    opened = [_prepared(image, content, describers) for image, content in batch]
    pictures = [each for each in opened if not isinstance(each, UnreadableImageError)]
    rows = [
        _features(describer, [prepared[number] for _, prepared in pictures])
        for number, describer in enumerate(describers)
    ]
    places = iter(range(len(pictures)))
    results: list[_Found] = []
    for (image, _), each in zip(batch, opened, strict=True):
        if isinstance(each, UnreadableImageError):
            results.append(each)
            continue
        place = next(places)
        features = [found[place] for found in rows]
        for feature in features:
            if isinstance(feature, UnreadableImageError):
                feature.path = str(image.path)
                results.append(feature)
                break
        else:
            results.append((each[0], [one for one in features if isinstance(one, Feature)]))
    return results


def _prepared(
    image: ImageFile, content: bytes | UnreadableImageError, describers: Sequence[Describer]
) -> tuple[str, list[Prepared]] | UnreadableImageError:
    """Decode a picture once, and prepare it for each describer."""
    if isinstance(content, UnreadableImageError):
        return content
    try:
        with errors_at(image.path):
            picture = open_picture(content, path=str(image.path)).eight_bits()
            prepared = [describer.prepare(picture) for describer in describers]
    except UnreadableImageError as error:
        return error
    return hashlib.sha256(content).hexdigest(), prepared


def _features(describer: Describer, prepared: Sequence[Prepared]) -> list[Feature | UnreadableImageError]:
    """Return the feature of each prepared picture, or why there is none."""
    if not prepared:
        return []
    rows: Sequence[Vectors | None] = [None] * len(prepared)
    if isinstance(describer, ImageModel):
        vectors = describer.vectors(prepared)
        found, rows = describer.codes_of_vectors(vectors), [*vectors]
    else:
        found = describer.codes(prepared)
    return [
        codes if isinstance(codes, UnreadableImageError) else Feature(codes, row)
        for codes, row in zip(found, rows, strict=True)
    ]
