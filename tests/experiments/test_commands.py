"""`mipp experiment` through the command line, on drawn pictures."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mipp_cli.experiments import tasks
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.result import Result
from mipp_cli.experiments.report.workspace import EXPERIMENTS
from tests.experiments.patch_model import patch_model
from tests.support.deployment import done, refused, run
from tests.support.small_datasets import draw_dataset

FAST = ("--jobs", "1", "--no-plots")
MASK = ("--scheme", "mask")


def test_accuracy_prints_claims_and_writes_figures(drawn: Path, tmp_path: Path) -> None:
    words = ("experiment", "accuracy", drawn, "-o", tmp_path / "out", *MASK, *FAST)
    outcome = done(*words)
    assert "the paper:  retrieval accuracy about 10 % lower" in outcome.out
    assert "cloud's Sim (Eq. 9)" in outcome.out
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {
        "accuracy.csv", "accuracy-queries.csv", "queries.csv", "equality.csv", "report.html", "report.json",
        "done", "accuracy-table.csv", "accuracy-table.tex", "equality-table.csv", "equality-table.tex",
    }  # fmt: skip
    with (tmp_path / "out" / "queries.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 15
    again = done(*words, "--json").json
    assert again["counts"] == {"experiments": 1, "done before": 1, "images": 18}
    assert again["results"][0]["claims"][0]["where"] == "Fig. 3"


def test_lists_make_a_batch(drawn: Path, tmp_path: Path) -> None:
    done(
        "experiment", "accuracy", drawn, "-o", tmp_path / "out", "--queries", "all", "--returned", "2, 5",
        "--candidates", "3,6", "--scheme", "mask,dcr", "--modulus-bits", "1024", *FAST,
    )  # fmt: skip
    with (tmp_path / "out" / "accuracy.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["returned"] for row in rows} == {"2", "5"}
    assert {row["method"] for row in rows} == {"euclidean", "sim", "end-to-end-3", "end-to-end-6", "chance"}
    assert {row["queries"] for row in rows} == {"18"}
    with (tmp_path / "out" / "equality.csv").open() as file:
        assert [row["scheme"] for row in csv.DictReader(file)] == ["mask", "dcr"]


def test_an_interrupted_run_of_all_continues(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes long is replaced here, and has tests of its own."""
    runs: list[str] = []

    def stand_in(name: str) -> Callable[..., list[Result]]:
        def run(*_: object) -> list[Result]:
            runs.append(name)
            if runs.count("leakage") == 1 and name == "leakage":
                raise KeyboardInterrupt
            return [Result(f"{name}-stand-in", name, [{"value": 1}])]

        return run

    for step, name in (
        ("run_timing", "timing"),
        ("run_storage", "storage"),
        ("run_leakage", "leakage"),
        ("attack_every_scheme", "attack"),
    ):
        monkeypatch.setattr(tasks, step, stand_in(name))
    folder = tmp_path / "out"
    words = ("experiment", "all", drawn, "-o", folder, *MASK, *FAST)
    assert run(*words).code == 130
    accuracy = (folder / "done" / "accuracy.json").read_bytes()
    assert done(*words, "--json").json["counts"]["done before"] == 4
    assert runs == ["timing", "storage", "leakage", "leakage", "attack"]
    assert (folder / "done" / "accuracy.json").read_bytes() == accuracy
    report = json.loads((folder / "report.json").read_text())
    assert [each["experiment"] for each in report["experiments"]] == [
        each for each in EXPERIMENTS if each != "descriptors"
    ]


def test_leakage_is_measured_on_features_of_ones_own(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[DataSet] = []

    def stand_in(dataset: DataSet, *_: object) -> list[Result]:
        seen.append(dataset)
        return [Result("leakage-stand-in", "leakage", [{"value": 1}])]

    monkeypatch.setattr(tasks, "run_leakage", stand_in)
    codes = np.arange(18 * 5, dtype=np.uint8).reshape(18, 5)
    np.save(tmp_path / "own.npy", codes)
    words = ("experiment", "leakage", drawn, "-o", tmp_path / "out", *FAST)
    done(*words, "--descriptor", f"features:{tmp_path / 'own.npy'}")
    assert np.array_equal(seen[0].features, codes)
    refused(10, *words)  # without them it is another run


@pytest.mark.slow
def test_descriptors_are_compared_in_one_run(drawn: Path, tmp_path: Path) -> None:
    model = patch_model(tmp_path / "tiny")
    words = (
        "experiment", "descriptors", drawn, "-o", tmp_path / "out", *MASK, *FAST,
        "--descriptor", "edge-histogram", "--descriptor", f"model:{model}",
        "--queries", "all", "--returned", "5", "--watched", "50",
    )  # fmt: skip
    outcome = done(*words)
    assert "Fig. 3, for model:tiny" in outcome.out
    with (tmp_path / "out" / "descriptors.csv").open() as file:
        found = {(row["descriptor"], row["method"]) for row in csv.DictReader(file)}
    assert {("edge-histogram", "codes"), ("model:tiny", "vectors"), ("model:tiny", "sim")} <= found
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.csv")}
    assert len(files) >= 8
    done(*words, "--force")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.csv")} == files
    refused(10, *words, "--descriptor", f"model:{model / 'model.onnx'}")


@pytest.mark.slow
@pytest.mark.parametrize("names", [(), ("edge-histogram", "colour-edge")])
def test_descriptors_that_have_no_real_numbers(drawn: Path, tmp_path: Path, names: tuple[str, ...]) -> None:
    options = [word for name in names for word in ("--descriptor", name)]
    done("experiment", "descriptors", drawn, "-o", tmp_path / "out", *FAST, *options)
    with (tmp_path / "out" / "descriptors-differences.csv").open() as file:
        pairs = {(row["first"], row["second"]) for row in csv.DictReader(file)}
    between = {("colour-edge", "edge-histogram")} if names else set()
    assert pairs == between | {
        ("codes (Eq. 7)", "KMC's own code (Eq. 7)"),
        ("codes (Eq. 7)", "cloud's Sim (Eq. 9)"),
    }


@pytest.mark.parametrize(
    "command", ["accuracy", "positions", "descriptors", "timing", "storage", "leakage", "all"]
)
def test_a_model_runs_on_the_device_that_is_named(drawn: Path, tmp_path: Path, command: str) -> None:
    """There is no GPU where tests are run: the model is refused, and by name."""
    words = ("experiment", command, drawn, "-o", tmp_path / "out", "--device", "cuda", *FAST)
    assert "no image model to run on cuda" in refused(2, *words).err
    model = patch_model(tmp_path / "tiny")
    outcome = refused(2, *words, "--descriptor", f"model:{model}")
    assert "onnxruntime cannot use cuda on this machine" in outcome.err


@pytest.mark.parametrize("command", ["accuracy", "positions", "timing", "storage"])
def test_the_papers_experiments_take_a_model(drawn: Path, tmp_path: Path, command: str) -> None:
    model = patch_model(tmp_path / "tiny")
    small = {
        "accuracy": MASK,
        "timing": (*MASK, "--sizes", "3", "--repeats", "1"),
        "storage": (*MASK, "--sample", "2"),
    }
    options = ("--descriptor", f"model:{model}", *small.get(command, ()))
    done("experiment", command, drawn, "-o", tmp_path / "out", *options, *FAST)
    (recorded,) = json.loads((tmp_path / "out" / "report.json").read_text())["experiments"]
    assert recorded["options"]["descriptor"]["name"] == "model:tiny"
    assert any("48 codes of 256 levels" in note for note in recorded["results"][0]["notes"])


def test_experiments_share_a_report(drawn: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    done("experiment", "positions", drawn, "-o", folder, *FAST)
    done("experiment", "storage", drawn, "-o", folder, *MASK, "--sample", "2", *FAST)
    text = (folder / "report.html").read_text()
    assert 'id="positions"' in text
    assert 'id="storage"' in text


def test_the_folder_is_named_after_the_data_set(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done("experiment", "positions", drawn, *FAST)
    assert (tmp_path / "experiment-stripes" / "positions.csv").exists()


@pytest.mark.parametrize(
    ("code", "options"),
    [
        (2, ("--queries", "7")),
        (2, ("--queries", "none")),
        (2, ("--returned", "5,x")),
        (2, ("--returned", "99")),
        (2, ("--candidates", "0")),
        (2, ("--scheme", "rot13")),
        (2, ("--modulus-bits", "1000", "--scheme", "paper")),
        (2, ("--collection-categories", "round")),
        (2, ("--collection-categories", "flat,,upright")),
        (2, ("--sample", "10")),
        (2, ("--rankings", "nowhere.csv")),
    ],
)
def test_what_makes_no_sense_is_refused(
    drawn: Path, tmp_path: Path, code: int, options: tuple[str, ...]
) -> None:
    refused(code, "experiment", "accuracy", drawn, "-o", tmp_path / "out", *FAST, *options)


def test_bad_data_sets_are_refused(drawn: Path, tmp_path: Path) -> None:
    for bad in (tmp_path / "nowhere", drawn / "flat", tmp_path):
        refused(2, "experiment", "positions", bad, "-o", tmp_path / "out", *FAST)
    folder = draw_dataset(tmp_path / "set", images=5)
    (folder / "flat" / "broken.png").write_bytes(b"no picture")
    refused(7, "experiment", "positions", folder, "-o", tmp_path / "out", *FAST)
    outcome = done("experiment", "positions", folder, "-o", tmp_path / "out", "--skip-unreadable", *FAST)
    assert "broken.png" in outcome.err


def test_other_options_in_the_same_folder_are_refused(drawn: Path, tmp_path: Path) -> None:
    words = ("experiment", "positions", drawn, "-o", tmp_path / "out", *FAST)
    done(*words)
    refused(10, *words, "--seed", "2")
    done(*words, "--seed", "2", "--force")
