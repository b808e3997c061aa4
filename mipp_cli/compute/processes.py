"""Run tasks in processes, in threads or on a Dask cluster, in order and with a limit on pending tasks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, TypeVar

from mipp_cli.compute.cluster import check_address, open_cluster_workers
from mipp_cli.compute.cores import all_cores, grant_cores, share_of_cores
from mipp_cli.compute.pool import open_pool, start_server_early
from mipp_cli.errors import InvalidRequestError

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Parallelism:
    """Where tasks run: in ``jobs`` processes on this machine (None: one per core), or on a cluster.

    With ``threads`` they run in threads of this process, which share the function, as for a device that one
    process must own.
    """

    jobs: int | None = None
    scheduler: str | None = None
    threads: bool = False

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 1:
            raise InvalidRequestError("there must be at least one job", hint="give --jobs 1 or more")
        if self.scheduler is not None:
            check_address(self.scheduler)

    @property
    def count(self) -> int:
        """Number of tasks done at a time; 1 for a cluster, whose number is known only once connected."""
        if self.scheduler is not None:
            return 1
        return all_cores() if self.jobs is None else self.jobs

    def at_most(self, jobs: int) -> Parallelism:
        """Return a copy with at most so many jobs, as each takes 0.3 s to start; a cluster is running."""
        return self if self.scheduler is not None else replace(self, jobs=max(1, min(self.count, jobs)))


LOCAL = Parallelism()
ONE_JOB = Parallelism(jobs=1)


def start_early(module: str, parallelism: Parallelism) -> None:
    """Begin to start the processes of a later :func:`open_workers`, whose function is in ``module``."""
    if parallelism.count > 1 and not parallelism.threads:
        start_server_early(module)


@dataclass(frozen=True)
class Workers(Generic[Task, Result]):
    """Workers that run one function: the number of tasks done at a time, and a function that begins one.

    ``begin`` returns a function that waits for the task's result.
    """

    count: int
    begin: Callable[[Task], Callable[[], Result]]

    def in_order(self, tasks: Iterable[Task], under_way: int) -> Iterator[tuple[Task, Result]]:
        """Yield each task and its result, in order, with at most ``under_way`` tasks in memory."""
        begun: deque[tuple[Task, Callable[[], Result]]] = deque()
        for task in tasks:
            begun.append((task, self.begin(task)))
            if len(begun) >= under_way:
                yield _finished(*begun.popleft())
        while begun:
            yield _finished(*begun.popleft())


def _finished(task: Task, result: Callable[[], Result]) -> tuple[Task, Result]:
    return task, result()


@contextmanager
def open_workers(
    function: Callable[[Task], Result], parallelism: Parallelism
) -> Iterator[Workers[Task, Result]]:
    """Yield workers that run ``function``, which is sent once to each process; one job runs in this process.

    Raises InterruptedWorkError if a worker process is killed, and the errors of
    :func:`mipp_cli.compute.cluster.open_cluster`.
    """
    count = parallelism.count
    if parallelism.scheduler is not None:
        with open_cluster_workers(function, parallelism.scheduler) as (begin, threads):
            yield Workers(threads, begin)
    elif count == 1:
        yield Workers(1, lambda task: partial(function, task))
    elif parallelism.threads:
        pool = ThreadPoolExecutor(count, initializer=grant_cores, initargs=(share_of_cores(count),))
        try:
            yield Workers(count, lambda task: pool.submit(function, task).result)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    else:
        with open_pool(function, count) as begin:
            yield Workers(count, begin)
