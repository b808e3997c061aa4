"""How a long step tells how far it is, without knowing what a terminal is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """Begins a stretch of work; the result of the context manager is called with each amount done."""

    def __call__(self, what: str, total: int, unit: str) -> AbstractContextManager[Advance]:
        """Begin ``what``: ``total`` times ``unit``."""


def silent(what: str, total: int, unit: str) -> AbstractContextManager[Advance]:
    """Tell nobody."""
    return nullcontext(lambda amount: None)
