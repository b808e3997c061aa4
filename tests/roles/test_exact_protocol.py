"""Scheme `exact` from query to answer: the true nearest neighbours, whatever owners change meanwhile."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from mipp_cli.containers.query import parse_query
from mipp_cli.roles.cloud_candidates import collect
from mipp_cli.roles.cloud_search import search
from mipp_cli.roles.kmc import Kmc
from mipp_cli.roles.progress import Advance, Progress, silent
from tests.deployment import done, feature_of, picture
from tests.roles.exact_deployment import NORTH, SOUTH, Exact
from tests.roles.exact_owner import features_of

QUERIES = np.random.default_rng(7).integers(0, 8, (2, 80), dtype=np.uint8)


def check_answer(exact: Exact, *options: object, candidates: int = 3) -> None:
    """Demand the true nearest neighbours, end to end."""
    asked = exact.ask(QUERIES, candidates=candidates)
    matches, images, left_out = asked.read(asked.answered(*options))
    assert matches == [set(exact.nearest(query, candidates)) for query in QUERIES]
    assert left_out == 0
    for (owner, name), envelope in images.items():
        assert envelope.content == f"content of {name}".encode()
        assert (envelope.feature == exact.images()[owner, name]).all()
    assert set(images) == set().union(*matches)


def test_the_answer_has_the_true_nearest_neighbours(exact: Exact) -> None:
    check_answer(exact)


def test_decoys_are_selected_and_do_not_reach_the_user(exact: Exact) -> None:
    check_answer(exact, "--decoys", 4)


def test_more_candidates_than_images_bring_all_of_them(exact: Exact) -> None:
    check_answer(exact, candidates=50)


def test_images_of_owners_who_did_not_authorise_the_user_are_not_ranked(exact: Exact) -> None:
    asked = exact.ask(QUERIES[:1], candidates=50, user="bob")
    matches, _, _ = asked.read(asked.answered())
    assert matches == [{("south", name) for name in SOUTH}]


def test_deleted_images_are_not_found_and_the_others_are(exact: Exact) -> None:
    exact.index(exact.north.delete([NORTH[0], NORTH[4], NORTH[5]]))
    check_answer(exact, candidates=50)
    exact.index(exact.north.delete([NORTH[1], NORTH[2]]))  # the first chunk is empty now
    check_answer(exact, candidates=50)


def test_replaced_images_are_found_by_their_new_features(exact: Exact) -> None:
    anew = features_of([NORTH[1], NORTH[6], NORTH[7]], seed=1)
    exact.index(exact.north.upload(anew, replace_images=True))
    check_answer(exact, candidates=50)
    exact.index(exact.north.delete([NORTH[7], NORTH[0]]))
    check_answer(exact)


def test_many_messages_applied_in_one_run_give_what_each_alone_gives(exact: Exact) -> None:
    messages = [exact.north.delete([NORTH[number]]) for number in (0, 3)]
    messages.append(exact.north.upload(features_of([NORTH[4], NORTH[5]], seed=3), replace_images=True))
    messages.append(exact.north.upload(features_of([NORTH[0], "new"], seed=4)))
    messages.append(exact.north.delete([NORTH[5], NORTH[6]]))
    exact.index(*messages)
    check_answer(exact, candidates=50)
    check_answer(exact)


def test_an_owner_may_delete_everything(exact: Exact) -> None:
    exact.index(exact.south.delete(SOUTH))
    check_answer(exact, candidates=50)


def test_no_ciphertext_of_features_that_left_stays_at_the_cloud(exact: Exact) -> None:
    first = _stored_chunks(exact)
    exact.index(exact.north.upload(features_of(NORTH[:2], seed=5), replace_images=True))
    second = _stored_chunks(exact)
    exact.index(exact.north.delete([NORTH[2]]))
    third = _stored_chunks(exact)
    assert (len(first - second), len(second - first)) == (1, 2)  # what is left, and the new images
    assert (len(second - third), len(third - second)) == (1, 0)
    stored = b"".join(path.read_bytes() for path in (exact / "cloud").rglob("*") if path.is_file())
    assert all(chunk in stored for chunk in third)
    assert not any(chunk in stored for chunk in (first | second) - third)


def _stored_chunks(exact: Exact) -> set[bytes]:
    """Return every chunk that the cloud would offer."""
    from mipp_cli.containers.candidates import open_candidates

    asked = exact.ask(QUERIES)
    reader = open_candidates(asked.search(), exact.deployment.public.fingerprint)
    with reader.container:
        return {reader.chunk(number) for number in range(len(reader))}


def test_a_rebuilt_index_answers_as_the_old_one(exact: Exact) -> None:
    exact.index(exact.north.upload(features_of(NORTH[2:5], seed=1), replace_images=True))
    exact.index(exact.north.delete([NORTH[0]]))
    for path in (exact / "cloud" / "index.h5", *(exact / "cloud" / "parts").iterdir()):
        path.unlink()
    done("cloud", "index", exact / "cloud", "--rebuild")
    check_answer(exact, candidates=50)
    exact.index(exact.north.delete([NORTH[1]]))
    check_answer(exact, candidates=50)
    done("cloud", "check", exact / "cloud")


def test_the_users_command_seals_the_features_and_asks_for_ten(exact: Exact, tmp_path: Path) -> None:
    picture(1).save(tmp_path / "a.png")
    done("user", "query", exact / "alice", tmp_path / "a.png", "-o", tmp_path / "query.h5")
    public = exact.deployment.public
    query = parse_query((tmp_path / "query.h5").read_bytes(), public.parameters, public.fingerprint)
    codes = query.open_features(Kmc.open(exact / "kmc").sealing_keys, public.parameters)
    assert codes.tolist() == [feature_of(tmp_path / "a.png").tolist()]
    assert (query.images, query.candidates) == (1, 10)


def test_the_same_features_make_queries_of_which_nothing_is_alike(exact: Exact) -> None:
    first, second = (exact.ask(QUERIES).path.read_bytes() for _ in range(2))
    assert first[-500:] != second[-500:]
    assert QUERIES[0].tobytes() not in first


def test_what_was_answered_may_be_asked_for_again_at_every_step(exact: Exact) -> None:
    asked = exact.ask(QUERIES)
    first = asked.read(asked.answered("--decoys", 2))
    second = asked.read(asked.answered("--decoys", 2))
    assert first[0] == second[0]
    assert set(first[1]) == set(second[1])


def test_reports_say_what_was_done(exact: Exact) -> None:
    asked = exact.ask(QUERIES)
    steps = {
        "candidates": ("cloud", "search", exact / "cloud", asked.path),
        "selection": ("kmc", "rank", exact / "kmc", asked.file("candidates"), "--decoys", 2),
        "results": ("cloud", "collect", exact / "cloud", asked.file("selection")),
    }
    expected = {
        "candidates": {"query images": 2, "owners": 2, "candidates": 12},
        "selection": {"query images": 2, "owners": 2, "images ranked": 12, "decoys": 2, "left out": 0},
        "results": {"owners": 2},
    }
    for kind, words in steps.items():
        report = done(*words, "-o", asked.file(kind), "--json").json
        assert [output["kind"] for output in report["outputs"]] == [kind]
        assert expected[kind].items() <= report["counts"].items()


def interfering(exact: Exact, message: Path) -> Progress:
    """Return a progress that has a message applied when it is first asked for."""
    messages = [message]

    def progress(title: str, total: int, unit: str) -> AbstractContextManager[Advance]:
        while messages:
            exact.index(messages.pop())
        return silent(title, total, unit)

    return progress


def test_a_search_begins_again_when_features_change_meanwhile(exact: Exact) -> None:
    message = exact.north.delete([NORTH[0], NORTH[4]])
    asked = exact.ask(QUERIES, candidates=50)
    search(exact / "cloud", asked.path, asked.file("candidates"), progress=interfering(exact, message))
    asked.rank()
    asked.collect()
    matches, _, _ = asked.read(asked.reencrypt())
    assert matches == [set(exact.images())] * 2


def test_collecting_begins_again_when_other_chunks_change_meanwhile(exact: Exact) -> None:
    asked = exact.ask(QUERIES[:1], candidates=1)
    asked.search()
    asked.rank()
    ((owner, name),) = exact.nearest(QUERIES[0], 1)
    changed, names = (exact.north, NORTH) if owner == "north" else (exact.south, SOUTH)
    place = names.index(name) // 3
    message = changed.delete([next(each for row, each in enumerate(names) if row // 3 != place)])
    collect(
        exact / "cloud",
        asked.file("selection"),
        asked.file("results"),
        progress=interfering(exact, message),
    )
    matches, _, _ = asked.read(asked.reencrypt())
    assert matches == [{(owner, name)}]
