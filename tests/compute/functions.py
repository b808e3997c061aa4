"""What the workers of these tests run: a worker finds it by its name."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from mipp_cli.compute.cores import cores_of_this_worker
from mipp_cli.errors import UnreadableImageError

IMPORTED_BY = os.getpid()


def importer(_: int) -> tuple[int, int]:
    """Return which process imported this module, and the parent of this one."""
    return IMPORTED_BY, os.getppid()


def square(number: int) -> int:
    time.sleep(0.02 if number % 3 == 0 else 0)  # so that later tasks are done before earlier ones
    return number * number


def process(_: int) -> int:
    time.sleep(0.05)  # so that one worker does not do all
    return os.getpid()


def parent(_: int) -> int:
    return os.getppid()


def thread(_: int) -> int:
    time.sleep(0.02)
    return threading.get_ident()


def cores(_: int) -> int:
    return cores_of_this_worker()


def signals(_: int) -> set[signal.Signals]:
    """Return which signals do not reach a worker."""
    return {signal.Signals(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())}


def settings(_: int) -> tuple[str, int]:
    """Return where a worker is and how many threads numpy has started in it."""
    import numpy as np

    assert np.__version__
    return str(Path.cwd()), len(list(Path("/proc/self/task").iterdir()))


def fail(number: int) -> int:
    raise UnreadableImageError(f"task {number}", path="x.png", hint="try")


def too_late(_: int) -> int:
    raise TimeoutError("of the task")


def die(_: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


class Deadly:
    """What ends a process that unpickles it."""

    def __reduce__(self) -> tuple[object, ...]:
        return die, (0,)


def ignore(*_: object) -> None:
    pass


class Heavy:
    """A function that holds much, and writes down who unpickles it."""

    def __init__(self, log: Path, size: int = 1 << 20):
        self.log, self.content = log, bytes(size)

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        with self.log.open("a") as log:
            log.write(f"{os.getpid()}\n")

    def __call__(self, _: int) -> tuple[int, int]:
        """Return the process, and which object in it this is."""
        time.sleep(0.03)
        return os.getpid(), id(self)

    def unpickled(self) -> list[int]:
        """Return the process of each time that this was unpickled."""
        return [int(line) for line in self.log.read_text().split()] if self.log.exists() else []
