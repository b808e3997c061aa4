"""What a release says of itself agrees: version, date, licence, and the pages for contributors."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path

import pytest

from mipp_cli import __version__
from tests.support.release import LICENCE, check_contents

ROOT = Path(__file__).parent.parent
PAGES = ROOT / ".github"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IN_THE_WHEEL = f"mipp_cli-{__version__}.dist-info/licenses/{LICENCE}"
MADE_UP = ("KIND", "NAME", "audit")  # stand for what a contributor adds


def versions() -> list[tuple[str, str]]:
    """Return the versions of the changelog and their dates, the newest first."""
    text = (PAGES / "CHANGELOG.md").read_text()
    heads = re.findall(r"^## \[([^]]+)\](?: - (\d{4}-\d\d-\d\d))?$", text, flags=re.MULTILINE)
    assert heads[0] == ("Unreleased", "")
    return heads[1:]


def test_the_changelog_ends_with_this_version() -> None:
    assert versions()[0][0] == __version__
    assert all(date for _, date in versions())


def test_the_citation_is_of_this_version() -> None:
    citation = (PAGES / "CITATION.cff").read_text()
    fields = dict(re.findall(r"^(version|date-released|license): (.*)$", citation, flags=re.MULTILINE))
    version, date = versions()[0]
    assert fields == {"version": version, "date-released": date, "license": PROJECT["license"]}


def test_the_licence_is_the_text_of_apache_2_0() -> None:
    digest = hashlib.sha256((ROOT / LICENCE).read_bytes()).hexdigest()
    assert digest == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    assert PROJECT["license-files"] == [LICENCE]


def test_files_that_contributors_are_sent_to_are_there() -> None:
    text = (PAGES / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`((?:mipp_cli|tests|\.github|\.ci)/[\w./]*)`", text)
    assert len(named) > 30
    assert [
        name for name in named if not any(m in name for m in MADE_UP) and not (ROOT / name).exists()
    ] == []


def test_names_in_code_that_contributors_are_sent_to_are_there() -> None:
    text = (PAGES / "CONTRIBUTING.md").read_text()
    found = re.findall(r"`([A-Z_]{5,})`[^`]*?(?:in|of) `([\w/.]+\.py)`", text)
    assert len(found) > 5
    assert [name for name, file in found if not re.search(rf"\b{name}\b", (ROOT / file).read_text())] == []


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.name)
def test_links_of_the_pages_lead_somewhere(page: Path) -> None:
    links = [target for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()) if "://" not in target]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_hooks_run_from_the_environment_alone() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"repo: (.*)", text) == ["local"]
    programs = re.findall(r"entry: (\S+)", text)
    linted = (ROOT / "Makefile").read_text().partition("\nlint: ")[2].partition("\n\n")[0]
    assert {Path(program).name for program in programs} == {*re.findall(r"\(VENV\)/bin/(\S+)", linted)}
    assert {str(Path(program).parent) for program in programs} == {".venv/bin"}


def test_a_whole_wheel_passes() -> None:
    check_contents({IN_THE_WHEEL: b"", "mipp_cli/a.py": b""}, {"mipp_cli/a.py"})


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"mipp_cli/a.py"}, "no licence"),
        ({IN_THE_WHEEL}, "differ in mipp_cli/a.py"),
        ({IN_THE_WHEEL, "mipp_cli/a.py", "tests/test_a.py"}, "differ in tests/test_a.py"),
    ],
)
def test_a_wheel_that_lacks_or_adds_something_is_refused(names: set[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        check_contents(dict.fromkeys(names, b""), {"mipp_cli/a.py"})
