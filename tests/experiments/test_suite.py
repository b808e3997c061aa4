"""Experiments run one after the other: what is kept, what is refused, and what is written."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from mipp_cli.compute.processes import Parallelism
from mipp_cli.errors import InterruptedWorkError, InvalidRequestError, OutputError
from mipp_cli.experiments import suite
from mipp_cli.experiments.base.result import Result
from mipp_cli.experiments.report.workspace import Workspace
from mipp_cli.experiments.suite import Task, recorded, run_tasks
from tests.experiments.stand_ins import ACCURACY, STORAGE, run, task


def test_an_interrupted_run_continues(tmp_path: Path) -> None:
    runs: list[str] = []

    def interrupt() -> list[Result]:
        raise KeyboardInterrupt

    folder = tmp_path / "out"
    with pytest.raises(InterruptedWorkError, match="in storage; 1 finished"):
        run(folder, [task("accuracy", ACCURACY, runs), Task("storage", {}, interrupt)])
    outcome = run(folder, [task("accuracy", ACCURACY, runs), task("storage", STORAGE, runs, {"n": 1})])
    assert runs == ["accuracy", "storage"]
    assert outcome.skipped == 1
    assert [result.name for result in outcome.results] == ["accuracy", "sizes"]
    again = run(folder, [task("accuracy", ACCURACY, runs), task("storage", STORAGE, runs, {"n": 1})])
    assert runs == ["accuracy", "storage"]
    assert again.skipped == 2
    assert again.results[0].claims == outcome.results[0].claims


def _fail() -> list[Result]:
    raise InvalidRequestError("the data set is too small", hint="use a larger one")


def test_a_failed_run_says_which_experiments_are_kept(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        run(tmp_path / "out", [task("accuracy", ACCURACY, []), Task("storage", {}, _fail)])
    assert str(caught.value.hint).startswith("use a larger one; 1 finished experiments are kept in ")


@pytest.mark.parametrize("existed", [True, False])
def test_a_failed_run_leaves_no_empty_folder(tmp_path: Path, existed: bool) -> None:
    folder = tmp_path / "out"
    if existed:
        folder.mkdir()
    with pytest.raises(InvalidRequestError):
        run(folder, [Task("storage", {}, _fail)])
    assert folder.exists() == existed
    assert not (folder / "done").exists()


def test_only_the_nested_options_that_changed_are_named(tmp_path: Path) -> None:
    before = {"queries": {"seed": 1, "categories": None}, "settings": [{"bits": 1024}, {"bits": 2048}]}
    after = {"queries": {"seed": 1, "categories": 3}, "settings": [{"bits": 1024}, {"bits": 3072}]}
    run(tmp_path, [task("storage", STORAGE, [], before)])
    changed = r": queries.categories unset → 3, settings\[1\].bits 2048 → 3072$"
    with pytest.raises(OutputError, match=changed):
        run(tmp_path, [task("storage", STORAGE, [], after)])


def test_files_of_a_continued_run_are_those_of_a_whole_one(tmp_path: Path) -> None:
    for name in ("whole", "continued"):
        run(tmp_path / name, [task("accuracy", ACCURACY, [])])
    run(tmp_path / "continued", [task("accuracy", ACCURACY, [])])
    whole, continued = ((tmp_path / name / "accuracy.csv").read_bytes() for name in ("whole", "continued"))
    assert whole == continued


def test_other_options_are_refused_before_anything_is_run(tmp_path: Path) -> None:
    runs: list[str] = []
    run(tmp_path, [task("storage", STORAGE, runs)])
    with pytest.raises(OutputError, match="contains storage with other options: seed 1 → 2"):
        run(tmp_path, [task("accuracy", ACCURACY, runs), task("storage", STORAGE, runs, {"seed": 2})])
    assert runs == ["storage"]
    run(tmp_path, [task("storage", STORAGE, runs, {"seed": 2})], force=True)
    assert runs == ["storage", "storage"]


def test_another_data_set_is_refused(tmp_path: Path) -> None:
    run(tmp_path, [task("storage", STORAGE, [])])
    with pytest.raises(OutputError, match="another data set, 'stripes'"):
        run_tasks(
            [task("accuracy", ACCURACY, [])], {"name": "x", "sha256": "b"}, tmp_path, force=False, plots=False
        )


def test_file_options_are_recorded_by_content(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("query,rank,image\n")
    before = recorded([file, Parallelism(2), (1, None)])
    assert recorded(Workspace) is Workspace  # what is no option passes
    assert before[0]["file"] == "mine.csv"
    file.write_text("other")
    assert recorded(file)["sha256"] != before[0]["sha256"]
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        recorded(tmp_path / "nowhere")


def test_csv_files_have_a_line_for_each_observation(tmp_path: Path) -> None:
    run(tmp_path, [task("accuracy", ACCURACY, [])])
    with (tmp_path / "accuracy.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(ACCURACY.observations)
    assert rows[0] == {key: str(value) for key, value in ACCURACY.observations[0].items()}


def test_plots_of_earlier_options_do_not_stay(tmp_path: Path) -> None:
    run(tmp_path, [task("accuracy", ACCURACY, [])], plots=True)
    assert all((tmp_path / f"accuracy{end}").exists() for end in (".png", ".svg", "-f1.svg"))
    run(tmp_path, [task("accuracy", ACCURACY, [])], force=True)
    assert not [*tmp_path.glob("*.png"), *tmp_path.glob("*.svg")]


def test_without_matplotlib_all_but_plots_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "plots_possible", lambda: False)
    outcome = run(tmp_path, [task("accuracy", ACCURACY, [])], plots=True)
    assert "pip install matplotlib" in outcome.warnings[0]
    assert {path.name for path in tmp_path.iterdir()} == {
        "done",
        "accuracy.csv",
        "accuracy-table.csv",
        "accuracy-table.tex",
        "report.html",
        "report.json",
    }
