"""The harness itself: it counts every write, breaks off where it is told, and sees what is wrong then."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from mipp_cli.files import atomic
from tests.faults.commands import COMMANDS
from tests.faults.injection import Boundary, Injector
from tests.faults.process import in_child
from tests.faults.store import make_store
from tests.faults.trial import Bench

pytestmark = pytest.mark.slow


def recorded(action: Callable[[], object], fault: str | None = None, at: int = 0) -> list[Boundary] | None:
    """Return the boundaries that an action comes to; None if it is killed there."""

    def child() -> list[Boundary]:
        injector = Injector(fault, at)
        injector.install()
        action()
        return injector.boundaries

    found = in_child(child)
    assert found is None or isinstance(found, list), found
    return found


def write_in_every_way(folder: Path) -> None:
    (folder / "a").write_bytes(b"content")
    with (folder / "b").open("w") as text:
        text.write("content")
    with tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, 10)
    (folder / "c").mkdir()
    (folder / "a").rename(folder / "c" / "a")
    descriptor = os.open(folder / "d", os.O_RDWR | os.O_CREAT)
    os.pwrite(descriptor, b"content", 5)
    os.ftruncate(descriptor, 3)
    os.fsync(descriptor)
    os.close(descriptor)
    shutil.rmtree(folder / "c")
    (folder / "d").unlink()


def test_every_way_to_change_a_file_is_a_boundary(tmp_path: Path) -> None:
    found = recorded(lambda: write_in_every_way(tmp_path))
    assert found is not None
    calls = ["create", "write", "create", "write", "open", "posix_fallocate", "mkdir", "rename"]
    assert [each.call for each in found] == [
        *calls,
        *("create", "pwrite", "ftruncate", "fsync", "unlink", "rmdir", "unlink"),
    ]


def test_a_command_is_killed_before_the_boundary(tmp_path: Path) -> None:
    assert recorded(lambda: (tmp_path / "a").write_bytes(b"content"), "kill", 1) is None
    assert list(tmp_path.iterdir()) == []
    assert recorded(lambda: (tmp_path / "a").write_bytes(b"content"), "kill", 2) is None
    assert (tmp_path / "a").read_bytes() == b""


def test_a_torn_write_is_half_there(tmp_path: Path) -> None:
    assert recorded(lambda: (tmp_path / "a").write_bytes(b"content."), "torn", 2) is None
    assert (tmp_path / "a").read_bytes() == b"cont"


@pytest.mark.parametrize("synced", [False, True])
def test_a_power_cut_takes_what_was_not_synced(tmp_path: Path, synced: bool) -> None:
    def action() -> None:
        with (tmp_path / "a").open("wb", buffering=0) as file:
            file.write(b"content")
            if synced:
                os.fsync(file.fileno())
        (tmp_path / "b").touch()
        (tmp_path / "c").mkdir()

    assert recorded(action, "power", 4 + synced) is None
    assert (tmp_path / "a").read_bytes() == (b"content" if synced else b"")


def survived(action: Callable[[], object]) -> bool:
    try:
        action()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("fault", "survivors"),
    [
        ("full", [False, False, True]),  # a full disk takes nothing more, and lets go of what it has
        ("read-only", [False, False, False]),
        ("error", [False, True, True]),
    ],
)
def test_a_disk_stays_full_or_read_only_and_an_error_passes(
    tmp_path: Path, fault: str, survivors: list[bool]
) -> None:
    (tmp_path / "old").touch()
    steps = [(tmp_path / "a").mkdir, (tmp_path / "b").mkdir, (tmp_path / "old").unlink]

    def child() -> list[bool]:
        Injector(fault, 1).install()
        return [survived(step) for step in steps]

    assert in_child(child) == survivors


TRACED = """
import os, sys
from pathlib import Path
from tests.support.deployment import run
from tests.faults.injection import Injector
from tests.faults.commands import COMMANDS
from tests.support.deployment import Deployment
command = next(command for command in COMMANDS if command.name == sys.argv[2])
words = command.words(Deployment(Path(sys.argv[1]), "mask"))
injector = Injector()
injector.install()
os.path.exists(sys.argv[1] + "/begin")
outcome = run(*words)
os.path.exists(sys.argv[1] + "/end")
print(outcome.code, *(boundary.call for boundary in injector.boundaries))
"""
# what a boundary is called, and the system calls that it is made of
KINDS = {
    "create": "open",
    "open": "open",
    "write": "write",
    "pwrite": "write",
    "pwrite64": "write",
    "writev": "write",
    "pwritev": "write",
    "openat": "open",
    "truncate": "truncate",
    "ftruncate": "truncate",
    "fsync": "sync",
    "fdatasync": "sync",
    "rename": "rename",
    "replace": "rename",
    "renameat": "rename",
    "renameat2": "rename",
    "unlink": "remove",
    "unlinkat": "remove",
    "rmdir": "remove",
    "mkdir": "mkdir",
    "mkdirat": "mkdir",
    "link": "link",
    "linkat": "link",
    "symlink": "symlink",
    "posix_fallocate": "allocate",
    "fallocate": "allocate",
    "copy_file_range": "write",
    "sendfile": "write",
}


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("name", ["owner encrypt", "cloud index (delete)", "user decrypt"])
def test_no_system_call_that_writes_escapes_the_count(tmp_path: Path, name: str) -> None:
    command = COMMANDS[by_name(name)]
    store = make_store(tmp_path / "store")
    command.prepare(store)
    log = tmp_path / "log"
    ran = subprocess.run(
        ["strace", "-f", "-y", "-s", "0", "-o", log, sys.executable, "-c", TRACED, store.root, name],
        capture_output=True,
        text=True,
        check=True,
    )
    code, *counted = ran.stdout.split()
    assert code == "0"
    assert Counter(KINDS[call] for call in counted) == traced(log.read_text(), store.root)


def traced(log: str, root: Path) -> Counter[str]:
    """Return how many system calls of each kind changed something below ``root`` in the time that counts."""
    found: Counter[str] = Counter()
    between = log[log.index(f"{root}/begin") : log.rindex(f"{root}/end")]
    for line in between.splitlines():
        call = re.match(r"[0-9]+ +([a-z0-9_]+)\(", line)
        if call is None or call[1] not in KINDS or str(root) not in line:
            continue
        reads_only = call[1] == "openat" and not re.search(r"O_(WRONLY|RDWR|CREAT|TRUNC)", line)
        is_there = call[1].startswith("mkdir") and "EEXIST" in line
        if not reads_only and not is_there:
            found[KINDS[call[1]]] += 1
    return found


def by_name(name: str) -> int:
    return next(number for number, command in enumerate(COMMANDS) if command.name == name)


def test_a_file_that_is_written_in_place_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mipp_cli.files import json_state as state_files

    def in_place(path: Path, data: bytes, **_options: object) -> None:
        path.write_bytes(data)

    monkeypatch.setattr(state_files, "write_bytes", in_place)
    bench = Bench(COMMANDS[by_name("owner revoke")], make_store(tmp_path / "store"), tmp_path)
    found = [bench.problems(trial) for trial in bench.trials() if trial.fault == "torn" and trial.at < 5]
    assert any("damaged" in problem for problems in found for problem in problems)


def test_a_missing_sync_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "sync", lambda path: None)
    bench = Bench(COMMANDS[by_name("owner revoke")], make_store(tmp_path / "store"), tmp_path)
    assert any(bench.problems(trial) for trial in bench.trials() if trial.fault == "power")
