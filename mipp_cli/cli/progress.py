"""Progress bars on stderr, when it is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(what: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Show how far ``what`` is, with rate and remaining time."""
    from tqdm import tqdm

    with tqdm(
        desc=what,
        total=total,
        unit=f" {unit}",
        unit_scale=unit == "B",
        leave=False,
        delay=0.5,
        disable=not sys.stderr.isatty(),
    ) as bar:

        def advance(amount: int) -> None:
            bar.update(amount)

        yield advance
