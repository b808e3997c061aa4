"""``mipp_cli/docs/commands.md``, generated from the commands: ``python -m tests.docs.commands --write``."""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click

from mipp_cli.cli.main import mipp

PAGE = Path(__file__).parents[2] / "mipp_cli" / "docs" / "commands.md"
COMMON = 10  # an option that so many commands have in the same words is described once
HEAD = """# Commands

This page lists every command with its arguments and options. It is generated from the commands; do not edit
it: `make docs` writes it again.

`mipp COMMAND --help` prints the same. A role's directory is the first argument of its commands. Values in
capitals or file names, such as `OWNER` or `upload.h5`, are for you to choose.
"""

Record = tuple[str, str]


def every_command(
    group: click.Group = mipp, path: tuple[str, ...] = ("mipp",)
) -> Iterator[tuple[str, click.Command]]:
    """Yield each command and group below ``group``, with the words that one types for it."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        yield " ".join((*path, name)), command
        if isinstance(command, click.Group):
            yield from every_command(command, (*path, name))


def page() -> str:
    """Return the page as it ought to be."""
    found = [(path, command, _context(path, command)) for path, command in every_command()]
    records = {path: _records(command, context) for path, command, context in found}
    times = Counter(record for each in records.values() for record in each if record[0] != "--help")
    common = {record for record, count in times.items() if count >= COMMON}
    parts = [HEAD, _common_options(common)]
    for path, command, context in found:
        parts.append(_section(path, command, context, records[path], common))
    return "\n".join(parts)


def _context(path: str, command: click.Command) -> click.Context:
    root = click.Context(mipp, **mipp.context_settings)  # whose names of the help option are all commands'
    return click.Context(command, parent=root, info_name=path, terminal_width=1000, max_content_width=1000)


def _records(command: click.Command, context: click.Context) -> list[Record]:
    options = [each for each in command.get_params(context) if isinstance(each, click.Option)]
    return [record for each in options if (record := each.get_help_record(context)) is not None]


def _common_options(common: set[Record]) -> str:
    lines = [_option(record) for record in sorted(common)]
    return "\n".join(["## Common options", "", "Many commands have these:", "", *lines, ""])


def _section(
    path: str, command: click.Command, context: click.Context, records: list[Record], common: set[Record]
) -> str:
    is_group = isinstance(command, click.Group)
    lines = [f"{'##' if is_group or path.count(' ') == 1 else '###'} `{path}`", ""]
    if not is_group:
        lines += ["```", f"{path} {' '.join(command.collect_usage_pieces(context))}", "```", ""]
    lines += [*_text(command.help or ""), ""]
    if not is_group:
        own = [_option(record) for record in records if record not in common and record[0] != "--help"]
        lines += [*_arguments(command, context), *own]
        shared = [_flag(record) for record in records if record in common]
        lines += [f"- common options: {', '.join(shared)}"] if shared else []
        lines.append("")
    return "\n".join(lines)


def _arguments(command: click.Command, context: click.Context) -> Iterator[str]:
    for each in command.get_params(context):
        if isinstance(each, click.Argument):
            name = re.sub(r"\.\.\.$|[\[\]]", "", each.make_metavar(context)).removesuffix("...")
            needed = "required" if each.required else "optional"
            yield f"- `{name}`: {needed}{', one or more' if each.required and each.nargs == -1 else ''}"


def _option(record: Record) -> str:
    names, text = record
    text = re.sub(r" {2}\[([^\]]*)\]", r" (\1)", text)
    return f"- `{names}`: {_escaped(text)}"


def _flag(record: Record) -> str:
    return f"`{re.split(r'[ ,/]', record[0].split(', ')[-1])[0]}`"


def _text(text: str) -> Iterator[str]:
    """Yield a command's text as Markdown: what click would not wrap becomes a block of code."""
    for number, paragraph in enumerate(inspect.cleandoc(text).split("\n\n")):
        if number:
            yield ""
        if paragraph.startswith("\b"):
            yield from ("```", *paragraph.split("\n")[1:], "```")
        else:
            yield _escaped(" ".join(paragraph.split()))


def _escaped(text: str) -> str:
    """Keep Markdown from reading signs of a sentence as its own, but for code in backticks."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(each if each.startswith("`") else each.replace("*", r"\*") for each in pieces)


def main() -> None:
    """Write the page, or say whether it is up to date."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--write", action="store_true", help="write the page")
    if parser.parse_args().write:
        PAGE.write_text(page())
    elif PAGE.read_text() != page():
        sys.exit(f"{PAGE.name} is out of date: make docs")


if __name__ == "__main__":
    main()
