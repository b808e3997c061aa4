"""What commands say when a check found damage: every file, for people and for scripts."""

from __future__ import annotations

import json

import pytest

from mipp_cli.cli.messages import report_error
from mipp_cli.errors import DamagedError, Problem

ERROR = DamagedError(
    [Problem("a/x.h5", "block 3"), Problem("a/x.h5", "row 1"), Problem("a/y", "gone")], path="a"
)


def test_all_damage_is_said_one_line_for_each_problem(capsys: pytest.CaptureFixture[str]) -> None:
    assert report_error(ERROR, as_json=False) == 3
    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == ["damaged: a/x.h5: block 3", "damaged: a/x.h5: row 1", "damaged: a/y: gone"]
    assert lines[3] == "error: a: is damaged, in 2 files"


def test_scripts_get_the_problems_as_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    report_error(ERROR, as_json=True)
    problems = json.loads(capsys.readouterr().out)["error"]["problems"]
    assert problems[2] == {"path": "a/y", "message": "gone"}
