"""What workers do for an owner: describe images and encrypt their features; no key goes to them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from mipp_cli.descriptors.edge_histogram import edge_histogram
from mipp_cli.descriptors.external import Codes, OwnFeatures
from mipp_cli.errors import ChangedImageError, UnreadableImageError, errors_at
from mipp_cli.images.collection import ImageFile
from mipp_cli.images.pictures import media_type, open_picture
from mipp_cli.images.pixels import png_of_pixels
from mipp_cli.owner.descriptions import DescribedImage
from mipp_cli.scheme.protocol import FeatureProtocol

_BATCH_IMAGES = 8
_BATCH_BYTES = 1 << 24


@dataclass(frozen=True)
class ReadImage:
    """An image as it was read: which version of the file, and its bytes or why there are none.

    ``feature`` is its owner's own; without it, the image is described by its edges.
    """

    image: ImageFile
    version: str
    content: bytes | UnreadableImageError
    feature: Codes | None = None

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return len(self.content) if isinstance(self.content, bytes) else 0


@dataclass(frozen=True)
class FeatureTask:
    """A batch of images for a worker; no key goes with it."""

    protocol: FeatureProtocol
    grey_bits: int
    pixels: bool
    images: tuple[ReadImage, ...]


def read_image(image: ImageFile, features: OwnFeatures | None) -> ReadImage:
    """Read an image, and with ``features`` its owner's feature of it; an error is a result too."""
    version = image.version()  # before reading: what changes meanwhile is taken for another version
    try:
        content = image.read()
    except UnreadableImageError as error:
        return ReadImage(image, version, error)
    return ReadImage(image, version, content, None if features is None else features.codes(image))


def feature_tasks(
    reads: Iterable[ReadImage], protocol: FeatureProtocol, grey_bits: int, *, pixels: bool
) -> Iterator[FeatureTask]:
    """Put images together in batches that are small in number and in bytes."""
    batch: list[ReadImage] = []
    size = 0
    for read in reads:
        batch.append(read)
        size += read.size
        if len(batch) >= _BATCH_IMAGES or size >= _BATCH_BYTES:
            yield FeatureTask(protocol, grey_bits, pixels, tuple(batch))
            batch, size = [], 0
    if batch:
        yield FeatureTask(protocol, grey_bits, pixels, tuple(batch))


def describe_and_encrypt(task: FeatureTask) -> list[DescribedImage | UnreadableImageError]:
    """Describe a batch and encrypt its features (ImageFeatureEnc); runs in a worker."""
    described = [_describe(read, task) for read in task.images]
    codes = [each.feature for each in described if isinstance(each, DescribedImage)]
    if not codes:
        return described
    columns = task.protocol.beside_image(np.stack(codes))
    rows = iter([tuple(column[row].tobytes() for column in columns) for row in range(len(codes))])
    return [
        each if isinstance(each, UnreadableImageError) else replace(each, features=next(rows))
        for each in described
    ]


def _describe(read: ReadImage, task: FeatureTask) -> DescribedImage | UnreadableImageError:
    """Describe one image, its features not yet encrypted; an error is a result too."""
    if isinstance(read.content, UnreadableImageError):
        return read.content
    try:
        with errors_at(read.image.path):
            picture = open_picture(read.content, path=str(read.image.path))
            feature = read.feature
            if feature is None:
                feature = edge_histogram(picture, grey_bits=task.grey_bits)
            if task.pixels:
                size, kind = len(png_of_pixels(picture)), "image/png"
            else:
                size, kind = len(read.content), media_type(picture)
    except UnreadableImageError as error:
        return error
    digest = hashlib.sha256(read.content).hexdigest()
    inside = len(task.protocol.inside_image(feature))
    return DescribedImage(read.image.name, read.version, digest, size, kind, feature.tobytes(), inside)


def payload_of(image: ImageFile, description: DescribedImage, *, pixels: bool) -> bytes:
    """Read an image for the second time, and return what is encrypted of it: the file, or its pixels.

    Raises ChangedImageError if the file is not what was described.
    """
    with errors_at(image.path):
        try:
            content = image.read()
        except UnreadableImageError as error:
            raise _changed(error.message) from error
        if hashlib.sha256(content).hexdigest() != description.digest:
            raise _changed("its content is another now")
        if not pixels:
            return content
        png = png_of_pixels(open_picture(content, path=str(image.path)))
        if len(png) != description.payload_bytes:  # work that --resume took up may be of another Pillow
            raise _changed("its pixels take another number of bytes now")
        return png


def _changed(how: str) -> ChangedImageError:
    return ChangedImageError(
        f"changed while the command ran: {how}",
        hint="nothing was written; let nobody write to the images, and run it again",
    )
