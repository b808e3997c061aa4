"""Worker processes on this machine, forked from a server without threads, and stopped in order."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
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

# Signals that reach the whole process group: only the parent handles them, and stops its workers.
_FOR_THE_PARENT = (signal.SIGINT, signal.SIGHUP)
_PATIENCE = 5  # seconds between checks whether the pool broke
_ENVIRONMENT = {
    # Python is started with -c here, and would import files of the current folder.
    "PYTHONSAFEPATH": "1",
    # On import, numpy would start a thread per core in each worker.
    "OPENBLAS_NUM_THREADS": "1",
    # glibc keeps the memory of one picture for the next, which makes describing take 40 % less time.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 26),
}

_function: ContextVar[Callable[[Any], Any]] = ContextVar("function")


@contextmanager
def open_pool(
    function: Callable[[Task], Result], count: int
) -> Iterator[Callable[[Task], Callable[[], Result]]]:
    """Yield a function that begins a task in one of ``count`` processes, which are started on demand.

    ``function`` is sent to each when it starts. Raises InterruptedWorkError if a process is killed, or so
    many cannot be started.
    """
    share = share_of_cores(count)
    with signals_held():
        try:
            _start_server(_module_of(function))
            # each worker and its thread that waits for this process to end, and two threads here
            _check_room(2 * count + 2)
            context = multiprocessing.get_context("forkserver")
            pool = ProcessPoolExecutor(count, context, _begin_worker, (function, share))
        except BlockingIOError:
            raise _no_room() from None
        except (OSError, ImportError, NotImplementedError) as error:
            raise InterruptedWorkError(
                f"worker processes cannot be started: {getattr(error, 'strerror', None) or error}",
                hint="they need /dev/shm and a writable folder for temporary files (TMPDIR); "
                "--jobs 1 needs neither",
            ) from error

    def begin(task: Task) -> Callable[[], Result]:
        with signals_held():
            return partial(_result, pool, _submitted(pool, _run, task))

    try:
        yield begin
    except BaseException as error:
        for child in multiprocessing.active_children():
            child.kill()  # the pool would wait for a child that was started while it broke
        if isinstance(error, BrokenProcessPool):
            raise _lost() from None
        raise
    finally:
        with signals_held(), suppress(RuntimeError):  # the pool's own thread may not have started
            pool.shutdown(wait=True, cancel_futures=True)


def _submitted(
    pool: ProcessPoolExecutor, function: Callable[..., Result], *arguments: object
) -> Future[Result]:
    try:
        return pool.submit(function, *arguments)
    except (OSError, EOFError) as error:
        # a worker ended before everything was sent to it, or the pool closed its pipes in the meantime
        if isinstance(error, (ConnectionError, EOFError)) or error.errno in (None, errno.EBADF):
            raise _lost() from None
        raise


def _result(pool: ProcessPoolExecutor, future: Future[Result]) -> Result:
    """Wait for a result, but not forever: a task submitted while the pool breaks never gets one."""
    while not future.done():
        wait([future], timeout=_PATIENCE)
        if not future.done():
            _submitted(pool, int)  # raises BrokenProcessPool if it broke
    return future.result()


def _lost() -> InterruptedWorkError:
    return InterruptedWorkError(
        "a worker process was killed", hint="memory may be short: try again with fewer --jobs"
    )


def _check_room(count: int) -> None:
    """Refuse to start a pool if so many processes and threads cannot be started, as it would fail midway.

    The system counts threads like processes, and starting threads is a quick test. It is skipped if address
    space is limited, of which threads take a lot.
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
        raise _no_room() from None
    finally:
        gate.set()
        for thread in begun:
            thread.join()


def _no_room() -> InterruptedWorkError:
    return InterruptedWorkError(
        "the worker processes cannot be started",
        hint="give --jobs 1, which starts none, or raise the limit (ulimit -u, pids of a container)",
    )


def start_server_early(module: str) -> None:
    """Start the process that forks the workers, which imports ``module`` while this process goes on.

    If this fails, :func:`open_pool` says so.
    """
    with signals_held(), suppress(OSError, ImportError, NotImplementedError):
        _start_server(module)


def _module_of(function: Callable[..., object]) -> str:
    """Return the module of a function, of the function of a partial, or of the class of an object."""
    while isinstance(function, partial):
        function = function.func
    return function.__module__


def _start_server(module: str) -> None:
    """Start the process that forks the workers, unless it runs. It has no threads, and ends with this one.

    It imports ``module`` once for all its workers. Signals for the parent are blocked in it and its workers
    from the start. Their output, such as a traceback of a failed fork, is not shown: errors that matter are
    returned as results.
    """
    forkserver.set_forkserver_preload(_preloaded(module))
    mask, stderr = signal.pthread_sigmask(signal.SIG_BLOCK, ()), os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:  # noqa: PTH123 -- no path of ours
            os.dup2(nothing.fileno(), 2)
        with _environment(_environment_of_server()):
            signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_PARENT)
            resource_tracker.ensure_running()
            signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_PARENT)  # the tracker unblocked SIGINT
            forkserver.ensure_running()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _preloaded(module: str) -> list[str]:
    """Return what the server is to import: nothing that may be another module there than in this process.

    The main module may start threads.
    """
    ignores_path = sys.flags.ignore_environment or any(os.pathsep in each for each in sys.path)
    return [] if ignores_path or module == "__main__" else [module]


def _environment_of_server() -> dict[str, str]:
    """Return the variables that are changed for the server; it searches modules where this process does."""
    changed = {name: value for name, value in _ENVIRONMENT.items() if not os.environ.get(name)}
    return changed | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}


@contextmanager
def _environment(changed: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment during the block."""
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _begin_worker(function: Callable[[Any], Any], cores: int) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _function.set(function)
    grant_cores(cores)


def _end_with_parent() -> None:
    """Wait until the parent has ended in any way, and end this process."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(130)


def _run(task: Any) -> Any:
    return _function.get()(task)
