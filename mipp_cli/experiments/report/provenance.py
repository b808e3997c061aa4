"""The provenance of figures: the paper, the date, the command and the source commit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final

from mipp_cli.files.folders import is_there

PAPER: Final = (
    "M. Shen, G. Cheng, L. Zhu, X. Du, J. Hu, “Content-based multi-source encrypted image retrieval in "
    "clouds with privacy preservation”, Future Generation Computer Systems 109, 2020, 621–632; preprint 2018"
)
_SECONDS: Final = 10
_ROOT: Final = Path(__file__).parents[3]
_PACKAGE: Final = Path(__file__).parents[2].name


def provenance(command: str) -> dict[str, Any]:
    """Return date (UTC), command line and the package's source commit as JSON fields."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "command": command or "none",
        "commit": source_commit(_ROOT) or installed_commit() or "none",
    }


def source_commit(root: Path) -> str | None:
    """Return the commit of a source checkout at ``root``, and whether modules are modified; None without one.

    Untracked modules count as modifications, even ignored ones: they are imported all the same.
    """
    git = shutil.which("git")
    if git is None or not is_there(root / ".git"):
        return None
    commit = _git(git, root, "rev-parse", "HEAD")
    if commit is None:
        return None
    changed = _git(git, root, "status", "--porcelain", "--untracked-files=no")
    unknown = _git(git, root, "ls-files", "--others", "--", f"{_PACKAGE}/*.py")
    if changed or unknown:
        return f"{commit}, modified"
    return f"{commit}, state unknown" if changed is None or unknown is None else commit


def _git(git: str, root: Path, *words: str) -> str | None:
    """Return git's output for the checkout at ``root``, regardless of git's environment variables.

    Optional locks are off, so it writes nothing and does not interfere with other git commands.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(  # noqa: S603 -- the words are those above, none is anybody's input
            [git, "--no-optional-locks", "-C", str(root), *words],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=True,
            env=environment,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip()


def installed_commit() -> str | None:
    """Return the commit that pip installed the package from, according to direct_url.json, or None."""
    try:
        text = distribution("mipp-cli").read_text("direct_url.json")
        commit = json.loads(text or "{}").get("vcs_info", {}).get("commit_id")
    except (PackageNotFoundError, OSError, ValueError, AttributeError):
        return None
    return commit if isinstance(commit, str) else None
