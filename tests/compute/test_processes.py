"""Work in processes and threads: in order, bounded, and the function sent once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mipp_cli.compute.cores import all_cores, cores_of_this_worker
from mipp_cli.compute.processes import Parallelism, open_workers
from mipp_cli.errors import InvalidRequestError, UnreadableImageError
from tests.compute import functions
from tests.support.process_tree import gone

REPOSITORY = Path(__file__).parents[2]
PLACES = pytest.mark.parametrize(
    "place",
    [Parallelism(1), Parallelism(2), Parallelism(2, threads=True)],
    ids=["here", "processes", "threads"],
)


@PLACES
def test_results_come_in_the_order_of_tasks(place: Parallelism) -> None:
    with open_workers(functions.square, place) as workers:
        found = list(workers.in_order(range(30), under_way=4))
    assert found == [(number, number * number) for number in range(30)]


@PLACES
def test_only_so_many_tasks_are_taken_ahead(place: Parallelism) -> None:
    taken = 0

    def tasks() -> Iterator[int]:
        nonlocal taken
        for number in range(20):
            taken += 1
            yield number

    with open_workers(functions.square, place) as workers:
        for done, _result in enumerate(workers.in_order(tasks(), under_way=3)):
            assert taken <= done + 3


@PLACES
def test_an_error_in_a_task_comes_out_as_it_was(place: Parallelism) -> None:
    with (
        pytest.raises(UnreadableImageError, match="task 0") as caught,
        open_workers(functions.fail, place) as workers,
    ):
        list(workers.in_order(range(5), under_way=2))
    assert (caught.value.path, caught.value.hint) == ("x.png", "try")


@PLACES
def test_a_function_works_at_one_place_after_another(place: Parallelism) -> None:
    for _ in range(2):
        with open_workers(functions.square, place) as workers:
            assert [result for _, result in workers.in_order([3], under_way=1)] == [9]


def test_with_one_job_the_work_is_done_here() -> None:
    with open_workers(functions.process, Parallelism(1)) as workers:
        assert workers.count == 1
        assert {result for _, result in workers.in_order(range(3), under_way=2)} == {os.getpid()}


def test_with_two_jobs_other_processes_do_the_work() -> None:
    with open_workers(functions.process, Parallelism(2)) as workers:
        assert workers.count == 2
        pids = {result for _, result in workers.in_order(range(8), under_way=4)}
    assert os.getpid() not in pids
    assert gone(pids)


def test_no_more_processes_start_than_there_are_tasks(tmp_path: Path) -> None:
    heavy = functions.Heavy(tmp_path / "log")
    with open_workers(heavy, Parallelism(8)) as workers:
        assert len(list(workers.in_order(range(2), under_way=16))) == 2
    assert 1 <= len(heavy.unpickled()) <= 2


def test_each_process_is_sent_the_function_once(tmp_path: Path) -> None:
    heavy = functions.Heavy(tmp_path / "log")
    with open_workers(heavy, Parallelism(2)) as workers:
        found = {result for _, result in workers.in_order(range(40), under_way=4)}
    assert sorted(heavy.unpickled()) == sorted(pid for pid, _ in found)


def test_threads_share_the_one_function(tmp_path: Path) -> None:
    heavy = functions.Heavy(tmp_path / "log")
    with open_workers(heavy, Parallelism(2, threads=True)) as workers:
        assert workers.count == 2
        assert {result for _, result in workers.in_order(range(8), 4)} == {(os.getpid(), id(heavy))}
    assert heavy.unpickled() == []


def test_threads_work_beside_each_other_and_end() -> None:
    with open_workers(functions.thread, Parallelism(2, threads=True)) as workers:
        threads = {result for _, result in workers.in_order(range(20), under_way=4)}
    assert len(threads) == 2
    assert not threads & {thread.ident for thread in threading.enumerate()}


def test_unless_told_there_is_a_job_for_each_core() -> None:
    assert Parallelism().count == all_cores() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("jobs", [0, -1])
def test_less_than_one_job_is_refused(jobs: int) -> None:
    with pytest.raises(InvalidRequestError, match="at least one job"):
        Parallelism(jobs)


def test_jobs_are_bounded_but_those_of_a_cluster() -> None:
    assert [Parallelism(4).at_most(bound).count for bound in (0, 1, 3, 9)] == [1, 1, 3, 4]
    assert Parallelism(4, threads=True).at_most(2) == Parallelism(2, threads=True)
    cluster = Parallelism(scheduler="tls://cluster.example:8786")
    assert cluster.at_most(1) is cluster


@pytest.mark.parametrize("threads", [False, True], ids=["processes", "threads"])
def test_workers_share_the_cores(*, threads: bool) -> None:
    for jobs in (2, 4 * all_cores()):
        with open_workers(functions.cores, Parallelism(jobs, threads=threads)) as workers:
            found = {result for _, result in workers.in_order(range(4), under_way=4)}
        assert found == {max(1, all_cores() // jobs)}
    assert cores_of_this_worker() == all_cores()


def test_work_done_here_has_all_cores() -> None:
    with open_workers(functions.cores, Parallelism(1)) as workers:
        assert list(workers.in_order([0], under_way=1)) == [(0, all_cores())]


def test_what_reaches_the_whole_group_does_not_reach_workers() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with open_workers(functions.signals, Parallelism(2)) as workers:
        assert [found for _, found in workers.in_order([0], 1)] == [{signal.SIGINT, signal.SIGHUP}]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_workers_work_in_our_folder_without_threads_of_numpy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    with open_workers(functions.settings, Parallelism(2)) as workers:
        # its main thread, and the one that waits for our end
        assert [found for _, found in workers.in_order([0], under_way=1)] == [(str(tmp_path), 2)]
    assert dict(os.environ) == before


def test_workers_import_nothing_from_the_current_folder(tmp_path: Path) -> None:
    """It may be a folder of pictures that others have filled."""
    folder, program = tmp_path / "pictures", tmp_path / "program.py"
    folder.mkdir()
    (folder / "selectors.py").write_text("open('imported', 'w')")
    program.write_text(
        "from mipp_cli.compute.processes import Parallelism, open_workers\n"
        "if __name__ == '__main__':\n"
        "    with open_workers(abs, Parallelism(2)) as workers:\n"
        "        assert list(workers.in_order([-1], 1)) == [(-1, 1)]\n"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, program], cwd=folder, env=environment, check=True, timeout=60)
    assert [path.name for path in folder.iterdir()] == ["selectors.py"]
