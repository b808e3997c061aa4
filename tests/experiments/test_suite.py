"""The output folder and the report: what is kept, what is refused, and that the page stands alone."""

from __future__ import annotations

import base64
import csv
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mipp_cli.compute.processes import Parallelism
from mipp_cli.errors import InterruptedWorkError, InvalidRequestError, MalformedError, OutputError
from mipp_cli.experiments import suite
from mipp_cli.experiments.base.result import Claim, Result
from mipp_cli.experiments.plots.figures import plot_accuracy
from mipp_cli.experiments.report.tables import key_table
from mipp_cli.experiments.report.workspace import Workspace
from mipp_cli.experiments.suite import Task, recorded, run_tasks

DATASET = {"name": "stripes", "sha256": "a" * 64, "images": 3}
ACCURACY = Result(
    "accuracy",
    "Fig. 3 & 4",
    [
        {"method": method, "label": method.title(), "measure": measure, "returned": count,
         "mean": 0.5, "low": 0.25, "high": 0.75, "queries": 3}
        for method in ("euclidean", "chance")
        for measure in ("precision", "recall", "f1")
        for count in (1, 2)
    ],
    [Claim("Fig. 3", "10 % <lower>", "first\nsecond")],
    ["one note & another"],
)  # fmt: skip
STORAGE = Result("sizes", "Table 3", [{"what": "index", "bytes": 12345, "share": 0.25, "by": None}])


def task(experiment: str, result: Result, runs: list[str], options: dict[str, Any] | None = None) -> Task:
    def run() -> list[Result]:
        runs.append(experiment)
        return [result]

    return Task(experiment, options or {"seed": 1}, run)


def run(folder: Path, tasks: Sequence[Task], **changes: Any) -> suite.Outcome:
    return run_tasks(tasks, DATASET, folder, **{"force": False, "plots": False, **changes})


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


def test_files_of_a_continued_run_are_those_of_a_whole_one(tmp_path: Path) -> None:
    for name in ("whole", "continued"):
        run(tmp_path / name, [task("accuracy", ACCURACY, [])])
    run(tmp_path / "continued", [task("accuracy", ACCURACY, [])])
    whole, continued = ((tmp_path / name / "accuracy.csv").read_bytes() for name in ("whole", "continued"))
    assert whole == continued


def test_other_options_are_refused_before_anything_is_run(tmp_path: Path) -> None:
    runs: list[str] = []
    run(tmp_path, [task("storage", STORAGE, runs)])
    with pytest.raises(OutputError, match="holds storage with other options: seed 1 → 2"):
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


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(OutputError, match="not empty"):
        Workspace(tmp_path)
    with pytest.raises(OutputError, match="cannot be made"):
        Workspace(tmp_path / "thesis.txt" / "below")


def test_a_damaged_record_says_what_to_do(tmp_path: Path) -> None:
    run(tmp_path, [task("storage", STORAGE, [])])
    (tmp_path / "done" / "storage.json").write_text('{"experiment": "storage"}')
    with pytest.raises(MalformedError) as caught:
        run(tmp_path, [task("storage", STORAGE, [])])
    assert "remove it" in str(caught.value.hint)


def test_options_are_recorded_by_content_and_without_the_workplace(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("query,rank,image\n")
    before = recorded([file, Parallelism(2), (1, None)])
    assert recorded(Workspace) is Workspace  # what is no option passes
    assert before[0]["file"] == "mine.csv"
    file.write_text("other")
    assert recorded(file)["sha256"] != before[0]["sha256"]
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        recorded(tmp_path / "nowhere")


class Page(HTMLParser):
    """What a page points to, and whether its tags close."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.open: list[str] = []
        self.seen: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note targets and open tags."""
        self.seen.append(tag)
        self.targets += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]
        self.ids |= {value or "" for name, value in attrs if name == "id"}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the tag that was opened last."""
        assert self.open.pop() == tag


def test_the_report_is_one_file_that_needs_no_network(tmp_path: Path) -> None:
    run(tmp_path, [task("accuracy", ACCURACY, []), task("storage", STORAGE, [])], plots=True)
    text = (tmp_path / "report.html").read_text()
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    assert not {"script", "link", "iframe", "object"} & set(page.seen)
    for target in page.targets:
        assert target.startswith("data:image/png;base64,") or target[1:] in page.ids
    assert not re.search(r"url\(|@import|https?://", text)
    images = [target for target in page.targets if target.startswith("data:")]
    assert [base64.b64decode(image.partition(",")[2])[:4] for image in images] == [
        b"\x89PNG"
    ] * 2  # Fig. 3 and 4
    assert "10 % &lt;lower&gt;" in text
    assert "first<br>second" in text


def test_the_report_records_seed_versions_machine_and_data_set(tmp_path: Path) -> None:
    run(tmp_path, [task("accuracy", ACCURACY, [])])
    report = json.loads((tmp_path / "report.json").read_text())
    (fields,) = report["experiments"]
    assert fields["options"] == {"seed": 1}
    assert fields["dataset"] == DATASET
    assert {"mipp", "python", "numpy"} <= set(fields["environment"]["versions"])
    assert fields["environment"]["machine"]["processor"]
    assert fields["results"][0]["claims"][0]["claimed"] == "10 % <lower>"
    assert fields["results"][0]["csv"] == "accuracy.csv"
    assert DATASET["sha256"] in (tmp_path / "report.html").read_text()


def test_csv_files_have_a_line_for_each_observation(tmp_path: Path) -> None:
    run(tmp_path, [task("accuracy", ACCURACY, [])])
    with (tmp_path / "accuracy.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(ACCURACY.observations)
    assert rows[0] == {key: str(value) for key, value in ACCURACY.observations[0].items()}


def test_plots_of_earlier_options_do_not_stay(tmp_path: Path) -> None:
    run(tmp_path, [task("accuracy", ACCURACY, [])], plots=True)
    assert (tmp_path / "accuracy.png").exists()
    run(tmp_path, [task("accuracy", ACCURACY, [])], force=True)
    assert not (tmp_path / "accuracy.png").exists()


def test_without_matplotlib_all_but_plots_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "plots_possible", lambda: False)
    outcome = run(tmp_path, [task("accuracy", ACCURACY, [])], plots=True)
    assert "mipp-cli[plots]" in outcome.warnings[0]
    assert {path.name for path in tmp_path.iterdir()} == {
        "done",
        "accuracy.csv",
        "report.html",
        "report.json",
    }


def test_matplotlib_is_imported_only_when_a_plot_is_drawn() -> None:
    code = "import sys, mipp_cli.experiments.tasks; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_plot_is_the_same_file_twice(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        plot_accuracy(ACCURACY, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with pytest.raises(OutputError, match="cannot be written"):
        plot_accuracy(ACCURACY, tmp_path / "nowhere" / "a.png")


def test_tables_show_key_figures() -> None:
    table = key_table(ACCURACY)
    assert table is not None
    assert table.header == ("method", "precision at 1", "precision at 2", "recall at 2", "f1 at 2")
    assert table.rows[0][1] == "0.500 [0.250, 0.750]"
    table = key_table(STORAGE)
    assert table is not None
    assert table.lines() == ["what    bytes  share  by", "index  12,345   0.25"]
    assert key_table(STORAGE, most_rows=0) is None
