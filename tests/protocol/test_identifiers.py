"""Identifiers of users and owners: mail addresses serve, and none is another in other letters."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.support.deployment import JOBS, Deployment, done, picture, refused, run, snapshot

OWNER, USER = "anna.b+ct@klinik.example", "Bo@praxis.example"


def new_owner(deployment: Deployment, name: str, *users: Path) -> Path:
    """Make an owner, who authorises users."""
    made = deployment / name
    public = ("--kmc", deployment / "kmc" / "kmc.pub")
    done("owner", "init", made, "--id", name, *public, *(f"--authorize={user}" for user in users))
    return made


def test_mail_addresses_name_users_and_owners(each_way: Deployment, tmp_path: Path) -> None:
    kmc, cloud = each_way / "kmc", each_way / "cloud"
    done("user", "init", each_way / "bo", "--id", USER, "--kmc", kmc / "kmc.pub")
    owner = new_owner(each_way, OWNER, each_way / "bo" / "user.pub")
    done("kmc", "enroll", kmc, owner / "enrolment.h5")
    done("cloud", "enroll", cloud, owner / "members.h5")
    for seed in range(4):
        (tmp_path / "in").mkdir(exist_ok=True)
        picture(seed).save(tmp_path / "in" / f"{seed}.png")
    upload = each_way / "mail.h5"
    small = ["--small"] if each_way.scheme == "exact" else []
    done("owner", "encrypt", owner, tmp_path / "in", "-o", upload, *small, *JOBS)
    each_way.index(upload)
    query = each_way / "mail-query.h5"
    words = (each_way / "bo", tmp_path / "in" / "0.png", "-o", query, "--owner", OWNER)
    done("user", "query", *words)
    answer = each_way.answer(each_way.search(query))
    done("user", "decrypt", each_way / "bo", answer, "-o", tmp_path / "m")
    with (tmp_path / "m" / "matches.csv").open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert {row["owner"] for row in rows} == {OWNER}
    assert rows[0]["file"] == f"query-1/001_{OWNER}_0.png"
    assert (tmp_path / "m" / rows[0]["file"]).is_file()
    for path in (kmc, cloud):
        assert OWNER in done("inspect", path).out
    done("cloud", "index", cloud, "--rebuild", *JOBS)
    done("owner", "revoke", owner, USER)
    done("kmc", "remove", kmc, OWNER, "--yes")
    done("cloud", "remove", cloud, OWNER, "--yes")


@pytest.mark.parametrize("name", ["@x", "+x", "a b@x", "a/b@x", "ä@x"])
def test_what_would_mislead_in_a_table_or_a_path_is_refused(tmp_path: Path, name: str) -> None:
    said = run("user", "init", tmp_path / "u", "--id", name, "--kmc", "kmc.pub")
    assert (said.code, "cannot be a user's identifier" in said.err) == (2, True)


def test_owners_who_differ_in_case_alone_are_not_both_enrolled(changeable: Deployment) -> None:
    other = new_owner(changeable, "North")
    for role, file in (("kmc", "enrolment.h5"), ("cloud", "members.h5")):
        before = snapshot(changeable / role)
        said = refused(9, role, "enroll", changeable / role, other / file).err
        assert "is from 'North', but 'north' is known here" in said
        assert snapshot(changeable / role) == before


def test_of_two_who_enrol_at_once_neither_comes_in(changeable: Deployment) -> None:
    first, second = new_owner(changeable, "east"), new_owner(changeable, "East")
    for role, file in (("kmc", "enrolment.h5"), ("cloud", "members.h5")):
        refused(9, role, "enroll", changeable / role, first / file, second / file)
        done(role, "enroll", changeable / role, first / file)
