"""The commands on the pages, run as they stand there: those of README, and those with their output."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_readme import DOCS, README, code_blocks

ROOT = README.parent
BY_CHANCE = "images are in groups of fewer than"
"""A warning that depends on which images share a group, which a random key decides."""

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that holds `sample_data`, and beside it the commands `mipp` and `python`."""
    (tmp_path / "bin").mkdir()
    for name, words in {"mipp": "-m mipp_cli", "python": ""}.items():
        command = tmp_path / "bin" / name
        command.write_text(f"#!/bin/sh\nexec '{sys.executable}' {words} \"$@\"\n")
        command.chmod(0o755)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "sample_data").symlink_to(ROOT / "sample_data")
    return tmp_path / "work"


def printed(folder: Path, script: str) -> list[str]:
    """Return the lines that a shell prints which runs a script in a folder, errors among them."""
    path = f"{folder.parent / 'bin'}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        ["sh", "-euc", script],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)},
    )
    assert ran.returncode == 0, ran.stdout
    return ran.stdout.splitlines()


def general(lines: list[str]) -> list[str]:
    """Return lines without what is another in every run; the distances of matches are not."""
    return [_general(line) for line in lines if BY_CHANCE not in line]


def _general(line: str) -> str:
    if re.match(r" +\d+ +\d+\.\d{3} ", line):
        return line
    line = re.sub(r"\b[0-9a-f]{16,}\b", "HEX", line)
    line = re.sub(r"[\d.]+ [kM]?B\b", "SIZE", line)
    return re.sub(r"\d+", "N", line)


def steps(text: str) -> list[tuple[str, list[str]]]:
    """Return the commands of a block, each with the lines that it prints."""
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
    return [(first, rest) for first, *rest in (part.splitlines() for part in parts)]


def test_the_walk_of_the_readme_ends_with_matches(folder: Path) -> None:
    blocks = [text for _, text in code_blocks(README) if "mipp kmc init" in text]
    assert len(blocks) == 1
    printed(folder, blocks[0])
    with (folder / "matches" / "matches.csv").open(newline="") as table:
        categories = [row["name"].split("/")[0] for row in csv.DictReader(table)]
    assert categories == ["fundus"] * 4 + ["brain"]


def test_the_demo_of_the_readme_ends_with_its_page(folder: Path) -> None:
    lines = [line for _, text in code_blocks(README) for line in text.splitlines() if "mipp demo" in line]
    assert len(lines) == 1
    printed(folder, lines[0])
    assert (folder / "demo" / "matches" / "matches.html").is_file()


@pytest.mark.parametrize("page", ["walkthrough.md", "pictures.md"])
def test_the_commands_of_a_page_print_what_it_says(folder: Path, page: str) -> None:
    for language, text in code_blocks(DOCS / page):
        if language == "python":
            (folder / text.split()[1].rstrip(":")).write_text(text)
        for command, told in steps(text) if language == "console" else ():
            shown = told.index("…") if "…" in told else None  # what follows it may be anything
            lines = printed(folder, command)
            assert general(lines[:shown]) == general(told[:shown]), command
