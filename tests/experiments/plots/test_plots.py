"""Plots are drawn when asked for, and alike twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mipp_cli.errors import OutputError
from mipp_cli.experiments.accuracy.descriptors import DescriptorsOptions, run_descriptors
from mipp_cli.experiments.base.dataset import load_datasets
from mipp_cli.experiments.base.sampling import QueryChoice
from mipp_cli.experiments.leakage.co_selection import CoSelectionOptions, measure_co_selection
from mipp_cli.experiments.plots.drawings import draw
from mipp_cli.experiments.plots.paper import plot_accuracy
from mipp_cli.experiments.plots.style import FORMS
from mipp_cli.progress import silent
from tests.experiments.patch_model import patch_model
from tests.experiments.stand_ins import ACCURACY
from tests.support.small_datasets import INLINE


def test_matplotlib_is_imported_only_when_a_plot_is_drawn() -> None:
    code = "import sys, mipp_cli.experiments.tasks; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_plot_is_the_same_file_twice(tmp_path: Path) -> None:
    for name in ("a", "b"):
        plot_accuracy(ACCURACY, tmp_path / name)
    for form in FORMS:
        assert (tmp_path / f"a{form}").read_bytes() == (tmp_path / f"b{form}").read_bytes()
    with pytest.raises(OutputError, match="cannot be written"):
        plot_accuracy(ACCURACY, tmp_path / "nowhere" / "a")


def test_another_process_draws_the_same_svg(tmp_path: Path) -> None:
    """Ids inside an SVG would be random, and objects hash by where they lie in memory."""
    code = (
        "import sys; from pathlib import Path; from tests.experiments.stand_ins import ACCURACY; "
        "from mipp_cli.experiments.plots.paper import plot_accuracy; "
        "plot_accuracy(ACCURACY, Path(sys.argv[1]))"
    )
    for name in ("a", "b"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=True)
    texts = [(tmp_path / f"{name}.svg").read_text() for name in ("a", "b")]
    assert texts[0] == texts[1]
    assert "<dc:date>" not in texts[0]


def test_descriptors_are_drawn(drawn: Path, tmp_path: Path) -> None:
    """One that has real numbers beside one that has none."""
    names = ("edge-histogram", f"model:{patch_model(tmp_path / 'tiny')}")
    datasets = load_datasets(drawn, names, parallelism=INLINE)
    results = [
        *run_descriptors(datasets, DescriptorsOptions(QueryChoice(None, None, 1), 5)),
        measure_co_selection(datasets, CoSelectionOptions(50), silent),
    ]
    files = [path.name for path in draw(results, tmp_path)]
    assert files == [
        f"descriptors{part}{form}" for part in ("", "-bits", "-dimensions", "-leakage") for form in FORMS
    ]
