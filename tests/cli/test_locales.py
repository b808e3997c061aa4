"""The same names in every locale, and no letter that a command fails over: in real processes."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from tests.support.deployment import JOBS, Deployment, Outcome, picture
from tests.support.small_datasets import draw_dataset
from tests.support.tiny_model import tiny_model

REPOSITORY = Path(__file__).parents[2]
DECOMPOSED = "Ro\N{COMBINING DIAERESIS}ntgen.png"
NAMES = [
    "日本/北京.png".encode(),
    DECOMPOSED.encode(),
    "Łódź é.png".encode(),
    b"R\xf6ntgen.png",
    b"a\nb.png",
    "שלום\N{RIGHT-TO-LEFT OVERRIDE}.png".encode(),
]
CALLED = {
    "日本/北京.png",
    DECOMPOSED,
    "Łódź é.png",
    "R\\xf6ntgen.png",
    "a\nb.png",
    "שלום\N{RIGHT-TO-LEFT OVERRIDE}.png",
}
ENVIRONMENTS = {
    "UTF-8": {"LC_ALL": "C.UTF-8"},
    "ASCII": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "streams in ASCII": {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "ascii"},
    "streams in Latin-1": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"},
    "Latin-1": {"LC_ALL": "en_US.ISO-8859-1", "PYTHONUTF8": "0"},
}


@pytest.fixture(scope="session")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a locale of ISO 8859-1, which few systems still have."""
    folder = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef"):
        made = folder / "en_US.ISO-8859-1"
        subprocess.run(
            ["localedef", "-i", "en_US", "-f", "ISO-8859-1", made], check=False, capture_output=True
        )
    return folder


# The two that differ most in each run of the tests, the others in `make check`.
IN_TURN = [
    each if each in ("ASCII", "Latin-1") else pytest.param(each, marks=pytest.mark.slow)
    for each in ENVIRONMENTS
]


@pytest.fixture(params=IN_TURN)
def environment(request: pytest.FixtureRequest, locales: Path) -> dict[str, str]:
    if request.param == "Latin-1" and not (locales / "en_US.ISO-8859-1").exists():
        pytest.skip("localedef makes no locale of ISO 8859-1 here")
    return {"PYTHONPATH": str(REPOSITORY), "LOCPATH": str(locales), **ENVIRONMENTS[request.param]}


def mipp(environment: dict[str, str], *words: str | bytes | Path, stdin: bytes = b"") -> Outcome:
    inherited = {name: each for name, each in os.environ.items() if not name.startswith(("PYTHON", "LC_"))}
    ran = subprocess.run(
        [sys.executable, "-m", "mipp_cli", *words],
        capture_output=True,
        check=False,
        timeout=120,
        env=inherited | environment,
        input=stdin,
    )
    outcome = Outcome(
        ran.returncode, ran.stdout.decode(errors="replace"), ran.stderr.decode(errors="replace")
    )
    assert "Traceback" not in outcome.err
    return outcome


def ok(environment: dict[str, str], *words: str | bytes | Path, stdin: bytes = b"") -> Outcome:
    outcome = mipp(environment, *words, stdin=stdin)
    assert outcome.code == 0, outcome.err
    return outcome


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate(NAMES):
        path = Path(os.fsdecode(os.fsencode(tmp_path / "pictures") + b"/" + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(seed).save(path, "PNG")
    return tmp_path / "pictures"


@pytest.fixture
def owner(changeable: Deployment) -> Path:
    """An owner who has sent nothing yet."""
    made = changeable / "south-east"
    public = ("--kmc", changeable / "kmc" / "kmc.pub", "--authorize", changeable / "alice" / "user.pub")
    ok(ENVIRONMENTS["UTF-8"] | {"PYTHONPATH": str(REPOSITORY)}, "owner", "init", made, "--id", "o", *public)
    return made


def listed(environment: dict[str, str], owner: Path, *words: str | bytes) -> set[str]:
    return {each["path"] for each in ok(environment, "owner", "list", owner, *words, "--json").json["images"]}


def test_names_are_the_same_in_every_locale(
    environment: dict[str, str], owner: Path, folder: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.csv"
    ok(environment, "owner", "encrypt", owner, folder, "-o", tmp_path / "u.h5", "--report", report, *JOBS)
    assert listed(environment, owner) == CALLED
    with report.open(newline="", encoding="utf-8") as file:
        paths = {row["path"].removeprefix(f"{folder}/") for row in csv.DictReader(file)}
    assert paths == {
        name.replace("\n", r"\u000a").replace("\N{RIGHT-TO-LEFT OVERRIDE}", r"\u202e") for name in CALLED
    }


def test_a_name_means_the_same_image_in_every_locale(
    environment: dict[str, str], owner: Path, folder: Path, tmp_path: Path
) -> None:
    ok(environment, "owner", "encrypt", owner, folder, "-o", tmp_path / "u.h5", *JOBS)
    assert listed(environment, owner, "--match", b"R*ntgen.png") == {*CALLED} & {
        "Ro\N{COMBINING DIAERESIS}ntgen.png",
        "R\\xf6ntgen.png",
    }
    assert listed(environment, owner, "--match", "Röntgen*".encode()) == {
        "Ro\N{COMBINING DIAERESIS}ntgen.png"
    }
    given = ["Röntgen.png".encode(), b"R\xf6ntgen.png", rb"a\u000ab.png"]
    paths = "日本/北京.png\r\n".encode("utf-8-sig")
    told = ok(
        environment,
        "owner",
        "delete",
        owner,
        *given,
        "--files-from",
        "-",
        "-o",
        tmp_path / "d.h5",
        stdin=paths,
    )
    assert "not in the ledger" not in told.out
    assert listed(environment, owner) == {"Łódź é.png", "שלום\N{RIGHT-TO-LEFT OVERRIDE}.png"}


def test_whatever_is_printed_is_printed_in_every_locale(
    environment: dict[str, str], owner: Path, folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / os.fsdecode("上傳.h5".encode())
    for words in (("owner", "encrypt", owner, folder, "-o", output, *JOBS), ("owner", "list", owner)):
        assert "png" in ok(environment, *words).out or words[1] == "encrypt"
    ok(environment, "owner", "list", owner, "--csv")
    ok(environment, "features", folder)
    ok(environment, "features", folder, "--csv")
    ok(environment, "inspect", output)
    for words in (
        ("inspect", tmp_path / os.fsdecode("沒有".encode())),
        ("owner", "list", owner, "--match", b"\xff\xfe", "--upload", "日本".encode()),
        ("owner", "日本".encode()),
        ("owner", "init", tmp_path / "x", "--id", "日本".encode(), "--kmc", b"\xff"),
    ):
        said = mipp(environment, *words)
        assert (said.code, said.err.startswith("error: ")) == (2, True), said.err
        failed = json.loads(mipp(environment, *words, "--json").out)
        assert failed["error"]["code"] == 2
        json.dumps(failed, ensure_ascii=False).encode()


def test_matches_are_files_in_utf8_in_every_locale(
    environment: dict[str, str], changeable: Deployment, owner: Path, folder: Path, tmp_path: Path
) -> None:
    d = changeable
    ok(environment, "kmc", "enroll", d / "kmc", owner / "enrolment.h5")
    ok(environment, "cloud", "enroll", d / "cloud", owner / "members.h5")
    ok(environment, "owner", "encrypt", owner, folder, "-o", tmp_path / "u.h5", *JOBS)
    ok(environment, "cloud", "index", d / "cloud", tmp_path / "u.h5")
    asked = folder / os.fsdecode("日本/北京.png".encode())
    ok(environment, "user", "query", d / "alice", asked, "-o", tmp_path / "q.h5", "--owner", "o")
    ok(environment, "cloud", "search", d / "cloud", tmp_path / "q.h5", "-o", tmp_path / "r.h5")
    ok(environment, "kmc", "reencrypt", d / "kmc", tmp_path / "r.h5", "-o", tmp_path / "e.h5")
    told = ok(environment, "user", "decrypt", d / "alice", tmp_path / "e.h5", "-o", tmp_path / "m", "--json")
    assert {match["name"] for match in told.json["matches"]} == CALLED
    with (tmp_path / "m" / "matches.csv").open(newline="", encoding="utf-8") as file:
        files = [row["file"] for row in csv.DictReader(file)]
    assert all((tmp_path / "m" / name).is_file() for name in files)
    assert any(name.endswith("_北京.png") for name in files)
    page = (tmp_path / "m" / "matches.html").read_text(encoding="utf-8")
    assert "北京.png" in page
    ok(environment, "inspect", tmp_path / "e.h5")


def test_experiments_report_names_in_every_locale(environment: dict[str, str], tmp_path: Path) -> None:
    folder = draw_dataset(tmp_path / os.fsdecode("資料".encode()))
    (folder / "flat").rename(folder / os.fsdecode(b"R\xf6ntgen"))
    (folder / "upright").rename(folder / os.fsdecode("北京".encode()))
    words = ("experiment", "accuracy", folder, "-o", tmp_path / "out", "--scheme", "mask", "--no-plots")
    ok(environment, *words, "--jobs", "1")
    report = (tmp_path / "out" / "report.json").read_text(encoding="utf-8")
    assert "R\\\\xf6ntgen" in report and "北京" in report and "資料" in report


def test_a_model_is_found_again_in_every_locale(
    environment: dict[str, str], folder: Path, tmp_path: Path
) -> None:
    here = ENVIRONMENTS["UTF-8"] | {"PYTHONPATH": str(REPOSITORY)}
    model = tiny_model(tmp_path / os.fsdecode("模型".encode()), weights="гири.bin").parent
    kmc, user, owner = (tmp_path / name for name in ("kmc", "user", "owner"))
    public = ("--kmc", kmc / "kmc.pub", "--model", model)
    ok(here, "kmc", "init", kmc, "--scheme", "mask", "--model", model)
    ok(here, "user", "init", user, "--id", "u", *public)
    ok(here, "owner", "init", owner, "--id", "o", *public, "--authorize", user / "user.pub")
    ok(environment, "owner", "encrypt", owner, folder, "-o", tmp_path / "u.h5", *JOBS)


def test_a_folder_that_was_copied_brings_nothing_new(owner: Path, folder: Path, tmp_path: Path) -> None:
    here = ENVIRONMENTS["UTF-8"] | {"PYTHONPATH": str(REPOSITORY)}
    ok(here, "owner", "encrypt", owner, folder, "-o", tmp_path / "u.h5", *JOBS)
    decomposed = folder / DECOMPOSED
    decomposed.rename(folder / "Röntgen.png")
    (folder / "日本").rename(folder / unicodedata.normalize("NFC", "日本"))
    assert mipp(here, "owner", "encrypt", owner, folder, "-o", tmp_path / "v.h5", *JOBS).code == 5
    shutil.copy(folder / "Röntgen.png", decomposed)
    told = ok(here, "owner", "encrypt", owner, folder, "-o", tmp_path / "v.h5", *JOBS, "--json").json
    assert told["counts"]["new"] == 1
    assert listed(here, owner) == {*CALLED, "Röntgen.png"}
