"""One trial: a copy of a store, a command that fails in it somewhere, and what must be true afterwards."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mipp_cli.errors import MippError
from tests.faults.command import Command
from tests.faults.injection import FAULTS, KILLS, Boundary
from tests.faults.process import broken_off
from tests.faults.store import Meaning, leftovers, meaning
from tests.support.deployment import Deployment, Outcome, check_refusal, run

_DONE, _CANNOT_WRITE = 0, 10
_NOTHING_TO_DO = (2, 5, 10)  # as: the user is not authorised, it was applied before, the directory exists
_LEFT = "is removed, but some of the owner's files may be left"
# what a killed `cloud search`, `kmc rank` or `kmc reencrypt` wrote there goes with the next change
_IN_A_DIRECTORY = re.compile(r"(?!(kmc|cloud)/(queries|rankings)/\.)(kmc|cloud|alice|bob|north|south|new)/")


@dataclass(frozen=True)
class Trial:
    """Which fault happens at which boundary, counted from 1."""

    fault: str
    at: int


class Bench:
    """A command with its prepared store, what that means before and after the command, and its boundaries."""

    def __init__(self, command: Command, store: Deployment, scratch: Path):
        self.command, self._scratch = command, scratch
        self._prepared = store.copy(scratch / "prepared")
        command.prepare(self._prepared)
        self.before = self._observed(self._prepared)
        with self._copy(self._prepared) as copy:
            ending = broken_off(command.words(copy))
            assert ending.outcome is not None
            assert ending.outcome.code == _DONE, ending.outcome.err
            self.boundaries: Sequence[Boundary] = ending.boundaries
            self.after = self._observed(copy)
        self._left_before = leftovers(
            self._prepared.root
        )  # by a run that was killed, which this one goes on with
        assert not self._left_before or command.again is not None

    def trials(self) -> Iterator[Trial]:
        """Yield every fault at every boundary where it can happen."""
        for fault in FAULTS:
            for at, boundary in enumerate(self.boundaries, start=1):
                if fault != "torn" or boundary.is_write:
                    yield Trial(fault, at)

    def problems(self, trial: Trial) -> list[str]:
        """Do a trial, and say what is wrong with what it leaves."""
        with self._copy(self._prepared) as store:
            ending = broken_off(self.command.words(store), trial.fault, trial.at)
            problems = [*self._wrong_ending(trial, ending.outcome)]
            try:
                found = self._observed(store)
                problems += self._wrong_state(trial, ending.outcome, found)
                problems += self._wrong_leftovers(trial, ending.outcome, store)
                problems += self._wrong_again(trial, store, found)
            except (MippError, AssertionError) as error:
                problems.append(f"cannot be asked: {_short(error)}")
            return problems

    def _wrong_ending(self, trial: Trial, outcome: Outcome | None) -> Iterator[str]:
        """Whoever is not killed says that something cannot be written, or did it all the same."""
        if trial.fault in KILLS:
            if outcome is not None:
                yield f"was not killed: {outcome}"
        elif outcome is None:
            yield "was killed"
        elif outcome.code:
            try:
                check_refusal(outcome, _CANNOT_WRITE)
            except AssertionError:
                yield f"ended with {outcome.code}: {outcome.err.strip()[-1000:]}"

    def _wrong_state(self, trial: Trial, outcome: Outcome | None, found: Meaning) -> Iterator[str]:
        """A command that was killed did some of its work, one that failed none, one that succeeded all.

        Where the disk became read-only, what was done already cannot be undone. A command that could not
        remove everything warns of it, or says that an owner is removed and that files are left.
        """
        some = outcome is None or (
            "warning: " in outcome.err
            if outcome.code == _DONE
            else trial.fault == "read-only" or self.command.in_steps or _LEFT in outcome.err
        )
        for name in sorted({*found, *self.before, *self.after}):
            value, before, after = (each.get(name) for each in (found, self.before, self.after))
            if some:
                sound = value in (before, after) or (self.command.in_steps and _between(value, before, after))
            else:
                sound = value == (before if outcome is not None and outcome.code else after)
            if not sound:
                yield f"{name} is {_short(value)}; before: {_short(before)}, after: {_short(after)}"

    def _wrong_leftovers(self, trial: Trial, outcome: Outcome | None, store: Deployment) -> Iterator[str]:
        """A command that failed removes its temporary files, if the disk lets it."""
        if outcome is None or trial.fault == "read-only" or self._cannot_remove(trial):
            return
        kept = [
            name
            for name in leftovers(store.root)
            if name not in self._left_before
            and not (outcome.code and self.command.again is not None and "/partial" in name)
        ]
        if kept:
            yield f"left {kept}"

    def _wrong_again(self, trial: Trial, store: Deployment, found: Meaning) -> Iterator[str]:
        """Run again, as a person would: all is done then, and the directories are clean."""
        words = (self.command.again or self.command.words)(store)
        outcome = run(*words)
        is_out = any((store / name).exists() for name in self.command.files)
        if outcome.code == _CANNOT_WRITE and is_out and self.command.replaceable:
            outcome = run(*words, "--force")
        if outcome.code and outcome.code not in _NOTHING_TO_DO:
            yield f"run again it ended with {outcome.code}: {outcome.err.strip()[-1000:]}"
            return
        again = self._observed(store)
        if self.command.repeats and found == self.after:
            return
        for name in sorted({*again, *self.after}):
            if again.get(name) != self.after.get(name):
                yield f"run again, {name} is {_short(again.get(name))}, not {_short(self.after.get(name))}"
        kept = [name for name in leftovers(store.root) if _IN_A_DIRECTORY.match(name)]
        if kept and not self._cannot_remove(trial):
            yield f"run again it left {kept}"

    def _cannot_remove(self, trial: Trial) -> bool:
        """Say whether the trial is that something cannot be removed, which goes with the next change."""
        return trial.fault not in KILLS and self.boundaries[trial.at - 1].call in ("unlink", "rmdir")

    def _observed(self, store: Deployment) -> Meaning:
        """Return what a store means, asked of a copy."""
        with self._copy(store) as copy:
            return self.command.written(copy) | meaning(copy)

    @contextmanager
    def _copy(self, store: Deployment) -> Iterator[Deployment]:
        with TemporaryDirectory(dir=self._scratch) as folder:
            yield store.copy(Path(folder) / "store")


def _between(value: object, before: object, after: object) -> bool:
    """Say whether a list holds all that was there before, and nothing beyond what comes."""
    sets = [set(each) if isinstance(each, list) else set() for each in (before, value, after)]
    return sets[0] <= sets[1] <= sets[2]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 300 else f"{text[:300]}…"
