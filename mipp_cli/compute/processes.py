"""Work in several processes, or on a Dask cluster: tasks in order, a bounded number of them under way."""

from __future__ import annotations

import importlib
import ipaddress
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

from mipp_cli.errors import InterruptedWorkError, InvalidRequestError

Task = TypeVar("Task")
Result = TypeVar("Result")
P = ParamSpec("P")

_CONNECT_SECONDS = 20
_RETRIES = 10  # a worker that is lost takes its tasks with it; they begin again elsewhere


def check_address(address: str) -> None:
    """Refuse a scheduler that features would reach in the clear over a network; InvalidRequestError."""
    parts = urlsplit(address)
    try:
        loopback = parts.hostname == "localhost" or ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        loopback = False
    if parts.scheme == "tls" or (parts.scheme == "tcp" and loopback):
        return
    raise InvalidRequestError(
        f"the scheduler {address!r} is neither tls:// nor on this machine",
        hint="images go to the workers: set up Dask with TLS, or use tcp://127.0.0.1:8786",
    )


class _InlineExecutor(Executor):
    """An executor that does each task where it is submitted."""

    def submit(self, fn: Callable[P, Result], /, *args: P.args, **kwargs: P.kwargs) -> Future[Result]:
        """Do the task now."""
        future: Future[Result] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def default_jobs() -> int:
    """Return how many processes to use unless told: one for each processor that we may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Parallelism:
    """Where work is done: in ``jobs`` processes here (None: one for each processor), or on a cluster."""

    jobs: int | None = None
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 1:
            raise InvalidRequestError("there must be at least one job", hint="give --jobs 1 or more")
        if self.scheduler is not None:
            check_address(self.scheduler)


LOCAL = Parallelism()


@contextmanager
def open_executor(parallelism: Parallelism) -> Iterator[tuple[Executor, int]]:
    """Give an executor at ``parallelism``, and how many tasks it does at a time.

    Processes are forked where the system can, so that tables made before are shared. Raises
    InterruptedWorkError if a worker process is ended from outside.
    """
    count = default_jobs() if parallelism.jobs is None else parallelism.jobs
    if parallelism.scheduler is not None:
        with _cluster(parallelism.scheduler) as cluster:
            yield cluster
    elif count == 1:
        yield _InlineExecutor(), 1
    else:
        with _processes(count) as pool:
            yield pool, count


@contextmanager
def _cluster(address: str) -> Iterator[tuple[Executor, int]]:
    """Give an executor on the Dask cluster at ``address``, and how many threads it has.

    TLS is configured as Dask is, by `distributed.comm.tls` or DASK_DISTRIBUTED__COMM__TLS__*. Raises
    InvalidRequestError if Dask is not installed, nobody answers, or there is no worker.
    """
    client = _connect(address)
    try:
        threads = sum(client.nthreads().values())
        if not threads:
            raise InvalidRequestError(
                f"the scheduler {address} has no workers", hint="start some: dask worker ADDRESS"
            )
        # not pure: a task done twice must not be answered from the first time, it draws randomness
        yield client.get_executor(pure=False, retries=_RETRIES), threads
    finally:
        client.close()


def _connect(address: str) -> Any:
    try:
        # imported only when asked for: it is an extra, and takes a second
        distributed = importlib.import_module("distributed")
    except ImportError:
        raise InvalidRequestError(
            "--scheduler needs Dask, which is not installed", hint="pip install 'mipp-cli[dask]'"
        ) from None
    try:
        return distributed.Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise InvalidRequestError(
            f"no Dask scheduler answers at {address}: {error}", hint="check the address and the TLS settings"
        ) from error


@contextmanager
def _processes(count: int) -> Iterator[Executor]:
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    context = multiprocessing.get_context(method)
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_begin_worker)
    try:
        with _signals_held():
            pool.submit(int)  # the first task begins all workers
        yield pool
    except BrokenProcessPool:
        raise InterruptedWorkError(
            "a worker process was ended from outside",
            hint="was memory short? Try again with fewer --jobs",
        ) from None
    finally:
        with _signals_held():
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Interrupt after the block, not in it: in the middle of a fork one is lost, or the pool hangs."""
    came: list[int] = []
    held = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(handler := signal.getsignal(number)):
                held[number] = handler
                signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def _begin_worker() -> None:
    # Ctrl-C reaches the whole group; the parent alone decides, and stops its workers in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Wait until the parent is gone, however it went, and do not outlive it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(130)


def ordered_results(
    executor: Executor, function: Callable[[Task], Result], tasks: Iterable[Task], *, under_way: int
) -> Iterator[tuple[Task, Result]]:
    """Yield each task and its result, in order, with at most ``under_way`` tasks in memory."""
    futures: deque[tuple[Task, Future[Result]]] = deque()
    for task in tasks:
        futures.append((task, executor.submit(function, task)))
        if len(futures) >= under_way:
            yield _finished(*futures.popleft())
    while futures:
        yield _finished(*futures.popleft())


def _finished(task: Task, future: Future[Result]) -> tuple[Task, Result]:
    return task, future.result()
