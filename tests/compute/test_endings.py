"""Workers end in order: when one is lost, when their parent is, and when all are interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import forkserver
from pathlib import Path

import pytest

from mipp_cli.compute.processes import Parallelism, open_workers
from mipp_cli.errors import InterruptedWorkError
from tests.compute import functions
from tests.support.process_tree import alive, descendants_of, gone, workers_of

REPOSITORY = Path(__file__).parents[2]

# The module takes its time to load, so that there is a while in which workers start.
MODULE = """
import os, time
import mipp_cli.owner.describing
def nap(number):
    time.sleep(0.05)
    return os.getpid()
"""
PROGRAM = """
import signal, sys
from naps import nap
from mipp_cli.compute.processes import Parallelism, open_workers
def main():
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        print("begun", flush=True)
        with open_workers(nap, Parallelism(2)) as workers:
            for _, pid in workers.in_order(range(10**6), under_way=4):
                print(pid, flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
if __name__ == "__main__":
    main()
"""


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start the program in a group of its own; it is about to open its workers."""
    (tmp_path / "naps.py").write_text(MODULE)
    (tmp_path / "program.py").write_text(PROGRAM)
    # what a script starts in the background ignores SIGINT; the program shall not
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    begun: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, tmp_path / "program.py"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            start_new_session=True,
        )
        begun.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        return process

    yield start
    signal.signal(signal.SIGINT, before)
    for process in begun:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_a_worker_that_is_killed_ends_the_work() -> None:
    with (
        pytest.raises(InterruptedWorkError, match="worker process was killed") as caught,
        open_workers(functions.die, Parallelism(2)) as workers,
    ):
        list(workers.in_order(range(8), under_way=4))
    assert "fewer --jobs" in str(caught.value.hint)
    with open_workers(functions.square, Parallelism(2)) as workers:
        assert list(workers.in_order([5], under_way=1)) == [(5, 25)]


def test_a_worker_may_be_killed_while_it_is_sent_its_function() -> None:
    function = partial(functions.ignore, functions.Deadly(), bytes(1 << 23))  # more than a pipe holds
    with (
        pytest.raises(InterruptedWorkError, match="worker process was killed"),
        open_workers(function, Parallelism(2)) as workers,
    ):
        list(workers.in_order(range(4), under_way=4))


def check_interrupt(process: subprocess.Popen[str], number: signal.Signals = signal.SIGINT) -> None:
    """Interrupt all, as a terminal does; the parent alone shall say what it has to say."""
    there = descendants_of(process.pid)
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")
    assert gone(there)


@pytest.mark.parametrize("count", range(5))
def test_an_interrupt_while_workers_start_is_silent(
    begin: Callable[[], subprocess.Popen[str]], count: int
) -> None:
    """There are a tracker, a server, and two workers; it comes when so many of them have begun."""
    process = begin()
    while len(descendants_of(process.pid)) < count:
        assert process.poll() is None
    check_interrupt(process)


def test_a_terminal_that_is_closed_is_no_error_of_a_child(begin: Callable[[], subprocess.Popen[str]]) -> None:
    process = begin()
    running_workers(process)
    check_interrupt(process, signal.SIGHUP)


@pytest.mark.slow
def test_an_interrupt_is_silent_at_any_moment(begin: Callable[[], subprocess.Popen[str]]) -> None:
    for number in range(24):
        process = begin()
        time.sleep(number / 30)
        check_interrupt(process)


def running_workers(process: subprocess.Popen[str]) -> set[int]:
    """Wait until two workers have done a task each."""
    assert process.stdout is not None
    found: set[int] = set()
    while len(found) < 2:
        found.add(int(process.stdout.readline()))
    assert found == set(workers_of(process.pid))
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_workers_do_not_outlive_a_parent_that_is_killed(
    begin: Callable[[], subprocess.Popen[str]], number: signal.Signals
) -> None:
    process = begin()
    running_workers(process)
    there = descendants_of(process.pid)
    assert len(there) == 4
    process.send_signal(number)
    process.wait(60)
    try:
        assert gone(there)
    finally:
        for pid in filter(alive, there):
            os.kill(pid, signal.SIGKILL)


def test_workers_started_late_do_not_outlive_their_parent(
    begin: Callable[[], subprocess.Popen[str]],
) -> None:
    process = begin()
    while len(there := descendants_of(process.pid)) < 4:
        assert process.poll() is None
    process.kill()
    assert gone(there)


@pytest.fixture
def own_server() -> Iterator[None]:
    """End the server after the test: a pool that lost its own starts one by itself, which signals reach."""
    yield
    forkserver._forkserver._stop()  # type: ignore[attr-defined]  # as Python's own tests do


@pytest.mark.usefixtures("own_server")
def test_the_server_may_be_killed_and_is_started_anew() -> None:
    with (
        pytest.raises(InterruptedWorkError, match="worker process was killed"),
        open_workers(functions.parent, Parallelism(2)) as workers,
    ):
        for _, server in workers.in_order(range(10**6), under_way=4):
            if alive(server):
                os.kill(server, signal.SIGKILL)
    with open_workers(functions.parent, Parallelism(2)) as workers:
        [(_, another)] = workers.in_order([0], under_way=1)
    assert another != server
