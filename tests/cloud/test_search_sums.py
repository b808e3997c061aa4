"""ImageRetrieval: who may search, what is found in which order, with the index and without it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from mipp_cli.cloud import search_sums as cloud_search
from mipp_cli.containers.messages.delete import write_delete
from mipp_cli.files.locks import locked
from mipp_cli.scheme.similarity import new_distances
from tests.support.deployment import AUTHORISED, JOBS, Deployment, done, feature_of, refused, snapshot
from tests.support.forgery import (
    Picture,
    contents_of,
    forge_query,
    forge_upload,
    next_number,
    random_feature,
    reading,
    stranger,
)


def table(path: Path) -> list[list[str]]:
    return [line.split(",") for line in done("inspect", path, "--csv").out.splitlines()[1:]]


def refuse(deployment: Deployment, query: Path, code: int, words: str) -> None:
    before = snapshot(deployment / "cloud")
    output = query.with_name("refused.h5")
    outcome = refused(code, "cloud", "search", deployment / "cloud", query, "-o", output, *JOBS)
    assert words in outcome.err
    assert str(query) in outcome.err
    assert not output.exists()
    assert snapshot(deployment / "cloud") == before


@pytest.mark.parametrize("user", ["alice", "bob"])
def test_encrypted_sim_ranks_like_plain_newdis(sum_scheme: Deployment, user: str, tmp_path: Path) -> None:
    deployment = sum_scheme.copy(tmp_path / "copy")
    found = table(deployment.search(deployment.ask(user, candidates=100)))
    images = [
        (owner, image_id, feature_of(deployment.pictures(owner)[path]).astype(int))
        for owner in AUTHORISED[user]
        for image_id, path in deployment.names(owner).items()
    ]
    expected = []
    for number in (0, 1):
        y = feature_of(deployment / "pictures" / "queries" / f"q{number + 1}.png").astype(int)
        ranked = sorted(
            # Eq. 8 squared and times l, an exact integer
            (80 * int(sum(x * x) + sum(y * y)) - 2 * int(sum(x)) * int(sum(y)), owner, image_id)
            for owner, image_id, x in images
        )
        distances = new_distances(np.stack([x for _, _, x in images]), y)
        assert [float(np.sqrt(each[0] / 80)) for each in ranked] == sorted(distances)
        expected += [
            [str(number), owner, image_id, f"{np.sqrt(square / 80):.6f}"]
            for square, owner, image_id in ranked
        ]
    assert found == expected


def test_the_answer_is_the_same_with_and_without_the_index(sum_scheme: Deployment, tmp_path: Path) -> None:
    query, results = sum_scheme / "bob.query.h5", tmp_path / "r.h5"
    done("cloud", "search", sum_scheme / "cloud", query, "-o", results, "--without-index", *JOBS)
    assert contents_of(sum_scheme, results) == contents_of(sum_scheme, sum_scheme / "bob.results.h5")


@pytest.mark.parametrize("seed", range(4))
def test_with_many_ties_both_ways_of_searching_agree(changeable: Deployment, seed: int) -> None:
    random = np.random.default_rng(seed)
    patterns = random.integers(0, 8, (3, 80), dtype=np.uint8)
    envelope = Picture().envelope()
    for owner in ("south", "north", "south"):
        images = []
        for _ in range(40):
            # a shuffled pattern has the sums of the pattern
            feature = random.permutation(patterns[random.integers(len(patterns))])
            images.append((f"{random.integers(1 << 40):x}", envelope, feature))
        upload = forge_upload(changeable, owner, images, changeable / f"{next_number()}.h5")
        done("cloud", "index", changeable / "cloud", upload, *JOBS)
    features = np.stack([random.permutation(patterns[0]), random.integers(0, 8, 80, dtype=np.uint8)])
    for candidates in (1, 7, 40, 41, 100, 1000):
        query = forge_query(
            changeable, "alice", features, changeable / f"{next_number()}.h5", candidates=candidates
        )
        quick = changeable.search(query)
        slow = changeable / f"{next_number()}.h5"
        done("cloud", "search", changeable / "cloud", query, "-o", slow, "--without-index", *JOBS)
        with reading(changeable, quick) as one, reading(changeable, slow) as two:
            assert one.matches == two.matches
            assert one.images == two.images
            # 120 forged images, and the 10 that north and south had
            assert len(one.matches) == 2 * min(candidates, 130)


def test_results_hold_no_more_images_than_were_asked_for(changeable: Deployment) -> None:
    results = changeable.search(changeable.ask("alice", candidates=2))
    with reading(changeable, results) as reader:
        assert [match.query for match in reader.matches] == [0, 0, 1, 1]
        assert len(reader.images) <= 4


def test_an_unknown_user_is_refused_by_the_cloud_alone(deployment: Deployment, tmp_path: Path) -> None:
    query = forge_query(deployment, "eve", random_feature(1)[None], tmp_path / "q.h5")
    refuse(deployment, query, 4, "no enrolled owner authorised the user 'eve'")


def test_a_known_name_with_another_key_is_refused(deployment: Deployment, tmp_path: Path) -> None:
    impostor = stranger(deployment, "alice")
    query = forge_query(deployment, "alice", random_feature(1)[None], tmp_path / "q.h5", sender=impostor)
    refuse(deployment, query, 4, "no enrolled owner authorised the user 'alice' with this key")


def test_a_user_revoked_by_all_owners_at_the_cloud_is_refused(changeable: Deployment) -> None:
    query = changeable.ask("alice")
    for owner in ("north", "south"):
        done("owner", "revoke", changeable / owner, "alice")
        done("cloud", "enroll", changeable / "cloud", changeable / owner / "members.h5")
    refuse(changeable, query, 4, "no enrolled owner authorised the user 'alice'")


def test_a_user_revoked_by_one_owner_finds_only_the_others(changeable: Deployment) -> None:
    done("owner", "revoke", changeable / "north", "alice")
    done("cloud", "enroll", changeable / "cloud", changeable / "north" / "members.h5")
    results = changeable.search(changeable.ask("alice", candidates=100))
    assert {row[1] for row in table(results)} == {"south"}


def test_a_user_authorised_later_finds_what_was_indexed_before(changeable: Deployment) -> None:
    done("owner", "authorize", changeable / "north", changeable / "eve" / "user.pub")
    changeable.enroll_all()
    results = changeable.search(changeable.ask("eve", candidates=100))
    assert {row[1] for row in table(results)} == {"north"}
    assert changeable.answer(results).exists()


def test_the_same_query_is_answered_again(deployment: Deployment, tmp_path: Path) -> None:
    for name in ("one.h5", "two.h5"):
        words = (deployment / "alice.query.h5", "-o", tmp_path / name, *JOBS)
        done("cloud", "search", deployment / "cloud", *words)
    assert contents_of(deployment, tmp_path / "one.h5") == contents_of(deployment, tmp_path / "two.h5")


def test_another_query_under_a_known_id_is_a_replay(changeable: Deployment) -> None:
    known = contents_of(changeable, changeable / "alice.results.h5").query_id
    query = forge_query(changeable, "alice", random_feature(5)[None], changeable / "q.h5", query_id=known)
    refuse(changeable, query, 6, "reuses the id of another query of this user")


def test_a_query_whose_search_failed_does_not_count_as_known(changeable: Deployment) -> None:
    known = f"{next_number():032x}"
    words = {"query_id": known, "candidates": 5}
    first = forge_query(changeable, "alice", random_feature(5)[None], changeable / "1.h5", **words)
    missing = changeable / "missing" / "results.h5"
    refused(10, "cloud", "search", changeable / "cloud", first, "-o", missing, *JOBS)
    second = forge_query(changeable, "alice", random_feature(6)[None], changeable / "2.h5", **words)
    assert changeable.search(second).exists()


def test_a_query_with_impossible_sums_is_refused(
    changeable: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    feature = random_feature(1).astype(np.uint64)
    cipher = changeable.public.parameters.cipher
    forged = cipher.encrypt(feature[None]), cipher.encrypt(feature[None] * 0)
    monkeypatch.setattr("mipp_cli.scheme.feature_cipher.encrypt_features", lambda *_: forged)
    query = forge_query(changeable, "alice", random_feature(1)[None], changeable / "q.h5")
    outcome = refused(3, "cloud", "search", changeable / "cloud", query, "-o", changeable / "r.h5")
    assert "no feature can have the sums" in outcome.err
    assert str(query) in outcome.err


def test_a_search_goes_on_while_uploads_come_in(deployment: Deployment, tmp_path: Path) -> None:
    with locked(deployment / "cloud" / "role.json"):
        done(
            "cloud",
            "search",
            deployment / "cloud",
            deployment / "bob.query.h5",
            "-o",
            tmp_path / "r.h5",
            *JOBS,
        )


def test_a_search_uses_the_new_index_if_replaced_meanwhile(
    changeable: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = changeable / "cloud"
    images = [(f"{seed}", Picture().envelope(), random_feature(seed)) for seed in range(9)]
    upload = forge_upload(changeable, "north", images, changeable / "new.h5")
    query = changeable.ask("alice", candidates=100)
    look_up = cloud_search._look_up

    def look_up_late(*words: object) -> object:
        if not done_once:
            done_once.append(True)
            # merges north's parts, and removes the old ones
            done("cloud", "index", cloud, upload, *JOBS)
        return look_up(*words)

    done_once: list[bool] = []
    monkeypatch.setattr(cloud_search, "_look_up", look_up_late)
    assert len(table(changeable.search(query))) == 2 * (10 + 9)


@pytest.mark.parametrize("step", ["_look_up", "_scan", "_encrypted_images"])
def test_a_search_leaves_out_images_deleted_meanwhile(
    changeable: Deployment, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    cloud, deletion = changeable / "cloud", changeable / "delete.h5"
    gone = sorted(changeable.names("north"))[:2]
    write_delete(deletion, changeable.sender("north"), next_number(), gone)
    query, output = changeable.ask("alice", candidates=100), changeable / "results.h5"
    working = getattr(cloud_search, step)

    def work_late(*words: object, **options: object) -> object:
        if not done_once:
            done_once.append(True)
            done("cloud", "index", cloud, deletion, *JOBS)
        return working(*words, **options)

    done_once: list[bool] = []
    monkeypatch.setattr(cloud_search, step, work_late)
    way = ["--without-index"] if step == "_scan" else []
    counts = done("cloud", "search", cloud, query, "-o", output, "--json", *way, *JOBS).json["counts"]
    assert counts == {
        "query images": 2,
        "owners": 2,
        "images searched": 8,
        "matches": 16,
        "images": 8,
    }
    assert not {row[2] for row in table(output)} & set(gone)


def test_a_part_that_is_lost_is_named(changeable: Deployment) -> None:
    for part in (changeable / "cloud" / "parts").glob("*.h5"):
        part.unlink()
    words = (
        "cloud",
        "search",
        changeable / "cloud",
        changeable / "alice.query.h5",
        "-o",
        changeable / "r.h5",
    )
    assert "missing from the cloud's store" in refused(3, *words).err
    assert not (changeable / "r.h5").exists()


def test_a_search_not_recorded_leaves_the_former_results(changeable: Deployment) -> None:
    query = changeable.ask("alice")
    results = changeable.search(query)
    former = results.read_bytes()
    shutil.rmtree(changeable / "cloud" / "queries")
    (changeable / "cloud" / "queries").write_bytes(b"")  # where no record can be made
    refused(10, "cloud", "search", changeable / "cloud", query, "-o", results, "--force")
    assert results.read_bytes() == former
