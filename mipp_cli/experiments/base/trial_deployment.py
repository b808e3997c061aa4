"""A temporary deployment for an experiment: KMC, owners, a user and clouds, created by the commands' code.

Its features are those of a data set. Owner and user compute a built-in descriptor as usual; codes from a
model or a file are passed to them in a features file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from mipp_cli.cloud.cloud import PUBLIC_FILE as CLOUD_FILE
from mipp_cli.cloud.cloud import enroll_at_cloud, init_cloud
from mipp_cli.cloud.index import index_containers
from mipp_cli.compute.processes import LOCAL, Parallelism
from mipp_cli.containers.messages.public_files import Deployment, load_deployment
from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.result import Observation
from mipp_cli.experiments.base.sampling import draw_sample
from mipp_cli.images.collection import ImageFile
from mipp_cli.kmc.enroll import enroll_at_kmc
from mipp_cli.kmc.init import init_kmc
from mipp_cli.owner.encrypt import encrypt_images
from mipp_cli.owner.init import init_owner
from mipp_cli.owner.owner import ENROLMENT_FILE, MEMBERS_FILE
from mipp_cli.owner.whats_new import EncryptOptions
from mipp_cli.progress import Progress, silent
from mipp_cli.scheme.parameters import SUM_SCHEMES
from mipp_cli.user.user import PUBLIC_FILE as USER_FILE
from mipp_cli.user.user import init_user, make_query
from mipp_cli.workdir.directory import KMC_FILE


@dataclass(frozen=True)
class SchemeSetting:
    """A scheme and the size of its modulus, which may be insecure; None for `mask`, which has none."""

    scheme: str
    modulus_bits: int | None

    @classmethod
    def of(cls, row: Observation) -> SchemeSetting:
        """Return the setting of an observation."""
        return cls(row["scheme"], row["modulus_bits"])

    @property
    def label(self) -> str:
        """The name in tables and legends."""
        return f"{self.scheme} {self.modulus_bits} bits" if self.modulus_bits else self.scheme


def scheme_settings(schemes: Sequence[str], modulus_bits: Sequence[int]) -> list[SchemeSetting]:
    """Return every scheme with every modulus size; raises InvalidRequestError for an unknown scheme."""
    settings = []
    for scheme in schemes:
        if scheme not in SUM_SCHEMES:
            raise InvalidRequestError(
                f"{scheme!r} is not a scheme in which the cloud holds features",
                hint="use " + ", ".join(SUM_SCHEMES),
            )
        sizes = [None] if scheme == "mask" else modulus_bits
        settings += [SchemeSetting(scheme, bits) for bits in sizes]
    return settings


@dataclass(frozen=True)
class SampleOptions:
    """The sample of a data set to encrypt: ``images`` drawn from the seed, under each of the settings."""

    settings: tuple[SchemeSetting, ...]
    images: int = 10
    seed: int = 1
    parallelism: Parallelism = LOCAL

    def __post_init__(self) -> None:
        if self.images < 1:
            raise InvalidRequestError("the sample is empty", hint="give --sample 1 or more")

    def draw(self, dataset: DataSet) -> NDArray[np.int64]:
        """Return the positions of the images, ascending."""
        return draw_sample(dataset, self.images, self.seed)


@dataclass(frozen=True)
class TrialDeployment:
    """The directories of all roles in ``root``; every owner has authorised the user."""

    root: Path
    dataset: DataSet
    owners: tuple[str, ...]
    parallelism: Parallelism
    progress: Progress

    @property
    def kmc_file(self) -> Path:
        """The deployment's public file."""
        return self.root / "kmc" / KMC_FILE

    @property
    def user(self) -> Path:
        """The directory of the user."""
        return self.root / "user"

    @property
    def public(self) -> Deployment:
        """The deployment as described in kmc.pub."""
        return load_deployment(self.kmc_file)

    def owner(self, name: str) -> Path:
        """Return the directory of an owner."""
        return self.root / f"owner-{name}"

    def new_cloud(self, name: str, uploads: Sequence[Path] = ()) -> Path:
        """Create a cloud that has enrolled every owner and stores these uploads; return its directory."""
        path = self.root / f"cloud-{name}"
        init_cloud(path, self.kmc_file)
        enroll_at_cloud(path, [self.owner(owner) / MEMBERS_FILE for owner in self.owners])
        enroll_at_kmc(self.kmc_file.parent, [path / CLOUD_FILE])
        if uploads:
            index_containers(path, uploads, parallelism=self.parallelism, progress=self.progress)
        return path

    def encrypt(self, owner: str, images: Sequence[ImageFile], name: str) -> Path:
        """Encrypt images of an owner into the upload ``name``; return its path.

        In scheme `exact` the features file for the KMC is next to it.
        """
        path = self.root / f"{name}.h5"
        options = EncryptOptions(features=self._features(images, name), small=True)
        encrypt_images(self.owner(owner), images, path, options, self.parallelism, self.progress)
        return path

    def query(self, images: Sequence[ImageFile], name: str, candidates: int) -> Path:
        """Create the user's query ``name`` from images of the data set; return its path."""
        path = self.root / f"{name}.h5"
        features = self._features(images, name)
        make_query(self.user, images, path, candidates=candidates, features=features, force=True)
        return path

    def _features(self, images: Sequence[ImageFile], name: str) -> Path | None:
        """Write the codes of images to a features file; None if the commands compute the same."""
        if self.dataset.described.built_in:
            return None
        path = self.root / f"{name}.npy"
        np.save(path, self.dataset.codes_of(images))
        return path


@contextmanager
def trial_deployment(
    setting: SchemeSetting,
    dataset: DataSet,
    parallelism: Parallelism = LOCAL,
    progress: Progress = silent,
    *,
    owners: Sequence[str] = ("owner",),
    image_names: str = "hashed",
) -> Iterator[TrialDeployment]:
    """Create a deployment for the features of ``dataset`` in a temporary folder, and remove it afterwards.

    Raises InvalidRequestError for a scheme and modulus that cannot be combined.
    """
    with TemporaryDirectory(prefix="mipp-experiment-") as folder:
        made = TrialDeployment(Path(folder), dataset, tuple(owners), parallelism, progress)
        public = made.kmc_file
        init_kmc(
            public.parent,
            scheme=setting.scheme,
            descriptor=dataset.described.for_deployment,
            modulus_bits=setting.modulus_bits,
            allow_insecure_modulus=True,
        )
        init_user(made.user, "user", public)
        user = made.user / USER_FILE
        for owner in owners:
            init_owner(made.owner(owner), owner, public, authorize=[user], image_names=image_names)
        enroll_at_kmc(public.parent, [made.owner(owner) / ENROLMENT_FILE for owner in owners])
        yield made
