"""How far a command is: a bar at a terminal, a line now and then elsewhere, and nothing with --quiet."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from mipp_cli.cli import progress as module
from mipp_cli.cli.progress import chosen_progress, progress_bar, progress_lines
from mipp_cli.progress import silent
from tests.cli.test_help import COMMANDS
from tests.support.deployment import JOBS, Deployment, done

LONG = {
    *("owner encrypt", "user decrypt"),
    *("kmc index", "kmc rank", "kmc reencrypt", "kmc check"),
    *("cloud index", "cloud search", "cloud check"),
}


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """What is a terminal to whoever asks."""

    def isatty(self) -> bool:
        return True


def lines_of(
    capsys: pytest.CaptureFixture[str],
    steps: list[tuple[float, int]],
    total: int,
    *,
    what: str = "describing",
    unit: str = "image",
) -> list[str]:
    """Return what is said of work whose ``steps`` are seconds and the amount done in them."""
    clock = Clock()
    with progress_lines(what, total, unit, clock=clock) as advance:
        for seconds, amount in steps:
            clock.now += seconds
            advance(amount)
    said = capsys.readouterr()
    assert said.out == ""
    return said.err.splitlines()


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines_of(capsys, [(0.1, 1)] * 190, 190) == []


def test_long_work_says_how_far_it_is_and_when_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    steps = [(0, 0), *[(40, 400)] * 2, (20, 200)]
    assert lines_of(capsys, steps, 1000) == [
        "describing: 400 of 1000 images, 40 s, about 60 s left",
        "describing: 800 of 1000 images, 80 s, about 20 s left",
        "describing: 1000 of 1000 images, done in 100 s",
    ]


def test_many_steps_make_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    said = lines_of(capsys, [(0.5, 1)] * 1000, 1000)
    assert len(said) == 25  # one every 20 of 500 seconds but the last, and one at the end
    assert said[-1] == "describing: 1000 of 1000 images, done in 8 min"


def test_what_was_done_before_makes_nothing_faster(capsys: pytest.CaptureFixture[str]) -> None:
    said = lines_of(capsys, [(0, 900), (50, 50), (50, 50)], 1000)
    assert said[0] == "describing: 950 of 1000 images, 50 s, about 50 s left"


def test_a_first_step_that_was_long_promises_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    said = lines_of(capsys, [(30, 1), (30, 1)], 2, unit="query")
    assert said == ["describing: 1 of 2 queries, 30 s", "describing: 2 of 2 queries, done in 60 s"]


def test_work_that_fails_is_not_said_to_be_done(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with pytest.raises(ValueError, match="broken"), progress_lines("x", 9, "image", clock=clock) as advance:
        clock.now += 60
        advance(1)
        raise ValueError("broken")
    assert capsys.readouterr().err == "x: 1 of 9 images, 60 s\n"


@pytest.mark.parametrize(
    ("unit", "total", "counted"),
    [
        ("B", 4_000_000, "1 B of 4.0 MB"),
        ("guess", 4, "1 of 4 guesses"),
        ("query", 4, "1 of 4 queries"),
        ("file", 4, "1 of 4 files"),
    ],
)
def test_units_are_counted_in_words(
    capsys: pytest.CaptureFixture[str], unit: str, total: int, counted: str
) -> None:
    assert lines_of(capsys, [(60, 1)], total, unit=unit)[0] == f"describing: {counted}, 60 s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (21, "21 s"),
        (119, "119 s"),
        (120, "2 min"),
        (3600, "60 min"),
        (7200, "2 h 0 min"),
        (9000, "2 h 30 min"),
    ],
)
def test_times_are_told_as_one_says_them(
    capsys: pytest.CaptureFixture[str], seconds: float, text: str
) -> None:
    assert lines_of(capsys, [(seconds, 1)], 5)[0] == f"describing: 1 of 5 images, {text}"


def test_a_terminal_has_a_bar_and_a_log_has_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert chosen_progress(quiet=False) is progress_bar
    assert chosen_progress(quiet=True) is silent
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert chosen_progress(quiet=False) is progress_lines
    assert chosen_progress(quiet=True) is silent


def test_commands_that_take_long_can_be_quiet() -> None:
    quiet = {name for name, command in COMMANDS.items() if "quiet" in {each.name for each in command.params}}
    experiments = {name for name in COMMANDS if name.startswith("experiment ")}
    assert quiet == LONG | experiments


def test_lines_go_to_stderr_unless_quiet(
    changeable_exact: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    north, pictures = changeable_exact / "north", changeable_exact / "pictures" / "north"
    words = ("owner", "encrypt", north, pictures, "--again", "--json", *JOBS)
    outcome = done(*words, "-o", tmp_path / "one.h5")
    assert outcome.json["counts"]["images"] == 5
    assert "describing: 5 of 5 images, done in " in outcome.err
    assert "encrypting: 5 of 5 images, done in " in outcome.err
    assert done(*words, "-o", tmp_path / "two.h5", "--quiet").err == ""


def test_every_role_can_be_quiet(changeable_exact: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    root, out = changeable_exact.root, changeable_exact / "out"
    out.mkdir()
    for words in (
        ("kmc", "check", root / "kmc"),
        ("kmc", "rank", root / "kmc", root / "alice.query.h5", "-o", out / "s.h5"),
        ("cloud", "search", root / "cloud", root / "alice.selection.h5", "-o", out / "r.h5"),
        ("cloud", "check", root / "cloud"),
        ("kmc", "reencrypt", root / "kmc", root / "alice.results.h5", "-o", out / "a.h5"),
        ("user", "decrypt", root / "alice", root / "alice.answer.h5", "-o", out / "m"),
    ):
        assert done(*words, "--quiet").err == "", words
