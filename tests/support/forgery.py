"""Containers that a party with real keys could make, and that its command would never write."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mipp_cli.containers.base.writer import Sender
from mipp_cli.containers.messages.features import write_features
from mipp_cli.containers.messages.query import write_query
from mipp_cli.containers.messages.results import ImageRef, Match, ResultsReader, open_results, write_results
from mipp_cli.containers.messages.upload import UploadCipher, write_upload
from mipp_cli.owner.owner import Owner
from mipp_cli.scheme.aead import OVERHEAD_BYTES
from mipp_cli.scheme.envelope import Envelope
from mipp_cli.scheme.keys import SigningKey
from mipp_cli.scheme.secret_keys import generate_key, key_id
from tests.support.deployment import Deployment

Feature = NDArray[np.uint8]
_numbers = count(time.time_ns() // 1000 + 10**9)


def random_feature(seed: int, *, levels: int = 8) -> Feature:
    """Draw 80 codes below ``levels``."""
    return np.random.default_rng(seed).integers(0, levels, 80, dtype=np.uint8)


def next_number() -> int:
    """Return a sequence number later than all before."""
    return next(_numbers)


def forge_upload(
    deployment: Deployment,
    owner: str,
    images: Sequence[tuple[str, Envelope, Feature]],
    path: Path,
    *,
    number: int | None = None,
    sender: Sender | None = None,
    earlier: Sequence[int] = (),
) -> Path:
    """Write an upload under the owner's real keys: name on the wire, envelope and feature of each image.

    In scheme `exact` the images make groups in the order in which they come, and the features go into a
    file of their own beside the upload.
    """
    role = Owner.open(deployment / owner)
    number = next_number() if number is None else number
    cipher = UploadCipher(role.image_key, deployment.public.fingerprint, owner, number)
    parameters = deployment.public.parameters
    protocol = parameters.protocol
    sender, key = sender or role.directory.sender, key_id(role.image_key)
    groups = _groups(images, protocol.group_size) if protocol.grouped else [images]
    lengths = []
    digests = []
    with write_upload(path, parameters, sender, number, key, earlier=earlier) as upload:
        for group in groups:
            longest = max((len(envelope.pack()) for _, envelope, _ in group), default=0)
            padded = longest if protocol.grouped else 0
            for name, envelope, feature in group:
                ew = cipher.encrypt(envelope.pack(padded), name)
                digests.append(hashlib.sha256(ew).digest())
                beside = protocol.beside_image(feature[np.newaxis])
                upload.append(name, ew, [column[0].tobytes() for column in beside])
            upload.end_group()
            lengths.append(longest + OVERHEAD_BYTES)
    if protocol.grouped:
        features_file = features_beside(path)
        with write_features(
            features_file, parameters.l, sender, number, role.image_key, earlier=earlier
        ) as features:
            found = iter(digests)
            for group, length in zip(groups, lengths, strict=True):
                for name, _, feature in group:
                    features.append(name, next(found), feature)
                features.end_group(length)
    return path


def features_beside(upload: Path) -> Path:
    """Return where the features file of an upload lies."""
    return upload.with_suffix(".features.h5")


def _groups(
    images: Sequence[tuple[str, Envelope, Feature]], group_size: int
) -> list[Sequence[tuple[str, Envelope, Feature]]]:
    count = max(1, len(images) // group_size)
    bounds = [*range(0, count * group_size, group_size), len(images)]
    return [images[begin:end] for begin, end in pairwise(bounds)]


def forge_query(
    deployment: Deployment,
    user: str,
    features: NDArray[np.uint8],
    path: Path,
    *,
    candidates: int = 5,
    query_id: str | None = None,
    sender: Sender | None = None,
    owners: Sequence[str] = (),
) -> Path:
    """Write a query for features, shape (u, 80), under the user's real keys."""
    parameters = deployment.public.parameters
    write_query(
        path,
        parameters,
        sender or deployment.sender(user),
        query_id or f"{next_number():032x}",
        codes=features,
        candidates=candidates,
        usk=generate_key(),
        sealing_key=deployment.public.sealing_key,
        owners=owners,
    )
    return path


@dataclass
class Contents:
    """What a results container holds, to be changed before it is written again."""

    query_id: str
    query: bytes
    images: list[tuple[ImageRef, bytes]]
    matches: list[Match]
    searched: dict[str, int]

    def refer(self, number: int, **changes: Any) -> None:
        """Change what is said of an image."""
        ref, ew = self.images[number]
        self.images[number] = replace(ref, **changes), ew


def contents_of(deployment: Deployment, results: Path) -> Contents:
    """Read a results container."""
    reader = open_results(results, deployment.public.fingerprint)
    with reader.container:
        images = [(ref, reader.encrypted_image(number)) for number, ref in enumerate(reader.images)]
        number = reader.container.header.number
        return Contents(number, reader.query_data, images, reader.matches, reader.searched)


@contextmanager
def reading(deployment: Deployment, results: Path) -> Iterator[ResultsReader]:
    """Open a results container."""
    reader = open_results(results, deployment.public.fingerprint)
    with reader.container:
        yield reader


def forge_results(
    deployment: Deployment, contents: Contents, path: Path, *, sender: Sender | None = None
) -> Path:
    """Write results under the cloud's real key, or another's."""
    write_results(
        path,
        sender or deployment.sender("cloud"),
        contents.query_id,
        contents.query,
        contents.images,
        contents.matches,
        contents.searched,
    )
    return path


def changed_results(deployment: Deployment, results: Path, change: Callable[[Contents], object]) -> Path:
    """Write what a dishonest cloud would make of results."""
    contents = contents_of(deployment, results)
    change(contents)
    return forge_results(deployment, contents, results.with_name(f"changed-{next_number()}.h5"))


def results_for(deployment: Deployment, query: Path, owner: str, path: Path, *, images: int = 1) -> Path:
    """Answer a query as a lenient cloud would: images of ``owner``, whoever asks."""
    stored = next((deployment / "cloud" / "segments").glob(f"{owner}-*.h5"))
    refs = _stored_images(deployment, owner, stored)[:images]
    data = query.read_bytes()
    number = data.split(b"\n")[3].removeprefix(b"number ").decode()
    matches = [Match(0, position, 0.0) for position in range(len(refs))]
    return forge_results(deployment, Contents(number, data, refs, matches, {owner: len(refs)}), path)


def _stored_images(deployment: Deployment, owner: str, segment: Path) -> list[tuple[ImageRef, bytes]]:
    from mipp_cli.containers.base.container import open_container
    from mipp_cli.containers.messages.upload import UploadReader, upload_schema

    parameters = deployment.public.parameters
    with open_container(segment, upload_schema(parameters)) as container:
        upload = UploadReader(container, parameters)
        number = container.header.sequence_number
        return [
            (ImageRef(owner, name, number, upload.key_id), upload.encrypted_image(row))
            for row, name in enumerate(upload.names())
        ]


def stranger(deployment: Deployment, name: str) -> Sender:
    """Return a sender of this name with a key that nobody knows."""
    return Sender(name, SigningKey.generate(), deployment.public.fingerprint)


@dataclass
class Picture:
    """An image as a hostile owner may make it."""

    path: str = "picture.png"
    media_type: str = "image/png"
    content: bytes = b"content"
    feature: NDArray[np.unsignedinteger] = field(default_factory=lambda: random_feature(1))

    def envelope(self) -> Envelope:
        """Return what is encrypted of it."""
        return Envelope(self.path, self.media_type, self.feature, self.content)


def publish(deployment: Deployment, owner: str, pictures: Sequence[Picture]) -> None:
    """Index pictures of an owner who writes into them what no command would."""
    images = [
        (f"forged-{next_number()}", each.envelope(), random_feature(number))
        for number, each in enumerate(pictures)
    ]
    upload = forge_upload(deployment, owner, images, deployment / f"forged-{next_number()}.h5")
    deployment.index(upload)
