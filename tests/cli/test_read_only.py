"""Commands that only read, where nothing can be written: a mounted backup, or an archive."""

from __future__ import annotations

import subprocess

import pytest

from tests.cli.test_processes import MIPP, environment
from tests.support.deployment import Deployment

SCRIPT = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && cd "$0" && exec "$@"'
APART = ("unshare", "--map-root-user", "--mount")


@pytest.fixture(scope="module")
def mounts() -> None:
    try:
        can = subprocess.run([*APART, "mount", "--bind", "/tmp", "/tmp"], capture_output=True, check=False)
    except OSError:
        pytest.skip("there is no unshare here")
    if can.returncode:
        pytest.skip("nothing can be mounted here")


def read_only(there: Deployment, *words: object) -> subprocess.CompletedProcess[str]:
    command = [*APART, "sh", "-c", SCRIPT, there.root, *MIPP, *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment(), timeout=120
    )


@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize(
    "words",
    [
        *(("inspect", role) for role in ("kmc", "cloud", "north", "alice", "cloud/index.h5")),
        *(("owner", "list", "north"), ("owner", "encrypt", "north", "pictures/north", "--dry-run")),
        *(("cloud", "check", "cloud"), ("kmc", "check", "kmc"), ("kmc", "status", "kmc")),
    ],
    ids=" ".join,
)
def test_what_only_reads_works_on_a_read_only_mount(any_scheme: Deployment, words: tuple[str, ...]) -> None:
    ran = read_only(any_scheme, *words)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout


@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize(
    "words",
    [
        ("owner", "rotate-key", "north"),
        ("kmc", "rotate-key", "kmc"),
        ("cloud", "index", "cloud", "--rebuild"),
    ],
    ids=" ".join,
)
def test_what_writes_names_the_file_and_the_reason(any_scheme: Deployment, words: tuple[str, ...]) -> None:
    ran = read_only(any_scheme, *words)
    assert ran.returncode == 10
    assert f"error: {words[2]}/role.json: cannot be written: Read-only file system\n" in ran.stderr
