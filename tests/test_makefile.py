"""`make pipeline` in a folder of its own, with the installed command: what it keeps, and where it stops."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from mipp_cli.images.collection import PICTURE_SUFFIXES
from tests.images.made_dicom import made, slice_of_body
from tests.support.deployment import picture

ROOT = Path(__file__).parent.parent
PYTHON = f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" "$@"\n'
MIPP = PYTHON.replace('"$@"', '-m mipp_cli "$@"')
SETTINGS = {"SCHEME": "mask", "IMAGES": "our pictures (new)", "QUERIES": "asked for", "OUT": "the roles (1)"}

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("make") is None, reason="needs make")]


@dataclass(frozen=True)
class Project:
    """A folder with the Makefile, and pictures of two owners."""

    folder: Path

    def make(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run make with the settings of these tests, of which ``words`` change some."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
        }
        return subprocess.run(
            ["make", *(f"{name}={value}" for name, value in SETTINGS.items()), *words],
            cwd=self.folder,
            capture_output=True,
            check=False,
            text=True,
            timeout=120,
            env=inherited | environment,
        )

    @property
    def images(self) -> Path:
        return self.folder / SETTINGS["IMAGES"]

    @property
    def out(self) -> Path:
        return self.folder / SETTINGS["OUT"] / SETTINGS["SCHEME"]

    @property
    def keys(self) -> dict[str, bytes]:
        """What holds the keys of the roles."""
        found = [*self.out.glob("**/secrets.json"), *self.out.glob("**/*.pub")]
        return {str(path): path.read_bytes() for path in found}

    @property
    def matches(self) -> str:
        return (self.out / "matches.txt").read_text()


def _new_project(folder: Path) -> Project:
    project = Project(folder)
    (folder / ".venv" / "bin").mkdir(parents=True)
    for command, script in {"mipp": MIPP, "python": PYTHON}.items():
        (folder / ".venv" / "bin" / command).write_text(script)
        (folder / ".venv" / "bin" / command).chmod(0o755)
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "pyproject.toml").touch()
    for installed in ("installed", "installed-with-dicom"):
        (folder / ".venv" / installed).touch()
    for place, seed in {"Clinic (Lake) 1/a (1).png": 1, "north/b.png": 2}.items():
        (project.images / place).parent.mkdir(parents=True)
        picture(seed).save(project.images / place)
    (project.images / "notes.txt").write_text("not a picture\n")
    (project.images / "empty").mkdir()
    for place in ("documents/more/letter.txt", "hidden/.thumbnails/a.png"):
        (project.images / place).parent.mkdir(parents=True)
        (project.images / place).touch()
    (folder / SETTINGS["QUERIES"]).mkdir()
    picture(3).save(folder / SETTINGS["QUERIES"] / "scan (1).png")
    return project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project in which nothing was run."""
    return _new_project(tmp_path / "a project")


@pytest.fixture(scope="module")
def _run_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    project = _new_project(tmp_path_factory.mktemp("makefile") / "a project")
    ran = project.make("pipeline", "-j2")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return project, ran.stdout


@pytest.fixture
def run(_run_once: tuple[Project, str], tmp_path: Path) -> Project:
    """A project whose pipeline ran, to change."""
    return Project(shutil.copytree(_run_once[0].folder, tmp_path / "a project"))


def test_names_with_spaces_and_parentheses_work(_run_once: tuple[Project, str]) -> None:
    project, printed = _run_once
    assert re.search(r"Clinic-Lake-1 +a \(1\)\.png", project.matches)
    assert "query scan (1).png" in project.matches
    assert project.matches in printed
    assert printed.endswith(f"contact sheet: {SETTINGS['OUT']}/mask/matches/contact-sheet.png\n")
    assert (project.out / "matches" / "contact-sheet.png").exists()


def test_files_beside_the_owners_folders_are_left_out(_run_once: tuple[Project, str]) -> None:
    project, printed = _run_once
    assert f"left out: {SETTINGS['IMAGES']}/notes.txt" in printed
    assert {path.name for path in (project.out / "owners").iterdir()} == {"Clinic-Lake-1", "north"}


def test_folders_without_pictures_are_left_out(_run_once: tuple[Project, str]) -> None:
    """Hidden pictures are none, as everywhere; no owner is made for them."""
    project, printed = _run_once
    for folder in ("empty", "documents", "hidden"):
        assert f"left out: {SETTINGS['IMAGES']}/{folder}, which contains no pictures\n" in printed
    assert {path.name for path in (project.out / "owners").iterdir()} == {"Clinic-Lake-1", "north"}


def test_an_owner_whose_pictures_are_gone_stops_nobody(run: Project) -> None:
    for path in (run.images / "north").iterdir():
        path.unlink()
    picture(4).save(run.images / "Clinic (Lake) 1" / "later.png")
    ran = run.make("pipeline")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"left out: {SETTINGS['IMAGES']}/north, which contains no pictures\n" in ran.stdout
    assert "later.png" in run.matches
    assert "b.png" in run.matches


def test_a_folder_of_pictures_of_every_kind_makes_an_owner(project: Project) -> None:
    for suffix in PICTURE_SUFFIXES:
        (project.images / f"only{suffix[1:]}").mkdir()
        (project.images / f"only{suffix[1:]}" / f"x{suffix.upper()}").write_text("not checked here\n")
    printed = project.make("pipeline", "SCHEME=none").stdout
    assert "left out" in printed
    assert "left out: " + SETTINGS["IMAGES"] + "/only" not in printed


@pytest.fixture
def clinic(project: Project) -> Project:
    """A project in which one owner has DICOM files without suffixes, and asks with one."""
    shutil.rmtree(project.images / "north")
    for number, place in enumerate((project.images / "ward", project.folder / SETTINGS["QUERIES"])):
        (place / "series").mkdir(parents=True)
        (place / "series" / "IM0001").write_bytes(made(slice_of_body(number)))
    return project


def test_dicom_without_suffixes_goes_through_make(clinic: Project) -> None:
    ran = clinic.make("pipeline", "PAYLOAD=pixels", "EXTRAS=dicom")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "--payload pixels" in ran.stdout
    assert re.search(r"ward +[0-9a-f]{32}\.png", clinic.matches)
    assert "query series/IM0001" in clinic.matches


def test_make_names_its_own_options_for_dicom(clinic: Project) -> None:
    ran = clinic.make("pipeline")
    assert ran.returncode == 2
    assert "DICOM files, which contain patients' names" in ran.stderr
    assert "PAYLOAD=pixels or PAYLOAD=file" in ran.stderr


def test_without_any_picture_nothing_is_begun(project: Project) -> None:
    for path in project.images.rglob("*.png"):
        path.unlink()
    ran = project.make("pipeline")
    assert ran.returncode == 2
    assert f"IMAGES={SETTINGS['IMAGES']} has no folder with pictures" in ran.stderr
    assert not project.out.exists()


@pytest.mark.parametrize(
    ("queries", "message"), [("nowhere", "does not exist"), (".venv", "contains no pictures")]
)
def test_without_examples_nothing_is_begun(project: Project, queries: str, message: str) -> None:
    ran = project.make("pipeline", f"QUERIES={queries}")
    assert ran.returncode == 2
    assert f"QUERIES={queries} {message}" in ran.stderr
    assert not project.out.exists()


def test_a_single_picture_may_be_the_example(project: Project) -> None:
    ran = project.make("pipeline", f"QUERIES={SETTINGS['QUERIES']}/scan (1).png")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "query scan (1).png" in project.matches


def test_two_schemes_stand_beside_each_other_and_stay(project: Project) -> None:
    """A second run changes nothing of either."""
    ran = project.make("pipeline", "SCHEME=exact mask")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    lines = ran.stdout.splitlines()
    beside = lines[next(n for n, line in enumerate(lines) if line.startswith("scheme exact")) :]
    assert beside[0].split() == ["scheme", "exact", "scheme", "mask"]
    assert beside[1].count("query scan (1).png") == 2
    assert [line.count("b.png") for line in beside[2:]].count(2) == 1
    assert len(beside) == 4
    queries = [path.read_bytes() for path in project.folder.glob("the roles (1)/*/query.h5")]
    assert len(queries) == 2
    again = project.make("pipeline", "SCHEME=exact mask")
    assert again.returncode == 0, again.stdout + again.stderr
    assert [path.read_bytes() for path in project.folder.glob("the roles (1)/*/query.h5")] == queries


def test_keys_survive_time_zones_languages_and_old_files(run: Project) -> None:
    keys = run.keys
    assert keys
    for path in run.images.rglob("*"):
        os.utime(path, (10**9, 10**9))
    run.make("pipeline", TZ="Asia/Tokyo", LC_ALL="C")
    assert run.keys == keys


def test_a_second_run_with_nothing_new_changes_nothing(run: Project) -> None:
    query, uploads = (run.out / "query.h5").read_bytes(), sorted(run.out.glob("uploads/**/*.h5"))
    ran = run.make("pipeline")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert run.matches in ran.stdout
    assert ran.stdout.count("\nnothing new: 1 unchanged\n") == 2
    assert ran.stderr == ""
    assert (run.out / "query.h5").read_bytes() == query
    assert sorted(run.out.glob("uploads/**/*.h5")) == uploads


def test_pictures_and_owners_that_come_later_are_found(run: Project) -> None:
    keys = run.keys
    picture(4).save(run.images / "north" / "later.png")
    (run.images / "south").mkdir()
    picture(5).save(run.images / "south" / "first.png")
    ran = run.make("pipeline")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "later.png" in run.matches
    assert "first.png" in run.matches
    assert keys.items() <= run.keys.items()


def test_what_a_later_run_warns_of_is_said(run: Project) -> None:
    command = run.folder / ".venv" / "bin" / "mipp"
    command.write_text(MIPP.replace("\n", '\n[ "$1 $2" != "cloud index" ] || echo beware >&2\n', 1))
    picture(4).save(run.images / "north" / "later.png")
    ran = run.make("pipeline")
    assert ran.returncode == 0
    assert "beware\n" in ran.stderr
    assert "later.png" in run.matches


def test_a_later_run_that_fails_says_why(run: Project) -> None:
    (run.images / "north" / "later.png").write_text("not a picture\n")
    ran = run.make("pipeline")
    assert ran.returncode != 0
    assert "error: " in ran.stderr
    assert "later.png" in ran.stderr
    assert "nothing new" not in ran.stdout.partition("north-2.h5")[2]


def test_unreadable_images_are_left_out_if_make_is_told_so(run: Project) -> None:
    next(run.images.glob("*/")).joinpath("broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    failed = run.make("pipeline")
    assert failed.returncode != 0
    assert "SKIP_UNREADABLE=1" in failed.stderr
    ran = run.make("pipeline", "SKIP_UNREADABLE=1")
    assert ran.returncode == 0, ran.stderr
    assert "--skip-unreadable" in ran.stdout
    assert "nothing new" in ran.stdout


def test_a_run_that_was_killed_goes_on(project: Project) -> None:
    command = project.folder / ".venv" / "bin" / "mipp"
    command.write_text(MIPP.replace("\n", '\n[ "$1 $2" != "cloud enroll" ] || kill -9 $PPID\n', 1))
    assert project.make("pipeline").returncode != 0
    keys = project.keys
    assert keys
    command.write_text(MIPP)
    ran = project.make("pipeline")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert project.keys == keys


def test_other_settings_stop_it_and_nothing_is_removed(run: Project) -> None:
    (run.out / "settings").write_text("SCHEME=mask BITS=768\n")
    before = {path: path.stat().st_mtime_ns for path in run.out.rglob("*")}
    ran = run.make("pipeline")
    assert ran.returncode != 0
    assert "was made with SCHEME=mask BITS=768, not with SCHEME=mask" in ran.stderr
    assert f"make fresh OUT='{SETTINGS['OUT']}'" in ran.stderr
    assert {path: path.stat().st_mtime_ns for path in run.out.rglob("*")} == before


def test_settings_that_were_wrong_can_be_put_right(project: Project) -> None:
    assert project.make("pipeline", "SCHEME=none").returncode != 0
    ran = project.make("pipeline")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_only_make_fresh_removes_the_roles(run: Project) -> None:
    assert run.make("clean").returncode == 0
    assert run.keys
    ran = run.make("fresh")
    assert ran.returncode == 0
    assert ran.stdout == f"removing {SETTINGS['OUT']}/mask: all roles with their keys\n"
    assert not run.out.exists()


def test_make_fresh_removes_no_other_folder(project: Project) -> None:
    (project.images / "mask").mkdir()
    (project.images / "mask" / "mine.txt").write_text("not the pipeline's\n")
    ran = project.make("fresh", f"OUT={SETTINGS['IMAGES']}")
    assert ran.returncode != 0
    assert "was not made by make pipeline" in ran.stderr
    assert (project.images / "mask" / "mine.txt").exists()


def test_a_folder_with_other_things_in_it_is_not_taken(project: Project) -> None:
    ran = project.make("pipeline", f"OUT={SETTINGS['IMAGES']}")
    assert ran.returncode != 0
    assert "was not made by the pipeline" in ran.stderr


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("north!", "another folder has the same owner's id, north"),
        ("North", "another folder has the same owner's id, "),
        ("(?)", "this name gives no owner's id"),
    ],
)
def test_a_folder_that_makes_no_owner_is_refused(project: Project, folder: str, message: str) -> None:
    (project.images / folder).mkdir()
    picture(4).save(project.images / folder / "c.png")
    ran = project.make("pipeline")
    assert ran.returncode != 0
    assert message in ran.stderr
    assert not project.out.exists()


def test_make_can_say_what_it_would_do(project: Project) -> None:
    assert project.make("-n", "pipeline").returncode == 0
    assert not project.out.exists()


def test_the_makefile_keeps_to_what_make_3_81_knows() -> None:
    text = (ROOT / "Makefile").read_text()
    before_the_script, _, rest = text.partition("\ndefine PIPELINE\n")
    script, _, after_the_script = rest.partition("\nendef\n")
    newer = r"&:|\.ONESHELL|\.RECIPEPREFIX|^[A-Za-z_]+ *(!=|::=)|\$\((file|let|intcmp) |^(undefine|private)\b"
    assert script
    assert re.findall(newer, before_the_script + after_the_script, flags=re.MULTILINE) == []
    # make 3.81 joins such lines, and later ones do not
    assert [line for line in script.splitlines() if line.endswith("\\")] == []
