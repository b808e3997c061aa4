"""Whole commands: how long a search and the help take, and how much memory encryption and search take."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median

from tests.benchmark.big_index import cached_cloud, synthetic_cloud
from tests.benchmark.materials import Setting, make_roles, write_collection
from tests.benchmark.measure import (
    MEGABYTE,
    Command,
    Result,
    Target,
    in_turn,
    median_ratio,
    one_core,
    peak_of_tree,
    peak_resident,
    program,
    run,
    seconds,
    timed,
)

_SMALL_INDEX = 10_000
_MEMORY_LIMIT = 500.0


def search(setting: Setting) -> Iterator[Result]:
    """`mipp cloud search` on a big index and on one of 10,000 rows, whole processes, on one core.

    Both of three owners, scheme `mask`, 100 candidates; segments and query are real, the rest of the
    index is synthetic (big_index.py). The files of both lie in the page cache as far as it holds them.
    """
    rows = setting.rows
    big, small = cached_cloud(setting.cache, rows), synthetic_cloud(setting.folder("search"), _SMALL_INDEX)
    commands = [_search(roles.cloud, query, setting.scratch) for roles, query in (big, small)]
    with one_core():
        ours, theirs = in_turn(setting.size(21, 3), *(timed(partial(run, command)) for command in commands))
        peak = peak_resident(commands[0]) / MEGABYTE
    what = f"`mipp cloud search`, whole process, a synthetic index of {rows:,} rows over 3 owners"
    yield Result(
        what,
        f"the same command on {_SMALL_INDEX:,} rows",
        median_ratio(ours, theirs),
        f"{seconds(ours)}, {seconds(theirs)}",
        Target("at most 2 × the time", 2.0),
    )
    yield Result(
        f"{what}: peak memory", "—", peak, f"{peak:.0f} MB", Target("under 500 MB", _MEMORY_LIMIT), "MB"
    )


def _search(cloud: Path, query: Path, scratch: Path) -> Command:
    return (program("mipp"), "cloud", "search", cloud, query, "-o", scratch / "results.h5", "--force")


def help_text(setting: Setting) -> Iterator[Result]:
    """`mipp --help` beside a Python that imports click, whole processes, on one core."""
    commands: list[Command] = [(program("mipp"), "--help"), (sys.executable, "-c", "import click")]
    with one_core():
        ours, theirs = in_turn(setting.size(41, 5), *(timed(partial(run, command)) for command in commands))
    yield Result(
        "`mipp --help`, whole process",
        '`python -c "import click"`',
        median_ratio(ours, theirs),
        f"{seconds(ours)}, {seconds(theirs)}",
        Target("at most 1.5 × the time", 1.5),
    )


def encrypt(setting: Setting) -> Iterator[Result]:
    """`mipp owner encrypt` under `exact` beside decoding and describing alone, whole processes.

    Pictures of 384×256. Alone means :mod:`tests.benchmark.describing`, in as many processes.
    """
    images = setting.size(10_000, 200)
    roles = make_roles(setting.folder("encrypt"), "exact")
    pictures = write_collection(setting.folder("encrypt-pictures"), images)
    for jobs in (1, 2):
        command = (*_encrypt(roles.owner(roles.owners[0]), pictures), "--jobs", str(jobs))
        alone = (sys.executable, "-m", "tests.benchmark.describing", pictures, str(jobs))
        sides = (timed(partial(run, each)) for each in (command, alone))
        ours, theirs = in_turn(setting.size(5, 1), *sides)
        yield Result(
            f"`owner encrypt` under `exact` of {images:,} pictures of 384×256, jobs: {jobs}, whole process",
            "decoding and describing them alone, with as many jobs",
            median_ratio(ours, theirs),
            f"{seconds(ours)}, {seconds(theirs)}",
            Target("at most 1.4 × the time", 1.4),
        )


def memory(setting: Setting) -> Iterator[Result]:
    """Peak memory of `mipp owner encrypt`, all its processes together, on many pictures and on few.

    Pictures of 384×256, one process for each processor. `dcr` has fewer pictures because they take
    long; its table of powers is as large for 300 as for any larger number.
    """
    runs = (
        ("exact", setting.size(10_000, 400), setting.size(1_000, 100), setting.size(3, 1)),
        ("mask", setting.size(10_000, 400), setting.size(1_000, 100), setting.size(3, 1)),
        ("dcr", setting.size(1_000, 40), setting.size(300, 20), 1),
    )
    for scheme, many, few, rounds in runs:
        folder = setting.folder(f"memory-{scheme}")
        roles = make_roles(folder, scheme)
        collections = (write_collection(setting.folder(f"{folder.name}-{n}"), n) for n in (many, few))
        commands = [_encrypt(roles.owner(roles.owners[0]), pictures) for pictures in collections]
        sides = (partial(peak_of_tree, command) for command in commands)
        above, below = in_turn(rounds, *sides, warm_up=False)
        largest = max(above) / MEGABYTE
        figures = (f"{median(each) / MEGABYTE:.0f} MB" for each in (above, below))
        what = f"peak memory of `owner encrypt` under `{scheme}`, {many:,} pictures of 384×256"
        yield Result(
            what,
            f"{few:,} pictures",
            median_ratio(above, below),
            ", ".join(figures),
            Target("within 15 %", 1.15),
        )
        yield Result(
            f"{what}: all processes together",
            "—",
            largest,
            f"{largest:.0f} MB",
            Target("under 500 MB", _MEMORY_LIMIT),
            "MB",
        )


def _encrypt(owner: Path, pictures: Path) -> Command:
    output = pictures / "upload.h5"
    return (program("mipp"), "owner", "encrypt", owner, pictures, "--again", "-o", output, "--force")
