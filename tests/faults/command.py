"""What a command is that can be broken off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.faults.store import Meaning
from tests.support.deployment import Deployment

Words = tuple[object, ...]


@dataclass(frozen=True)
class Command:
    """A command to break off.

    ``prepare`` brings a fresh store to where the command begins; ``words`` is the command, ``again`` what
    a person runs after it failed, if that is another. ``output`` tells what its outputs, which are
    ``files`` below the store, mean; it may use up the store.
    """

    name: str
    words: Callable[[Deployment], Words]
    prepare: Callable[[Deployment], None] = lambda store: None
    again: Callable[[Deployment], Words] | None = None
    files: Sequence[str] = ()
    replaceable: bool = True  # by --force
    in_steps: bool = False  # one output after the other, or one thing that must be gone before the next
    repeats: bool = False  # done twice it does more
    output: Callable[[Deployment], Any] = lambda store: None
    scheme: str = "mask"
    is_like_another: bool = False  # so that the ordinary tests do without

    def written(self, store: Deployment) -> Meaning:
        """Return the meaning of the outputs, None where there is none."""
        found = self.output(store) if any((store / name).exists() for name in self.files) else None
        return {"output": found} if not isinstance(found, dict) else found
