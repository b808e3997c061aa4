"""Locks: one at a time, or several who read; as network file systems do them, and where there are none."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from mipp_cli.errors import OutputError
from mipp_cli.files.atomic import new_file, sweep, write_bytes
from mipp_cli.files.locks import LockedError, locked
from tests.support.deployment import Deployment, done, refused

flock = fcntl.flock


def as_on_nfs(descriptor: int, operation: int) -> None:
    """Lock as Linux does on NFS: a file for oneself alone if it is open for writing."""
    access = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
    wanted = {fcntl.LOCK_EX: os.O_RDONLY, fcntl.LOCK_SH: os.O_WRONLY}
    if stat.S_ISREG(os.fstat(descriptor).st_mode) and access == wanted.get(operation & ~fcntl.LOCK_NB):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    flock(descriptor, operation)


def without_locks(number: int) -> Callable[..., None]:
    def fail(*_arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


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


@pytest.mark.parametrize("on_nfs", [False, True])
def test_two_may_read_and_nobody_else_may_write(
    place: Path, monkeypatch: pytest.MonkeyPatch, on_nfs: bool
) -> None:
    if on_nfs:
        monkeypatch.setattr(fcntl, "flock", as_on_nfs)
    with locked(place, shared=True), locked(place, shared=True, wait=False):
        assert is_locked(place)
    with locked(place, wait=False):
        assert is_locked(place, shared=True)
    assert not is_locked(place)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS])
def test_where_there_are_no_locks_a_directory_says_so(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(fcntl, "flock", without_locks(number))
    outcome = refused(10, "owner", "rotate-key", deployment / "north")
    assert f"{deployment / 'north' / 'role.json'}: cannot be locked: {os.strerror(number)}" in outcome.err
    assert "has no locks" in outcome.err


def test_where_there_are_no_locks_an_output_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", without_locks(errno.ENOLCK))
    with new_file(tmp_path / "a") as temporary:
        temporary.write_bytes(b"content")
        sweep(tmp_path)
        assert temporary.exists()
    assert (tmp_path / "a").read_bytes() == b"content"


def test_an_owner_works_on_nfs(changeable: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", as_on_nfs)
    done("owner", "revoke", changeable / "north", "alice")
    done("kmc", "enroll", changeable / "kmc", changeable / "north" / "enrolment.h5")


def test_what_killed_commands_left_is_swept_on_nfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", as_on_nfs)
    (tmp_path / ".a.0123456789ab.tmp").write_bytes(b"half")
    (tmp_path / ".b.0123456789ab.tmp").mkdir()
    sweep(tmp_path)
    assert [*tmp_path.iterdir()] == []


def test_a_folder_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught, locked(tmp_path / "nowhere"):
        pass
    assert caught.value.path == str(tmp_path / "nowhere")
    write_bytes(tmp_path / "nowhere", b"")
    with locked(tmp_path / "nowhere"):
        pass
