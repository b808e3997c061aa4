"""Locks: one at a time, or several who read; as network file systems do them, and where there are none."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

import pytest

from mipp_cli.errors import OutputError
from mipp_cli.files.atomic import new_file, sweep, write_bytes
from mipp_cli.files.locks import LockedError, locked
from tests.support.deployment import Deployment, refused

OF_A_FILE = (fcntl.F_OFD_SETLK, fcntl.F_OFD_SETLKW)


def answer_locks(patch: pytest.MonkeyPatch, number: int) -> None:
    """Fail every lock of a file or folder with an error."""
    fcntl_itself = fcntl.fcntl

    def fail(*_arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    def of_files(descriptor: int, command: int, argument: bytes | int = 0) -> object:
        return fail() if command in OF_A_FILE else fcntl_itself(descriptor, command, argument)

    patch.setattr(fcntl, "flock", fail)
    patch.setattr(fcntl, "fcntl", of_files)


def is_locked(path: Path, *, shared: bool = False) -> bool:
    try:
        with locked(path, shared=shared, wait=False):
            return False
    except LockedError:
        return True


@pytest.fixture(params=["file", "folder"])
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "place"
    if request.param == "file":
        path.touch()
    else:
        path.mkdir()
    return path


def test_two_may_read_and_nobody_else_may_write(place: Path) -> None:
    with locked(place, shared=True), locked(place, shared=True, wait=False):
        assert is_locked(place)
    with locked(place, wait=False):
        assert is_locked(place, shared=True)
    assert not is_locked(place)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS])
def test_where_there_are_no_locks_a_directory_says_so(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    answer_locks(monkeypatch, number)
    outcome = refused(10, "owner", "rotate-key", deployment / "north")
    assert f"{deployment / 'north' / 'role.json'}: cannot be locked: {os.strerror(number)}" in outcome.err
    assert "has no locks" in outcome.err


def test_where_there_are_no_locks_an_output_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_locks(monkeypatch, errno.ENOLCK)
    with new_file(tmp_path / "a") as temporary:
        temporary.write_bytes(b"content")
        sweep(tmp_path)
        assert temporary.exists()
    assert (tmp_path / "a").read_bytes() == b"content"


def lock_within(path: Path, size: int) -> int:
    """Return the kind of lock that would hinder writing the first bytes of a file; 0 for all."""
    with path.open("r+b") as file:
        asked = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, size, 0)
        return int(struct.unpack_from("h", fcntl.fcntl(file, fcntl.F_OFD_GETLK, asked))[0])


@pytest.mark.parametrize("shared", [False, True])
def test_a_locked_file_can_be_used_where_locks_are_enforced(tmp_path: Path, shared: bool) -> None:
    (tmp_path / "a").touch()
    with locked(tmp_path / "a", shared=shared):
        assert lock_within(tmp_path / "a", 0) != fcntl.F_UNLCK
        assert lock_within(tmp_path / "a", 1 << 40) == fcntl.F_UNLCK


def test_an_output_can_be_filled_where_locks_are_enforced(tmp_path: Path) -> None:
    with new_file(tmp_path / "a") as temporary:
        assert lock_within(temporary, 0) != fcntl.F_UNLCK
        assert lock_within(temporary, 1 << 40) == fcntl.F_UNLCK


def test_where_parts_of_files_have_no_locks_all_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").touch()
    flock = fcntl.flock
    answer_locks(monkeypatch, errno.EINVAL)
    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path / "a", shared=True):
        assert is_locked(tmp_path / "a")
        assert not is_locked(tmp_path / "a", shared=True)


def test_smb_says_by_another_error_that_a_lock_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").touch()
    answer_locks(monkeypatch, errno.EACCES)
    assert is_locked(tmp_path / "a")


def test_a_folder_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught, locked(tmp_path / "nowhere"):
        pass
    assert caught.value.path == str(tmp_path / "nowhere")
    write_bytes(tmp_path / "nowhere", b"")
    with locked(tmp_path / "nowhere"):
        pass
