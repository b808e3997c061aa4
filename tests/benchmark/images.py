"""Descriptors and encrypted images: beside decoding, beside AES-GCM alone, and what an upload takes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import cycle
from statistics import median

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from PIL import Image

from mipp_cli.containers.messages.upload import UploadCipher
from mipp_cli.descriptors.edge_histogram import edge_histogram
from mipp_cli.images.collection import collect_images
from mipp_cli.images.pictures import open_picture
from mipp_cli.owner.encrypt import encrypt_images
from mipp_cli.owner.whats_new import EncryptOptions
from mipp_cli.scheme.aead import NONCE_BYTES
from mipp_cli.scheme.envelope import Envelope
from mipp_cli.scheme.secret_keys import generate_key
from mipp_cli.workdir.directory import RoleDirectory
from tests.benchmark.materials import (
    Setting,
    feature_of,
    make_roles,
    photographs,
    sample_files,
    write_collection,
)
from tests.benchmark.measure import MEGABYTE, Result, Target, in_turn, median_ratio, one_core, seconds, timed


def descriptor(setting: Setting) -> Iterator[Result]:
    """`edge_histogram` of JPEG files of 384×256 beside decoding them, on one core.

    Each sample picture in turn is decoded, then described; the ratio is the median over all of them.
    """
    files = photographs()
    rounds, upcoming = setting.size(31, 3) * len(files), cycle(files)
    decoded: list[Image.Image] = []

    def decode() -> None:
        decoded[:] = [open_picture(next(upcoming), path=None).eight_bits()]

    with one_core():
        decoding, describing = in_turn(rounds, timed(decode), timed(lambda: edge_histogram(decoded[0])))
    yield Result(
        "descriptor of a JPEG of 384×256, quality 90, beyond decoding it",
        "decoding it (`open_picture`)",
        median_ratio(describing, decoding),
        f"{seconds(describing)}, {seconds(decoding)}",
        Target("under 0.5 of the time", 0.5),
    )


def image_encryption(setting: Setting) -> Iterator[Result]:
    """Envelope, padding and Algorithm 1 as `owner encrypt` does them, beside AES-GCM alone, on one core.

    Alone means: the padded envelopes as they are, one after the other under one key and a nonce at hand.
    """
    megabyte = [os.urandom(MEGABYTE) for _ in range(16)]
    for contents, described in (
        (sample_files(), "files of sample_data"),
        (megabyte, "files of 1 MB"),
    ):
        with one_core():
            ours, theirs, size = _encryption_times(contents, setting.size(101, 11))
        rates = (f"{size / median(times) / MEGABYTE:,.0f} MB/s" for times in (ours, theirs))
        each = f"{size / len(contents) / 1e3:,.0f} kB each"
        yield Result(
            f"image encryption inside `owner encrypt`, {described}, {each}",
            "AES-256-GCM of `cryptography` on the same bytes",
            median_ratio(theirs, ours),
            ", ".join(rates),
            Target("at least 0.8 of its rate", 0.8, least=True),
        )


def _encryption_times(contents: Sequence[bytes], rounds: int) -> tuple[list[float], list[float], int]:
    """Return the times of both sides, and the bytes that both encrypt."""
    cipher = UploadCipher(generate_key(), "0" * 64, "owner", 1)
    feature = feature_of(sample_files()[0])
    names = [(f"folder/image-{number:04}.jpg", os.urandom(16).hex()) for number in range(len(contents))]
    aes, nonce = AESGCM(generate_key()), bytes(NONCE_BYTES)
    packed = [
        Envelope(path, "image/jpeg", feature, content).pack()
        for (path, _), content in zip(names, contents, strict=True)
    ]

    def ours() -> None:
        for (path, name), content in zip(names, contents, strict=True):
            cipher.encrypt(Envelope(path, "image/jpeg", feature, content).pack(), name)

    def theirs() -> None:
        for envelope in packed:
            aes.encrypt(nonce, envelope, None)

    spent, spent_alone = in_turn(rounds, timed(ours), timed(theirs))
    return spent, spent_alone, sum(map(len, packed))


def upload_size(setting: Setting) -> Iterator[Result]:
    """The size of an upload beside what must be in it: EF, EFF and the padded images.

    Pictures of 384×256. Nonces, tags, names, offsets and what HDF5 adds count as more.
    """
    feature = feature_of(photographs()[0])
    for scheme, images in (("dcr", setting.size(200, 16)), ("mask", setting.size(1_000, 100))):
        folder = setting.folder(f"upload-size-{scheme}")
        roles = make_roles(folder, scheme)
        owner, output = roles.owner(roles.owners[0]), folder / "upload.h5"
        collection = collect_images([write_collection(setting.folder(f"{folder.name}-pictures"), images)])
        encrypt_images(owner, collection, output, EncryptOptions())
        parameters = RoleDirectory.open(owner, "owner").deployment.parameters
        padded = sum(
            len(Envelope(image.name, "image/jpeg", feature, image.read()).pack()) for image in collection
        )
        needed = padded + 2 * images * parameters.l * parameters.cipher.number_bytes
        yield Result(
            f"upload file, `{scheme}`, {images:,} pictures of 384×256",
            "ciphertexts plus padded images",
            100 * (output.stat().st_size / needed - 1),
            f"{output.stat().st_size / MEGABYTE:.2f} MB, {needed / MEGABYTE:.2f} MB",
            Target("at most 2 % more", 2.0),
            unit="% more",
        )
