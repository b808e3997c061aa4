"""The whole protocol through the command line: in this process for every scheme, and in real processes."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from mipp_cli import __version__
from mipp_cli.workdir.replay import A_DAY, clock_number
from tests.docs.commands import every_command
from tests.support.deployment import (
    AUTHORISED,
    JOBS,
    OWNERS,
    SCHEMES,
    Deployment,
    done,
    picture,
    refused,
    shared_deployment,
)

REPOSITORY = Path(__file__).parents[2]


def matches(folder: Path) -> list[dict[str, str]]:
    with (folder / "matches.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("user", ["alice", "bob"])
def test_a_user_finds_all_images_of_the_authorising_owners_only(
    any_scheme: Deployment, user: str, tmp_path: Path
) -> None:
    deployment = any_scheme.copy(tmp_path / "copy")
    answer = deployment.answer(deployment.search(deployment.ask(user, candidates=100)))
    done("user", "decrypt", deployment / user, answer, "-o", tmp_path / "m", "--top", 100)
    wanted = {(owner, name) for owner in AUTHORISED[user] for name in deployment.pictures(owner)}
    for query in ("q1.png", "q2.png"):
        found = [(row["owner"], row["name"]) for row in matches(tmp_path / "m") if row["query"] == query]
        assert set(found) == wanted
        assert len(found) == len(wanted)


@pytest.mark.parametrize("user", ["alice", "bob"])
def test_a_decrypted_match_is_identical_to_the_owners_file(any_scheme: Deployment, user: str) -> None:
    rows = matches(any_scheme / f"{user}.matches")
    assert len(rows) == 10
    for row in rows:
        original = any_scheme.pictures(row["owner"])[row["name"]]
        assert (any_scheme / f"{user}.matches" / row["file"]).read_bytes() == original.read_bytes()


def test_each_of_several_query_images_has_a_ranking_of_its_own(any_scheme: Deployment) -> None:
    rows = matches(any_scheme / "alice.matches")
    assert [(row["query"], row["rank"]) for row in rows] == [
        (query, str(rank)) for query in ("q1.png", "q2.png") for rank in range(1, 6)
    ]


def test_a_user_whom_nobody_authorised_finds_nothing(any_scheme: Deployment, tmp_path: Path) -> None:
    deployment = any_scheme.copy(tmp_path / "copy")
    words: tuple[object, ...] = ("cloud", "search", deployment / "cloud")
    if any_scheme.scheme == "exact":
        words = ("kmc", "rank", deployment / "kmc")
    refused(4, *words, deployment.ask("eve"), "-o", tmp_path / "r.h5")
    assert not (tmp_path / "r.h5").exists()


def test_only_the_paper_scheme_warns_that_it_hides_nothing(any_scheme: Deployment) -> None:
    said = (any_scheme / "transcript.txt").read_text().count("scheme paper is broken")
    steps = 1 + 1 + len(AUTHORISED) + len(OWNERS) + 1 + len(OWNERS) + 1 + 2 * 4
    assert said >= steps if any_scheme.scheme == "paper" else said == 0


class Shell:
    """Commands in processes of their own, in one folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __call__(self, *words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        ran = subprocess.run(
            [sys.executable, "-m", "mipp_cli", *map(str, words)],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert ran.returncode == code, ran.stderr
        assert "Traceback" not in ran.stderr
        return ran


def begin(mipp: Shell, *words: str) -> None:
    """Make two pictures and the directories of all roles, and enrol the owner at the cloud alone."""
    for number, name in enumerate(("one.png", "two.png")):
        picture(number).save(mipp.folder / name)
    mipp("kmc", "init", "kmc", *words)
    mipp("cloud", "init", "cloud", "--kmc", "kmc/kmc.pub")
    mipp("user", "init", "user", "--id", "dr-lee", "--kmc", "kmc/kmc.pub")
    mipp("owner", "init", "owner", "--id", "st-mary", "--kmc", "kmc/kmc.pub", "--authorize", "user/user.pub")
    mipp("cloud", "enroll", "cloud", "owner/members.h5")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["dcr", "mask"])
def test_roles_run_as_processes_that_share_only_files(tmp_path: Path, scheme: str) -> None:
    mipp = Shell(tmp_path)
    begin(mipp, *SCHEMES[scheme])
    mipp("owner", "encrypt", "owner", "one.png", "two.png", "-o", "upload.h5")
    mipp("owner", "encrypt", "owner", "one.png", "-o", "upload.h5", code=10)
    mipp("cloud", "index", "cloud", "upload.h5")
    mipp("user", "query", "user", "one.png", "-o", "query.h5")
    mipp("cloud", "search", "cloud", "upload.h5", "-o", "results.h5", code=3)
    mipp("cloud", "search", "cloud", "query.h5", "-o", "results.h5")
    mipp("kmc", "enroll", "kmc", "owner/enrolment.h5")
    mipp("kmc", "reencrypt", "kmc", "results.h5", "-o", "reencrypted.h5", code=4)
    mipp("kmc", "enroll", "kmc", "cloud/cloud.pub")
    mipp("kmc", "reencrypt", "kmc", "results.h5", "-o", "reencrypted.h5")
    mipp("user", "decrypt", "user", "reencrypted.h5", "-o", "matches")
    assert [row["name"] for row in matches(tmp_path / "matches")] == ["one.png", "two.png"]
    assert not list(tmp_path.rglob(".*"))


def test_the_roles_of_scheme_exact_work_as_processes(tmp_path: Path) -> None:
    mipp = Shell(tmp_path)
    begin(mipp)  # exact is what a deployment has unless told
    mipp("owner", "encrypt", "owner", "one.png", "two.png", "-o", "upload.h5", code=9)
    mipp("owner", "encrypt", "owner", "one.png", "two.png", "--small", "--no-resume", "-o", "upload.h5")
    mipp("kmc", "index", "kmc", "upload.features.h5", code=4)
    mipp("cloud", "index", "cloud", "upload.h5")
    mipp("kmc", "enroll", "kmc", "owner/enrolment.h5")
    mipp("kmc", "index", "kmc", "upload.features.h5")
    mipp("user", "query", "user", "one.png", "--owner", "st-mary", "--candidates", "5", "-o", "query.h5")
    refusal = mipp("cloud", "search", "cloud", "query.h5", "-o", "results.h5", code=3)
    assert "mipp kmc rank KMC query.h5 -o selection.h5" in refusal.stderr
    mipp("kmc", "rank", "kmc", "query.h5", "-o", "selection.h5", code=4)
    mipp("kmc", "enroll", "kmc", "cloud/cloud.pub")
    mipp("kmc", "rank", "kmc", "query.h5", "-o", "selection.h5")
    mipp("cloud", "search", "cloud", "selection.h5", "-o", "results.h5")
    mipp("kmc", "reencrypt", "kmc", "results.h5", "-o", "reencrypted.h5")
    told = mipp("user", "decrypt", "user", "reencrypted.h5", "-o", "matches")
    assert "searched: st-mary (2 images)" in told.stdout
    assert [row["name"] for row in matches(tmp_path / "matches")] == ["one.png", "two.png"]
    assert not list(tmp_path.rglob(".*"))


def test_the_installed_command_is_the_same_program() -> None:
    command = Path(sys.executable).with_name("mipp")
    ran = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout.split()[-1] == __version__


def test_every_command_using_the_paper_scheme_warns(session_folder: Path, tmp_path: Path) -> None:
    paper = shared_deployment(session_folder, "paper").copy(tmp_path / "d")
    kmc, cloud, alice, north = (paper / name for name in ("kmc", "cloud", "alice", "north"))
    public, example, out = kmc / "kmc.pub", paper / "pictures" / "queries" / "q1.png", tmp_path / "out"
    out.mkdir()
    new = out / "owner"
    done("cloud", "init", out / "other", "--kmc", public)
    walk: list[tuple[object, ...]] = [
        ("kmc", "init", out / "kmc", *SCHEMES["paper"]),
        ("cloud", "init", out / "cloud", "--kmc", public),
        ("user", "init", out / "user", "--id", "u", "--kmc", public),
        ("owner", "init", new, "--id", "o", "--kmc", public),
        ("owner", "authorize", new, alice / "user.pub"),
        ("owner", "revoke", new, "alice"),
        ("owner", "rotate-key", new),
        ("owner", "forget-key", new, "--applied", 1),
        ("kmc", "enroll", kmc, new / "enrolment.h5"),
        ("kmc", "enroll", kmc, out / "other" / "cloud.pub"),
        ("cloud", "enroll", cloud, new / "members.h5"),
        ("owner", "encrypt", new, example, "-o", out / "u.h5", *JOBS),
        ("cloud", "index", cloud, out / "u.h5", *JOBS),
        ("user", "query", alice, example, "-o", out / "q.h5"),
        ("cloud", "search", cloud, out / "q.h5", "-o", out / "r.h5", *JOBS),
        ("kmc", "reencrypt", kmc, out / "r.h5", "-o", out / "a.h5"),
        ("user", "decrypt", alice, out / "a.h5", "-o", out / "m"),
        ("user", "forget", alice, "--all"),
        ("owner", "list", new),
        ("owner", "delete", new, "q1.png", "-o", out / "d.h5"),
        ("owner", "renumber", new, "--above", clock_number() + A_DAY),
        ("kmc", "status", kmc),
        ("kmc", "check", kmc),
        ("kmc", "remove", kmc, "o", "--yes"),
        ("cloud", "check", cloud),
        ("cloud", "remove", cloud, "o", "--yes"),
        ("kmc", "rotate-key", kmc),
        ("user", "update-kmc-key", alice, kmc / "sealing.pub"),
        ("owner", "update-kmc-key", north, kmc / "sealing.pub"),
        ("kmc", "forget-key", kmc),
        *(("inspect", path) for path in (public, kmc, cloud, alice, north)),
        ("inspect", cloud, "--csv"),
    ]
    for words in walk:
        outcome = done(*words)
        assert "warning: scheme paper is broken" in outcome.err, words
    steps = {
        path.removeprefix("mipp ") for path, step in every_command() if not isinstance(step, click.Group)
    }
    roles = {step for step in steps if step.partition(" ")[0] in ("kmc", "cloud", "user", "owner", "inspect")}
    for_exact = {"kmc index", "kmc rank", "owner features"}
    assert {" ".join(map(str, words[: 1 + (words[0] != "inspect")])) for words in walk} == roles - for_exact
