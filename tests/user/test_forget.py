"""Queries that a user forgets, so that their answers can be read no more."""

from __future__ import annotations

import pytest

from mipp_cli.user.user import remembered_query
from tests.faults.injection import Boundary
from tests.faults.process import broken_off
from tests.support.deployment import Deployment, check_refusal, done, refused, run, secrets_of, snapshot


def kept(deployment: Deployment, user: str = "alice") -> list[str]:
    return sorted(file.stem for file in (deployment / user / "queries").iterdir())


def refuse(deployment: Deployment, code: int, words: str, *queries: object) -> None:
    before = snapshot(deployment.root)
    assert words in refused(code, "user", "forget", deployment / "alice", *queries).err
    assert snapshot(deployment.root) == before


@pytest.mark.parametrize("by", ["id", "alice.query.h5", "alice.answer.h5"])
def test_a_query_is_forgotten_by_its_id_or_file(each_way: Deployment, by: str) -> None:
    (query,) = kept(each_way)
    other = each_way.ask("alice")
    usk = remembered_query(each_way.role("alice"), query).usk
    outcome = done("user", "forget", each_way / "alice", query if by == "id" else each_way / by)
    assert "queries forgotten: 1, queries kept: 1" in outcome.out
    assert kept(each_way) == [other.read_bytes().split(b"\n")[3].split()[1].decode()]
    assert usk.hex() not in secrets_of(each_way.root)
    words = ("user", "decrypt", each_way / "alice", each_way / "alice.answer.h5", "-o", each_way / "m")
    assert "did not make or has forgotten" in refused(8, *words).err


def test_all_queries_are_forgotten_at_once(each_way: Deployment) -> None:
    each_way.ask("alice")
    done("user", "forget", each_way / "alice", "--all")
    assert kept(each_way) == []
    assert kept(each_way, "bob") != []
    refuse(each_way, 5, "keeps no queries", "--all")


def test_all_queries_named_are_kept_or_none_is_forgotten(changeable: Deployment) -> None:
    refuse(changeable, 2, f"the query {'0' * 32} is not kept", changeable / "alice.query.h5", "0" * 32)


def test_a_query_is_forgotten_once(changeable: Deployment) -> None:
    done("user", "forget", changeable / "alice", changeable / "alice.query.h5", *kept(changeable))
    refuse(changeable, 2, "is not kept", changeable / "alice.query.h5")


def test_files_of_others_name_no_query_to_forget(each_way: Deployment) -> None:
    refuse(each_way, 4, "is not a query of this user", each_way / "bob.query.h5")
    kind = "groups" if each_way.scheme == "exact" else "results"
    refuse(each_way, 2, f"is of kind {kind}", each_way / "alice.results.h5")
    refuse(each_way, 2, "is not kept", each_way / "bob.answer.h5")
    refuse(each_way, 2, "cannot be read", "none.h5")


@pytest.mark.parametrize("named", ["--all", "alice.query.h5"])
def test_what_cannot_be_synced_is_synced_later(changeable: Deployment, named: str) -> None:
    words = ("user", "forget", changeable / "alice", named if named == "--all" else changeable / named)
    queries = Boundary("fsync", str(changeable / "alice" / "queries"))
    copy = changeable.copy(changeable.root / "copy")
    tried = (*words[:2], copy / "alice", named if named == "--all" else copy / named)
    failed = broken_off(words, "error", len(broken_off(tried).boundaries)).outcome
    assert failed is not None
    check_refusal(failed, 10)
    assert "queries: a deletion in it may not survive a power cut: Input/output error" in failed.err
    assert kept(changeable) == []
    again = broken_off(words)
    assert again.outcome is not None
    check_refusal(again.outcome, 5 if named == "--all" else 2)
    assert queries in again.boundaries


@pytest.mark.parametrize("words", [(), ("--all", "0" * 32)])
def test_queries_are_named_or_all_are_meant(changeable: Deployment, words: tuple[str, ...]) -> None:
    assert run("user", "forget", changeable / "alice", *words).code == 2
    assert len(kept(changeable)) == 1
