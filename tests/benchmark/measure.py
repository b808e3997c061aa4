"""How things are measured: two sides in turn and the median of their ratios; memory of whole processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

MEGABYTE = 10**6
_SAMPLE_SECONDS = 0.05
# A process counts as its own what its parent had in memory before it; a parent this small does not matter.
_PEAK_OF_CHILD = """
import os, sys
quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=quiet)
_, status, usage = os.wait4(child, 0)
print(usage.ru_maxrss * 1024)
sys.exit(os.waitstatus_to_exitcode(status))
"""

Command = Sequence[str | Path]


@dataclass(frozen=True)
class Target:
    """A bound from below (``least``) or from above, and how it reads."""

    text: str
    limit: float
    least: bool = False

    def met_by(self, value: float) -> bool:
        """Say whether a value keeps within the bound."""
        return value >= self.limit if self.least else value <= self.limit


@dataclass(frozen=True)
class Result:
    """A row of the table: ``measured`` is what the target bounds, ``figures`` are both absolute figures."""

    what: str
    against: str
    measured: float
    figures: str
    target: Target
    unit: str = "×"

    @property
    def met(self) -> bool:
        """Say whether the target is met."""
        return self.target.met_by(self.measured)


def timed(work: Callable[[], object], times: int = 1) -> Callable[[], float]:
    """Return a side that does ``work`` so many times, and gives the seconds of one."""

    def seconds() -> float:
        begin = time.perf_counter()
        for _ in range(times):
            work()
        return (time.perf_counter() - begin) / times

    return seconds


def in_turn(rounds: int, *sides: Callable[[], float], warm_up: bool = True) -> list[list[float]]:
    """Measure the sides one after the other, ``rounds`` times; what the first round gives is dropped.

    Without ``warm_up`` there is no first round.
    """
    if warm_up:
        for side in sides:
            side()
    measured = [[side() for side in sides] for _ in range(rounds)]
    return [list(column) for column in zip(*measured, strict=True)]


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """Return the median of the ratios of what was measured in the same round."""
    return median(above / below for above, below in zip(numerators, denominators, strict=True))


def seconds(values: Sequence[float]) -> str:
    """Return the median of some seconds, in the unit that suits it."""
    value = median(values)
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this process, and what it starts meanwhile, on one processor."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def program(name: str) -> Path:
    """Return the path of a program of the environment that runs the benchmark."""
    return Path(sys.executable).with_name(name)


def run(command: Command) -> None:
    """Run a command to its end; raises CalledProcessError if it fails."""
    subprocess.run([*map(str, command)], check=True, stdout=subprocess.DEVNULL)


def peak_resident(command: Command) -> float:
    """Run a command of one process, and return the most bytes that it had in memory."""
    wrapper = [sys.executable, "-I", "-S", "-c", _PEAK_OF_CHILD, *map(str, command)]
    return float(subprocess.run(wrapper, check=True, stdout=subprocess.PIPE, text=True).stdout)


def peak_of_tree(command: Command) -> float:
    """Run a command, and return the most bytes that it and its children had in memory together.

    What processes share is counted once (proportional set size), sampled every 50 ms.
    """
    peak = 0.0
    with subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, sum(map(_proportional_bytes, _tree(process.pid))))
            time.sleep(_SAMPLE_SECONDS)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return peak


def _tree(process: int) -> Iterator[int]:
    yield process
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        for child in _read(children).split():
            yield from _tree(int(child))


def _proportional_bytes(process: int) -> int:
    for line in _read(Path(f"/proc/{process}/smaps_rollup")).splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the process has ended
        return ""
