"""How many cores a task may use itself, so that workers together use no more than there are."""

from __future__ import annotations

import os
from contextvars import ContextVar

_share: ContextVar[int | None] = ContextVar("share", default=None)


def all_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_of_cores(workers: int) -> int:
    """Return how many cores each of so many workers on this machine may use: one at least."""
    return max(1, all_cores() // workers)


def grant_cores(count: int) -> None:
    """Say how many cores the tasks of this thread may use."""
    _share.set(count)


def cores_of_this_worker() -> int:
    """Return how many cores a task may use: its worker's share, or all where there are no other workers.

    Ask in the thread that does the task.
    """
    return _share.get() or all_cores()
