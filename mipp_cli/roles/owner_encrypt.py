"""The owner's main step: ImageEnc and ImageFeatureEnc over a collection, into one upload."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mipp_cli.containers.atomic import new_file, refuse_existing
from mipp_cli.containers.upload import UploadCipher, UploadWriter, write_upload
from mipp_cli.errors import InvalidRequestError, UnreadableImageError, at_path
from mipp_cli.roles.collection import ImageFile
from mipp_cli.roles.owner import Owner
from mipp_cli.roles.pictures import media_type, open_picture
from mipp_cli.roles.pixels import pack_pixels
from mipp_cli.roles.progress import Progress, silent
from mipp_cli.roles.report import Output, Report
from mipp_cli.roles.workers import open_executor, ordered_results
from mipp_cli.scheme.edge_histogram import edge_histogram, is_edgeless
from mipp_cli.scheme.feature_cipher import FeatureCipher, encrypt_features
from mipp_cli.scheme.image_cipher import Envelope, key_id

PAYLOADS = ("file", "pixels")
PIXELS_MEDIA_TYPE = "application/x-mipp-pixels"
UPLOADS_FOLDER = "uploads"
_BATCH_IMAGES = 8
_BATCH_BYTES = 1 << 24


@dataclass(frozen=True)
class EncryptOptions:
    """How a collection is encrypted: payload `file` or `pixels`, unreadable images skipped or refused."""

    payload: str = "file"
    skip_unreadable: bool = False
    jobs: int | None = None
    force: bool = False


@dataclass(frozen=True)
class _Task:
    """A batch of images for a worker; no key goes with it."""

    cipher: FeatureCipher
    grey_bits: int
    pixels: bool
    images: tuple[tuple[ImageFile, bytes | UnreadableImageError], ...]


@dataclass(frozen=True)
class _Described:
    """What a worker makes of an image: media type, content to encrypt if not the file, feature, EF, EFF."""

    media_type: str
    pixels: bytes | None
    feature: NDArray[np.uint8]
    ef: NDArray[np.uint8]
    eff: NDArray[np.uint8]


def encrypt_images(
    path: Path,
    images: Sequence[ImageFile],
    output: Path,
    options: EncryptOptions,
    progress: Progress = silent,
) -> Report:
    """Encrypt ``images`` into the upload ``output``: EW under SK, EF and EFF, names on the wire.

    Raises UnreadableImageError for the first image that cannot be read, unless they are skipped.
    """
    refuse_existing(output, force=options.force)
    owner = Owner.open(path)
    with owner.directory.lock():
        return _encrypt_upload(owner, images, output, options, progress)


def _encrypt_upload(
    owner: Owner, images: Sequence[ImageFile], output: Path, options: EncryptOptions, progress: Progress
) -> Report:
    parameters, sender, number = (
        owner.directory.deployment.parameters,
        owner.directory.sender,
        owner.next_number(),
    )
    image_key = owner.image_key
    image_cipher = UploadCipher(image_key, sender.deployment, sender.name, number)
    skipped: list[UnreadableImageError] = []
    edgeless = done = 0
    ledger = owner.directory.folder(UPLOADS_FOLDER) / f"{number}.jsonl"
    with (
        new_file(ledger, private=True) as ledger_file,
        ledger_file.open("w") as lines,
        write_upload(output, parameters, sender, number, key_id(image_key), force=options.force) as upload,
        progress("encrypting", len(images), "image") as advance,
    ):
        for item in _described(owner, images, options):
            advance(1)
            if isinstance(item, UnreadableImageError):
                if not options.skip_unreadable:
                    raise item
                skipped.append(item)
                continue
            image, content, described = item
            name = owner.name_on_the_wire(image.name)
            _append(upload, image_cipher, name, image, content, described)
            lines.write(json.dumps([name, image.name]) + "\n")
            edgeless += is_edgeless(described.feature)
            done += 1
        if not done:
            raise InvalidRequestError(
                "none of the images can be read",
                path=skipped[0].path,
                hint=f"the first: {skipped[0].message}",
            )
        lines.flush()  # what fails now leaves no upload behind
    owner.remember(number)
    warnings = [*parameters.warnings, *(f"left out {each.path}: {each.message}" for each in skipped)]
    if edgeless:
        warnings.append(f"{edgeless} of the images have no edges: their descriptors are all alike")
    counts = {"images": done, "skipped": len(skipped), "edgeless": edgeless}
    return Report((Output(output, "upload"),), counts, tuple(warnings))


def _append(
    upload: UploadWriter,
    cipher: UploadCipher,
    name: str,
    image: ImageFile,
    content: bytes,
    described: _Described,
) -> None:
    payload = content if described.pixels is None else described.pixels
    envelope = Envelope(image.name, described.media_type, described.feature, payload)
    upload.append(name, cipher.encrypt(envelope.pack(), name), described.ef, described.eff)


def _described(
    owner: Owner, images: Sequence[ImageFile], options: EncryptOptions
) -> Iterator[tuple[ImageFile, bytes, _Described] | UnreadableImageError]:
    """Yield each image with its bytes and what the workers made of it, in order."""
    parameters = owner.directory.deployment.parameters
    # made before the workers are forked, so that they share its table
    cipher = parameters.cipher.prepared(2 * len(images), parameters.l)
    with open_executor(options.jobs) as (executor, count):
        tasks = _tasks(images, cipher, parameters.grey_bits, options.payload == "pixels")
        for task, results in ordered_results(executor, _describe_and_encrypt, tasks, under_way=2 * count):
            for (image, content), result in zip(task.images, results, strict=True):
                if isinstance(result, UnreadableImageError):
                    yield result
                elif isinstance(content, bytes):
                    yield image, content, result


def _tasks(
    images: Iterable[ImageFile], cipher: FeatureCipher, grey_bits: int, pixels: bool
) -> Iterator[_Task]:
    """Read images and put them together in batches that are small in number and in bytes."""
    batch: list[tuple[ImageFile, bytes | UnreadableImageError]] = []
    size = 0
    for image in images:
        content = _read(image)
        batch.append((image, content))
        size += 0 if isinstance(content, UnreadableImageError) else len(content)
        if len(batch) >= _BATCH_IMAGES or size >= _BATCH_BYTES:
            yield _Task(cipher, grey_bits, pixels, tuple(batch))
            batch, size = [], 0
    if batch:
        yield _Task(cipher, grey_bits, pixels, tuple(batch))


def _read(image: ImageFile) -> bytes | UnreadableImageError:
    try:
        return image.read()
    except UnreadableImageError as error:
        return error


def _describe_and_encrypt(task: _Task) -> list[_Described | UnreadableImageError]:
    """Describe a batch and encrypt its features (ImageFeatureEnc); runs in a worker."""
    described: list[tuple[str, bytes | None, NDArray[np.uint8]] | UnreadableImageError] = []
    for image, content in task.images:
        described.append(_describe(image, content, task))
    features = [each[2] for each in described if not isinstance(each, UnreadableImageError)]
    if not features:
        return [each for each in described if isinstance(each, UnreadableImageError)]
    ciphertexts = zip(*encrypt_features(task.cipher, np.stack(features)), strict=True)
    return [
        each if isinstance(each, UnreadableImageError) else _Described(*each, *next(ciphertexts))
        for each in described
    ]


def _describe(
    image: ImageFile, content: bytes | UnreadableImageError, task: _Task
) -> tuple[str, bytes | None, NDArray[np.uint8]] | UnreadableImageError:
    """Return media type, pixels if they are what is sent, and feature; an error is a result too."""
    if isinstance(content, UnreadableImageError):
        return content
    try:
        with at_path(image.path):
            picture = open_picture(content, path=str(image.path))
            feature = edge_histogram(picture, grey_bits=task.grey_bits)
            if task.pixels:
                return PIXELS_MEDIA_TYPE, pack_pixels(picture), feature
            return media_type(picture), None, feature
    except UnreadableImageError as error:
        return error
