"""The JSON files of a role's directory: private, replaced whole, each with a digest of itself."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mipp_cli.errors import MalformedError, MippError
from mipp_cli.files.atomic import hint_of, write_bytes

# what reading a file whose bytes or values cannot be may end in
_NONSENSE = (
    *(LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError, OSError),
    MippError,
)
RESTORE = "restore it from a backup"
_DIGEST = "sha256"  # the last field; what a file is about may well have a field `digest`


def render_state(fields: dict[str, Any]) -> bytes:
    """Return ``fields`` as a file's content: indented JSON whose last field is the SHA-256 of the others."""
    return _text({**fields, _DIGEST: hashlib.sha256(_text(fields)).hexdigest()})


def parse_state(data: bytes) -> dict[str, Any]:
    """Return the fields of what :func:`render_state` gave; ValueError for whatever differs in one byte."""
    try:
        fields = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(fields, dict):
        raise ValueError("no object")
    fields.pop(_DIGEST, None)
    if not hmac.compare_digest(render_state(fields), data):
        raise ValueError("the digest does not fit")
    return fields


def read_state(path: Path) -> dict[str, Any]:
    """Read a JSON file of a directory; MalformedError if it is missing, unreadable or damaged."""
    try:
        return parse_state(path.read_bytes())
    except FileNotFoundError:
        raise MalformedError("is missing", path=path, hint=RESTORE) from None
    except OSError as error:
        message = f"cannot be read: {os.strerror(error.errno or 0)}"
        hint = hint_of(error, "check the rights and the disk")
        raise MalformedError(message, path=path, hint=hint) from error
    except ValueError:
        raise MalformedError("is damaged", path=path, hint=RESTORE) from None


@contextmanager
def damaged_unless_sound(path: Path, hint: str = RESTORE) -> Iterator[None]:
    """Say that a file is damaged if the block cannot make sense of what it holds; raises MalformedError."""
    try:
        yield
    except _NONSENSE as error:
        raise MalformedError("is damaged", path=path, hint=hint) from error


def write_state(path: Path, fields: dict[str, Any]) -> None:
    """Write or replace a JSON file of a directory, mode 0600, whole or not at all; raises OutputError."""
    write_bytes(path, render_state(fields), force=True, private=True)


def _text(fields: dict[str, Any]) -> bytes:
    return (json.dumps(fields, indent=1) + "\n").encode("ascii")
