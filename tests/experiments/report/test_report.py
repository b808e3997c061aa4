"""The page stands alone, and says what it was made of."""

from __future__ import annotations

import base64
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

from mipp_cli.experiments.base.result import Claim, Result
from mipp_cli.experiments.suite import run_tasks
from tests.experiments.stand_ins import ACCURACY, DATASET, STORAGE, run, task


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
    assert "first\nsecond" in text


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


def test_the_report_says_where_figures_come_from(tmp_path: Path) -> None:
    command = "mipp experiment accuracy 'my pictures' --seed 1"
    run(tmp_path, [task("accuracy", ACCURACY, [])], command=command)
    report = json.loads((tmp_path / "report.json").read_text())
    made = report["experiments"][0]["environment"]
    assert made["command"] == command
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", made["date"])
    assert "109, 2020, 621–632" in report["paper"]
    text = html.unescape((tmp_path / "report.html").read_text())
    assert command in text
    assert report["paper"] in text
    assert f"{made['date']}." in text
    assert "not & confirmed" in text


def test_tables_and_plots_of_a_result_are_named(tmp_path: Path) -> None:
    run(tmp_path, [task("accuracy", ACCURACY, [])], plots=True)
    (result,) = json.loads((tmp_path / "report.json").read_text())["experiments"][0]["results"]
    assert result["tables"] == ["accuracy-table.csv", "accuracy-table.tex"]
    assert result["plots"] == ["accuracy.png", "accuracy.svg", "accuracy-f1.png", "accuracy-f1.svg"]
    assert all((tmp_path / name).exists() for name in (*result["tables"], *result["plots"]))


def test_names_are_escaped_wherever_they_stand(tmp_path: Path) -> None:
    bad = '<script>alert(1)</script>" onload="x $name & co'
    row = {"what": bad, bad: 1}
    result = Result("sizes", bad, [row], [Claim(bad, bad, bad, bad)], [bad])
    dataset = {**DATASET, "name": bad}
    tasks = [task("accuracy", ACCURACY, []), task("storage", result, [], {"file": bad})]
    run_tasks(tasks, dataset, tmp_path, force=False, plots=False)
    text = (tmp_path / "report.html").read_text()
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    assert "script" not in page.seen
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;&quot; onload=&quot;x $name &amp; co") >= 10
