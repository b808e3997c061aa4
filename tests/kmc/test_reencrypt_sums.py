"""What the KMC re-encrypts, for whom, and what it refuses of a dishonest cloud."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from mipp_cli.containers.messages.results import Match
from mipp_cli.errors import OutputError
from mipp_cli.owner.owner import Owner
from mipp_cli.scheme.secret_keys import key_id
from tests.support.deployment import Deployment, done, refused, run, snapshot
from tests.support.forgery import (
    Contents,
    Picture,
    changed_results,
    contents_of,
    forge_query,
    forge_results,
    forge_upload,
    random_feature,
    results_for,
    stranger,
)


def refuse(deployment: Deployment, results: Path, code: int, words: str) -> None:
    """Demand that the KMC refuses, changes nothing and leaves nothing."""
    before = snapshot(deployment / "kmc")
    output = results.with_name("refused.h5")
    outcome = refused(code, "kmc", "reencrypt", deployment / "kmc", results, "-o", output)
    assert words in outcome.err
    assert str(results) in outcome.err
    assert not output.exists()
    assert snapshot(deployment / "kmc") == before


def revoke(deployment: Deployment, owner: str, user: str, *, at: str) -> None:
    done("owner", "revoke", deployment / owner, user)
    file = "members.h5" if at == "cloud" else "enrolment.h5"
    done(at, "enroll", deployment / at, deployment / owner / file)


def test_an_unauthorised_user_gets_nothing_from_a_lenient_cloud(
    changeable: Deployment, tmp_path: Path
) -> None:
    query = tmp_path / "q.h5"
    done("user", "query", changeable / "eve", changeable / "pictures/queries/q1.png", "-o", query)
    results = results_for(changeable, query, "north", tmp_path / "r.h5")
    refuse(changeable, results, 4, "no enrolled owner authorised the user 'eve'")


def test_a_lenient_cloud_cannot_pass_on_another_owners_images(deployment: Deployment, tmp_path: Path) -> None:
    query = forge_query(deployment, "bob", random_feature(1)[None], tmp_path / "q.h5")
    results = results_for(deployment, query, "north", tmp_path / "r.h5")
    refuse(deployment, results, 4, "an image of 'north', who has not authorised the user 'bob'")


def test_one_unauthorised_image_spoils_the_whole_answer(deployment: Deployment, tmp_path: Path) -> None:
    query = forge_query(deployment, "bob", random_feature(1)[None], tmp_path / "q.h5")
    south = contents_of(deployment, results_for(deployment, query, "south", tmp_path / "s.h5", images=2))
    north = contents_of(deployment, results_for(deployment, query, "north", tmp_path / "n.h5"))
    south.images += north.images
    south.matches.append(Match(0, 2, 0.0))
    refuse(deployment, forge_results(deployment, south, tmp_path / "r.h5"), 4, "an image of 'north'")


def test_images_of_an_owner_not_named_are_refused(deployment: Deployment, tmp_path: Path) -> None:
    feature = random_feature(1)[None]
    query = forge_query(deployment, "alice", feature, tmp_path / "q.h5", owners=["south"])
    results = results_for(deployment, query, "north", tmp_path / "r.h5")
    refuse(deployment, results, 4, "an image of 'north', who has not authorised the user 'alice'")


def test_the_way_of_another_scheme_to_answer_is_refused(exact: Deployment, deployment: Deployment) -> None:
    for here, other, kinds in (
        (exact, deployment, "results, not groups"),
        (deployment, exact, "groups, not "),
    ):
        refuse(here, other / "alice.results.h5", 3, f"is of kind {kinds}")


def test_a_user_authorised_under_another_key_is_unknown(deployment: Deployment, tmp_path: Path) -> None:
    impostor = stranger(deployment, "alice")
    query = forge_query(deployment, "alice", random_feature(1)[None], tmp_path / "q.h5", sender=impostor)
    results = results_for(deployment, query, "north", tmp_path / "r.h5")
    refuse(deployment, results, 4, "no enrolled owner authorised the user 'alice' with this key")


def test_a_user_revoked_by_all_owners_at_the_kmc_gets_nothing(changeable: Deployment) -> None:
    for owner in ("north", "south"):
        revoke(changeable, owner, "alice", at="kmc")
    results = changeable.search(changeable.ask("alice"))
    refuse(changeable, results, 4, "no enrolled owner authorised the user 'alice'")


def test_results_with_a_revoking_owners_images_are_refused(
    changeable: Deployment,
) -> None:
    revoke(changeable, "north", "alice", at="kmc")
    results = changeable.search(changeable.ask("alice"))
    refuse(changeable, results, 4, "'north', who has not authorised the user 'alice'")


def test_results_found_before_a_key_was_forgotten_open_no_more(changeable: Deployment) -> None:
    results = changeable.search(changeable.ask("alice", candidates=100))
    north = changeable / "north"
    key = f"{key_id(changeable.role('north').secret('image')):016x}"
    done("owner", "rotate-key", north)
    done("owner", "delete", north, *changeable.pictures("north"), "-o", changeable / "d.h5")
    number = Owner.open(north).last_number
    done("owner", "forget-key", north, key, "--applied", number)
    done("kmc", "enroll", changeable / "kmc", north / "enrolment.h5")
    outcome = done("kmc", "reencrypt", changeable / "kmc", results, "-o", changeable / "a.h5")
    assert "left out images of north (5)" in outcome.err


def test_results_found_before_a_revocation_are_refused_after_it(changeable: Deployment) -> None:
    results = changeable.search(changeable.ask("alice"))
    revoke(changeable, "north", "alice", at="kmc")
    refuse(changeable, results, 4, "'north'")


def test_a_revocation_does_not_touch_other_users(changeable: Deployment) -> None:
    for owner in ("north", "south"):
        for place in ("kmc", "cloud"):
            done("owner", "authorize", changeable / owner, changeable / "alice" / "user.pub")
            revoke(changeable, owner, "alice", at=place)
    assert changeable.answer(changeable.search(changeable.ask("bob"))).exists()


def test_a_cloud_that_was_not_enrolled_is_unknown(deployment: Deployment, tmp_path: Path) -> None:
    contents = contents_of(deployment, deployment / "alice.results.h5")
    results = forge_results(deployment, contents, tmp_path / "r.h5", sender=stranger(deployment, "cloud"))
    refuse(deployment, results, 4, "a cloud that is not enrolled with this KMC")


def test_an_owner_cannot_speak_as_a_cloud(deployment: Deployment, tmp_path: Path) -> None:
    contents = contents_of(deployment, deployment / "alice.results.h5")
    results = forge_results(deployment, contents, tmp_path / "r.h5", sender=deployment.sender("north"))
    refuse(deployment, results, 4, "a cloud that is not enrolled with this KMC")


def _swap_images(contents: Contents) -> None:
    (first, a), (second, b) = contents.images[:2]
    contents.images[:2] = [(first, b), (second, a)]


def _swap_owners(contents: Contents) -> None:
    north = next(i for i, (ref, _) in enumerate(contents.images) if ref.owner == "north")
    south = next(ref for ref, _ in contents.images if ref.owner == "south")
    contents.refer(north, owner="south", key_id=south.key_id, upload=south.upload)


def _other_query_image(contents: Contents) -> None:
    contents.matches[0] = dataclasses.replace(contents.matches[0], query=2)


def _flip(contents: Contents) -> None:
    ref, ew = contents.images[0]
    contents.images[0] = ref, ew[:-1] + bytes([ew[-1] ^ 1])


def _empty_image(contents: Contents) -> None:
    contents.images[0] = contents.images[0][0], b""


def _other_id(contents: Contents) -> None:
    contents.query_id = "0" * 32


def _changed_query(contents: Contents) -> None:
    contents.query = contents.query[:-1] + bytes([contents.query[-1] ^ 1])


SPOILED = [
    (_swap_images, 2, 3, "does not fit its key, its owner, its name or its place"),
    (_swap_owners, 1, 3, "does not fit its key, its owner, its name or its place"),
    (lambda c: c.refer(0, upload=c.images[0][0].upload + 1), 1, 3, "does not fit its key"),
    (lambda c: c.refer(0, name="other"), 1, 3, "does not fit its key"),
    (lambda c: c.refer(0, key_id=7), 1, 8, "under a key that is not enrolled"),
    (_flip, 1, 3, "does not fit its key"),
    (_empty_image, 1, 3, "does not fit its key"),
]


@pytest.mark.parametrize(("change", "number", "code", "words"), SPOILED)
def test_only_an_image_that_does_not_open_is_left_out(
    changeable: Deployment, change: Callable[[Contents], object], number: int, code: int, words: str
) -> None:
    whole = changeable.search(changeable.ask("alice"))
    before = {(ref.owner, ref.name): ew for ref, ew in contents_of(changeable, whole).images}
    results = changed_results(changeable, whole, change)
    spoiled = contents_of(changeable, results)
    good = {
        place for place, (ref, ew) in enumerate(spoiled.images) if before.get((ref.owner, ref.name)) == ew
    }
    answer = changeable / "answer.h5"
    report = done("kmc", "reencrypt", changeable / "kmc", results, "-o", answer, "--json").json
    assert len(spoiled.images) - number == report["counts"]["images"] >= len(good) - 1
    assert report["counts"]["left out"] == number
    assert len(report["warnings"]) >= 1
    assert all("left out images of " in each and "): " in each for each in report["warnings"])
    assert words in report["warnings"][0]
    told = done(
        *("user", "decrypt", changeable / "alice", answer, "-o", changeable / "m", "--top", 100, "--json")
    ).json
    assert sum(owner["bad"] for owner in told["searched"].values()) == number
    assert any("could not be used: damaged at the cloud" in w for w in told["warnings"])
    assert len(told["matches"]) == report["counts"]["matches"] < len(spoiled.matches)


@pytest.mark.parametrize(("change", "number", "code", "words"), SPOILED[2:])
def test_if_not_one_image_opens_the_answer_is_refused(
    changeable: Deployment, change: Callable[[Contents], object], number: int, code: int, words: str
) -> None:
    query = forge_query(changeable, "alice", random_feature(5)[None], changeable / "q.h5")
    results = results_for(changeable, query, "north", changeable / "r.h5")
    refuse(changeable, changed_results(changeable, results, change), code, words)


def test_a_hostile_owner_cannot_deny_the_answers_of_the_others(changeable: Deployment) -> None:
    images = [(f"bad-{n}", Picture().envelope(), random_feature(n)) for n in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mipp_cli.containers.messages.upload.UploadCipher.encrypt", lambda *_: bytes(40))
        upload = forge_upload(changeable, "south", images, changeable / "bad.h5")
    changeable.index(upload)
    answer = changeable.answer(changeable.search(changeable.ask("alice", candidates=100)))
    words = ("user", "decrypt", changeable / "alice", answer, "-o", changeable / "m", "--top", 100, "--json")
    told = done(*words).json
    assert (len(told["matches"]), told["searched"]["south"]["bad"]) == (20, 3)
    assert told["searched"]["north"]["bad"] == 0


def test_an_answer_without_images_left_out_says_nothing_of_it(changeable: Deployment) -> None:
    results = changeable.search(changeable.ask("alice"))
    words = ("kmc", "reencrypt", changeable / "kmc", results, "-o", changeable / "a.h5")
    assert "left out" not in done(*words).out
    words = ("user", "decrypt", changeable / "alice", changeable / "a.h5", "-o", changeable / "m")
    outcome = done(*words)
    assert "left out" not in outcome.out + outcome.err
    assert "warning: " not in outcome.err


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (_other_query_image, 3, "a match for a query image that does not exist"),
        (lambda c: c.matches.clear(), 3, "contains images without a match"),
        (_other_id, 3, "contains another query than the one it answers"),
        (_changed_query, 3, "does not match the digest"),
        (lambda c: setattr(c, "query", c.query[:500]), 3, "is not a MIPP container"),
        (lambda c: c.refer(0, owner="../x"), 3, "invalid identifier"),
        (lambda c: c.matches.append(c.matches[0]), 3, "matches an image twice"),
        (lambda c: c.matches.append(Match(0, 99, 0.0)), 3, "an image that it does not contain"),
        (lambda c: c.matches.append(Match(1, 0, float("nan"))), 3, "an invalid Sim"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else str(value)[:30],
)
def test_results_that_a_cloud_changed_are_refused_whole(
    changeable: Deployment, change: Callable[[Contents], object], code: int, words: str
) -> None:
    results = changeable / "alice.results.h5"
    refuse(changeable, changed_results(changeable, results, change), code, words)


@pytest.mark.parametrize("searched", [{"../x": 5}, {"": 5}, {"a b": 5}])
def test_results_that_searched_owners_of_no_name_are_refused(
    changeable: Deployment, searched: dict[str, int]
) -> None:
    results = changeable / "alice.results.h5"
    changed = changed_results(changeable, results, lambda c: c.searched.update(searched))
    refuse(changeable, changed, 3, "invalid identifier")


def test_what_is_said_of_other_owners_is_not_told_on(changeable: Deployment) -> None:
    results = changeable.search(changeable.ask("alice"))
    changed = changed_results(changeable, results, lambda c: c.searched.update(lake=4, nobody=7))
    words = (changeable / "alice", changeable.answer(changed), "-o", changeable / "m", "--json")
    assert set(done("user", "decrypt", *words).json["searched"]) == {"north", "south"}


def test_more_images_than_the_query_asked_for_are_refused(changeable: Deployment, tmp_path: Path) -> None:
    query = forge_query(changeable, "alice", random_feature(1)[None], tmp_path / "q.h5", candidates=2)
    asked = results_for(changeable, query, "north", tmp_path / "2.h5", images=2)
    done("kmc", "reencrypt", changeable / "kmc", asked, "-o", tmp_path / "answer.h5")
    more = results_for(changeable, query, "north", tmp_path / "3.h5", images=3)
    refuse(changeable, more, 3, "more matches than the 2 that the query asks for")


def test_the_same_results_are_answered_again(deployment: Deployment, tmp_path: Path) -> None:
    results = deployment / "alice.results.h5"
    for name in ("one.h5", "two.h5"):
        done("kmc", "reencrypt", deployment / "kmc", results, "-o", tmp_path / name)
        words = ("-o", tmp_path / f"{name}.matches", "--top", 1)
        done("user", "decrypt", deployment / "alice", tmp_path / name, *words)


def test_results_of_a_search_repeated_are_answered_too(deployment: Deployment, tmp_path: Path) -> None:
    words = ("cloud", "search", deployment / "cloud", deployment / "alice.query.h5", "--without-index")
    done(*words, "-o", tmp_path / "again.h5", "--jobs", 1)
    done("kmc", "reencrypt", deployment / "kmc", tmp_path / "again.h5", "-o", tmp_path / "answer.h5")


def test_another_query_under_a_known_id_is_a_replay(changeable: Deployment) -> None:
    known = contents_of(changeable, changeable / "alice.results.h5").query_id
    query = forge_query(changeable, "alice", random_feature(5)[None], changeable / "q.h5", query_id=known)
    refuse(
        changeable,
        results_for(changeable, query, "north", changeable / "r.h5"),
        6,
        "answered with other images before",
    )


def test_a_query_is_answered_with_one_selection_alone(changeable: Deployment) -> None:
    query = forge_query(changeable, "alice", random_feature(5)[None], changeable / "q.h5")
    first = results_for(changeable, query, "north", changeable / "r.h5", images=3)
    done("kmc", "reencrypt", changeable / "kmc", first, "-o", changeable / "a.h5")
    words = "answered with other images before"
    for owner, images in (("north", 2), ("north", 4), ("south", 3)):
        other = results_for(changeable, query, owner, changeable / f"{owner}{images}.h5", images=images)
        refuse(changeable, other, 6, words)
    outcome = refused(6, "kmc", "reencrypt", changeable / "kmc", other, "-o", changeable / "b.h5")
    assert "make a new query" in outcome.err
    again = results_for(changeable, query, "north", changeable / "again.h5", images=3)
    done("kmc", "reencrypt", changeable / "kmc", again, "-o", changeable / "b.h5")


def test_the_order_of_the_images_makes_no_other_selection(changeable: Deployment) -> None:
    def reverse(contents: Contents) -> None:
        last = len(contents.images) - 1
        contents.images.reverse()
        contents.matches = [dataclasses.replace(m, image=last - m.image) for m in contents.matches[::-1]]

    assert changeable.answer(changed_results(changeable, changeable / "alice.results.h5", reverse)).exists()


def test_nobody_can_use_up_the_query_id_of_another(changeable: Deployment) -> None:
    alices = changeable.ask("alice")
    known = alices.read_bytes().split(b"\n")[3].split()[1].decode()
    squat = forge_query(changeable, "bob", random_feature(5)[None], changeable / "q.h5", query_id=known)
    for query in (squat, alices):
        assert changeable.answer(changeable.search(query)).exists()


@pytest.mark.parametrize("step", ["search", "reencrypt"])
@pytest.mark.parametrize("failure", [KeyboardInterrupt, OutputError])
def test_an_answer_that_cannot_be_recorded_is_not_out(
    changeable: Deployment, monkeypatch: pytest.MonkeyPatch, step: str, failure: type[BaseException]
) -> None:
    query = changeable.ask("alice")
    results, answer = changeable / "r.h5", changeable / "a.h5"
    words: tuple[object, ...] = ("cloud", "search", changeable / "cloud", query, "-o", results)
    if step == "reencrypt":
        done(*words)
        words = ("kmc", "reencrypt", changeable / "kmc", results, "-o", answer)

    def fail(*_: object, **__: object) -> None:
        assert not Path(str(words[-1])).exists()
        raise failure("no")

    role = changeable / str(words[0])
    before = snapshot(role)
    with monkeypatch.context() as patch:
        patch.setattr("mipp_cli.files.json_state.write_bytes", fail)
        assert run(*words).code in (10, 130)
    assert not Path(str(words[-1])).exists()
    assert snapshot(role) == before
    done(*words)


def test_a_query_counts_as_known_only_after_its_answer(
    changeable: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = forge_query(changeable, "alice", random_feature(5)[None], changeable / "q.h5")
    results = results_for(changeable, query, "north", changeable / "r.h5")
    refuse(changeable, changed_results(changeable, results, _flip), 3, "does not fit")
    other = forge_query(
        changeable,
        "alice",
        random_feature(6)[None],
        changeable / "other.h5",
        query_id=contents_of(changeable, results).query_id,
    )
    assert changeable.answer(results_for(changeable, other, "north", changeable / "r2.h5")).exists()


def test_an_answer_without_matches_is_an_answer(changeable: Deployment, tmp_path: Path) -> None:
    query = tmp_path / "q.h5"
    done("user", "query", changeable / "alice", changeable / "pictures/queries/q1.png", "-o", query)
    empty = contents_of(changeable, results_for(changeable, query, "north", tmp_path / "r.h5"))
    empty.images, empty.matches = [], []
    results = forge_results(changeable, empty, tmp_path / "empty.h5")
    done("kmc", "reencrypt", changeable / "kmc", results, "-o", tmp_path / "answer.h5")
    done("user", "decrypt", changeable / "alice", tmp_path / "answer.h5", "-o", tmp_path / "matches")
    assert (tmp_path / "matches" / "matches.csv").read_text().count("\n") == 1


def test_a_query_sealed_to_another_centre_is_refused(deployment: Deployment, tmp_path: Path) -> None:
    from mipp_cli.containers.messages.query import write_query
    from mipp_cli.scheme.keys import SealingKey
    from mipp_cli.scheme.secret_keys import generate_key

    parameters = deployment.public.parameters
    query = tmp_path / "q.h5"
    write_query(
        query,
        parameters,
        deployment.sender("alice"),
        "ab" * 16,
        codes=random_feature(1)[None],
        candidates=1,
        usk=generate_key(),
        sealing_key=SealingKey.generate().public,
    )
    results = results_for(deployment, query, "north", tmp_path / "r.h5")
    refuse(deployment, results, 8, "could not be decrypted with this KMC's key")
