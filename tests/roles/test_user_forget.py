"""Queries that a user forgets, so that their answers can be read no more."""

from __future__ import annotations

import pytest

from mipp_cli.roles.user import remembered_query
from tests.deployment import Deployment, done, refused, run, secrets_of, snapshot


def kept(deployment: Deployment, user: str = "alice") -> list[str]:
    return sorted(file.stem for file in (deployment / user / "queries").iterdir())


def refuse(deployment: Deployment, code: int, words: str, *queries: object) -> None:
    before = snapshot(deployment.root)
    assert words in refused(code, "user", "forget", deployment / "alice", *queries).err
    assert snapshot(deployment.root) == before


@pytest.mark.parametrize("by", ["id", "alice.query.h5", "alice.answer.h5"])
def test_a_query_is_forgotten_by_its_id_or_file(changeable: Deployment, by: str) -> None:
    (query,) = kept(changeable)
    other = changeable.ask("alice")
    usk = remembered_query(changeable.role("alice"), query).usk
    outcome = done("user", "forget", changeable / "alice", query if by == "id" else changeable / by)
    assert "queries forgotten: 1, queries kept: 1" in outcome.out
    assert kept(changeable) == [other.read_bytes().split(b"\n")[3].split()[1].decode()]
    assert usk.hex() not in secrets_of(changeable.root)
    words = ("user", "decrypt", changeable / "alice", changeable / "alice.answer.h5", "-o", changeable / "m")
    assert "did not make, or forgot" in refused(8, *words).err


def test_all_queries_are_forgotten_at_once(changeable: Deployment) -> None:
    changeable.ask("alice")
    done("user", "forget", changeable / "alice", "--all")
    assert kept(changeable) == []
    assert kept(changeable, "bob") != []
    refuse(changeable, 5, "no query is kept", "--all")


def test_all_queries_named_are_kept_or_none_is_forgotten(changeable: Deployment) -> None:
    refuse(changeable, 2, f"nothing is kept of the query {'0' * 32}", changeable / "alice.query.h5", "0" * 32)


def test_a_query_is_forgotten_once(changeable: Deployment) -> None:
    done("user", "forget", changeable / "alice", changeable / "alice.query.h5", *kept(changeable))
    refuse(changeable, 2, "nothing is kept of the query", changeable / "alice.query.h5")


def test_files_of_others_name_no_query_to_forget(changeable: Deployment) -> None:
    refuse(changeable, 4, "was not made by this user", changeable / "bob.query.h5")
    refuse(changeable, 2, "is of kind results", changeable / "alice.results.h5")
    refuse(changeable, 2, "nothing is kept", changeable / "bob.answer.h5")
    refuse(changeable, 2, "cannot be read", "none.h5")


@pytest.mark.parametrize("words", [(), ("--all", "0" * 32)])
def test_queries_are_named_or_all_are_meant(changeable: Deployment, words: tuple[str, ...]) -> None:
    assert run("user", "forget", changeable / "alice", *words).code == 2
    assert len(kept(changeable)) == 1
