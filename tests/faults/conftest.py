"""What the trials share: a scratch folder, and the stores that commands are tried on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.faults.store import make_store
from tests.support.deployment import Deployment


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """A folder, in memory if there is a place for that: what is synced here need not last."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(prefix="mipp-", dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def stores(scratch: Path) -> Callable[[str], Deployment]:
    """Give the store of a scheme, made when it is first asked for."""
    return cache(lambda scheme: make_store(scratch / scheme, scheme))
