"""An output appears whole or not at all; what was there before stays until then."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mipp_cli.errors import MalformedError, OutputError
from mipp_cli.files.atomic import (
    discard,
    new_file,
    new_folder,
    refuse_existing,
    remove,
    sweep,
    unchanged_on_failure,
    write_bytes,
)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_bytes_written_are_the_bytes_there(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"content")
    assert (tmp_path / "a").read_bytes() == b"content"


def test_an_existing_output_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="exists") as caught:
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert caught.value.path == str(path)


def test_force_replaces_an_existing_output(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    write_bytes(path, b"new", force=True)
    assert path.read_bytes() == b"new"


def test_force_replaces_the_file_and_does_not_write_into_it(tmp_path: Path) -> None:
    path, other_name = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"old")
    other_name.hardlink_to(path)
    write_bytes(path, b"new", force=True)
    assert other_name.read_bytes() == b"old"


@pytest.mark.parametrize("force", [False, True])
def test_a_failing_block_leaves_the_folder_unchanged(tmp_path: Path, force: bool) -> None:
    path = tmp_path / "a"
    if force:
        path.write_bytes(b"old")
    before = names_in(tmp_path)
    with pytest.raises(MalformedError), new_file(path, force=force) as temporary:
        temporary.write_bytes(b"half of the new")
        raise MalformedError("the input is bad")
    assert names_in(tmp_path) == before
    assert not force or path.read_bytes() == b"old"


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, MemoryError, RuntimeError])
def test_an_interrupted_block_leaves_nothing(tmp_path: Path, interruption: type[BaseException]) -> None:
    with pytest.raises(interruption), new_file(tmp_path / "a"):
        raise interruption
    assert names_in(tmp_path) == []


def test_the_output_is_not_there_before_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with new_file(path) as temporary:
        temporary.write_bytes(b"new")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert names_in(tmp_path) == ["a"]


def test_an_output_that_came_up_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with pytest.raises(OutputError, match="exists"), new_file(path) as temporary:
        temporary.write_bytes(b"mine")
        path.write_bytes(b"another's")
    assert path.read_bytes() == b"another's"
    assert names_in(tmp_path) == ["a"]


def test_content_is_synced_before_the_rename_and_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    fsync, replace = os.fsync, Path.replace

    def recorded_fsync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "content")
        fsync(descriptor)

    def recorded_replace(self: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(Path, "replace", recorded_replace)
    write_bytes(tmp_path / "a", b"content")
    assert steps == ["content", "rename", "folder"]


@pytest.mark.parametrize("target", ["kept", "nowhere"])
def test_a_link_at_the_output_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "kept").write_bytes(b"old")
    path = tmp_path / "a"
    path.symlink_to(tmp_path / target)
    with pytest.raises(OutputError, match="exists"):
        write_bytes(path, b"new")
    assert names_in(tmp_path) == ["a", "kept"]


@pytest.mark.parametrize("target", ["kept", "nowhere"])
def test_force_replaces_a_link_and_not_what_it_points_to(tmp_path: Path, target: str) -> None:
    (tmp_path / "kept").write_bytes(b"old")
    path = tmp_path / "a"
    path.symlink_to(tmp_path / target)
    write_bytes(path, b"new", force=True)
    assert not path.is_symlink()
    assert path.read_bytes() == b"new"
    assert (tmp_path / "kept").read_bytes() == b"old"
    assert names_in(tmp_path) == ["a", "kept"]


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_at_the_output_is_refused(tmp_path: Path, force: bool) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="folder"):
        write_bytes(tmp_path / "folder", b"new", force=force)
    assert names_in(tmp_path) == ["folder"]


@pytest.mark.parametrize("force", [False, True])
def test_a_link_to_a_folder_at_the_output_is_refused(tmp_path: Path, force: bool) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "a").symlink_to(tmp_path / "folder")
    with pytest.raises(OutputError, match="folder"):
        write_bytes(tmp_path / "a", b"new", force=force)
    assert names_in(tmp_path / "folder") == []


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


@pytest.mark.parametrize("make", [os.mkfifo, make_socket])
@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_regular_file_is_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], linked: bool, force: bool
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path may be short alone
    path = special = Path("special")
    make(special)
    if linked:
        path = Path("a")
        path.symlink_to(special)
    before, kind = names_in(tmp_path), special.lstat().st_mode
    with pytest.raises(OutputError, match="is not a regular file, and is not replaced"):
        write_bytes(path, b"new", force=force)
    assert names_in(tmp_path) == before
    assert special.lstat().st_mode == kind


@pytest.mark.parametrize("force", [False, True])
def test_a_device_is_never_replaced(force: bool) -> None:
    with pytest.raises(OutputError, match="is not a regular file, and is not replaced"):
        refuse_existing(Path("/dev/null"), force=force)


@pytest.mark.parametrize("place", ["missing/a", "missing/deeper/a", "file/a", "n" * 300, "n" * 300 + "/a"])
@pytest.mark.parametrize("force", [False, True])
def test_a_place_that_cannot_be_is_an_output_error(tmp_path: Path, place: str, force: bool) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(OutputError) as caught:
        write_bytes(tmp_path / place, b"new", force=force)
    assert caught.value.path == str(tmp_path / place)
    assert caught.value.hint
    assert names_in(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["n" * 255, "é" * 127, "€" * 85, "\N{GRINNING FACE}" * 63])
def test_the_longest_names_can_be_written(tmp_path: Path, name: str) -> None:
    write_bytes(tmp_path / name, b"content")
    assert names_in(tmp_path) == [name]


def failing(number: int) -> Callable[..., int]:
    def call(*_arguments: object, **_options: object) -> int:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "no space"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only: mount it for writing"),
        (errno.EINVAL, "may not accept this name"),
        (errno.EACCES, "may not write"),
        (errno.EPERM, "may not write"),
        (errno.EIO, "the disk or the server failed"),
    ],
)
@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
def test_every_failing_step_is_an_output_error_with_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, hint: str, step: str
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    monkeypatch.setattr(Path if step == "replace" else os, step, failing(number))
    with pytest.raises(OutputError, match=os.strerror(number)) as caught:
        write_bytes(path, b"new", force=True)
    monkeypatch.undo()
    assert hint in str(caught.value.hint)
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["a"]


def test_a_folder_that_may_not_be_searched_is_an_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "stat", failing(errno.EACCES))
    monkeypatch.setattr(Path, "is_dir", failing(errno.EACCES))
    with pytest.raises(OutputError, match="Permission denied"):
        refuse_existing(tmp_path / "a", force=False)


def test_a_full_disk_inside_the_block_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No space left"), new_file(tmp_path / "a") as temporary:
        temporary.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert names_in(tmp_path) == []


WRITE_UNDER_A_LIMIT = """
import resource, sys
from pathlib import Path
from mipp_cli.files.atomic import write_bytes
from mipp_cli.errors import OutputError
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_bytes(Path(sys.argv[1]), bytes(10_000), force=True)
except OutputError as error:
    print(error)
"""


def test_a_file_over_the_systems_size_limit_is_an_output_error(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    command = [sys.executable, "-c", WRITE_UNDER_A_LIMIT, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "cannot be written: File too large\n"
    assert done.stderr == ""
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["a"]


def mode_under_umask(path: Path, umask: int, *, private: bool) -> int:
    before = os.umask(umask)
    try:
        write_bytes(path, b"content", private=private)
    finally:
        os.umask(before)
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_a_private_file_is_readable_by_its_owner_alone(tmp_path: Path, umask: int) -> None:
    assert mode_under_umask(tmp_path / "a", umask, private=True) == 0o600


@pytest.mark.parametrize(
    ("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o027, 0o640), (0o002, 0o644), (0, 0o644)]
)
def test_others_may_read_as_the_umask_says_but_never_write(tmp_path: Path, umask: int, mode: int) -> None:
    assert mode_under_umask(tmp_path / "a", umask, private=False) == mode


def test_a_private_file_is_private_while_it_is_written(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with new_file(tmp_path / "a", private=True) as temporary:
            assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_force_with_private_takes_the_rights_of_others_away(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o666)
    write_bytes(path, b"new", force=True, private=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_cannot_be_deleted_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OutputError, match="cannot be deleted: Is a directory") as caught:
        remove(tmp_path / "a")
    assert (caught.value.path, caught.value.hint) == (str(tmp_path / "a"), "run the command again")


@pytest.mark.parametrize("existed", [False, True])
def test_a_file_whose_place_cannot_be_synced_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existed: bool
) -> None:
    path = tmp_path / "a"
    if existed:
        path.write_bytes(b"old")
    fsync = os.fsync

    def fails_for_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fails_for_folders)
    with pytest.raises(OutputError, match="cannot be written"):
        write_bytes(path, b"new", force=True)
    assert names_in(tmp_path) == (["a"] if existed else [])
    assert not existed or path.read_bytes() == b"old"


def test_if_one_file_fails_all_files_are_restored(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(b"before")
    with pytest.raises(KeyError), unchanged_on_failure(old, new):
        write_bytes(old, b"after", force=True)
        write_bytes(new, b"after")
        raise KeyError
    assert names_in(tmp_path) == ["old"]
    assert old.read_bytes() == b"before"


def test_files_that_belong_together_stay_changed_if_all_is_well(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(b"before")
    with unchanged_on_failure(old, new):
        write_bytes(old, b"after", force=True)
        write_bytes(new, b"after")
    assert names_in(tmp_path) == ["new", "old"]
    assert old.read_bytes() == new.read_bytes() == b"after"


NO_LINKS = [
    *(errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS),
    *(errno.EMLINK, errno.EXDEV, errno.EINVAL),
]


@pytest.mark.parametrize("number", NO_LINKS)
def test_a_file_is_written_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(os, "link", failing(number))
    write_bytes(tmp_path / "a", b"new", force=True)
    assert (tmp_path / "a").read_bytes() == b"new"
    assert names_in(tmp_path) == ["a"]


def test_a_file_without_hard_links_is_restored_with_its_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    write_bytes(path, b"before", private=True)
    monkeypatch.setattr(os, "link", failing(errno.ENOSYS))
    with pytest.raises(KeyError), unchanged_on_failure(path):
        assert {stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()} == {0o600}
        write_bytes(path, b"after", force=True)
        raise KeyError
    assert path.read_bytes() == b"before"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names_in(tmp_path) == ["a"]


def test_a_file_is_restored_where_one_of_two_names_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, opened, open_itself = tmp_path / "a", list[str](), Path.open
    write_bytes(path, b"before")

    def as_on_smb(self: Path, mode: str = "r") -> object:
        if self.exists() and self.stat().st_nlink > 1:
            opened.append(self.name)
            if self.name != opened[0]:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return open_itself(self, mode)

    monkeypatch.setattr(Path, "open", as_on_smb)
    with pytest.raises(KeyError), unchanged_on_failure(path):
        assert path.stat().st_nlink == 1
        write_bytes(path, b"after", force=True)
        raise KeyError
    assert opened
    assert path.read_bytes() == b"before"
    assert names_in(tmp_path) == ["a"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.ENOSYS, errno.EACCES])
def test_a_folder_that_cannot_be_synced_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fsync = os.fsync

    def fails_for_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fails_for_folders)
    write_bytes(tmp_path / "a", b"content")
    with new_folder(tmp_path / "b"):
        pass
    assert names_in(tmp_path) == ["a", "b"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EBADF, errno.ENOTSUP])
def test_a_file_that_cannot_be_synced_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "fsync", failing(number))
    with pytest.raises(OutputError, match="cannot be written"):
        write_bytes(tmp_path / "a", b"content")
    assert names_in(tmp_path) == []


def test_a_file_that_cannot_be_written_has_its_final_name(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught, new_folder(tmp_path / "a") as folder:
        write_bytes(folder / "missing" / "b", b"content")
    assert caught.value.path == str(tmp_path / "a" / "missing" / "b")
    assert names_in(tmp_path) == []


def leave_behind(folder: Path, name: str) -> None:
    """Make what a killed command leaves of a file and of a folder."""
    (folder / f".{name}.0123456789ab.tmp").write_bytes(b"half")
    (folder / f".{name}.ba9876543210.tmp").mkdir()
    (folder / f".{name}.ba9876543210.tmp" / "inner").write_bytes(b"half")


def test_only_leftovers_of_killed_commands_are_swept(tmp_path: Path) -> None:
    leave_behind(tmp_path, "a")
    (tmp_path / ".nfs00000000000006a100000001").write_bytes(b"removed while open")
    (tmp_path / ".fuse_hidden0000006a0000000c").write_bytes(b"removed while open")
    others = [".nfs", ".fuse_hidden", ".a.tmp", "a.0123456789ab.tmp", ".a.0123456789AB.tmp", ".hidden", "b"]
    for name in others:
        (tmp_path / name).write_bytes(b"another's")
    sweep(tmp_path)
    assert names_in(tmp_path) == sorted(others)


def test_a_sweep_can_be_limited_to_one_file(tmp_path: Path) -> None:
    leave_behind(tmp_path, "a")
    leave_behind(tmp_path, "ab")
    sweep(tmp_path, "a")
    assert names_in(tmp_path) == [".ab.0123456789ab.tmp", ".ab.ba9876543210.tmp"]


def test_what_is_being_written_is_not_swept(tmp_path: Path) -> None:
    with new_file(tmp_path / "a") as file, new_folder(tmp_path / "b") as folder:
        file.write_bytes(b"content")
        sweep(tmp_path)
        assert folder.is_dir()
    assert names_in(tmp_path) == ["a", "b"]
    assert (tmp_path / "a").read_bytes() == b"content"


def test_a_file_that_is_swept_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, swept = fcntl.fcntl, []

    def swept_first(descriptor: int, command: int, argument: bytes) -> object:
        if not swept:
            swept.extend(tmp_path.iterdir())
            swept[0].unlink()
        return lock(descriptor, command, argument)

    monkeypatch.setattr(fcntl, "fcntl", swept_first)
    write_bytes(tmp_path / "a", b"content")
    assert (tmp_path / "a").read_bytes() == b"content"
    assert names_in(tmp_path) == ["a"]


def test_a_folder_that_is_not_there_is_swept_without_complaint(tmp_path: Path) -> None:
    sweep(tmp_path / "nowhere")


def test_what_cannot_be_taken_back_hides_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for name in ("file", "gone", "."):  # a folder is what nobody can unlink, root neither
        discard(tmp_path / name)
    assert names_in(tmp_path) == []
