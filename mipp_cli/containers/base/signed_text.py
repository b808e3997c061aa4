"""The text of public files: JSON in one canonical form, signed by the key that it names."""

from __future__ import annotations

import json
from typing import Any

from mipp_cli.containers.base.header import FORMAT_LINE, wrong_format
from mipp_cli.errors import MalformedError
from mipp_cli.scheme.keys import SigningKey, verify_signature

SIZE_LIMIT = 1 << 16


def _canonical(fields: dict[str, Any]) -> bytes:
    return (json.dumps(fields, indent=1) + "\n").encode("ascii")


def signed_text(fields: dict[str, Any], key: SigningKey) -> bytes:
    """Return the text of a public file with these fields, signed."""
    signed = _to_sign(fields, key.public)
    return _canonical({**signed, "signature": key.sign(_canonical(signed)).hex()})


def _to_sign(fields: dict[str, Any], key: bytes) -> dict[str, Any]:
    return {"format": FORMAT_LINE, **fields, "signing_key": key.hex()}


def check_rendering(data: bytes, fields: dict[str, Any], key: bytes, signature: str) -> None:
    """Refuse a text that is not the one we would write: other fields, another order, another spelling."""
    rendered = _canonical({**_to_sign(fields, key), "signature": bytes.fromhex(signature).hex()})
    if rendered != data:
        raise malformed()


def malformed() -> MalformedError:
    """Return the error of a text that departs from the format."""
    return MalformedError(
        "is not a public file of MIPP", hint="give kmc.pub, user.pub, cloud.pub or sealing.pub as it was sent"
    )


def parse_text(data: bytes) -> dict[str, Any]:
    """Return the fields that a text claims to have, before anything of it is verified."""
    if len(data) > SIZE_LIMIT:
        raise malformed()
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        raise malformed() from None
    if not isinstance(fields, dict):
        raise malformed()
    return fields


def verified_fields(data: bytes, kind: str) -> dict[str, Any]:
    """Return the fields of a public file in canonical form, of the right kind and signed by its key."""
    fields = parse_text(data)
    if fields.get("kind") != kind:
        raise MalformedError(f"is not a {kind}.pub", hint=f"give a {kind}.pub in its place")
    if fields.get("format") != FORMAT_LINE:
        raise wrong_format(fields.get("format"))
    try:
        is_canonical = _canonical(fields) == data
    except RecursionError:
        is_canonical = False
    if not is_canonical:
        raise malformed()
    signed = {name: value for name, value in fields.items() if name != "signature"}
    try:
        key, signature = bytes.fromhex(fields["signing_key"]), bytes.fromhex(fields["signature"])
    except (KeyError, TypeError, ValueError):
        raise malformed() from None
    verify_signature(key, signature, _canonical(signed))
    return fields
