"""Passphrases as people and scripts give them: to real processes, from files and at a terminal."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest

from mipp_cli.files.json_state import read_state
from mipp_cli.scheme import passphrase as primitive
from mipp_cli.scheme.passphrase import Stretching
from mipp_cli.workdir.replay import A_DAY, clock_number
from tests.cli.test_help import COMMANDS
from tests.cli.test_processes import mipp
from tests.support.deployment import JOBS, Deployment, check_refusal, done, refused, secrets_of, snapshot
from tests.support.terminal import at_terminal


@pytest.fixture
def passphrase(tmp_path: Path) -> Path:
    path = tmp_path / "passphrase"
    path.touch(mode=0o600)
    path.write_text("open sesame\n")
    return path


@pytest.fixture
def protected(changeable: Deployment, passphrase: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """A deployment of which every directory is protected, at a price that a test can pay."""
    monkeypatch.setattr(primitive, "STRETCHING", Stretching(16, 8, 1))
    for role in ("kmc", "cloud", "alice", "north"):
        done("protect", changeable / role, "--new-passphrase-file", passphrase)
    return changeable


def test_every_role_command_takes_a_passphrase_file() -> None:
    told = 0
    for name, command in COMMANDS.items():
        names = [each.name for each in command.params]
        arguments = [each for each in command.params if isinstance(each, click.Argument)]
        if name == "inspect" or (arguments and arguments[0].name == "directory"):
            assert "passphrase_file" in names, name
            told += 1
    assert told >= 14


@pytest.mark.slow
def test_every_step_works_in_protected_directories(
    deployment: Deployment, protected: Deployment, passphrase: Path
) -> None:
    given = ("--passphrase-file", passphrase)
    root, out = protected.root, [protected / f"out-{number}.h5" for number in range(5)]
    sealing = root / "kmc" / "sealing.pub"
    picture, north = root / "pictures" / "queries" / "q1.png", root / "north"
    (root / "new").mkdir()
    os.link(picture, root / "new" / "new.png")
    secrets = secrets_of(deployment.root)  # the same, and in plain
    steps: list[tuple[object, ...]] = [
        ("owner", "authorize", north, root / "eve" / "user.pub"),
        ("owner", "revoke", north, "eve"),
        ("kmc", "enroll", root / "kmc", north / "enrolment.h5"),
        ("cloud", "enroll", root / "cloud", north / "members.h5"),
        ("owner", "encrypt", north, root / "new", "-o", out[0], "--jobs", "2"),
        ("cloud", "index", root / "cloud", out[0], "--jobs", "2"),
        ("user", "query", root / "alice", picture, "-o", out[1], "--candidates", "20"),
        ("cloud", "search", root / "cloud", out[1], "-o", out[2], *JOBS),
        ("kmc", "reencrypt", root / "kmc", out[2], "-o", out[3]),
        ("user", "decrypt", root / "alice", out[3], "-o", root / "matches", "--top", "1"),
        ("kmc", "rotate-key", root / "kmc"),
        ("user", "update-kmc-key", root / "alice", sealing),
        ("owner", "update-kmc-key", north, sealing),
        ("kmc", "forget-key", root / "kmc"),
        ("kmc", "enroll", root / "kmc", north / "enrolment.h5"),
        ("owner", "rotate-key", north),
        ("kmc", "enroll", root / "kmc", north / "enrolment.h5"),
        ("owner", "delete", north, *deployment.pictures("north"), "new.png", "-o", out[4]),
        ("cloud", "index", root / "cloud", out[4], *JOBS),
        ("owner", "list", north, "--deleted"),
        ("owner", "forget-key", north, "--applied", "{last}"),
        ("owner", "renumber", north, "--above", str(clock_number() + 2 * A_DAY)),
        ("user", "forget", root / "alice", "--all"),
        ("kmc", "status", root / "kmc"),
        ("kmc", "check", root / "kmc"),
        *(("inspect", root / role) for role in ("kmc", "cloud", "alice", "north")),
        ("cloud", "remove", root / "cloud", "north", "--yes"),
        ("kmc", "remove", root / "kmc", "north", "--yes"),
    ]
    for step in steps:
        number = str(read_state(north / "state.json")["number"])  # which is no secret
        words = tuple(number if word == "{last}" else word for word in step)
        before = snapshot(root)
        refused(8, *words)
        assert snapshot(root) == before
        outcome = mipp(*words, *given)
        assert outcome.code == 0, (words, outcome)
        assert outcome.err == ""
        assert "sesame" not in outcome.out
        assert not [secret for secret in secrets if secret in outcome.out]
    assert "new.png" in (root / "matches" / "matches.csv").read_text()


def test_a_terminal_asks_for_a_directorys_passphrase(protected: Deployment) -> None:
    code, shown = at_terminal("inspect", protected / "north", answers=["open sesame"])
    assert code == 0, shown
    assert f"Passphrase of {protected / 'north'}: " in shown
    assert "sesame" not in shown
    code, shown = at_terminal("inspect", protected / "north", answers=["something else"])
    assert code == 8
    assert "the passphrase is wrong" in shown
    code, shown = at_terminal("inspect", protected / "north", answers=[""])
    assert code == 2
    assert "the passphrase is empty" in shown


def test_a_terminal_does_not_ask_where_nothing_is_protected(deployment: Deployment) -> None:
    code, shown = at_terminal("inspect", deployment / "north", answers=[])
    assert code == 0
    assert "assphrase" not in shown


def test_a_terminal_asks_twice_for_a_first_passphrase(
    deployment: Deployment, tmp_path: Path, passphrase: Path
) -> None:
    words = ("--id", "x", "--kmc", deployment / "kmc" / "kmc.pub", "--protect")
    code, shown = at_terminal("user", "init", tmp_path / "x", *words, answers=["open sesame", "open sesam"])
    assert code == 2
    assert "the two passphrases differ" in shown
    assert not (tmp_path / "x").exists()
    code, shown = at_terminal("user", "init", tmp_path / "x", *words, answers=["open sesame", "open sesame"])
    assert code == 0, shown
    assert mipp("inspect", tmp_path / "x", "--passphrase-file", passphrase).code == 0
    check_refusal(mipp("inspect", tmp_path / "x"), 8)


def test_a_terminal_asks_for_the_old_and_the_new_passphrase(protected: Deployment) -> None:
    answers = ["open sesame", "close sesame", "close sesame"]
    code, shown = at_terminal("protect", protected / "north", answers=answers)
    assert code == 0, shown
    code, shown = at_terminal("protect", protected / "north", "--remove", answers=["close sesame"])
    assert code == 0, shown
    assert mipp("inspect", protected / "north").code == 0


def test_without_a_terminal_nothing_is_asked(deployment: Deployment, tmp_path: Path) -> None:
    words = ("--id", "x", "--kmc", deployment / "kmc" / "kmc.pub", "--protect")
    outcome = mipp("user", "init", tmp_path / "x", *words)
    check_refusal(outcome, 2)
    assert "there is no terminal at which to ask for a passphrase" in outcome.err
    assert not (tmp_path / "x").exists()


def test_what_a_locale_cannot_read_is_one_clear_error(protected: Deployment) -> None:
    ascii_alone = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for typed, locale in (("öffne dich", ascii_alone), (b"\xf6ffne dich", {"LC_ALL": "C.UTF-8"})):
        code, shown = at_terminal("inspect", protected / "north", answers=[typed], locale=locale)
        assert (code, "Traceback" in shown) == (2, False), shown
        assert "what was typed is not text in this locale" in shown
