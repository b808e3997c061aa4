"""The time of a small world: weeks go by between two commands, and a machine's clock may be wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from unittest import mock

from mipp_cli.workdir import replay as sequence

HOUR = 3600 * 10**6  # in microseconds
_BEGIN = 1_800_000_000 * 10**6
_TICK = 1000


class Clock:
    """The right time, and by how much each machine's clock is ahead of it."""

    def __init__(self) -> None:
        self.right, self.ahead = _BEGIN, defaultdict[str, int](int)

    def now(self, machine: str = "") -> int:
        """Return what a machine's clock shows, in microseconds."""
        return self.right + self.ahead[machine]

    @contextmanager
    def at(self, machine: str) -> Iterator[None]:
        """Let what is run meanwhile go by a machine's clock; it goes on whenever it is looked at."""

        def look() -> int:
            self.right += _TICK
            return self.now(machine) * 1000

        with mock.patch.object(sequence, "time", SimpleNamespace(time_ns=look)):
            yield
