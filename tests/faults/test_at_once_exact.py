"""Commands at once where the KMC keeps features: each does all of its work or says why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from mipp_cli.containers.messages.selection import Selection, read_selection
from tests.faults.store import decrypted, kept_features, make_store
from tests.faults.test_at_once import at_once, more
from tests.support.deployment import JOBS, Deployment, done, run

pytestmark = pytest.mark.slow

RANKINGS = 12


@pytest.fixture
def store(tmp_path: Path) -> Deployment:
    return make_store(tmp_path / "store", "exact")


def features(store: Deployment, owner: str) -> Path:
    return more(store, owner).with_name(f"{owner}-more.features.h5")


def selected(store: Deployment, file: Path) -> Selection:
    return read_selection(file, store.public.fingerprint)


def asked(store: Deployment) -> Path:
    query = store / "query.h5"
    done("user", "query", store / "alice", store / "pictures" / "query.png", "-o", query)
    return query


def test_two_owners_features_taken_at_once_are_both_there(store: Deployment) -> None:
    index = [("kmc", "index", store / "kmc", features(store, owner)) for owner in ("north", "south")]
    outcomes = at_once(*index)
    assert {outcome.code for outcome in outcomes} <= {0, 9}
    for words, outcome in zip(index, outcomes, strict=True):
        assert run(*words).code == (5 if outcome.code == 0 else 0)
    assert [len(kept_features(store, owner)) for owner in ("north", "south")] == [6, 4]
    done("kmc", "check", store / "kmc")


def test_features_and_their_deletion_at_once_commute(store: Deployment) -> None:
    upload, deletion = features(store, "north"), store / "delete.h5"
    done("owner", "delete", store / "north", "north.png", "a.png", "-o", deletion)
    index = [("kmc", "index", store / "kmc", file) for file in (upload, deletion)]
    outcomes = at_once(*index)
    assert {outcome.code for outcome in outcomes} <= {0, 9}
    for words, outcome in zip(index, outcomes, strict=True):
        assert run(*words).code == (5 if outcome.code == 0 else 0)
    rows = [row for row in kept_features(store, "north") if row[0] != "deleted"]
    assert len(rows) == 4  # one of two came, and one of before went
    done("kmc", "check", store / "kmc")


def test_a_ranking_beside_changes_ranks_before_or_after(store: Deployment) -> None:
    upload, deletion = features(store, "north"), store / "delete.h5"
    done("owner", "delete", store / "north", "a.png", "b.png", "-o", deletion)
    changes = [("kmc", "index", store / "kmc", file) for file in (upload, deletion)]
    queries = [store / f"query-{number}.h5" for number in range(RANKINGS)]
    for query in queries:
        asked(store).rename(query)
    words = [
        ("kmc", "rank", store / "kmc", query, "-o", query.with_suffix(".out.h5"), "--json")
        for query in queries
    ]
    half = RANKINGS // 2
    outcomes = at_once(*words[:2], changes[0], *words[2:half], changes[1], *words[half:])
    changed = [outcomes.pop(half + 1), outcomes.pop(2)]
    assert [outcome.code for outcome in [*outcomes, *changed]] == [0] * (RANKINGS + 2), outcomes
    # six images at first, eight with the upload, six again without those deleted
    assert {outcome.json["counts"]["images ranked"] for outcome in outcomes} <= {6, 8}
    assert outcomes[-1].json["counts"]["images ranked"] == 6
    assert not any("damaged" in outcome.out + outcome.err for outcome in outcomes)


def test_one_query_ranked_twice_at_once_selects_once(store: Deployment) -> None:
    query, outputs = asked(store), [store / "one.h5", store / "two.h5"]
    commands = [("kmc", "rank", store / "kmc", query, "-o", output) for output in outputs]
    assert [outcome.code for outcome in at_once(*commands)] == [0, 0]
    assert selected(store, outputs[0]) == selected(store, outputs[1])


def test_one_selection_answered_twice_at_once_gets_one_answer(store: Deployment) -> None:
    results = store.search(asked(store))
    answers = [store / "one.h5", store / "two.h5"]
    commands = [("kmc", "reencrypt", store / "kmc", results, "-o", answer) for answer in answers]
    assert [outcome.code for outcome in at_once(*commands)] == [0, 0]
    one, two = (decrypted(store, "alice", answer) for answer in answers)
    assert one == two
    assert len(one) == 6


def test_other_rows_for_a_selection_answered_now_are_refused(store: Deployment) -> None:
    first, second = store.search(asked(store)), store / "other.h5"
    done("owner", "delete", store / "north", "a.png", "-o", store / "delete.h5")
    done("cloud", "index", store / "cloud", store / "delete.h5", *JOBS)
    done("cloud", "search", store / "cloud", store / "query.selection.h5", "-o", second)
    answers = [store / "one.h5", store / "two.h5"]
    outcomes = at_once(
        *(
            ("kmc", "reencrypt", store / "kmc", results, "-o", answer)
            for results, answer in zip((first, second), answers, strict=True)
        )
    )
    assert sorted(outcome.code for outcome in outcomes) == [0, 6]
    assert [answer.exists() for answer in answers] == [outcome.code == 0 for outcome in outcomes]


def test_a_removal_beside_rankings_takes_the_owner_or_waits(store: Deployment) -> None:
    query = asked(store)
    rank = ("kmc", "rank", store / "kmc", query, "-o", store / "selection.h5", "--json")
    ranked, removed = at_once(rank, ("kmc", "remove", store / "kmc", "north", "--yes"))
    assert ranked.code == 0
    assert removed.code in (0, 9)
    assert run("kmc", "remove", store / "kmc", "north", "--yes").code == (5 if removed.code == 0 else 0)
    done("kmc", "check", store / "kmc")
    asked_again = store / "again.h5"
    done("user", "query", store / "alice", store / "pictures" / "query.png", "-o", asked_again)
    again = done("kmc", "rank", store / "kmc", asked_again, "-o", store / "later.h5", "--json")
    assert again.json["counts"]["images ranked"] == 2
