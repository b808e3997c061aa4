"""Which processes another has started, and whether they are gone."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def gone(pids: Iterable[int]) -> bool:
    """Wait until processes have ended; the wait is bounded so that a test cannot hang."""
    for _ in range(1000):
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


def children_of(pid: int) -> list[int]:
    try:
        lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    return [int(child) for children in lists for child in children.split()]


def descendants_of(pid: int) -> list[int]:
    """Return what a process has started, and what those have in turn."""
    children = children_of(pid)
    return children + [each for child in children for each in descendants_of(child)]


def workers_of(pid: int) -> list[int]:
    """Return the workers of a process: what the server has forked that it has started."""
    return [worker for child in children_of(pid) for worker in children_of(child)]
