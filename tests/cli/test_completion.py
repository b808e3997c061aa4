"""Completion in a shell: a real one asks a real process."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_processes import MIPP, environment

PAGE = Path(__file__).parents[2] / "mipp_cli" / "docs" / "operations.md"


@pytest.fixture
def folder_of_mipp(tmp_path: Path) -> Path:
    """A folder with a command `mipp`, as an installation has it."""
    command = tmp_path / "mipp"
    command.write_text(f"#!/bin/sh\nexec '{sys.executable}' -m mipp_cli \"$@\"\n")
    command.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_is_given_its_source(shell: str) -> None:
    ran = subprocess.run(
        MIPP, env=environment(_MIPP_COMPLETE=f"{shell}_source"), capture_output=True, text=True, check=True
    )
    assert f"_MIPP_COMPLETE={shell}_complete" in ran.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        (["mipp", "own"], ["owner"]),
        (["mipp", "owner", "re"], ["renumber", "revoke"]),
        (["mipp", "cloud", "remove", "--r"], ["--release-name"]),
        (["mipp", "owner", "encrypt", "--payload", "p"], ["pixels"]),
        (["mipp", "fly"], []),
    ],
)
def test_bash_completes_what_is_typed(folder_of_mipp: Path, typed: list[str], completed: list[str]) -> None:
    script = (
        'eval "$(_MIPP_COMPLETE=bash_source mipp)"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=();'
        '_mipp_completion mipp; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    path = f"{folder_of_mipp}:/usr/local/bin:/usr/bin:/bin"
    ran = subprocess.run(
        ["bash", "-c", script, "bash", *typed],
        env=environment(PATH=path),
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split() == completed


def test_the_page_says_how_each_shell_is_told() -> None:
    told = set(re.findall(r"_MIPP_COMPLETE=(\w+)_source mipp", PAGE.read_text()))
    assert told == {"bash", "zsh", "fish"}
