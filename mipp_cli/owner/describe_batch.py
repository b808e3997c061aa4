"""The workers' part of the first pass of `owner encrypt`: describe images and encrypt their features.

A worker gets no key. This module imports as little as possible, because every worker imports it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mipp_cli.descriptors.describer import Describer, Prepared
from mipp_cli.descriptors.edge_histogram import is_edgeless
from mipp_cli.errors import UnreadableImageError
from mipp_cli.images.collection import ImageFile
from mipp_cli.images.pictures import open_picture
from mipp_cli.images.pixels import png_of_pixels
from mipp_cli.owner.described_image import KEYED_NAME_BYTES, DescribedImage, PictureFacts
from mipp_cli.scheme.descriptor import Descriptor
from mipp_cli.scheme.protocol import Codes, FeatureProtocol


@dataclass(frozen=True)
class WantedImage:
    """An image to read and describe; if its owner supplied the ``feature``, it is not described."""

    image: ImageFile
    feature: Codes | None = None

    def read(self) -> ReadImage:
        """Read the file; a read error is part of the result."""
        version = self.image.version()  # before reading, so that a later change counts as a new version
        try:
            return ReadImage(self.image, version, self.image.read(), self.feature)
        except UnreadableImageError as error:
            return ReadImage(self.image, version, error)


@dataclass(frozen=True)
class ReadImage:
    """An image file as read: its version, and its bytes or the error.

    ``feature`` is a feature supplied by the owner; without one, the image is described.
    """

    image: ImageFile
    version: str
    content: bytes | UnreadableImageError
    feature: Codes | None = None


def describe_and_encrypt(
    batch: Iterable[WantedImage | ReadImage],
    *,
    protocol: FeatureProtocol,
    describer: Describer,
    pixels: bool,
) -> list[DescribedImage | UnreadableImageError]:
    """Describe images and encrypt their features (ImageFeatureEnc); runs in a worker.

    Images that were not read yet are read one by one, so that only one is in memory.
    """
    reads = (each.read() if isinstance(each, WantedImage) else each for each in batch)
    opened = [_opened(read, describer, pixels=pixels) for read in reads]
    pictures = [each for each in opened if isinstance(each, _OpenedImage)]
    codes = iter(_codes(pictures, describer))
    found = [next(codes) if isinstance(each, _OpenedImage) else each for each in opened]
    described = [
        (image, feature)
        for image, feature in zip(opened, found, strict=True)
        if isinstance(image, _OpenedImage) and not isinstance(feature, UnreadableImageError)
    ]
    rows = iter(_encrypted(described, protocol, describer.descriptor))
    return [each if isinstance(each, UnreadableImageError) else next(rows) for each in found]


@dataclass(frozen=True)
class _OpenedImage:
    """A decoded image: the facts of its payload, and the data needed to describe it."""

    image: ImageFile
    version: str
    digest: str
    payload_bytes: int
    media_type: str
    name_bytes: int
    facts: PictureFacts
    prepared: Prepared


def _opened(read: ReadImage, describer: Describer, *, pixels: bool) -> _OpenedImage | UnreadableImageError:
    """Decode one image and keep only what is needed; return the error if it cannot be read."""
    content = read.content
    if isinstance(content, UnreadableImageError):
        return content
    try:
        picture = open_picture(content, path=None)
        size, kind = len(content), picture.kind.media_type
        name = len(read.image.name.encode())
        prepared = describer.prepare(picture.eight_bits()) if read.feature is None else read.feature
        told = picture.facts
        facts = PictureFacts(picture.kind.name, told.width, told.height, told.bits, told.frame, picture.flat)
        if pixels:
            size, kind = len(png_of_pixels(picture.stored())), "image/png"
            name = KEYED_NAME_BYTES
    except UnreadableImageError as error:
        error.path = error.path or str(read.image.path)
        return error
    digest = hashlib.sha256(content).hexdigest()
    return _OpenedImage(read.image, read.version, digest, size, kind, name, facts, prepared)


def _codes(images: Sequence[_OpenedImage], describer: Describer) -> list[Codes | UnreadableImageError]:
    """Return the feature of each image, or the error."""
    found = describer.codes([each.prepared for each in images]) if images else []
    for image, feature in zip(images, found, strict=True):
        if isinstance(feature, UnreadableImageError):
            feature.path = str(image.image.path)
    return found


def _encrypted(
    described: Sequence[tuple[_OpenedImage, Codes]], protocol: FeatureProtocol, descriptor: Descriptor
) -> Iterator[DescribedImage]:
    """Yield the description of each image, with its encrypted feature for the upload."""
    if not described:
        return
    columns = protocol.beside_image(np.stack([feature for _, feature in described]))
    for row, (image, feature) in enumerate(described):
        yield DescribedImage(
            image.image.name,
            image.version,
            image.digest,
            image.payload_bytes,
            image.media_type,
            feature.tobytes(),
            len(protocol.inside_image(feature)),
            image.name_bytes,
            image.facts._replace(edgeless=is_edgeless(descriptor, feature)),
            tuple(column[row].tobytes() for column in columns),
        )
