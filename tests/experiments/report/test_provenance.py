"""The commit that figures were made by: of a source checkout, or of an installation."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mipp_cli.experiments.report import provenance
from mipp_cli.experiments.report.provenance import source_commit


def git(folder: Path, *words: str) -> str:
    names = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", folder, *names, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_checkout_says_its_commit_and_whether_it_was_changed(tmp_path: Path) -> None:
    assert source_commit(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert source_commit(tmp_path) is None  # nothing was committed
    (tmp_path / "code.py").write_text("1")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-q", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert source_commit(tmp_path) == commit
    (tmp_path / "results.csv").write_text("a file beside it is no change")
    assert source_commit(tmp_path) == commit
    (tmp_path / "code.py").write_text("2")
    assert source_commit(tmp_path) == f"{commit}, modified"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of one module, committed."""
    folder = tmp_path / "checkout"
    (folder / "mipp_cli" / "deep").mkdir(parents=True)
    (folder / "mipp_cli" / "code.py").write_text("1")
    (folder / ".gitignore").write_text("local*\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


@pytest.mark.parametrize("name", ["new.py", "deep/new.py", "local.py"])
def test_a_module_that_git_does_not_know_counts(checkout: Path, name: str) -> None:
    (checkout / "analysis.py").write_text("of whoever measures, and no module")
    assert source_commit(checkout) == git(checkout, "rev-parse", "HEAD")
    (checkout / "mipp_cli" / name).write_text("2")
    assert source_commit(checkout) == f"{git(checkout, 'rev-parse', 'HEAD')}, modified"


def test_a_tree_that_cannot_be_compared_is_not_called_clean(checkout: Path) -> None:
    (checkout / "mipp_cli" / "code.py").write_text("2")
    (checkout / ".git" / "index").write_bytes(b"no index")
    assert source_commit(checkout) == f"{git(checkout, 'rev-parse', 'HEAD')}, state unknown"


def test_the_environment_names_no_other_checkout(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(checkout / "nowhere"))
    assert source_commit(checkout) == commit


def test_asking_for_the_state_writes_nothing(checkout: Path) -> None:
    index = checkout / ".git" / "index"
    os.utime(checkout / "mipp_cli" / "code.py", (1, 1))  # git would note that it looked
    before = index.read_bytes()
    source_commit(checkout)
    assert index.read_bytes() == before


class Installed:
    """What an installation says of itself."""

    def __init__(self, text: str | None):
        self._text = text

    def read_text(self, _: str) -> str | None:
        """Return direct_url.json."""
        return self._text


@pytest.mark.parametrize(
    ("text", "commit"),
    [
        (None, None),
        ("not JSON", None),
        ("[]", None),
        ('{"url": "file:///src", "dir_info": {"editable": true}}', None),
        ('{"url": "https://example.org/x.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}}', "abc"),
    ],
)
def test_an_installation_says_the_commit_it_is_from(
    text: str | None, commit: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "distribution", lambda _: Installed(text))
    assert provenance.installed_commit() == commit
