"""Where the process begins: an interrupt is no traceback, however early it comes."""

from __future__ import annotations

import builtins
import json
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from mipp_cli.cli import entry
from mipp_cli.cli import main as program
from tests.support.deployment import Outcome, check_refusal

ROOT = Path(__file__).parents[2]


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> dict[int, object]:
    """The signal handlers that the entry sets, which this process is spared."""
    set_: dict[int, object] = {}
    monkeypatch.setattr(signal, "signal", set_.__setitem__)
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_DFL)
    return set_


def interrupted(capsys: pytest.CaptureFixture[str]) -> Outcome:
    with pytest.raises(SystemExit) as caught:
        entry.main()
    code = caught.value.code
    assert isinstance(code, int)
    return Outcome(code, *capsys.readouterr())


def interrupting_once(real: Callable[..., object]) -> Callable[..., object]:
    left = ["mipp_cli.cli"]

    def load(
        name: str,
        globals_: Mapping[str, object] | None = None,
        locals_: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> object:
        if name in left and "main" in (fromlist or ()):
            left.remove(name)
            raise KeyboardInterrupt
        return real(name, globals_, locals_, fromlist, level)

    return load


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_an_interrupt_while_modules_are_loaded_is_a_message(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    handlers: dict[int, object],
    words: list[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["mipp", "inspect", ".", *words])
    with monkeypatch.context() as patched:
        patched.setattr(builtins, "__import__", interrupting_once(builtins.__import__))
        outcome = interrupted(capsys)
    assert outcome.code == 130
    assert outcome.err == "error: interrupted\nhint: run the command again\n"
    if words:
        assert json.loads(outcome.out)["error"]["class"] == "InterruptedWorkError"
    else:
        check_refusal(outcome, 130)
    assert handlers[signal.SIGINT] == signal.SIG_IGN


@pytest.mark.usefixtures("handlers")
def test_an_interrupt_outside_of_a_command_is_a_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "main", interrupt)
    monkeypatch.setattr(sys, "argv", ["mipp", "inspect", "."])
    check_refusal(interrupted(capsys), 130)


def test_signals_are_caught_before_modules_are_loaded(
    monkeypatch: pytest.MonkeyPatch, handlers: dict[int, object]
) -> None:
    seen: dict[int, object] = {}
    monkeypatch.setattr(program, "main", lambda: seen.update(handlers))
    entry.main()
    assert seen == dict.fromkeys((signal.SIGTERM, signal.SIGHUP), signal.default_int_handler)


def test_a_signal_that_whoever_started_us_ignores_stays_ignored(
    monkeypatch: pytest.MonkeyPatch, handlers: dict[int, object]
) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_IGN)
    monkeypatch.setattr(program, "main", lambda: None)
    entry.main()
    assert handlers == {}


def test_the_installed_command_begins_at_the_entry() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"mipp": "mipp_cli.cli.entry:main"}


def test_a_wrong_option_is_named_where_no_command_can_be_loaded() -> None:
    program = (
        "import sys; from mipp_cli.cli import main; sys.modules['mipp_cli.cli.options'] = None;"
        "sys.argv = ['mipp', '--bad', 'kmc', 'init']; main.main()"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stderr == "error: No such option '--bad'.\nhint: see mipp --help\n"


def test_a_crash_writes_no_core_file_with_keys_in_it(tmp_path: Path) -> None:
    program = (
        "import os, resource, sys; from mipp_cli.cli import entry; entry.forbid_core_files();"
        "print(resource.getrlimit(resource.RLIMIT_CORE)[0] <= 1, flush=True); os.abort()"
    )
    crashed = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert crashed.returncode == -signal.SIGABRT
    assert crashed.stdout == "True\n"
    assert list(tmp_path.iterdir()) == []
