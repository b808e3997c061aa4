"""Plots are drawn when asked for, and alike twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mipp_cli.errors import OutputError
from mipp_cli.experiments.plots.paper import plot_accuracy
from tests.experiments.stand_ins import ACCURACY


def test_matplotlib_is_imported_only_when_a_plot_is_drawn() -> None:
    code = "import sys, mipp_cli.experiments.tasks; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_plot_is_the_same_file_twice(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        plot_accuracy(ACCURACY, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with pytest.raises(OutputError, match="cannot be written"):
        plot_accuracy(ACCURACY, tmp_path / "nowhere" / "a.png")
