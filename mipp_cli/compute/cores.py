"""Share the cores of this machine among workers, so that together they use no more than there are."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path

_GROUPS, _OF_THIS_PROCESS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_share: ContextVar[int | None] = ContextVar("share", default=None)


def all_cores() -> int:
    """Return the number of cores that this process may use, by its affinity and its container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min([cores, *_quotas(_GROUPS, _OF_THIS_PROCESS)])))


def _quotas(groups: Path, of_this_process: Path) -> Iterator[float]:
    """Yield the CPU quotas, in cores, of the control groups of this process.

    A quota is the microseconds of processor time per period: in `cpu.max` in version 2, in two files in
    version 1. The quotas of parent groups apply, too. A container may see its own group as the root.
    """
    lines: list[str] = []
    with suppress(OSError):
        lines = of_this_process.read_text().splitlines()
    for line in lines:
        _, controllers, place = line.split(":", 2)
        root = groups / controllers
        if controllers and "cpu" not in controllers.split(","):
            continue
        for folder in (root / place.lstrip("/"), *(root / place.lstrip("/")).parents):
            with suppress(OSError, ValueError):
                yield _quota(folder, is_first_version=bool(controllers))
            if folder == root:
                break


def _quota(folder: Path, *, is_first_version: bool) -> float:
    """Return the quota of a group in cores; raises OSError or ValueError if it has none."""
    if is_first_version:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        quota, period = (int((folder / name).read_text()) for name in names)
    else:
        quota, period = map(int, (folder / "cpu.max").read_text().split())
    if quota <= 0 or period <= 0:
        raise ValueError("no limit")
    return quota / period


def share_of_cores(workers: int) -> int:
    """Return the number of cores for each of several workers on this machine, at least one."""
    return max(1, all_cores() // workers)


def grant_cores(count: int) -> None:
    """Set the number of cores that the tasks of this thread may use."""
    _share.set(count)


def cores_of_this_worker() -> int:
    """Return the number of cores that a task may use: its worker's share, or all if there are no workers.

    Call this in the thread that does the task.
    """
    return _share.get() or all_cores()
