"""What a command needs of the system around it: streams, memory, threads, processes, files that are open."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.test_processes import MIPP, environment, mipp
from tests.support.deployment import Deployment, check_refusal, done, refused


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_no_file_takes_the_place_of_a_closed_stream(changeable: Deployment, closed: tuple[int, ...]) -> None:
    output = changeable.root / "again.h5"
    words = ["owner", "encrypt", changeable / "north", changeable / "pictures" / "north", "-o", output]
    shell = " ".join(["exec", '"$@"', *(f"{number}>&-" for number in closed)])
    command = ["sh", "-c", shell, "sh", *MIPP, *map(str, words), "--again", "--jobs", "2"]
    ran = subprocess.run(command, capture_output=True, check=False, env=environment(), timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert output.read_bytes().startswith(b"mipp 2\n")
    done("inspect", output)


@pytest.mark.parametrize("words", [("inspect",), ("inspect", "--json"), ("owner", "list", "--csv")])
def test_standard_output_that_is_full_is_named(deployment: Deployment, words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [*MIPP, *words, deployment / "north"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=environment(),
        )
    assert ran.returncode == 10
    assert ran.stderr.startswith("error: standard output: No space left on device\nhint: ")
    assert ran.stderr.count("\n") == 2


@pytest.mark.parametrize("words", [(), ("--json",)], ids=str)
def test_an_error_that_nobody_can_read_keeps_its_code(tmp_path: Path, words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [*MIPP, "inspect", tmp_path / "nothing", *words],
            stdout=full,
            stderr=full,
            check=False,
            env=environment(),
        )
    assert ran.returncode == 2


def raising(error: Exception) -> Callable[..., None]:
    def fail(*_arguments: object, **_options: object) -> None:
        raise error

    return fail


def test_memory_that_is_short_is_said(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_bytes", raising(MemoryError()))
    outcome = refused(130, "inspect", deployment / "north")
    assert "there is not enough memory" in outcome.err


LIMITED = """
import resource, sys
import mipp_cli.cli.owner_encrypt, mipp_cli.owner.encrypt, mipp_cli.cli.main
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + (1 << 26)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
mipp_cli.cli.main.mipp.main(sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="how much memory a process has is read from /proc")
def test_a_command_without_memory_leaves_nothing(changeable: Deployment) -> None:
    large, output = changeable / "large.png", changeable / "again.h5"
    Image.new("L", (11_000, 11_000)).save(large, compress_level=1)  # more than the limit leaves
    words = ["owner", "encrypt", changeable / "north", large, "-o", output, "--small"]
    command = [sys.executable, "-c", LIMITED, *map(str, words), "--jobs", "1"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    assert ran.returncode == 7, ran.stderr
    assert "there is not enough memory to decode the picture" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not output.exists()


def few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def fewer_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))


def test_more_files_may_be_open_than_at_the_beginning(changeable: Deployment) -> None:
    output = changeable.root / "again.h5"
    words = ["owner", "encrypt", changeable / "north", changeable / "pictures" / "north", "-o", output]
    outcome = mipp(*words, "--again", "--jobs", "2", preexec_fn=few_files)
    assert outcome.code == 0, outcome.err


def test_too_many_open_files_are_an_error(changeable: Deployment) -> None:
    output = changeable.root / "again.h5"
    words = ["owner", "encrypt", changeable / "north", changeable / "pictures" / "north", "-o", output]
    outcome = mipp(*words, "--again", "--jobs", "2", preexec_fn=fewer_files)
    check_refusal(outcome, outcome.code)
    assert "Too many open files" in outcome.err
    assert "ulimit -n" in outcome.err
    assert not output.exists()
