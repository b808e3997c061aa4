"""Every command broken off at some of its write boundaries; at all of them: `python -m tests.faults`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mipp_cli.scheme import passphrase
from tests.faults.command import Command
from tests.faults.commands import COMMANDS
from tests.faults.injection import KILLS
from tests.faults.messages import DRY_RUN
from tests.faults.process import broken_off
from tests.faults.trial import Bench, Trial
from tests.support.deployment import Deployment, snapshot

pytestmark = pytest.mark.slow

# where what is in force changes hands: few boundaries, and those that matter most
TURNS = ("rename", "replace", "unlink", "rmdir", "mkdir")
_CHOSEN = [command for command in COMMANDS if not command.is_like_another]


@pytest.mark.parametrize("command", _CHOSEN, ids=lambda command: command.name)
def test_a_command_broken_off_loses_nothing_and_runs_again(
    stores: Callable[[str], Deployment], scratch: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passphrase, "STRETCHING", passphrase.Stretching(16, 8, 1))
    with TemporaryDirectory(dir=scratch) as folder:
        bench = Bench(command, stores(command.scheme), Path(folder))
        for trial in chosen(bench):
            assert bench.problems(trial) == [], (trial, bench.boundaries[trial.at - 1])


def test_a_dry_run_writes_nothing(stores: Callable[[str], Deployment], tmp_path: Path) -> None:
    copy = stores("mask").copy(tmp_path / "store")
    DRY_RUN.prepare(copy)
    before = snapshot(copy.root)
    ending = broken_off(DRY_RUN.words(copy))
    assert ending.outcome is not None
    assert (ending.outcome.code, ending.boundaries) == (0, [])
    assert snapshot(copy.root) == before


def chosen(bench: Bench) -> list[Trial]:
    """Return a trial that ends with a kill, and one that does not; they differ from command to command."""
    turns = [each for each in bench.trials() if bench.boundaries[each.at - 1].call in TURNS]
    kills = [each for each in turns if each.fault in KILLS]
    others = [each for each in turns if each.fault not in KILLS]
    seed = sum(bench.command.name.encode())
    return [among[seed * 31 % len(among)] for among in (kills, others)]
