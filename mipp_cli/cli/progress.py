"""Progress on stderr: a bar at a terminal, occasional lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from mipp_cli.cli.messages import say, size_text
from mipp_cli.cli.options import bundled
from mipp_cli.cli.verbose import shows_log

if TYPE_CHECKING:
    from mipp_cli.progress import Advance, Progress

SECONDS_BETWEEN_LINES = 20.0


def chosen_progress(quiet: bool) -> Progress:
    """Return how to show progress: not at all, as a bar, or as lines for a log."""
    from mipp_cli.progress import silent

    if quiet:
        return silent
    # the lines of -v would break up a bar
    return progress_bar if sys.stderr.isatty() and not shows_log() else progress_lines


progress_option = bundled(
    "progress",
    chosen_progress,
    click.option("--quiet", is_flag=True, help="Do not show progress."),
)


@contextmanager
def progress_bar(what: str, total: int, unit: str) -> Iterator[Advance]:
    """Show a bar for ``what``, with rate and remaining time."""
    from tqdm import tqdm

    with tqdm(desc=what, total=total, unit=f" {unit}", unit_scale=unit == "B", leave=False, delay=0.5) as bar:

        def advance(amount: int) -> None:
            bar.update(amount)

        yield advance


@contextmanager
def progress_lines(
    what: str, total: int, unit: str, *, clock: Callable[[], float] = time.monotonic
) -> Iterator[Advance]:
    """Print a line about ``what`` from time to time, and a last one if any was printed.

    The remaining time is estimated from the steps after the first, which may include work done before.
    """
    began = said = clock()
    done, first, first_at = 0, 0, began
    has_begun = has_spoken = False

    def advance(amount: int) -> None:
        nonlocal done, first, first_at, said, has_begun, has_spoken
        done, now = done + amount, clock()
        if not has_begun:
            has_begun, first, first_at = True, done, now
        if now - said < SECONDS_BETWEEN_LINES or done >= total:
            return
        said, has_spoken = now, True
        line = f"{what}: {_counted(done, total, unit)}, {_duration(now - began)}"
        if done > first:
            line += f", about {_duration((now - first_at) / (done - first) * (total - done))} left"
        say(line, err=True)

    yield advance
    if has_spoken:
        say(f"{what}: {_counted(done, total, unit)}, done in {_duration(clock() - began)}", err=True)


def _counted(done: int, total: int, unit: str) -> str:
    if unit == "B":
        return f"{size_text(done)} of {size_text(total)}"
    if total == 1:
        return f"{done} of 1 {unit}"
    plural = f"{unit[:-1]}ies" if unit.endswith("y") else f"{unit}es" if unit.endswith("s") else f"{unit}s"
    return f"{done} of {total} {plural}"


def _duration(seconds: float) -> str:
    """Format a duration: 40 s, 12 min, 3 h 5 min."""
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
