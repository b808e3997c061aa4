"""The post between owners and the cloud, or the KMC: it delays, loses, doubles and reorders messages."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.soak.clock import HOUR
from tests.soak.model import Message

_LOST, _DELAYED, _DOUBLED = 0.08, 0.4, 0.4
_MOST_AT_ONCE = 6


@dataclass(frozen=True)
class Letter:
    """A message on its way, and when it is due."""

    message: Message
    file: Path
    due: int = 0


@dataclass
class Post:
    """Letters that wait, and those that came, of which copies turn up again; ``all`` but the lost ones."""

    random: random.Random
    figures: Counter[str]
    to: str = ""  # before the names of figures
    all: list[Letter] = field(default_factory=list)
    waiting: list[Letter] = field(default_factory=list)
    came: list[Letter] = field(default_factory=list)
    struck: list[Letter] = field(default_factory=list)

    def send(self, message: Message, file: Path, now: int) -> None:
        """Take a message; whether it is lost or late is decided here."""
        kind = "deletions" if message.is_deletion else "uploads"
        self.figures[f"{self.to}{kind} made"] += 1
        if self.random.random() < _LOST:
            self.figures[f"{self.to}lost"] += 1
            return
        due = now
        if self.random.random() < _DELAYED:
            self.figures[f"{self.to}delayed"] += 1
            due += self.random.choice([self.random.randint(1, 48), self.random.randint(48, 1500)]) * HOUR
        self.waiting.append(Letter(message, file, due))
        self.all.append(self.waiting[-1])

    def some(self, now: int) -> list[Letter]:
        """Return letters to deliver at once, in no order; some of them came before, or come twice."""
        due = [letter for letter in self.waiting if letter.due <= now]
        chosen = self.random.sample(due, min(len(due), self.random.randint(1, _MOST_AT_ONCE)))
        if self.random.random() < _DOUBLED:
            known = [*self.came, *chosen]
            chosen += self.random.choices(known, k=self.random.randint(1, 2)) if known else []
        self.random.shuffle(chosen)
        return chosen

    def delivered(self, letters: list[Letter]) -> None:
        """Note that letters were taken."""
        self.came += [letter for letter in letters if letter in self.waiting]
        self.waiting = [letter for letter in self.waiting if letter not in letters]

    def put_off(self, letters: list[Letter], due: int) -> None:
        """Let letters come later."""
        self.waiting = [each for each in self.waiting if each not in letters]
        self.waiting += [Letter(each.message, each.file, due) for each in letters]

    def throw_away(self, letters: list[Letter]) -> None:
        """Let letters come no more."""
        self.waiting = [letter for letter in self.waiting if letter not in letters]

    def strike(self, owner: str, numbers: set[int]) -> None:
        """Note that an owner struck messages: whoever has them is to bring them no more."""

        def is_struck(letter: Letter) -> bool:
            return letter.message.owner == owner and letter.message.number in numbers

        self.struck += [letter for letter in self.waiting if is_struck(letter)]
        self.all = [letter for letter in self.all if not is_struck(letter)]
        self.waiting = [letter for letter in self.waiting if not is_struck(letter)]
