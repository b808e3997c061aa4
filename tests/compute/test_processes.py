"""Work in several processes: in order, bounded, and cleanly ended when a worker or the parent is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mipp_cli.compute.processes import Parallelism, default_jobs, open_executor, ordered_results
from mipp_cli.errors import InvalidRequestError, UnreadableImageError
from tests.support.deployment import Deployment, picture, refused

REPOSITORY = Path(__file__).parents[2]
JOBS = pytest.mark.parametrize("jobs", [1, 2])


def square(number: int) -> int:
    time.sleep(0.02 if number % 3 == 0 else 0)  # so that later tasks are done before earlier ones
    return number * number


def process(_: int) -> int:
    return os.getpid()


def fail(number: int) -> int:
    raise UnreadableImageError(f"task {number}", path="x.png", hint="try")


def die(_: object, **__: object) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def gone(pids: list[int]) -> bool:
    """Wait until processes have ended; the wait is bounded so that a test cannot hang."""
    for _ in range(1000):
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


@JOBS
def test_results_come_in_the_order_of_tasks(jobs: int) -> None:
    with open_executor(Parallelism(jobs)) as (executor, _):
        found = list(ordered_results(executor, square, range(30), under_way=4))
    assert found == [(number, number * number) for number in range(30)]


@JOBS
def test_only_so_many_tasks_are_taken_ahead(jobs: int) -> None:
    taken = 0

    def tasks() -> Iterator[int]:
        nonlocal taken
        for number in range(20):
            taken += 1
            yield number

    with open_executor(Parallelism(jobs)) as (executor, _):
        for done, _result in enumerate(ordered_results(executor, square, tasks(), under_way=3)):
            assert taken <= done + 3


def test_with_one_job_the_work_is_done_here() -> None:
    with open_executor(Parallelism(1)) as (executor, count):
        assert count == 1
        assert [result for _, result in ordered_results(executor, process, range(3), under_way=2)] == [
            os.getpid()
        ] * 3


def test_with_two_jobs_other_processes_do_the_work() -> None:
    with open_executor(Parallelism(2)) as (executor, count):
        assert count == 2
        pids = {result for _, result in ordered_results(executor, process, range(8), under_way=4)}
    assert os.getpid() not in pids
    assert gone(list(pids))


def test_unless_told_there_is_a_job_for_each_processor() -> None:
    assert default_jobs() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("jobs", [0, -1])
def test_less_than_one_job_is_refused(jobs: int) -> None:
    with pytest.raises(InvalidRequestError, match="at least one job"):
        Parallelism(jobs)


@JOBS
def test_an_error_in_a_task_comes_out_as_it_was(jobs: int) -> None:
    with (
        pytest.raises(UnreadableImageError, match="task 0") as caught,
        open_executor(Parallelism(jobs)) as (executor, _),
    ):
        list(ordered_results(executor, fail, range(5), under_way=2))
    assert (caught.value.path, caught.value.hint) == ("x.png", "try")


def test_a_worker_that_is_killed_ends_the_run_with_one_message(
    changeable: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        picture(number).save(tmp_path / f"{number}.png")
    monkeypatch.setattr("mipp_cli.owner.describing.describe_and_encrypt", die)
    upload = changeable / "u.h5"
    outcome = refused(130, "owner", "encrypt", changeable / "north", tmp_path, "-o", upload, "--jobs", 2)
    assert "a worker process was ended from outside" in outcome.err
    assert "fewer --jobs" in outcome.err
    assert not upload.exists()
    assert not list(changeable.root.rglob("*.tmp"))


SLEEPER = """
import sys, time, os
sys.path.insert(0, sys.argv[1])
from mipp_cli.compute.processes import Parallelism, open_executor, ordered_results
def nap(number):
    time.sleep(0.05)
    return os.getpid()
with open_executor(Parallelism(2)) as (executor, _):
    for _, pid in ordered_results(executor, nap, range(10**6), under_way=4):
        print(pid, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_workers_do_not_outlive_a_parent_that_is_killed(number: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, str(REPOSITORY)], stdout=subprocess.PIPE, text=True
    )
    with parent:
        try:
            assert parent.stdout is not None
            workers: set[int] = set()
            while len(workers) < 2:
                workers.add(int(parent.stdout.readline()))
            assert all(alive(pid) for pid in workers)
            parent.send_signal(number)
            parent.wait(60)
        finally:
            parent.kill()
    try:
        assert gone(list(workers))
    finally:
        for pid in filter(alive, workers):
            os.kill(pid, signal.SIGKILL)
