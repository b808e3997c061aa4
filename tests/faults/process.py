"""Commands in processes of their own, for they do not come back from all that happens to them."""

from __future__ import annotations

import os
import pickle
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.faults.injection import Boundary, Injector
from tests.support.deployment import Outcome, run


@dataclass(frozen=True)
class Ending:
    """How a command ended: its outcome, None if it was killed, and the boundaries that it came to."""

    outcome: Outcome | None
    boundaries: list[Boundary] = field(default_factory=list)


def in_child(function: Callable[[], Any]) -> Any:
    """Return what ``function`` returns in a process of its own; None if that was killed."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(reader)
            write = os.write  # what the injector wraps is not for us
            try:
                result = function()
            except BaseException:  # noqa: BLE001 -- a traceback is what we look for
                result = Outcome(1, "", traceback.format_exc())
            data = memoryview(pickle.dumps(result))
            while data:
                data = data[write(writer, data) :]
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        data = file.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, f"ended by signal {os.WTERMSIG(status)}"
        return None
    return pickle.loads(data)


def broken_off(words: tuple[object, ...], fault: str | None = None, at: int = 0) -> Ending:
    """Run a command in a process of its own, where ``fault`` happens at the ``at``-th write boundary."""

    def command() -> Ending:
        injector = Injector(fault, at)
        injector.install()
        try:
            outcome = run(*words)
        except BaseException:  # noqa: BLE001 -- a traceback is what we look for
            outcome = Outcome(1, "", traceback.format_exc())
        return Ending(outcome, injector.boundaries)

    return in_child(command) or Ending(None)
