"""JSON files of a role's directory: a changed byte is found, wherever it is."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from mipp_cli.errors import MalformedError
from mipp_cli.files.json_state import damaged_unless_sound, parse_state, read_state, render_state, write_state
from tests.support.deployment import Deployment, mode

FIELDS = {"number": 7, "digest": "of something else", "users": {"é": "ab", "\udcff": "cd"}, "list": [1, None]}


def test_what_was_written_is_read() -> None:
    assert parse_state(render_state(FIELDS)) == FIELDS
    assert list(json.loads(render_state(FIELDS)))[-1] == "sha256"


def test_every_byte_that_changed_is_found() -> None:
    data = render_state(FIELDS)
    for place in range(len(data)):
        for bit in (1, 32, 128):
            changed = bytearray(data)
            changed[place] ^= bit
            with pytest.raises(ValueError):
                parse_state(bytes(changed))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"number": 7}',
        json.dumps(FIELDS).encode(),
        render_state(FIELDS)[:-1],
        render_state(FIELDS) + b"\n",
        b'{"number": NaN, "sha256": ""}',
        b"[" * 100_000,
    ],
    ids=str,
)
def test_what_nobody_wrote_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        parse_state(data)


def test_a_file_is_private_and_named_when_it_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_state(path, {"number": 1})
    assert mode(path) == "0600"
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    with pytest.raises(MalformedError, match="is damaged") as caught:
        read_state(path)
    assert caught.value.path == str(path)


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    refusal = pytest.raises(MalformedError, match="cannot be read: Permission denied")
    with refusal as caught, damaged_unless_sound(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    assert "permissions" in str(caught.value.hint)


def test_every_json_file_of_every_role_has_a_digest_that_fits(any_scheme: Deployment) -> None:
    files = [
        file for name in ("kmc", "cloud", "alice", "north") for file in (any_scheme / name).rglob("*.json")
    ]
    assert len(files) >= 12
    for file in files:
        parse_state(file.read_bytes())
