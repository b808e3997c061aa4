"""Public files: kmc.pub, which defines the deployment, user.pub, cloud.pub and sealing.pub.

They are JSON in canonical form, signed by the key that they contain. The fingerprint is the SHA-256 of the
file.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mipp_cli.containers.base.header import FORMAT_LINE, IDENTIFIER, LARGEST_NUMBER, wrong_format
from mipp_cli.containers.base.source import FileSource, read_file
from mipp_cli.errors import MalformedError, WrongDeploymentError, errors_at
from mipp_cli.scheme.descriptor import Descriptor
from mipp_cli.scheme.keys import HPKE_SUITE, SealingPublicKey, SigningKey, verify_signature
from mipp_cli.scheme.parameters import Parameters

if TYPE_CHECKING:
    from mipp_cli.scheme.sum_groups import CompositeGroup, PrimeGroup

_LARGEST_NUMBER_DIGITS = 16384 // 4  # hex digits of the largest modulus that `mipp kmc init` makes
_FINGERPRINT = re.compile("[0-9a-f]{64}")
SIZE_LIMIT = 1 << 16
CLOUD_NAME = "cloud"
KMC_NAME = "kmc"


@dataclass(frozen=True)
class Deployment:
    """A deployment as described by kmc.pub: parameters, the KMC's public keys, and the fingerprint."""

    parameters: Parameters
    sealing_key: SealingPublicKey
    signing_key: bytes
    fingerprint: str


@dataclass(frozen=True)
class Party:
    """A user or a cloud as described by its public file; ``key`` is its Ed25519 key (a user's AK)."""

    kind: str
    name: str
    key: bytes
    fingerprint: str


@dataclass(frozen=True)
class Renewal:
    """A renewed sealing key as described by sealing.pub, signed by the KMC of the deployment."""

    number: int
    sealing_key: SealingPublicKey
    signing_key: bytes
    fingerprint: str


def render_kmc(parameters: Parameters, sealing_key: SealingPublicKey, signing_key: SigningKey) -> bytes:
    """Return the text of kmc.pub."""
    return _signed_text(_kmc_fields(parameters, sealing_key), signing_key)


def render_party(kind: str, name: str, deployment: str, signing_key: SigningKey) -> bytes:
    """Return the text of user.pub or cloud.pub."""
    return _signed_text(_party_fields(kind, name, deployment), signing_key)


def render_renewal(
    number: int, sealing_key: SealingPublicKey, deployment: str, signing_key: SigningKey
) -> bytes:
    """Return the text of sealing.pub."""
    return _signed_text(_renewal_fields(number, sealing_key, deployment), signing_key)


def _kmc_fields(parameters: Parameters, sealing_key: SealingPublicKey) -> dict[str, Any]:
    return {
        "kind": "kmc",
        "scheme": parameters.scheme,
        "descriptor": parameters.descriptor.to_fields(),
        "group_size": parameters.group_size,
        "group": None if parameters.group is None else parameters.group.to_fields(),
        "hpke_suite": HPKE_SUITE,
        "sealing_key": sealing_key.data.hex(),
    }


def _party_fields(kind: str, name: str, deployment: str) -> dict[str, Any]:
    return {"kind": kind, "id": name, "deployment": deployment}


def _renewal_fields(number: int, sealing_key: SealingPublicKey, deployment: str) -> dict[str, Any]:
    return {
        "kind": "sealing",
        "deployment": deployment,
        "number": number,
        "hpke_suite": HPKE_SUITE,
        "sealing_key": sealing_key.data.hex(),
    }


def read_public_file(path: Path) -> bytes:
    """Return the bytes of a public file; raises MalformedError if it is too large to be one."""
    return read_file(path, SIZE_LIMIT)


def is_public_file(path: Path) -> bool:
    """Return whether ``path`` looks like a public file (JSON text, perhaps saved again), not a container."""
    with closing(FileSource(path)) as source:
        return source.read_at(0, 4).startswith((b"{", BOM_UTF8, BOM_UTF16_LE, BOM_UTF16_BE))


def load_deployment(path: Path) -> Deployment:
    """Read and verify the kmc.pub at ``path``."""
    with errors_at(path):
        return parse_kmc(read_public_file(path))


def parse_kmc(data: bytes) -> Deployment:
    """Read and verify the text of kmc.pub; raises MalformedError or TamperedError."""
    fields = _verified_fields(data, "kmc")
    try:
        _check_suite(fields)
        parameters = Parameters(
            fields["scheme"],
            _read_group(fields["scheme"], fields["group"]),
            Descriptor.from_fields(fields["descriptor"]),
            fields["group_size"],
        )
        sealing_key = SealingPublicKey(bytes.fromhex(fields["sealing_key"]))
        signing_key = bytes.fromhex(fields["signing_key"])
        _check_rendering(data, _kmc_fields(parameters, sealing_key), signing_key, fields["signature"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _malformed() from None
    return Deployment(parameters, sealing_key, signing_key, hashlib.sha256(data).hexdigest())


def _check_suite(fields: dict[str, Any]) -> None:
    if fields["hpke_suite"] != HPKE_SUITE:
        raise MalformedError("requires an unknown sealing suite", hint="update mipp")


def _read_group(scheme: str, fields: dict[str, str] | None) -> CompositeGroup | PrimeGroup | None:
    if fields is None:
        return None
    if any(len(number) > _LARGEST_NUMBER_DIGITS for number in fields.values()):
        raise MalformedError("has a modulus that is too large")  # checking it would take hours
    from mipp_cli.scheme.sum_groups import CompositeGroup, PrimeGroup

    return (CompositeGroup if scheme == CompositeGroup.scheme else PrimeGroup).from_fields(fields)


def load_party(path: Path, kind: str, deployment: str) -> Party:
    """Read and verify a user.pub or cloud.pub; raises WrongDeploymentError if it is of another deployment."""
    with errors_at(path):
        return parse_party(read_public_file(path), kind, deployment)


def parse_party(data: bytes, kind: str, deployment: str | None) -> Party:
    """Read and verify the text of a user.pub or cloud.pub."""
    fields = _verified_fields(data, kind)
    try:
        name, belongs_to = fields["id"], fields["deployment"]
        if not IDENTIFIER.fullmatch(name):
            raise MalformedError("has an invalid identifier of a party")
        if not _FINGERPRINT.fullmatch(belongs_to):
            raise _malformed()
        key = bytes.fromhex(fields["signing_key"])
        _check_rendering(data, _party_fields(kind, name, belongs_to), key, fields["signature"])
        party = Party(kind, name, key, hashlib.sha256(data).hexdigest())
    except (KeyError, TypeError, ValueError):
        raise _malformed() from None
    if deployment is not None:
        _check_deployment(belongs_to, deployment, "ask its owner for one made with this kmc.pub")
    return party


def load_renewal(path: Path, deployment: Deployment) -> Renewal:
    """Read and verify a sealing.pub of ``deployment``."""
    with errors_at(path):
        return parse_renewal(read_public_file(path), deployment)


def parse_renewal(data: bytes, deployment: Deployment | None) -> Renewal:
    """Read and verify the text of sealing.pub, which must be signed by the KMC of ``deployment``.

    Raises WrongDeploymentError if it belongs to another deployment or is signed by another key.
    """
    fields = _verified_fields(data, "sealing")
    try:
        _check_suite(fields)
        number, belongs_to = fields["number"], fields["deployment"]
        if type(number) is not int or not 0 <= number <= LARGEST_NUMBER:
            raise MalformedError("has an invalid sequence number")
        if not _FINGERPRINT.fullmatch(belongs_to):
            raise _malformed()
        sealing_key = SealingPublicKey(bytes.fromhex(fields["sealing_key"]))
        key = bytes.fromhex(fields["signing_key"])
        rendered = _renewal_fields(number, sealing_key, belongs_to)
        _check_rendering(data, rendered, key, fields["signature"])
    except (KeyError, TypeError, ValueError):
        raise _malformed() from None
    if deployment is not None:
        hint = "ask the KMC of this deployment for its sealing.pub"
        _check_deployment(belongs_to, deployment.fingerprint, hint)
        if not hmac.compare_digest(key, deployment.signing_key):
            raise WrongDeploymentError("is not signed by the KMC of this deployment", hint=hint)
    return Renewal(number, sealing_key, key, hashlib.sha256(data).hexdigest())


def _check_deployment(found: str, deployment: str, hint: str) -> None:
    if found != deployment:
        raise WrongDeploymentError(f"belongs to another deployment ({found[:16]}…)", hint=hint)


def public_kind(data: bytes) -> str:
    """Return the kind that a public file states; raises MalformedError if it is unknown."""
    kind = _parse_text(data).get("kind")
    if kind not in ("kmc", "user", "cloud", "sealing"):
        raise _malformed()
    return str(kind)


def party_deployment(data: bytes) -> str:
    """Return the deployment that a user.pub, cloud.pub or sealing.pub states."""
    return str(_parse_text(data).get("deployment"))


def _canonical(fields: dict[str, Any]) -> bytes:
    return (json.dumps(fields, indent=1) + "\n").encode("ascii")


def _signed_text(fields: dict[str, Any], key: SigningKey) -> bytes:
    """Return the text of a public file with these fields, signed."""
    signed = _to_sign(fields, key.public)
    return _canonical({**signed, "signature": key.sign(_canonical(signed)).hex()})


def _to_sign(fields: dict[str, Any], key: bytes) -> dict[str, Any]:
    return {"format": FORMAT_LINE, **fields, "signing_key": key.hex()}


def _check_rendering(data: bytes, fields: dict[str, Any], key: bytes, signature: str) -> None:
    """Refuse a text that differs from the one we would write, in its fields, their order or spelling."""
    rendered = _canonical({**_to_sign(fields, key), "signature": bytes.fromhex(signature).hex()})
    if rendered != data:
        raise _malformed()


def _malformed() -> MalformedError:
    """Return the error for a text that deviates from the format."""
    return MalformedError(
        "is not a public file of MIPP", hint="give kmc.pub, user.pub, cloud.pub or sealing.pub as it was sent"
    )


def _parse_text(data: bytes) -> dict[str, Any]:
    """Return the unverified fields of a text."""
    if len(data) > SIZE_LIMIT:
        raise _malformed()
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        raise _malformed() from None
    if not isinstance(fields, dict):
        raise _malformed()
    return fields


def _verified_fields(data: bytes, kind: str) -> dict[str, Any]:
    """Return the fields of a public file after verifying its kind, canonical form and signature."""
    fields = _parse_text(data)
    if fields.get("kind") != kind:
        raise MalformedError(f"is not a {kind}.pub", hint=f"give a {kind}.pub instead")
    if fields.get("format") != FORMAT_LINE:
        raise wrong_format(fields.get("format"))
    try:
        is_canonical = _canonical(fields) == data
    except RecursionError:
        is_canonical = False
    if not is_canonical:
        raise MalformedError(
            "was changed since its sender wrote it",
            hint="an editor or mail program may have changed its line endings: have it sent again, packed",
        )
    signed = {name: value for name, value in fields.items() if name != "signature"}
    try:
        key, signature = bytes.fromhex(fields["signing_key"]), bytes.fromhex(fields["signature"])
    except (KeyError, TypeError, ValueError):
        raise _malformed() from None
    verify_signature(key, signature, _canonical(signed))
    return fields
