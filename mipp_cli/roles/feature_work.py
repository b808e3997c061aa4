"""What workers do for an owner: describe images and encrypt their features; no key goes to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipp_cli.errors import UnreadableImageError, at_path
from mipp_cli.roles.collection import ImageFile
from mipp_cli.roles.own_features import Codes, OwnFeatures
from mipp_cli.roles.pictures import media_type, open_picture
from mipp_cli.roles.pixels import pack_pixels
from mipp_cli.scheme.edge_histogram import edge_histogram
from mipp_cli.scheme.feature_cipher import FeatureCipher, encrypt_features

PIXELS_MEDIA_TYPE = "application/x-mipp-pixels"
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

    cipher: FeatureCipher
    grey_bits: int
    pixels: bool
    images: tuple[ReadImage, ...]


@dataclass(frozen=True)
class DescribedImage:
    """What a worker makes of an image: media type, content to encrypt if not the file, feature, EF, EFF."""

    media_type: str
    pixels: bytes | None
    feature: Codes
    ef: NDArray[np.uint8]
    eff: NDArray[np.uint8]


def feature_tasks(
    images: Iterable[ImageFile],
    cipher: FeatureCipher,
    grey_bits: int,
    pixels: bool,
    features: OwnFeatures | None = None,
) -> Iterator[FeatureTask]:
    """Read images and put them together in batches that are small in number and in bytes.

    With ``features``, each image goes with its own.
    """
    batch: list[ReadImage] = []
    size = 0
    for image in images:
        batch.append(_read(image, features))
        size += batch[-1].size
        if len(batch) >= _BATCH_IMAGES or size >= _BATCH_BYTES:
            yield FeatureTask(cipher, grey_bits, pixels, tuple(batch))
            batch, size = [], 0
    if batch:
        yield FeatureTask(cipher, grey_bits, pixels, tuple(batch))


def _read(image: ImageFile, features: OwnFeatures | None) -> ReadImage:
    version = image.version()  # before reading: what changes meanwhile is taken for another version
    try:
        content = image.read()
    except UnreadableImageError as error:
        return ReadImage(image, version, error)
    return ReadImage(image, version, content, None if features is None else features.codes(image))


def describe_and_encrypt(task: FeatureTask) -> list[DescribedImage | UnreadableImageError]:
    """Describe a batch and encrypt its features (ImageFeatureEnc); runs in a worker."""
    described = [_describe(read, task) for read in task.images]
    features = [each[2] for each in described if not isinstance(each, UnreadableImageError)]
    if not features:
        return [each for each in described if isinstance(each, UnreadableImageError)]
    ciphertexts = zip(*encrypt_features(task.cipher, np.stack(features)), strict=True)
    return [
        each if isinstance(each, UnreadableImageError) else DescribedImage(*each, *next(ciphertexts))
        for each in described
    ]


def _describe(read: ReadImage, task: FeatureTask) -> tuple[str, bytes | None, Codes] | UnreadableImageError:
    """Return media type, pixels if they are what is sent, and feature; an error is a result too."""
    if isinstance(read.content, UnreadableImageError):
        return read.content
    try:
        with at_path(read.image.path):
            picture = open_picture(read.content, path=str(read.image.path))
            feature = read.feature
            if feature is None:
                feature = edge_histogram(picture, grey_bits=task.grey_bits)
            if task.pixels:
                return PIXELS_MEDIA_TYPE, pack_pixels(picture), feature
            return media_type(picture), None, feature
    except UnreadableImageError as error:
        return error
