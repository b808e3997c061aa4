"""What is kept of finished experiments."""

from __future__ import annotations

from pathlib import Path

import pytest

from mipp_cli.errors import MalformedError, OutputError
from mipp_cli.experiments.report.workspace import Workspace
from tests.experiments.stand_ins import STORAGE, run, task


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(OutputError, match="not empty"):
        Workspace(tmp_path)
    with pytest.raises(OutputError, match="cannot be created"):
        Workspace(tmp_path / "thesis.txt" / "below")


def test_a_damaged_record_says_what_to_do(tmp_path: Path) -> None:
    run(tmp_path, [task("storage", STORAGE, [])])
    (tmp_path / "done" / "storage.json").write_text('{"experiment": "storage"}')
    with pytest.raises(MalformedError) as caught:
        run(tmp_path, [task("storage", STORAGE, [])])
    assert "delete this file" in str(caught.value.hint)
