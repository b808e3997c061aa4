"""Rules of the house that no linter checks: what the package may hold, module by module."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "mipp_cli"
MODULES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
MOST_LINES = 300  # that are not blank

each_module = pytest.mark.parametrize("name", MODULES)


def syntax(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(), name)


def public(
    tree: ast.Module | ast.ClassDef,
) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Yield the functions, classes and methods that others may use."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name[0] != "_":
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node)


def test_there_are_modules_to_look_at() -> None:
    assert {"errors.py", "cli/main.py", "containers/base/container.py"} <= set(MODULES)


@each_module
def test_no_module_is_long(name: str) -> None:
    assert sum(1 for line in MODULES[name].read_text().splitlines() if line.strip()) <= MOST_LINES


@each_module
def test_every_module_says_what_it_is_for(name: str) -> None:
    tree = syntax(name)
    assert not tree.body or ast.get_docstring(tree)


@each_module
def test_every_public_function_and_class_says_what_it_does(name: str) -> None:
    assert [node.name for node in public(syntax(name)) if not ast.get_docstring(node)] == []


@each_module
def test_no_module_asks_path_exists(name: str) -> None:
    """From Python 3.14 on, it takes a file that cannot be reached for a missing one; `is_there` does not."""
    asked = (node for node in ast.walk(syntax(name)) if isinstance(node, ast.Attribute))
    assert [node.lineno for node in asked if node.attr == "exists"] == []


def test_the_readme_of_the_house_names_every_room() -> None:
    page = (PACKAGE / "README.md").read_text()
    rooms = {name.partition("/")[0] for name in MODULES if "/" in name}
    assert [room for room in sorted(rooms) if f"`{room}/`" not in page] == []


def test_the_readme_of_the_house_names_modules_that_are_there() -> None:
    table = (PACKAGE / "README.md").read_text().partition("## The roles")[2]
    named = re.findall(r"`((?:\w+/)+\w+\.py)`", table)
    assert len(named) > 20
    assert [name for name in named if name not in MODULES] == []


def test_names_of_tests_are_short() -> None:
    nodes = [
        node
        for path in PACKAGE.parent.glob("tests/**/test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
    ]
    names = {
        node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    assert len(names) > 1000
    assert [name for name in sorted(names) if len(name) >= 60] == []
