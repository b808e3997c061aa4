"""Commands at once in one directory: each does all of its work or says why not."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from mipp_cli.owner.owner import Owner
from tests.faults.store import decrypted, make_store, table
from tests.support.deployment import JOBS, Deployment, Outcome, done, picture, run

pytestmark = pytest.mark.slow

SEARCHES = 12


@pytest.fixture
def store(tmp_path: Path) -> Deployment:
    return make_store(tmp_path / "store")


def at_once(*commands: tuple[object, ...]) -> list[Outcome]:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.starmap(run, commands, chunksize=1)


def more(store: Deployment, owner: str) -> Path:
    """Make another upload of an owner."""
    folder, upload = store / f"{owner}-more", store / f"{owner}-more.h5"
    folder.mkdir()
    picture(40 + len(owner), size=(24, 16)).save(folder / f"{owner}.png")
    picture(41 + len(owner), size=(24, 16)).save(folder / f"{owner}-2.png")
    done("owner", "encrypt", store / owner, folder, "-o", upload, *JOBS)
    return upload


def indexed(store: Deployment) -> list[tuple[str, ...]]:
    return table(store / "cloud" / "index.h5", "upload")


def test_two_uploads_indexed_at_once_are_both_there(store: Deployment) -> None:
    index = [("cloud", "index", store / "cloud", more(store, owner), *JOBS) for owner in ("north", "south")]
    before = indexed(store)
    outcomes = at_once(*index)
    assert {outcome.code for outcome in outcomes} <= {0, 9}
    assert len(indexed(store)) == len(before) + 2 * sum(outcome.code == 0 for outcome in outcomes)
    for words, outcome in zip(index, outcomes, strict=True):
        assert run(*words).code == (5 if outcome.code == 0 else 0)
    assert len(indexed(store)) == len(before) + 4
    done("cloud", "check", store / "cloud")


def test_an_upload_and_its_deletion_at_once_commute(store: Deployment) -> None:
    before, upload, deletion = indexed(store), more(store, "north"), store / "delete.h5"
    done("owner", "delete", store / "north", "north.png", "a.png", "-o", deletion)
    index = [("cloud", "index", store / "cloud", file, *JOBS) for file in (upload, deletion)]
    outcomes = at_once(*index)
    assert {outcome.code for outcome in outcomes} <= {0, 9}
    for words, outcome in zip(index, outcomes, strict=True):
        assert run(*words).code == (5 if outcome.code == 0 else 0)
    assert len(indexed(store)) == len(before)  # one of two came, and one of before went
    deleted = {Owner.open(store / "north").name_on_the_wire(path) for path in ("north.png", "a.png")}
    assert not {row[1] for row in indexed(store)} & deleted
    done("cloud", "check", store / "cloud")


@pytest.mark.parametrize("way", [(), ("--without-index",)], ids=["with index", "without index"])
def test_a_search_beside_a_change_finds_before_or_after(store: Deployment, way: tuple[str, ...]) -> None:
    deletion, upload = store / "delete.h5", more(store, "north")
    done("owner", "delete", store / "north", "a.png", "c.png", "-o", deletion)
    changes = [("cloud", "index", store / "cloud", file, *JOBS) for file in (upload, deletion)]
    query = store / "query.h5"
    done("user", "query", store / "alice", store / "pictures" / "query.png", "-o", query)
    words = ("cloud", "search", store / "cloud", query, *way, *JOBS, "-o")
    outputs = [store / f"results-{number}.h5" for number in range(SEARCHES)]
    searches = [(*words, output) for output in outputs]
    half = SEARCHES // 2
    outcomes = at_once(*searches[:2], changes[0], *searches[2:half], changes[1], *searches[half:])
    assert [outcome.code for outcome in outcomes] == [0] * len(outcomes), outcomes
    # six images at first, eight with the upload, six again without those deleted
    found = {output: len(table(output)) for output in outputs}
    assert set(found.values()) <= {6, 8}
    assert found[outputs[-1]] == 6


def searched(store: Deployment) -> Path:
    query, results = store / "query.h5", store / "results.h5"
    done("user", "query", store / "alice", store / "pictures" / "query.png", "-o", query)
    done("cloud", "search", store / "cloud", query, "-o", results, *JOBS)
    return results


def test_one_query_answered_twice_at_once_gets_one_answer(store: Deployment) -> None:
    results = searched(store)
    answers = [store / "one.h5", store / "two.h5"]
    commands = [("kmc", "reencrypt", store / "kmc", results, "-o", answer) for answer in answers]
    assert [outcome.code for outcome in at_once(*commands)] == [0, 0]
    one, two = (decrypted(store, "alice", answer) for answer in answers)
    assert one == two


def test_other_images_for_a_query_answered_now_are_refused(store: Deployment) -> None:
    first = searched(store)
    done("cloud", "index", store / "cloud", more(store, "north"), *JOBS)
    second = store / "other.h5"
    done("cloud", "search", store / "cloud", store / "query.h5", "-o", second, *JOBS)
    answers = [store / "one.h5", store / "two.h5"]
    outcomes = at_once(
        *(
            ("kmc", "reencrypt", store / "kmc", results, "-o", answer)
            for results, answer in zip((first, second), answers, strict=True)
        )
    )
    assert sorted(outcome.code for outcome in outcomes) == [0, 6]
    assert [answer.exists() for answer in answers] == [outcome.code == 0 for outcome in outcomes]


def test_an_enrolment_beside_an_answer_waits_or_comes_first(store: Deployment) -> None:
    results = searched(store)
    done("owner", "revoke", store / "north", "alice")
    enrolment = store / "north" / "enrolment.h5"
    answer, enrol = at_once(
        ("kmc", "reencrypt", store / "kmc", results, "-o", store / "back.h5"),
        ("kmc", "enroll", store / "kmc", enrolment),
    )
    assert answer.code in (0, 4, 9)
    assert enrol.code in (0, 9)
    assert run("kmc", "enroll", store / "kmc", enrolment).code == (5 if enrol.code == 0 else 0)
    again = run("kmc", "reencrypt", store / "kmc", results, "-o", store / "late.h5")
    assert again.code == 4
    assert not (store / "late.h5").exists()
