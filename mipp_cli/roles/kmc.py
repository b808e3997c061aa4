"""The key management centre: it draws the deployment, and holds the SKs and AULs of the owners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mipp_cli.containers.atomic import unchanged_on_failure, write_bytes
from mipp_cli.containers.header import Header
from mipp_cli.containers.membership import Membership, read_enrolment
from mipp_cli.containers.public_files import (
    KMC_NAME,
    Party,
    is_public_file,
    load_deployment,
    load_party,
    read_public_file,
    render_kmc,
)
from mipp_cli.errors import AlreadyAppliedError, MalformedError
from mipp_cli.roles.directory import KMC_FILE, RoleDirectory, new_directory
from mipp_cli.roles.fingerprints import check_fingerprints
from mipp_cli.roles.removed import check_return, removal_of
from mipp_cli.roles.report import Output, Report
from mipp_cli.roles.sequence import check_clock, check_pinned_key, check_sequence, each_new
from mipp_cli.scheme.descriptor import parse_descriptor
from mipp_cli.scheme.image_cipher import key_id
from mipp_cli.scheme.keys import SealingKey, SealingKeys, SigningKey
from mipp_cli.scheme.parameters import generate_parameters

OWNERS_FOLDER = "owners"
CLOUDS_FOLDER = "clouds"


@dataclass(frozen=True, repr=False)
class EnrolledOwner:
    """An owner as the KMC knows it: the enrolment in force, its digest, and the SKs by key id.

    ``forgotten`` are the ids of the SKs that the owner forgot: no enrolment brings one back.
    """

    membership: Membership
    digest: str
    image_keys: dict[int, bytes]
    forgotten: frozenset[int] = frozenset()


class Kmc:
    """A KMC's directory and whom it knows."""

    def __init__(self, directory: RoleDirectory):
        self.directory = directory

    @classmethod
    def open(cls, path: Path) -> Kmc:
        """Open a KMC's directory."""
        return cls(RoleDirectory.open(path, "kmc"))

    @property
    def sealing_key(self) -> SealingKey:
        """The key to which owners and users seal."""
        return SealingKey(self.directory.secret("sealing"))

    @property
    def sealing_keys(self) -> SealingKeys:
        """The keys that open what owners and users sealed: the current one, then former ones."""
        former = reversed(self.directory.secret_list("former_sealing"))
        return SealingKeys(self.sealing_key, tuple(SealingKey(seeds) for seeds in former))

    def owner(self, name: str) -> EnrolledOwner | None:
        """Return an enrolled owner, or None."""
        if not self.owner_file(name).exists():
            return None
        fields = self.directory.read_json(_owner_file(name))
        try:
            keys = [bytes.fromhex(key) for key in fields["image_keys"]]
            users = frozenset((user, bytes.fromhex(key)) for user, key in fields["users"].items())
            membership = Membership(name, int(fields["number"]), bytes.fromhex(fields["key"]), users)
            digest = str(fields["digest"])
            forgotten = frozenset(int(key, 16) for key in fields["forgotten_keys"])
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError):
            raise MalformedError(
                "is damaged", path=self.owner_file(name), hint="restore it from a backup"
            ) from None
        return EnrolledOwner(membership, digest, {key_id(key): key for key in keys}, forgotten)

    def owner_file(self, name: str) -> Path:
        """Return where an owner's enrolment is kept."""
        return self.directory.file(_owner_file(name))

    def owner_names(self) -> list[str]:
        """Return the OIDs of all enrolled owners."""
        return sorted(file.stem for file in self.directory.file(OWNERS_FOLDER).glob("*.json"))

    def cloud_file(self, key: bytes) -> Path:
        """Return where the public file of the cloud with this key is kept."""
        return self.directory.folder(CLOUDS_FOLDER) / f"{key.hex()}.pub"

    def cloud_names(self) -> list[str]:
        """Return the keys of all enrolled clouds, in hex."""
        return sorted(file.stem for file in self.directory.file(CLOUDS_FOLDER).glob("*.pub"))

    def knows_cloud(self, key: bytes) -> bool:
        """Say whether a cloud with this key was enrolled."""
        return self.cloud_file(key).exists()

    def store_owner(self, owner: EnrolledOwner) -> None:
        """Put an owner's enrolment in force."""
        membership = owner.membership
        self.directory.folder(OWNERS_FOLDER)
        self.directory.write_json(
            _owner_file(membership.owner),
            {
                "number": membership.number,
                "digest": owner.digest,
                "key": membership.key.hex(),
                "users": {name: key.hex() for name, key in sorted(membership.users)},
                "image_keys": [key.hex() for key in owner.image_keys.values()],
                "forgotten_keys": [f"{key:016x}" for key in sorted(owner.forgotten)],
            },
        )


def _owner_file(name: str) -> str:
    return f"{OWNERS_FOLDER}/{name}.json"


def init_kmc(
    path: Path,
    *,
    scheme: str = "dcr",
    descriptor: str | None = None,
    modulus_bits: int | None = None,
    grey_bits: int = 16,
    allow_insecure_modulus: bool = False,
) -> Report:
    """Make a KMC's directory and with it a deployment: kmc.pub, for everybody.

    ``descriptor`` is NAME:DIMENSION:LEVELS; without it, features are edge histograms.
    """
    parameters = generate_parameters(
        scheme,
        features=None if descriptor is None else parse_descriptor(descriptor),
        modulus_bits=modulus_bits,
        grey_bits=grey_bits,
        allow_insecure=allow_insecure_modulus,
    )
    signing, sealing = SigningKey.generate(), SealingKey.generate()
    with new_directory(path, "kmc", KMC_NAME) as directory:
        directory.write_secrets({"signing": signing.seed, "sealing": sealing.seeds})
        write_bytes(directory.file(KMC_FILE), render_kmc(parameters, sealing.public, signing))
    public = path / KMC_FILE
    shown = {str(public): load_deployment(public).fingerprint}
    return Report((Output(public, "kmc.pub"),), {}, tuple(parameters.warnings), shown)


def enroll_at_kmc(path: Path, files: Sequence[Path], *, fingerprints: Sequence[str] = ()) -> Report:
    """Put owners' enrolments in force, and make clouds known; all of ``files`` or none.

    What is in force already is skipped; AlreadyAppliedError if that leaves nothing to do. Shown and
    compared are the fingerprints of all ``files``: of owners, too, whose names are pinned here.
    """
    kmc = Kmc.open(path)
    found: dict[Path, str] = {}
    pending: dict[str, EnrolledOwner] = {}
    clouds: dict[Path, Party] = {}

    def read(file: Path) -> None:
        if is_public_file(file):
            clouds[file] = _new_cloud(kmc, file, found)
        else:
            owner = _new_enrolment(kmc, file, pending, found)
            pending[owner.membership.owner] = owner

    with kmc.directory.lock():
        _, skipped = each_new(files, read, lambda: check_fingerprints(found, fingerprints))
        changed = [kmc.owner_file(name) for name in pending]
        with unchanged_on_failure(*changed, *(kmc.cloud_file(cloud.key) for cloud in clouds.values())):
            for owner in pending.values():
                kmc.store_owner(owner)
            for file, cloud in clouds.items():
                write_bytes(kmc.cloud_file(cloud.key), read_public_file(file), force=True)
    counts = {"owners": len(pending), "clouds": len(clouds), "already enrolled": skipped}
    shown = {str(file): fingerprint for file, fingerprint in found.items()}
    warnings = [*kmc.directory.deployment.parameters.warnings, *_forgotten_warnings(pending)]
    return Report((), counts, tuple(warnings), shown)


def _forgotten_warnings(owners: Mapping[str, EnrolledOwner]) -> list[str]:
    """Say of which owners no image key is left: a backup brought back one that was forgotten."""
    return [
        f"{name} enrols no image key that it did not forget before: what it sends cannot be re-encrypted; "
        "the owner draws a new key: mipp owner rotate"
        for name, owner in owners.items()
        if not owner.image_keys
    ]


def _new_cloud(kmc: Kmc, file: Path, found: dict[Path, str]) -> Party:
    cloud = load_party(file, "cloud", kmc.directory.deployment.fingerprint)
    found[file] = cloud.fingerprint
    if kmc.knows_cloud(cloud.key):
        raise AlreadyAppliedError("the cloud is known already", hint="there is nothing to do")
    return cloud


def _new_enrolment(
    kmc: Kmc, file: Path, pending: dict[str, EnrolledOwner], found: dict[Path, str]
) -> EnrolledOwner:
    digest = ""
    owner: EnrolledOwner | None = None

    def check(header: Header) -> None:
        nonlocal digest, owner
        digest, found[file] = header.digest, header.key
        owner = pending.get(header.sender) or kmc.owner(header.sender)
        check_return(kmc.directory, header, enrolled=owner is not None)
        if owner is not None:
            check_pinned_key(header, owner.membership.key)
            check_sequence(header, owner.membership.number, owner.digest)
        check_clock(header, owner.membership.number if owner else 0)

    enrolment = read_enrolment(file, kmc.directory.deployment.fingerprint, kmc.sealing_keys, check)
    # a key that is not named stays: an owner who restored an old backup does not know the newer ones
    held, forgotten = _known_keys(kmc, enrolment.membership, owner)
    forgotten |= enrolment.forgotten
    keys = {key: value for key, value in held.items() if key not in enrolment.image_keys}
    keys |= enrolment.image_keys
    keys = {key: value for key, value in keys.items() if key not in forgotten}
    return EnrolledOwner(enrolment.membership, digest, keys, forgotten)


def _known_keys(
    kmc: Kmc, membership: Membership, owner: EnrolledOwner | None
) -> tuple[dict[int, bytes], frozenset[int]]:
    """Return the SKs held of an owner, and the ids forgotten, of one who was removed too."""
    if owner is not None:
        return owner.image_keys, owner.forgotten
    removal = removal_of(kmc.directory, membership.owner)
    same = removal is not None and removal.key == membership.key
    return {}, removal.forgotten if removal and same else frozenset()
