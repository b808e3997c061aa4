"""README and the pages of documentation are true: commands, options, files, links and exit codes exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mipp_cli import errors
from mipp_cli.cli.main import mipp
from tests.docs.commands import PAGE, every_command
from tests.docs.commands import page as page_of_commands

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCS = ROOT / "mipp_cli" / "docs"
INDEX = DOCS / "README.md"
PAGES = [README, *sorted((ROOT / "mipp_cli").rglob("*.md"))]
COMMANDS = {path.removeprefix("mipp "): command for path, command in every_command()}
LEAVES = {path: command for path, command in COMMANDS.items() if not isinstance(command, click.Group)}
MOST_WORDS = 1700
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def code_blocks(page: Path) -> list[tuple[str, str]]:
    """Return the blocks of code of a page: language and text."""
    return BLOCK.findall(page.read_text())


def in_backticks(page: Path) -> list[str]:
    """Return what stands in backticks on a page, outside of blocks."""
    return re.findall(r"`([^`\n]+)`", BLOCK.sub("", page.read_text()))


def command_lines(page: Path) -> Iterator[list[str]]:
    """Yield the words of each command of mipp on a page, without `mipp`, in blocks and in backticks."""
    for language, text in code_blocks(page):
        for line in text.splitlines() if language != "python" else ():
            words = shlex.split(line.removeprefix("$ "), comments=True) if "mipp " in line else []
            if words[:1] == ["mipp"] and not words[1].isdecimal():  # "mipp 2" begins a container
                yield words[1:]
    for span in in_backticks(page):
        words = span.removeprefix("mipp ").split()
        if re.match("mipp [^0-9]", span) or " ".join(words[:2]) in LEAVES:
            yield words


def command_of(words: list[str]) -> click.Command | None:
    """Return the command, or the group, that words on a page begin with."""
    return COMMANDS.get(" ".join(words[:2])) or COMMANDS.get(words[0])


def flags(command: click.Command) -> set[str]:
    """Return the options of a command, and of a group's commands."""
    context = click.Context(command, **mipp.context_settings)
    own = {flag for each in command.get_params(context) for flag in (*each.opts, *each.secondary_opts)}
    if isinstance(command, click.Group):
        found = [command.get_command(context, name) for name in command.list_commands(context)]
        return own.union(*(flags(each) for each in found if each is not None))
    return own


def slugs(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short() -> None:
    assert len(README.read_text().split()) <= MOST_WORDS


def test_the_page_of_commands_is_up_to_date() -> None:
    assert PAGE.read_text() == page_of_commands(), "make docs writes it again"


@pytest.mark.parametrize("start", [README, INDEX], ids=["README.md", "docs/README.md"])
def test_every_page_of_docs_is_linked_from(start: Path) -> None:
    linked = {(start.parent / link).resolve() for link in re.findall(r"\]\(([^)#]+)", start.read_text())}
    assert [page.name for page in DOCS.glob("*.md") if page not in {start, *linked}] == []


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_a_page_of_docs_says_first_what_it_is_for(page: Path) -> None:
    title, _, purpose = page.read_text().partition("\n\n")
    assert title.startswith("# ")
    assert re.match(r"[A-Z`][^\n|]+\.", purpose)


def test_the_exit_codes_are_those_of_the_errors() -> None:
    text = (DOCS / "operations.md").read_text()
    listed = {int(code) for code in re.findall(r"^\| (\d+) \| [a-z]", text, flags=re.MULTILINE)}
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    raised = [each for each in classes if issubclass(each, errors.MippError) and each != errors.MippError]
    assert listed == {each.exit_code for each in raised} | {0}


def test_every_command_can_print_json() -> None:
    assert [path for path, command in LEAVES.items() if "--json" not in flags(command)] == []


@each_page
def test_every_link_and_every_file_named_is_there(page: Path) -> None:
    missing = []
    for link, _, anchor in re.findall(r"\]\(([^)#\s]*)(#([^)]+))?\)", page.read_text()):
        target = page.parent / link if link else page
        if "://" not in link and (not target.exists() or (anchor and anchor not in slugs(target))):
            missing.append(f"{link}#{anchor}")
    missing += [file for file in in_backticks(page) if is_lost_file(file)]
    assert not missing


def is_lost_file(text: str) -> bool:
    """Say whether a text in backticks names a file of this repository that is not there."""
    named = re.fullmatch(r"(tests|mipp_cli|sample_data|docs)/[\w./-]+", text)
    return named is not None and not any((folder / text).exists() for folder in (ROOT, ROOT / "mipp_cli"))


@each_page
def test_every_command_on_a_page_is_there(page: Path) -> None:
    named = re.findall(r"`(?:mipp )?((?:kmc|cloud|owner|user|experiment) [a-z][a-z-]+)\b", page.read_text())
    unknown = [name for name in named if name not in LEAVES]
    unknown += [" ".join(words) for words in command_lines(page) if not is_command(words)]
    assert not unknown


def is_command(words: list[str]) -> bool:
    """Say whether words that follow `mipp` are a command, or stand for any."""
    return words[0].startswith("-") or words[0].isupper() or command_of(words) is not None


@each_page
def test_every_option_on_a_page_is_there(page: Path) -> None:
    every = set.union(*(flags(command) for command in LEAVES.values())) | {"--help", "--version"}
    alone = [span for span in in_backticks(page) if re.match("--?[a-z]", span)]
    unknown = [span for span in alone if re.split("[ ,]", span)[0] not in every]
    for words in command_lines(page):
        command = command_of(words)
        there = every if command is None else flags(command) | {"--help"}
        unknown += [" ".join(words) for word in words if word[:1] == "-" and word not in there]
    assert not unknown


@each_page
def test_every_target_of_make_on_a_page_is_there(page: Path) -> None:
    there = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {span.split()[1] for span in in_backticks(page) if span.startswith("make ")}
    named |= set(re.findall(r"^make ([a-z-]+)", page.read_text(), flags=re.MULTILINE))
    assert named <= there


@each_page
def test_every_picture_on_a_page_is_small(page: Path) -> None:
    pictures = [page.parent / file for file in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text())]
    assert [file for file in pictures if file.stat().st_size > 150_000] == []
