"""Workers on a Dask cluster; their function is sent to each of them once."""

from __future__ import annotations

import importlib
import ipaddress
import pickle
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, wait
from contextlib import contextmanager
from functools import partial
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from mipp_cli.compute.cores import grant_cores
from mipp_cli.errors import InterruptedWorkError, InvalidRequestError

Task = TypeVar("Task")
Result = TypeVar("Result")

_CONNECT_SECONDS = 20
_WORKER_PATIENCE = 20  # seconds to wait for a worker when all are lost
_RETRIES = 10  # tasks of a lost worker are restarted on another


def check_address(address: str) -> None:
    """Raise InvalidRequestError for a scheduler to which images would go unencrypted over a network."""
    parts = urlsplit(address)
    try:
        loopback = parts.hostname == "localhost" or ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        loopback = False
    if parts.scheme == "tls" or (parts.scheme == "tcp" and loopback):
        return
    raise InvalidRequestError(
        f"the scheduler {address!r} is neither tls:// nor on this machine",
        hint="images are sent to the workers: set up Dask with TLS, or use tcp://127.0.0.1:8786",
    )


@contextmanager
def open_cluster(address: str) -> Iterator[tuple[Any, int]]:
    """Yield a client of the Dask cluster at ``address``, and the number of its workers' threads.

    TLS is configured in Dask, by `distributed.comm.tls` or DASK_DISTRIBUTED__COMM__TLS__*. Raises
    InvalidRequestError if Dask is not installed, nobody answers, or there are no workers.
    """
    client = _connect(address)
    try:
        threads = sum(client.nthreads().values())
        if not threads:
            raise InvalidRequestError(
                f"the scheduler {address} has no workers", hint="start some: dask worker ADDRESS"
            )
        yield client, threads
    finally:
        client.close()


def _connect(address: str) -> Any:
    try:
        # imported on demand: it is an extra, and takes a second
        distributed = importlib.import_module("distributed")
    except ImportError:
        raise InvalidRequestError(
            "--scheduler needs Dask, which is not installed", hint="pip install distributed"
        ) from None
    try:
        return distributed.Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise InvalidRequestError(
            f"no Dask scheduler answers at {address}: {error}", hint="check the address and the TLS settings"
        ) from error


@contextmanager
def open_cluster_workers(
    function: Callable[[Task], Result], address: str
) -> Iterator[tuple[Callable[[Task], Callable[[], Result]], int]]:
    """Yield a function that begins a task on the cluster, and the number of tasks done at a time.

    ``function`` is sent to each worker once. Raises InterruptedWorkError if no worker is left.
    """
    with open_cluster(address) as (client, threads):
        yield _Work(client, function).begin, threads


class _Work(Generic[Task, Result]):
    """A function that each worker gets once, and its tasks.

    The function is the result of a task of its own: Dask copies it from worker to worker, and computes it
    again from what the scheduler keeps if all workers that had it are lost. Scattered data would be lost with
    them, and tasks that needed it could wait forever.
    """

    def __init__(self, client: Any, function: Callable[[Task], Result]):
        self._client = client
        # not pure: tasks draw randomness, so Dask must not reuse the result of an equal task
        self._executor = client.get_executor(pure=False, retries=_RETRIES)
        with _lost_cluster(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sending large graph")  # a model is large
            self._function = client.submit(pickle.loads, pickle.dumps(function), pure=False, retries=_RETRIES)

    def begin(self, task: Task) -> Callable[[], Result]:
        """Begin a task; return a function that waits for its result."""
        with _lost_cluster():
            future: Future[Result] = self._executor.submit(_run, self._function, task)
        return partial(self._result, future)

    def _result(self, future: Future[Result]) -> Result:
        """Wait for a result, but not forever if there are no workers, as Dask would."""
        without_workers = 0
        while not wait([future], timeout=1).done:
            with _lost_cluster():
                without_workers = 0 if self._client.nthreads() else without_workers + 1
            if without_workers == _WORKER_PATIENCE:
                raise InterruptedWorkError(
                    "the cluster has lost all its workers", hint="start workers, and run the command again"
                )
        try:
            return future.result()
        except CancelledError as error:
            raise _lost(error) from error


@contextmanager
def _lost_cluster() -> Iterator[None]:
    """Turn the errors of a scheduler that is gone into InterruptedWorkError."""
    try:
        yield
    except (OSError, CancelledError) as error:
        raise _lost(error) from error


def _lost(error: BaseException) -> InterruptedWorkError:
    reason = f": {error}" if str(error) else ""
    return InterruptedWorkError(
        f"the cluster was lost{reason}", hint="start a scheduler and workers, and run the command again"
    )


def _run(function: Callable[[Task], Result], task: Task) -> Result:
    grant_cores(1)  # a Dask worker has a thread per core
    return function(task)
