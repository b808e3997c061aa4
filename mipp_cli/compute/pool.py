"""Workers that are processes on this machine: started apart from this one's threads, and ended in order."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from multiprocessing import forkserver, resource_tracker
from typing import Any, TypeVar

from mipp_cli.compute.cores import grant_cores, share_of_cores
from mipp_cli.compute.signals import signals_held
from mipp_cli.errors import InterruptedWorkError

Task = TypeVar("Task")
Result = TypeVar("Result")

# What reaches the whole process group: the parent alone decides, and stops its workers in order.
_FOR_THE_PARENT = (signal.SIGINT, signal.SIGHUP)
_PATIENCE = 5  # seconds until we ask whether the pool broke
_ENVIRONMENT = {
    # Python is started with -c here, and would import what lies in the current folder.
    "PYTHONSAFEPATH": "1",
    # As numpy is imported, it starts a thread for each core, in the worker of each core.
    "OPENBLAS_NUM_THREADS": "1",
    # glibc keeps the memory of one picture for the next: describing it takes 40 per cent less time.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 26),
}

_function: ContextVar[Callable[[Any], Any]] = ContextVar("function")


@contextmanager
def open_pool(
    function: Callable[[Task], Result], count: int
) -> Iterator[Callable[[Task], Callable[[], Result]]]:
    """Give what begins a task in one of ``count`` processes; each is started when a task waits for it.

    Each is sent ``function`` once, when it starts. Raises InterruptedWorkError if a process is ended from
    outside, or so many may not be started.
    """
    share = share_of_cores(count)
    with signals_held():
        # in each worker one that waits for this process's end, here two that serve them, and two servers
        _check_room(2 * count + 4)
        try:
            _start_server()
            context = multiprocessing.get_context("forkserver")
            pool = ProcessPoolExecutor(count, context, _begin_worker, (function, share))
        except (OSError, ImportError, NotImplementedError) as error:
            raise InterruptedWorkError(
                f"worker processes cannot be started: {getattr(error, 'strerror', None) or error}",
                hint="they need /dev/shm and a folder for temporary files (TMPDIR) that can be written; "
                "--jobs 1 needs neither",
            ) from error

    def begin(task: Task) -> Callable[[], Result]:
        with signals_held():
            return partial(_result, pool, _submitted(pool, _run, task))

    try:
        yield begin
    except BaseException as error:
        for child in multiprocessing.active_children():
            child.kill()  # one that is started as the pool breaks is not ended with it, but waited for
        if isinstance(error, BrokenProcessPool):
            raise _lost() from None
        raise
    finally:
        with signals_held(), suppress(RuntimeError):  # that the pool's own thread could not be started
            pool.shutdown(wait=True, cancel_futures=True)


def _submitted(
    pool: ProcessPoolExecutor, function: Callable[..., Result], *arguments: object
) -> Future[Result]:
    try:
        return pool.submit(function, *arguments)
    except (OSError, EOFError) as error:
        # a worker was gone before all was sent to it, or the pool closed its pipes meanwhile
        if isinstance(error, (ConnectionError, EOFError)) or error.errno in (None, errno.EBADF):
            raise _lost() from None
        raise


def _result(pool: ProcessPoolExecutor, future: Future[Result]) -> Result:
    """Wait for a result, and not for ever: a task that is submitted as the pool breaks never has one."""
    while not future.done():
        wait([future], timeout=_PATIENCE)
        if not future.done():
            _submitted(pool, int)  # raises BrokenProcessPool if it broke
    return future.result()


def _lost() -> InterruptedWorkError:
    return InterruptedWorkError(
        "a worker process was ended from outside", hint="was memory short? Try again with fewer --jobs"
    )


def _check_room(count: int) -> None:
    """Refuse to begin where so many processes and threads may not be started: a pool would fail half begun.

    To the system they are the same, and threads are tried in a moment; but where address space is limited,
    which they take a lot of.
    """
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        return
    gate, begun = threading.Event(), []
    try:
        for _ in range(count):
            thread = threading.Thread(target=gate.wait)
            thread.start()
            begun.append(thread)
    except RuntimeError:
        raise InterruptedWorkError(
            "the processes for this work may not be started",
            hint="give --jobs 1, which starts none, or raise the limit (ulimit -u, pids of a container)",
        ) from None
    finally:
        gate.set()
        for thread in begun:
            thread.join()


def _start_server() -> None:
    """Start the process that forks the workers, unless it runs: it has no threads, and lives as long as this.

    What it and its workers must not hear is blocked in it from its very first moment. What they print, such
    as a traceback because a fork fails, is not shown: whatever matters comes back with a result.
    """
    forkserver.set_forkserver_preload([])  # not the main module, which may start threads
    added = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    mask, stderr = signal.pthread_sigmask(signal.SIG_BLOCK, ()), os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:  # noqa: PTH123 -- no path of ours
            os.dup2(nothing.fileno(), 2)
        os.environ.update(added)
        resource_tracker.ensure_running()  # first: when it has started, it lets SIGINT through again
        signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_PARENT)
        forkserver.ensure_running()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name in added:
            del os.environ[name]


def _begin_worker(function: Callable[[Any], Any], cores: int) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _function.set(function)
    grant_cores(cores)


def _end_with_parent() -> None:
    """Wait until the parent is gone, however it went, and do not outlive it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(130)


def _run(task: Any) -> Any:
    return _function.get()(task)
