"""A disk that turns read-only when a file of former keys is to be removed: nobody overlooks them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mipp_cli.files.atomic import TEMPORARY
from mipp_cli.scheme import passphrase
from tests.faults.command import Command
from tests.faults.commands import COMMANDS
from tests.faults.process import broken_off
from tests.faults.store import opening
from tests.support.deployment import Deployment, Outcome, check_refusal, done, snapshot

pytestmark = pytest.mark.slow

_BY_NAME = {command.name: command for command in COMMANDS}
_DROP_FORMER = Command(
    "kmc rotate-key --drop-former",
    lambda store: ("kmc", "rotate-key", store / "kmc", "--drop-former"),
    prepare=_BY_NAME["kmc forget-key"].prepare,
)
# by command, the directory that it changes
CHANGES = [
    (_DROP_FORMER, "kmc"),
    (_BY_NAME["kmc forget-key"], "kmc"),
    (_BY_NAME["kmc enroll (forgotten key), exact"], "kmc"),
    (_BY_NAME["owner forget-key"], "north"),
    (_BY_NAME["protect"], "alice"),
    (_BY_NAME["protect (change)"], "alice"),
]
_SECRETS = (".secrets.json.", ".north.json.")  # the latter is what the KMC knows of an owner


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passphrase, "STRETCHING", passphrase.Stretching(16, 8, 1))


def kept(directory: Path) -> list[str]:
    """Return the replaced files of secrets that still lie in a directory."""
    found = (path for path in directory.rglob(".*") if TEMPORARY.fullmatch(path.name))
    return [str(path) for path in found if path.name.startswith(_SECRETS)]


@pytest.fixture(scope="module", params=CHANGES, ids=lambda change: change[0].name)
def ended(
    request: pytest.FixtureRequest, stores: Callable[[str], Deployment], scratch: Path
) -> Iterator[list[tuple[Deployment, str, Outcome]]]:
    """Give the stores that a command leaves whose disk turns read-only at each removal of such a file."""
    command, name = request.param
    with TemporaryDirectory(dir=scratch) as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(passphrase, "STRETCHING", passphrase.Stretching(16, 8, 1))
        prepared = stores(command.scheme).copy(Path(folder) / "prepared")
        command.prepare(prepared)
        boundaries = broken_off(command.words(whole := prepared.copy(Path(folder) / "whole"))).boundaries
        assert kept(whole / name) == []
        endings = []
        for at, boundary in enumerate(boundaries, start=1):
            if boundary.call == "unlink" and Path(boundary.place).name.startswith(_SECRETS):
                broken = prepared.copy(Path(folder) / str(at))
                outcome = broken_off(command.words(broken), "read-only", at).outcome
                assert outcome is not None
                if kept(broken / name):  # or else it was renamed before, and nothing was there to remove
                    endings.append((broken, name, outcome))
        yield endings


def test_a_command_that_leaves_former_keys_says_where(ended: list[tuple[Deployment, str, Outcome]]) -> None:
    succeeded = [(kept(store / name), outcome.err) for store, name, outcome in ended if outcome.code == 0]
    assert succeeded
    for left, said in succeeded:
        assert all(
            f"warning: {path} may contain former keys but could not be removed" in said for path in left
        ), said


def test_a_command_that_failed_leaves_keys_that_are_in_use(
    ended: list[tuple[Deployment, str, Outcome]],
) -> None:
    for _, _, outcome in ended:
        if outcome.code:
            check_refusal(outcome, 10)
            assert "read-only" in outcome.err


def test_no_change_is_made_while_former_keys_stay(
    stores: Callable[[str], Deployment], tmp_path: Path
) -> None:
    store = stores("mask").copy(tmp_path / "store")
    left = store / "kmc" / ".secrets.json.0123456789ab.tmp"
    left.write_text("former keys")
    words = ("kmc", "rotate-key", store / "kmc")
    before = snapshot(store / "kmc")
    found = broken_off(("kmc", "rotate-key", store.copy(tmp_path / "copy") / "kmc")).boundaries
    at = next(at for at, boundary in enumerate(found, start=1) if Path(boundary.place).name == left.name)
    outcome = broken_off(words, "read-only", at).outcome
    assert outcome is not None
    check_refusal(outcome, 10)
    assert f"{left}: may contain former keys but cannot be removed" in outcome.err
    assert snapshot(store / "kmc") == before


def test_the_next_command_removes_former_keys(ended: list[tuple[Deployment, str, Outcome]]) -> None:
    for store, name, _ in ended:
        broken = kept(store / name)
        said = done("inspect", store / name, *opening(store / name)).err
        assert (kept(store / name), "former keys" in said) == ([], False), broken
