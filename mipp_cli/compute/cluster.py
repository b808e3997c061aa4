"""Work on other machines: a Dask cluster behind the interface of `concurrent.futures`."""

from __future__ import annotations

import importlib
import ipaddress
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from mipp_cli.errors import InvalidRequestError

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


@contextmanager
def cluster_executor(address: str) -> Iterator[tuple[Executor, int]]:
    """Give an executor on the Dask cluster at ``address``, and how many threads it has.

    TLS is configured as Dask is, by `distributed.comm.tls` or DASK_DISTRIBUTED__COMM__TLS__*. Raises
    InvalidRequestError if Dask is not installed, nobody answers, or there is no worker.
    """
    check_address(address)
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
