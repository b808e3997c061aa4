"""Folders that may not be listed: nobody takes what is in them for missing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.test_processes import MIPP, environment
from tests.support.deployment import JOBS, Deployment, Outcome, check_refusal, done, picture, snapshot

# root may list every folder, unless it gives that up
WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()


@contextmanager
def unlistable(folder: Path, mode: int = 0o300) -> Iterator[None]:
    folder.chmod(mode)
    try:
        yield
    finally:
        folder.chmod(0o700)


@pytest.fixture(autouse=True)
def _rights_can_be_given_up(tmp_path: Path) -> None:
    command = (*WITHOUT_RIGHTS, sys.executable, "-c", "import os, sys; os.listdir(sys.argv[1])", tmp_path)
    try:
        with unlistable(tmp_path):
            ran = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        pytest.skip("there is no setpriv here")
    if "PermissionError" not in ran.stderr:
        pytest.skip("rights cannot be given up here")


def mipp(*words: object) -> Outcome:
    command = (*WITHOUT_RIGHTS, *MIPP, *map(str, words))
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(), timeout=120)
    return Outcome(ran.returncode, ran.stdout, ran.stderr)


def refuse(code: int, folder: Path, *words: object) -> str:
    """Run a command while a folder cannot be listed, and demand that it names the folder."""
    with unlistable(folder):
        outcome = mipp(*words)
    check_refusal(outcome, code)
    assert f"{folder}: cannot be listed: Permission denied" in outcome.err
    return outcome.err


@pytest.mark.parametrize("name", ["segments", "parts"])
def test_a_removal_says_that_ciphertexts_may_be_left(changeable: Deployment, name: str) -> None:
    folder = changeable / "cloud" / name
    words = ("cloud", "remove", changeable / "cloud", "north", "--yes")
    assert "'north' is removed, but some of the owner's files may be left" in refuse(10, folder, *words)
    other = changeable / "cloud" / {"segments": "parts", "parts": "segments"}[name]
    assert not list(other.glob("north-*"))
    refuse(10, folder, *words)  # it does not say that there is nothing to do
    done(*words)
    assert not list(folder.glob("north-*"))
    assert mipp(*words).code == 5


def test_a_removal_from_the_kmc_names_the_folder(changeable_exact: Deployment) -> None:
    kmc, before = changeable_exact / "kmc", snapshot(changeable_exact.root)
    refuse(10, kmc / "features" / "north", "kmc", "remove", kmc, "north", "--yes")
    assert snapshot(changeable_exact.root) == before


def test_a_folder_of_pictures_is_named(changeable: Deployment, tmp_path: Path) -> None:
    (folder := tmp_path / "pictures" / "ward").mkdir(parents=True)
    picture(1).save(tmp_path / "pictures" / "a.png")
    words = ("owner", "encrypt", changeable / "north", tmp_path / "pictures", "-o", tmp_path / "u.h5")
    with unlistable(folder):
        failed, skipped = mipp(*words), mipp(*words, "--skip-unreadable")
    check_refusal(failed, 2)
    assert f"error: {folder}: the folder cannot be read: Permission denied" in failed.err
    assert skipped.code == 0
    assert f"left out {folder}: the folder cannot be read: Permission denied" in skipped.err


@pytest.mark.parametrize(
    "name", ["cloud/segments", "cloud/parts", "cloud/members", "kmc/owners", "kmc/users", "kmc/clouds"]
)
def test_a_check_names_the_folder(changeable: Deployment, name: str) -> None:
    role, folder = name.split("/", maxsplit=1)[0], changeable / name
    assert f"damaged: {folder}: cannot be listed" in refuse(3, folder, role, "check", changeable / role)


def test_a_check_names_the_folder_of_features(changeable_exact: Deployment) -> None:
    for folder in ("features", "features/north"):
        refuse(3, changeable_exact / "kmc" / folder, "kmc", "check", changeable_exact / "kmc")


@pytest.mark.parametrize("mode", [0o000, 0o400])
@pytest.mark.parametrize("name", ["cloud/segments", "cloud/members", "kmc/clouds", "kmc/features"])
def test_a_check_tells_all_if_a_folder_cannot_be_entered(
    changeable_exact: Deployment, name: str, mode: int
) -> None:
    role, folder = changeable_exact / name.split("/", maxsplit=1)[0], changeable_exact / name
    (role / "secrets.json").write_text("{")
    with unlistable(folder, mode):
        outcome = mipp(role.name, "check", role)
    check_refusal(outcome, 3)
    assert f"damaged: {role / 'secrets.json'}: " in outcome.err
    assert f"damaged: {folder}" in outcome.err
    assert "Permission denied" in outcome.err
    assert "does not belong" not in outcome.err


def test_a_check_tells_of_a_remnant_that_cannot_be_looked_at(
    changeable_exact: Deployment,
) -> None:
    kmc = changeable_exact / "kmc"
    (kmc / "features" / "gone").mkdir()
    with unlistable(kmc / "features", 0o400):
        outcome = mipp("kmc", "check", kmc)
    check_refusal(outcome, 3)
    assert f"damaged: {kmc / 'features' / 'gone'}: cannot be read: Permission denied" in outcome.err


def test_a_directory_that_cannot_be_entered_is_named(changeable: Deployment) -> None:
    with unlistable(changeable / "cloud", 0o600):
        outcome = mipp("cloud", "check", changeable / "cloud")
    check_refusal(outcome, 10)
    file = changeable / "cloud" / "role.json"
    assert outcome.err.startswith(
        f"error: {file}: cannot be reached: Permission denied\nhint: you may not go"
    )


def test_files_that_may_be_left_are_told_with_the_folder(changeable: Deployment) -> None:
    cloud, north = changeable / "cloud", changeable / "north"
    done("owner", "delete", north, "chest/a.jpg", "-o", changeable / "delete.h5")
    with unlistable(cloud / "segments"):
        outcome = mipp("cloud", "index", cloud, changeable / "delete.h5", *JOBS)
    assert outcome.code == 0, outcome.err
    left = "files that the index no longer lists may be left; the next run tries again"
    assert f"warning: {left}: {cloud / 'segments'}: cannot be listed: Permission denied" in outcome.err


def test_a_removal_keeps_the_hint_of_what_failed(changeable: Deployment) -> None:
    words = ("cloud", "remove", changeable / "cloud", "north", "--yes")
    with unlistable(changeable / "cloud" / "segments", 0o500):
        outcome = mipp(*words)
    check_refusal(outcome, 10)
    hint = "you may not delete there: ask for permission, then run the command again"
    assert f"hint: {hint}; the next run deletes the rest\n" in outcome.err


def test_an_owner_does_not_take_its_record_for_empty(changeable: Deployment, tmp_path: Path) -> None:
    north, pictures = changeable / "north", changeable / "pictures" / "north"
    refuse(10, north / "uploads", "owner", "encrypt", north, pictures, "-o", tmp_path / "u.h5")
    refuse(10, north / "uploads", "owner", "delete", north, "a.png", "-o", tmp_path / "d.h5")
    refuse(10, north / "uploads", "owner", "list", north)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("cloud/segments", "cloud index @cloud --rebuild"),
        ("cloud/parts", "cloud index @cloud --rebuild"),
        ("cloud/members", "cloud search @cloud @alice.query.h5 -o @new.h5"),
        ("cloud/members", "inspect @cloud"),
        ("kmc/owners", "kmc reencrypt @kmc @alice.results.h5 -o @new.h5"),
        ("kmc/owners", "inspect @kmc"),
        ("alice/queries", "user forget @alice --all"),
        ("alice/queries", "protect @alice --new-passphrase-file @passphrase"),
    ],
)
def test_a_command_names_the_folder_and_changes_nothing(
    changeable: Deployment, folder: str, words: str
) -> None:
    (changeable / "passphrase").write_text("a long passphrase\n")
    before = snapshot(changeable.root)
    refuse(10, changeable / folder, *words.replace("@", f"{changeable.root}/").split())
    assert snapshot(changeable.root) == before


def test_a_folder_of_a_model_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    (folder := tmp_path / "model" / "onnx").mkdir(parents=True)
    refuse(10, folder, "kmc", "init", tmp_path / "kmc", "--model", tmp_path / "model")
    assert not (tmp_path / "kmc").exists()
