"""Workers that cannot be started: nothing is begun, and the way without them is told."""

from __future__ import annotations

import _multiprocessing
import errno
import os
import threading

import pytest

from mipp_cli.compute.processes import Parallelism, open_workers
from mipp_cli.errors import InterruptedWorkError

TWO = Parallelism(jobs=2)


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


def print_aloud(text: str) -> str:
    os.write(2, text.encode())
    return text
