"""What cannot be undone is asked about at a terminal, and needs --yes anywhere else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.deployment import Deployment, done, refused, snapshot
from tests.support.terminal import at_terminal

EACH = pytest.mark.parametrize("role", ["kmc", "cloud"])


def answering(words: tuple[object, ...], answer: str, stdout: Path | None = None) -> tuple[int, str]:
    """Run a removal at a terminal, and answer what it asks."""
    return at_terminal(*words, answers=[answer], question="cannot be undone", stdout=stdout)


def test_an_answer_that_is_no_text_is_asked_for_again(changeable: Deployment) -> None:
    words = ("kmc", "remove", changeable / "kmc", "north")
    code, shown = at_terminal(
        *words, answers=[b"\xff", "n"], question="[y/N]", locale={"PYTHONIOENCODING": "utf-8:strict"}
    )
    assert code == 1
    assert "error: nothing was changed: the answer was no" in shown


@EACH
@pytest.mark.parametrize("answer", ["n", "", "no"])
def test_whoever_says_no_changes_nothing(changeable: Deployment, role: str, answer: str) -> None:
    before = snapshot(changeable / role)
    code, shown = answering((role, "remove", changeable / role, "north"), answer)
    assert code == 1
    assert "error: nothing was changed: the answer was no" in shown
    assert "hint: answer y, or give --yes" in shown
    assert snapshot(changeable / role) == before


def test_the_cloud_asks_with_the_number_of_images(changeable: Deployment) -> None:
    code, shown = answering(("cloud", "remove", changeable / "cloud", "north"), "y")
    assert code == 0, shown
    question = "Remove north and its 5 images from the cloud? This cannot be undone. [y/N]: "
    assert question in shown
    assert "images: 5" in shown


def test_the_kmc_asks_about_keys_where_it_has_no_features(changeable: Deployment) -> None:
    _, shown = answering(("kmc", "remove", changeable / "kmc", "north"), "n")
    assert "Remove north and its image keys from the KMC? This cannot be undone. [y/N]: " in shown


def test_the_kmc_asks_about_features_where_it_has_some(changeable_exact: Deployment) -> None:
    code, shown = answering(("kmc", "remove", changeable_exact / "kmc", "north"), "yes")
    assert code == 0, shown
    assert "Remove north, its image keys and the features of its 5 images from the KMC?" in shown


@EACH
def test_without_a_terminal_a_removal_needs_yes(changeable: Deployment, role: str) -> None:
    before = snapshot(changeable / role)
    outcome = refused(2, role, "remove", changeable / role, "north")
    assert "there is no terminal for confirmation" in outcome.err
    assert "hint: give --yes\n" in outcome.err
    assert snapshot(changeable / role) == before
    done(role, "remove", changeable / role, "north", "--yes")


@EACH
def test_an_answer_that_is_piped_in_does_not_count(changeable: Deployment, role: str) -> None:
    refused(2, role, "remove", changeable / role, "north", stdin="y\n")


@EACH
def test_who_is_gone_already_is_not_asked_about(changeable: Deployment, role: str) -> None:
    done(role, "remove", changeable / role, "north", "--yes")
    refused(5, role, "remove", changeable / role, "north")
    # to release the name cannot be undone either
    assert "give --yes" in refused(2, role, "remove", changeable / role, "north", "--release-name").err


@EACH
def test_who_was_never_enrolled_is_not_asked_about(deployment: Deployment, role: str) -> None:
    assert "no owner 'nobody' is enrolled" in refused(2, role, "remove", deployment / role, "nobody").err


def test_a_question_does_not_go_where_json_goes(changeable: Deployment, tmp_path: Path) -> None:
    words = ("cloud", "remove", changeable / "cloud", "north", "--json")
    code, shown = answering(words, "y", tmp_path / "out")
    assert code == 0, shown
    assert "This cannot be undone. [y/N]: " in shown
    assert json.loads((tmp_path / "out").read_text())["counts"]["images"] == 5


def test_a_no_is_an_object_for_scripts(changeable: Deployment, tmp_path: Path) -> None:
    words = ("kmc", "remove", changeable / "kmc", "north", "--json")
    code, _ = answering(words, "n", tmp_path / "out")
    assert code == 1
    assert json.loads((tmp_path / "out").read_text())["error"]["class"] == "DeclinedError"
