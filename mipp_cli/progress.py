"""How a long step tells how far it is, without knowing what a terminal is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """Begins a stretch of work; the result of the context manager is called with each amount done."""

    def __call__(self, what: str, total: int, unit: str) -> AbstractContextManager[Advance]:
        """Begin ``what``: ``total`` times ``unit``."""


@contextmanager
def silent(what: str, total: int, unit: str) -> Iterator[Advance]:
    """Tell nobody."""

    def advance(amount: int) -> None:
        pass

    yield advance
