"""A cloud that is killed in its midst and loses index.h5, too: a rebuild finds all of it again."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.faults.command import Command
from tests.faults.commands import COMMANDS
from tests.faults.process import broken_off
from tests.faults.store import Meaning, meaning
from tests.support.deployment import JOBS, Deployment, run

pytestmark = pytest.mark.slow

_NAMES = (
    *("cloud index", "cloud index (delete)", "cloud index (late upload)", "cloud index (late deletion)"),
    *("cloud index (mixed)", "cloud index --rebuild", "cloud remove", "cloud enroll"),
    *("cloud index, exact", "cloud index (delete), exact", "cloud index (late upload), exact"),
)
CHANGES = [command for command in COMMANDS if command.name in _NAMES]
_TURNS = ("rename", "replace", "unlink")  # between them, nothing that a rebuild reads changes
_TRIALS = 5


def observed(store: Deployment, folder: Path) -> Meaning:
    """Return what a store means, asked of a copy."""
    with TemporaryDirectory(dir=folder) as place:
        return meaning(store.copy(Path(place) / "store"))


@pytest.mark.parametrize("command", CHANGES, ids=lambda command: command.name)
def test_a_rebuild_after_a_crash_finds_all_again(
    stores: Callable[[str], Deployment], scratch: Path, command: Command
) -> None:
    with TemporaryDirectory(dir=scratch) as place:
        folder = Path(place)
        prepared = stores(command.scheme).copy(folder / "prepared")
        command.prepare(prepared)
        whole = prepared.copy(folder / "whole")
        boundaries = broken_off(command.words(whole)).boundaries
        before, after = observed(prepared, folder), observed(whole, folder)
        turns = [at for at, each in enumerate(boundaries, start=1) if each.call in _TURNS]
        for at, fault in zip(turns[:: len(turns) // _TRIALS + 1], cycle(("kill", "power")), strict=False):
            with TemporaryDirectory(dir=folder) as broken:
                store = prepared.copy(Path(broken) / "store")
                assert broken_off(command.words(store), fault, at).outcome is None
                check_rebuild(command, store, folder, before, after)


def check_rebuild(command: Command, store: Deployment, folder: Path, before: Meaning, after: Meaning) -> None:
    """Lose the index, make it anew, and run the command again: nothing is lost, and nothing comes back."""
    (store / "cloud" / "index.h5").unlink(missing_ok=True)
    outcome = run("cloud", "index", store / "cloud", "--rebuild", *JOBS)
    assert outcome.code == 0, outcome.err
    if command.name != "cloud index (mixed)":  # of several messages, some came
        found = observed(store, folder)
        for name in {*found, *before, *after}:
            assert found.get(name) in (before.get(name), after.get(name)), name
    outcome = run(*command.words(store))
    assert outcome.code in (0, 2, 5), outcome.err  # it was applied, or the owner is removed already
    assert observed(store, folder) == after
