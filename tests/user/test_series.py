"""Matches that are DICOM files: what they belong to, and how many of one series are kept."""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.images.made_dicom import made, slice_of_body
from tests.support.deployment import Deployment, done, refused, shared_deployment
from tests.support.forgery import Picture, publish

HOSTILE = '"><script>alert(1)</script>'


def scan(number: int, series: str) -> Picture:
    content = made(slice_of_body(number), StudyInstanceUID="1.2.4", SeriesInstanceUID=series)
    return Picture(f"slice-{number}", "application/dicom", content)


def hostile_scan() -> Picture:
    sound = scan(6, "1" * len(HOSTILE))
    content = sound.content.replace(b"1" * len(HOSTILE), HOSTILE.encode())
    return replace(sound, content=content.replace(b"1.2.4\0", b"=1+1+1"))


@pytest.fixture(scope="module")
def answer(session_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Deployment, Path]:
    """An answer with six slices of two series, one whose UID is no UID, and ten photographs."""
    made = shared_deployment(session_folder, "mask").copy(tmp_path_factory.mktemp("series") / "deployment")
    slices = [scan(number, "1.2.5") for number in range(4)] + [scan(number, "1.2.6") for number in (4, 5)]
    publish(made, "north", [*slices, hostile_scan()])
    return made, made.answer(made.search(made.ask("alice", candidates=100, pictures=("q1.png",))))


def rows(answer: tuple[Deployment, Path], folder: Path, *words: object) -> list[dict[str, str]]:
    deployment, reencrypted = answer
    done("user", "decrypt", deployment / "alice", reencrypted, "-o", folder, *words)
    with (folder / "matches.csv").open(newline="") as table:
        return list(csv.DictReader(table))


def test_the_table_has_study_and_series_of_dicom(answer: tuple[Deployment, Path], tmp_path: Path) -> None:
    found = {row["name"]: row for row in rows(answer, tmp_path / "m", "--top", 100)}
    assert (found["slice-0"]["study"], found["slice-0"]["series"]) == ("1.2.4", "1.2.5")
    assert found["slice-4"]["series"] == "1.2.6"
    photographs = [row for name, row in found.items() if not name.startswith("slice")]
    assert {(row["study"], row["series"]) for row in photographs} == {("", "")}


def test_what_is_no_uid_is_not_shown(answer: tuple[Deployment, Path], tmp_path: Path) -> None:
    found = {row["name"]: row for row in rows(answer, tmp_path / "m", "--top", 100)}
    assert (found["slice-6"]["study"], found["slice-6"]["series"]) == ("", "")
    assert HOSTILE not in (tmp_path / "m" / "matches.html").read_text()


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_series_fills_no_more_than_its_share(
    answer: tuple[Deployment, Path], tmp_path: Path, most: int
) -> None:
    every = rows(answer, tmp_path / "all", "--top", 100)
    kept = rows(answer, tmp_path / "m", "--top", 100, "--per-series", most)
    expected, taken = [], {"": -100, "1.2.5": 0, "1.2.6": 0}
    for row in every:
        taken[row["series"]] += 1
        if taken[row["series"]] <= most:
            expected.append(row["name"])
    assert [row["name"] for row in kept] == expected
    assert [row["rank"] for row in kept] == [str(rank) for rank in range(1, len(kept) + 1)]


def test_others_take_the_place_of_a_full_series(answer: tuple[Deployment, Path], tmp_path: Path) -> None:
    deployment, reencrypted = answer
    count = len(rows(answer, tmp_path / "all", "--top", 100))
    words = ("--top", count - 4, "--per-series", 1)
    told = done("user", "decrypt", deployment / "alice", reencrypted, "-o", tmp_path / "m", *words, "--json")
    assert told.json["counts"]["matches"] == count - 4
    assert told.json["counts"]["left out by series"] == 4


def test_a_limit_that_limits_nothing_is_told(answer: tuple[Deployment, Path], tmp_path: Path) -> None:
    deployment, _ = answer
    photographs = deployment / "alice.answer.h5"
    told = done(
        *("user", "decrypt", deployment / "alice", photographs, "-o", tmp_path / "m"), "--per-series", 1
    )
    assert "--per-series had no effect" in told.err


def test_less_than_one_of_a_series_is_refused(answer: tuple[Deployment, Path], tmp_path: Path) -> None:
    deployment, reencrypted = answer
    words = ("user", "decrypt", deployment / "alice", reencrypted, "-o", tmp_path / "m", "--per-series", 0)
    assert "at least one match of a series" in refused(2, *words).err


def test_without_pydicom_the_reader_is_told(
    answer: tuple[Deployment, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment, reencrypted = answer
    monkeypatch.setitem(sys.modules, "pydicom", None)
    words = ("user", "decrypt", deployment / "alice", reencrypted, "--top", 100, "-o", tmp_path / "m")
    assert "7 matches cannot be shown; to read DICOM files: pip install pydicom" in done(*words).err
    outcome = refused(2, *words[:-1], tmp_path / "n", "--per-series", 1)
    assert "series are read with pydicom" in outcome.err and "pip install pydicom" in outcome.err


def test_the_page_has_the_series_of_a_match(answer: tuple[Deployment, Path], tmp_path: Path) -> None:
    rows(answer, tmp_path / "m", "--top", 100)
    page = (tmp_path / "m" / "matches.html").read_text()
    assert page.count('data-study="1.2.4" data-series="1.2.5"') == 4


def test_nobody_uses_up_the_series_of_another_owner(answer: tuple[Deployment, Path], tmp_path: Path) -> None:
    made = answer[0].copy(tmp_path / "deployment")
    publish(made, "south", [scan(number, "1.2.5") for number in range(10, 13)])
    again = made.answer(made.search(made.ask("alice", candidates=100, pictures=("q1.png",))))
    kept = rows((made, again), tmp_path / "m", "--top", 100, "--per-series", 1)
    assert sorted(row["owner"] for row in kept if row["series"] == "1.2.5") == ["north", "south"]
