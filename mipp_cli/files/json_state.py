"""The JSON files of a role's directory: private, replaced atomically, each with a digest of itself."""

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
from mipp_cli.files.atomic import write_bytes
from mipp_cli.files.system_errors import hint_of

# errors that reading a file with invalid bytes or values may raise
_NONSENSE = (
    *(LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError, OSError),
    MippError,
)
RESTORE = "restore it from a backup"
_DIGEST = "sha256"  # the last field; a file's content may have a field `digest`


def render_state(fields: dict[str, Any]) -> bytes:
    """Return ``fields`` as a file's content: indented JSON whose last field is the SHA-256 of the others."""
    return _text({**fields, _DIGEST: hashlib.sha256(_text(fields)).hexdigest()})


def parse_state(data: bytes) -> dict[str, Any]:
    """Return the fields that :func:`render_state` wrote; raises ValueError if any byte differs."""
    try:
        fields = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(fields, dict):
        raise ValueError("not a JSON object")
    fields.pop(_DIGEST, None)
    if not hmac.compare_digest(render_state(fields), data):
        raise ValueError("the digest does not match")
    return fields


def read_state(path: Path) -> dict[str, Any]:
    """Read a JSON file of a directory; raises MalformedError if it is missing, unreadable or damaged."""
    try:
        return parse_state(path.read_bytes())
    except FileNotFoundError:
        raise MalformedError("is missing", path=path, hint=RESTORE) from None
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValueError:
        raise MalformedError("is damaged", path=path, hint=RESTORE) from None


def _unreadable(path: Path, error: OSError) -> MalformedError:
    hint = hint_of(error, "check its permissions and the disk")
    return MalformedError(f"cannot be read: {os.strerror(error.errno or 0)}", path=path, hint=hint)


@contextmanager
def damaged_unless_sound(path: Path, hint: str = RESTORE) -> Iterator[None]:
    """Raise MalformedError if the block may not read the file, or calls it damaged if it makes no sense."""
    try:
        yield
    except PermissionError as error:
        raise _unreadable(path, error) from error
    except _NONSENSE as error:
        raise MalformedError("is damaged", path=path, hint=hint) from error


def write_state(path: Path, fields: dict[str, Any]) -> None:
    """Write or replace a JSON file of a directory atomically, mode 0600; raises OutputError."""
    write_bytes(path, render_state(fields), force=True, private=True)


def _text(fields: dict[str, Any]) -> bytes:
    return (json.dumps(fields, indent=1) + "\n").encode("ascii")
