"""A deployment of an experiment's own: KMC, owners, a user and clouds, made by the commands' own code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mipp_cli.cloud.cloud import PUBLIC_FILE as CLOUD_FILE
from mipp_cli.cloud.cloud import enroll_at_cloud, init_cloud
from mipp_cli.compute.processes import LOCAL, Parallelism
from mipp_cli.containers.messages.public_files import Deployment, load_deployment
from mipp_cli.images.collection import ImageFile
from mipp_cli.kmc.enroll import enroll_at_kmc
from mipp_cli.kmc.kmc import init_kmc
from mipp_cli.owner.encrypt import encrypt_images
from mipp_cli.owner.owner import ENROLMENT_FILE, MEMBERS_FILE, init_owner
from mipp_cli.owner.whats_new import EncryptOptions
from mipp_cli.progress import Progress, silent
from mipp_cli.user.user import PUBLIC_FILE as USER_FILE
from mipp_cli.user.user import init_user
from mipp_cli.workdir.directory import KMC_FILE


@dataclass(frozen=True)
class TrialDeployment:
    """The directories of all roles below ``root``; every owner authorised the user."""

    root: Path
    owners: tuple[str, ...]

    @property
    def kmc(self) -> Path:
        """The directory of the KMC."""
        return self.root / "kmc"

    @property
    def user(self) -> Path:
        """The directory of the user."""
        return self.root / "user"

    @property
    def public(self) -> Deployment:
        """The deployment as kmc.pub describes it."""
        return load_deployment(self.kmc / KMC_FILE)

    def owner(self, name: str) -> Path:
        """Return the directory of an owner."""
        return self.root / f"owner-{name}"

    def new_cloud(self, name: str) -> Path:
        """Make a cloud that knows every owner and stores nothing yet; return its directory."""
        path = self.root / f"cloud-{name}"
        init_cloud(path, self.kmc / KMC_FILE)
        enroll_at_cloud(path, [self.owner(owner) / MEMBERS_FILE for owner in self.owners])
        enroll_at_kmc(self.kmc, [path / CLOUD_FILE])
        return path

    def encrypt(
        self,
        owner: str,
        images: Sequence[ImageFile],
        name: str,
        parallelism: Parallelism = LOCAL,
        progress: Progress = silent,
    ) -> Path:
        """Encrypt images of an owner into the upload ``name``; return its path."""
        path = self.root / f"{name}.h5"
        encrypt_images(self.owner(owner), images, path, EncryptOptions(), parallelism, progress)
        return path


def make_trial_deployment(
    root: Path,
    scheme: str,
    modulus_bits: int | None,
    *,
    owners: Sequence[str] = ("owner",),
    image_names: str = "hashed",
) -> TrialDeployment:
    """Make a deployment below ``root``; ``modulus_bits`` is None for scheme `mask`, and may be insecure.

    Raises InvalidRequestError for a scheme and modulus that do not go together.
    """
    made = TrialDeployment(root, tuple(owners))
    root.mkdir(parents=True, exist_ok=True)
    init_kmc(made.kmc, scheme=scheme, modulus_bits=modulus_bits, allow_insecure_modulus=True)
    public = made.kmc / KMC_FILE
    init_user(made.user, "user", public)
    for owner in owners:
        init_owner(
            made.owner(owner), owner, public, authorize=[made.user / USER_FILE], image_names=image_names
        )
    enroll_at_kmc(made.kmc, [made.owner(owner) / ENROLMENT_FILE for owner in owners])
    return made
