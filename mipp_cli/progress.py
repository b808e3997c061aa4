"""How a long step reports progress, independently of the terminal."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """Starts a progress display; the context manager's value is called with each amount done."""

    def __call__(self, what: str, total: int, unit: str) -> AbstractContextManager[Advance]:
        """Start the task ``what``, of ``total`` units named ``unit``."""


def silent(what: str, total: int, unit: str) -> AbstractContextManager[Advance]:
    """Show no progress."""
    return nullcontext(lambda amount: None)
