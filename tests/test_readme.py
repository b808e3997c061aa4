"""The README is true: commands, options and exit codes are those that there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mipp_cli import errors
from mipp_cli.cli.main import mipp

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
UNLISTED = {
    "--json",
    "--help",
    "--version",
    "--passphrase-file",
    "--quiet",
    "--verbose",
}  # of many commands, said once


def commands(group: click.Group, path: tuple[str, ...] = ("mipp",)) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def documented() -> dict[str, set[str]]:
    """Return the options that the table of commands names for each command."""
    table = README.partition("\n## Commands\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(mipp [a-z -]*[a-z])[ A-Z].*?\|([^|]*)\|$", table, flags=re.MULTILINE)
    return {command: set(re.findall(r"`(--?[a-z-]+)`", options)) for command, options in rows}


def options_of(command: click.Command) -> set[str]:
    names = set()
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            flags = set(parameter.opts)
            names |= {"-o"} if "-o" in flags else {max(flags, key=len)}
    return names - UNLISTED


def test_the_table_of_commands_lists_every_command() -> None:
    assert set(documented()) == {path for path, _ in commands(mipp)}


@pytest.mark.parametrize(("path", "command"), list(commands(mipp)), ids=str)
def test_the_table_of_commands_names_every_option_of(path: str, command: click.Command) -> None:
    assert documented()[path] == options_of(command)


def test_the_exit_codes_are_those_of_the_errors() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \| [a-z]", README, flags=re.MULTILINE)}
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    raised = [each for each in classes if issubclass(each, errors.MippError) and each != errors.MippError]
    codes = {each.exit_code for each in raised}
    assert listed == codes | {0}


@pytest.mark.parametrize("page", [ROOT / "README.md", *(ROOT / "mipp_cli").rglob("*.md")], ids=str)
def test_every_link_and_every_file_named_in_a_readme_is_there(page: Path) -> None:
    text = page.read_text()
    links = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    named = re.findall(r"`(tests/[\w/.]+\.py)`", text)
    missing = [link for link in links if not (page.parent / link).exists()]
    missing += [file for file in named if not (ROOT / file).exists()]
    assert not missing


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", *(ROOT / "mipp_cli").rglob("*.md")],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_every_command_named_on_a_page_is_there(page: Path) -> None:
    there = {path.partition(" ")[2] for path, _ in commands(mipp)}
    named = re.findall(r"`(?:mipp )?((?:kmc|cloud|owner|user) [a-z][a-z-]+)\b", page.read_text())
    assert [name for name in named if name not in there] == []
