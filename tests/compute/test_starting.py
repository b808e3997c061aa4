"""Workers that cannot be started: nothing is begun, and the way without them is told."""

from __future__ import annotations

import _multiprocessing
import errno
import multiprocessing.synchronize  # noqa: F401 -- not while a test has replaced what it needs
import os
import subprocess
import sys
import threading
from multiprocessing import forkserver
from pathlib import Path

import pytest

from mipp_cli.compute.processes import Parallelism, open_workers, start_early
from mipp_cli.errors import InterruptedWorkError

TWO = Parallelism(jobs=2)
REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("most", range(8))
def test_processes_that_may_not_be_started_are_an_error(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    start, begun = threading.Thread.start, []

    def limited(thread: threading.Thread) -> None:
        if len(begun) >= most:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    with pytest.raises(InterruptedWorkError, match="cannot be started") as caught, open_workers(abs, TWO):
        pass
    assert "--jobs 1" in str(caught.value.hint)
    assert not any(thread.is_alive() for thread in begun)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EROFS, errno.ENOENT])
def test_without_shared_memory_one_job_is_the_way(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(_multiprocessing, "SemLock", fail)
    with pytest.raises(InterruptedWorkError, match=os.strerror(number)) as caught, open_workers(abs, TWO):
        pass
    assert "--jobs 1" in str(caught.value.hint)
    with open_workers(abs, Parallelism(jobs=1)) as workers:
        assert workers.begin(-1)() == 1


def test_what_workers_print_is_not_shown(capfd: pytest.CaptureFixture[str]) -> None:
    with open_workers(print_aloud, TWO) as workers:
        assert workers.begin("said")() == "said"
    assert capfd.readouterr().err == ""
    os.write(2, b"shown")
    assert capfd.readouterr().err == "shown"


@pytest.mark.parametrize("early", ["", "start_early('tests.compute.functions', Parallelism(2))"])
def test_workers_share_what_their_parent_imported(early: str) -> None:
    script = f"""
from mipp_cli.compute.processes import Parallelism, open_workers, start_early
from tests.compute.functions import importer
{early}
with open_workers({"abs" if early else "importer"}, Parallelism(2)) as workers:
    pass
with open_workers(importer, Parallelism(2)) as workers:
    print(*workers.begin(0)())
"""
    command, environment = [sys.executable, "-c", script], os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    imported_by, parent = done.stdout.split()
    assert imported_by == parent


def test_a_server_that_cannot_start_early_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(forkserver, "ensure_running", fail)
    start_early("tests.compute.functions", TWO)
    with pytest.raises(InterruptedWorkError, match="cannot be started"), open_workers(abs, TWO):
        pass


def print_aloud(text: str) -> str:
    os.write(2, text.encode())
    return text
