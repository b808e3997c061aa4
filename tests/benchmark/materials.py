"""What is measured on: pictures, deployments, uploads, and tables of sums like those of real pictures."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, cycle, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mipp_cli.cloud.cloud import PUBLIC_FILE, enroll_at_cloud, init_cloud
from mipp_cli.containers.messages.features import write_features
from mipp_cli.containers.messages.upload import UploadCipher, write_upload
from mipp_cli.descriptors.edge_histogram import edge_histogram
from mipp_cli.images.collection import ImageFile, collect_images
from mipp_cli.images.pictures import open_picture
from mipp_cli.kmc.enroll import enroll_at_kmc
from mipp_cli.kmc.init import init_kmc
from mipp_cli.owner.init import init_owner
from mipp_cli.owner.owner import ENROLMENT_FILE, MEMBERS_FILE, Owner
from mipp_cli.scheme.descriptor import DIMENSION, LEVELS
from mipp_cli.scheme.envelope import Envelope
from mipp_cli.scheme.feature_cipher import encrypt_features
from mipp_cli.scheme.groups import GROUP_SIZE
from mipp_cli.scheme.retrieval_index import PairTable
from mipp_cli.scheme.secret_keys import key_id
from mipp_cli.user.user import init_user

SAMPLES = Path(__file__).parents[2] / "sample_data"
PICTURE_SIZE = (384, 256)
PICTURE_QUALITY = 90
USER = "reader"
OWNERS = ("first", "second", "third")
_SUM2_LIMIT = DIMENSION * (LEVELS - 1) ** 2 + 1
_DRAWN_AT_ONCE = 1 << 20

Feature = NDArray[np.uint8]
_numbers = count(time.time_ns() // 1000)


@dataclass(frozen=True)
class Setting:
    """What a run was asked for: small sizes, the rows of the big index, and folders to work in.

    A ``model`` and ``photographs``, a folder for each category, are not shipped, and may be missing.
    """

    quick: bool
    rows: int
    cache: Path
    scratch: Path
    model: Path | None = None
    photographs: Path | None = None

    def size(self, full: int, quick: int) -> int:
        """Return the size that suits the run."""
        return quick if self.quick else full

    def given(self) -> tuple[Path, list[ImageFile]] | None:
        """Return the model and the photographs; None, and a line on stderr, if they were not given."""
        if self.model is None or self.photographs is None:
            print("left out: give --model PATH and --photographs DIR", file=sys.stderr)
            return None
        return self.model, collect_images([self.photographs])

    def folder(self, name: str) -> Path:
        """Return a new folder for temporary work."""
        folder = self.scratch / name
        folder.mkdir()
        return folder


def sample_files() -> list[bytes]:
    """Return the picture files of all owners of sample_data."""
    return [path.read_bytes() for path in sorted((SAMPLES / "owners").rglob("*.*"))]


def photographs() -> list[bytes]:
    """Return the pictures of sample_data as JPEG files of 384×256 pixels, quality 90."""
    files = []
    for content in sample_files():
        buffer = io.BytesIO()
        picture = open_picture(content, path=None).eight_bits().convert("RGB").resize(PICTURE_SIZE)
        picture.save(buffer, "JPEG", quality=PICTURE_QUALITY)
        files.append(buffer.getvalue())
    return files


def feature_of(content: bytes) -> Feature:
    """Return the 80 codes of a picture file."""
    return edge_histogram(open_picture(content, path=None).eight_bits())


def features(images: int) -> Feature:
    """Return the codes of so many images: those of the sample pictures, again and again."""
    known = np.stack([feature_of(content) for content in sample_files()])
    return np.resize(known, (images, known.shape[1]))


def write_collection(folder: Path, images: int) -> Path:
    """Fill ``folder`` with so many picture files, links to the same few photographs, and return it."""
    beside = folder.with_name(f"{folder.name}-originals")
    beside.mkdir()
    originals = []
    for number, content in enumerate(photographs()):
        originals.append(beside / str(number))
        originals[-1].write_bytes(content)
    for number, original in enumerate(islice(cycle(originals), images)):
        os.link(original, folder / f"{number:06}.jpg")
    return folder


@dataclass(frozen=True)
class Roles:
    """The directories of a deployment: kmc, cloud, one user, and owners who authorised the user."""

    folder: Path
    owners: tuple[str, ...]

    @property
    def kmc(self) -> Path:
        """The directory of the KMC, where all owners and the cloud are enrolled."""
        return self.folder / "kmc"

    @property
    def cloud(self) -> Path:
        """The directory of the cloud, where all owners are enrolled."""
        return self.folder / "cloud"

    @property
    def user(self) -> Path:
        """The directory of the user."""
        return self.folder / USER

    def owner(self, name: str) -> Path:
        """The directory of an owner."""
        return self.folder / name


def make_roles(
    folder: Path,
    scheme: str,
    owners: Sequence[str] = OWNERS[:1],
    descriptor: str | None = None,
    model: Path | None = None,
) -> Roles:
    """Make a deployment in ``folder``: a modulus of 3072 bits, where the scheme has one."""
    roles = Roles(folder, tuple(owners))
    init_kmc(folder / "kmc", scheme=scheme, descriptor=descriptor, model=model)
    public = folder / "kmc" / "kmc.pub"
    init_cloud(roles.cloud, public)
    init_user(roles.user, USER, public, model=model)
    for owner in owners:
        init_owner(roles.owner(owner), owner, public, authorize=[roles.user / "user.pub"], model=model)
    enroll_at_cloud(roles.cloud, [roles.owner(owner) / MEMBERS_FILE for owner in owners])
    enrolments = [roles.owner(owner) / ENROLMENT_FILE for owner in owners]
    enroll_at_kmc(roles.kmc, [*enrolments, roles.cloud / PUBLIC_FILE])
    return roles


def write_synthetic_upload(roles: Roles, name: str, images: int, output: Path) -> Path:
    """Write an owner's upload of so many images, made of a few: each is encrypted, few features are.

    The ciphertexts of the features of the sample pictures stand there again and again.
    """
    owner = Owner.open(roles.owner(name))
    parameters, sender = owner.directory.deployment.parameters, owner.directory.sender
    number, contents = next(_numbers), photographs()
    codes = [feature_of(content) for content in contents[:images]]
    encrypted = list(zip(*encrypt_features(parameters.cipher, np.stack(codes)), strict=True))
    cipher = UploadCipher(owner.image_key, sender.deployment, sender.name, number)
    with write_upload(output, parameters, sender, number, key_id(owner.image_key)) as upload:
        for image in range(images):
            which = image % len(codes)
            path = f"{image:06}.jpg"
            envelope = Envelope(
                path, open_picture(contents[which], path=None).kind.media_type, codes[which], contents[which]
            )
            wire_name = owner.name_on_the_wire(path)
            columns = tuple(column.tobytes() for column in encrypted[which])
            upload.append(wire_name, cipher.encrypt(envelope.pack(), wire_name), columns)
    return output


def write_synthetic_features(roles: Roles, name: str, codes: Feature, output: Path) -> Path:
    """Write an owner's features file of ``codes``, shape (n, l), in groups of 8; no picture is behind it."""
    owner = Owner.open(roles.owner(name))
    sender, number = owner.directory.sender, next(_numbers)
    l = codes.shape[1]
    with write_features(output, l, sender, number, owner.image_key) as features:
        for row, each in enumerate(codes):
            features.append(f"{number}-{row}", row.to_bytes(32, "big"), each)
            if row % GROUP_SIZE == GROUP_SIZE - 1 or row == len(codes) - 1:
                features.end_group(1000)
    return output


def synthetic_sums(rows: int, random: np.random.Generator) -> PairTable:
    """Draw (Σx, Σx²) of so many images from a normal distribution fitted to the sample pictures.

    Pairs that no feature can have are drawn again.
    """
    known = features(len(sample_files())).astype(np.int64)
    observed = np.stack([known.sum(axis=1), (known * known).sum(axis=1)])
    mean, covariance = observed.mean(axis=1), np.cov(observed)
    counts = np.zeros((DIMENSION * (LEVELS - 1) + 1) * _SUM2_LIMIT, dtype=np.int64)
    for missing in _remaining(rows, counts):
        drawn = random.multivariate_normal(mean, covariance, min(missing, _DRAWN_AT_ONCE), method="cholesky")
        sum1, sum2 = np.rint(drawn).astype(np.int64).T
        sum2 += (sum1 - sum2) % 2  # x² − x is even
        possible = (
            (sum1 >= 0) & (sum1 <= sum2) & (sum2 <= (LEVELS - 1) * sum1) & (sum1**2 <= DIMENSION * sum2)
        )
        counts += np.bincount((sum1 * _SUM2_LIMIT + sum2)[possible], minlength=len(counts))
    pairs = np.flatnonzero(counts)
    starts = np.append(0, np.cumsum(counts[pairs])).astype(np.uint64)
    return PairTable(
        (pairs // _SUM2_LIMIT).astype(np.uint64), (pairs % _SUM2_LIMIT).astype(np.uint64), starts
    )


def _remaining(rows: int, counts: NDArray[np.int64]) -> Iterator[int]:
    """Yield how many rows are missing, until none is."""
    while missing := rows - int(counts.sum()):
        yield missing
