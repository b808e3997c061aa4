"""``mipp demo``: all roles in one folder, by commands that one could type."""

from __future__ import annotations

import csv
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from tests.support.deployment import SAMPLES, done, picture, refused, run

OWNERS = SAMPLES / "owners"
QUERY = SAMPLES / "queries" / "fundus.jpg"


def commands(printed: str) -> list[list[str]]:
    """Return the words of each command that a demo printed."""
    lines = [line.removeprefix("$ ") for line in printed.splitlines() if line.startswith("$ ")]
    return [shlex.split(line) for line in lines]


def distances(folder: Path) -> list[str]:
    """Return the distances of a demo's matches, nearest first."""
    with (folder / "matches" / "matches.csv").open(newline="") as table:
        return [row["distance"] for row in csv.DictReader(table)]


@pytest.mark.parametrize("scheme", ["exact", "mask"])
def test_a_demo_ends_with_the_page_of_matches(tmp_path: Path, scheme: str) -> None:
    output = tmp_path / "all roles"
    words = (OWNERS / "clinic-lake", OWNERS / "hospital-south", "--query", QUERY, "-o", output)
    outcome = done("demo", *words, "--scheme", scheme)
    assert (output / "matches" / "matches.html").is_file()
    with (output / "matches" / "matches.csv").open(newline="") as table:
        nearest = [(row["owner"], row["name"].split("/")[0]) for row in csv.DictReader(table)][:4]
    assert {owner for owner, _ in nearest} <= {"clinic-lake", "hospital-south"}
    assert all(category == "fundus" for _, category in nearest)
    printed = commands(outcome.out)
    assert printed[0] == ["mkdir", str(output), "&&", "cd", str(output)]
    assert all(words[0] == "mipp" for words in printed[1:])
    assert (["mipp", "kmc", "rank", "kmc", "query.h5", "-o", "selection.h5"] in printed) == (
        scheme == "exact"
    )


def test_what_a_demo_prints_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = commands(done("demo", OWNERS / "clinic-lake", "--query", QUERY, "-o", tmp_path / "one").out)
    again = tmp_path / "again"
    again.mkdir()
    monkeypatch.chdir(again)
    for words in printed[1:]:
        done(*words[1:])
    # images at one distance are put in order by the id of the query, which is another each time
    assert distances(tmp_path / "one") == distances(again)


def test_folders_of_one_name_are_two_owners(tmp_path: Path) -> None:
    for number, folder in enumerate(("a/kmc", "b/kmc", "c/Ä b")):
        (tmp_path / folder).mkdir(parents=True)
        picture(number).save(tmp_path / folder / "x.png")
    folders = [tmp_path / folder for folder in ("a/kmc", "b/kmc", "c/Ä b")]
    report = done("demo", *folders, "-o", tmp_path / "demo")
    assert {each.name for each in (tmp_path / "demo").iterdir()} >= {"kmc", "kmc-2", "kmc-3", "b"}
    assert "owners: 3" in report.out


def test_without_a_query_the_first_picture_is_asked_with(tmp_path: Path) -> None:
    outcome = done("demo", OWNERS / "clinic-lake", "-o", tmp_path / "demo")
    first = min(str(path) for path in (OWNERS / "clinic-lake").rglob("*.jpg"))
    assert first in [words[4] for words in commands(outcome.out) if words[1:3] == ["user", "query"]]


def test_dicom_files_are_sent_as_pixels_unless_told_otherwise(tmp_path: Path) -> None:
    source = get_testdata_file("CT_small.dcm", download=False)
    assert source is not None
    (tmp_path / "ward").mkdir()
    shutil.copy(source, tmp_path / "ward" / "IM0001")
    outcome = done("demo", tmp_path / "ward", "-o", tmp_path / "demo")
    (encrypt,) = [words for words in commands(outcome.out) if words[1:3] == ["owner", "encrypt"]]
    assert encrypt[-2:] == ["--payload", "pixels"]
    assert "note: DICOM files name patients, so only their pixels were encrypted" in outcome.out
    done("demo", tmp_path / "ward", "-o", tmp_path / "files", "--payload", "file")
    assert (tmp_path / "files" / "matches" / "matches.html").is_file()


def test_without_the_extra_a_demo_of_dicom_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    (tmp_path / "ward").mkdir()
    (tmp_path / "ward" / "IM0001").write_bytes(bytes(128) + b"DICM" + bytes(100))
    outcome = refused(2, "demo", tmp_path / "ward", "-o", tmp_path / "demo")
    assert "mipp[dicom]" in outcome.err or "dicom" in outcome.err
    assert not commands(outcome.out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((OWNERS / "nowhere",), "does not exist"),
        ((OWNERS / "clinic-lake", "--descriptor", "colour"), "is not a descriptor"),
        ((OWNERS / "clinic-lake", "--query", OWNERS / "nowhere.jpg"), "nowhere.jpg"),
    ],
    ids=["no folder", "no descriptor", "no query"],
)
def test_a_demo_that_fails_leaves_nothing(tmp_path: Path, words: tuple[object, ...], message: str) -> None:
    outcome = run("demo", *words, "-o", tmp_path / "demo")
    assert outcome.code in (2, 7)
    assert message in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_a_demo_replaces_nothing(tmp_path: Path) -> None:
    assert "name a new folder" in refused(10, "demo", OWNERS / "clinic-lake", "-o", tmp_path).err
