"""The user's queries: fresh, sealed, and remembered before they are out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mipp_cli.containers.messages.query import IMAGES_LIMIT, OWNERS_LIMIT, Query, features_place, parse_query
from mipp_cli.errors import TamperedError
from mipp_cli.kmc.kmc import Kmc
from mipp_cli.scheme.aead import OVERHEAD_BYTES
from mipp_cli.scheme.protocol import MATCHES_LIMIT, ExactProtocol
from mipp_cli.user import user as user_role
from mipp_cli.user.user import remembered_query
from tests.support.deployment import (
    Deployment,
    done,
    feature_of,
    picture,
    refused,
    run,
    snapshot,
    state_of,
)
from tests.support.forgery import Picture, features_beside, forge_upload, next_number, random_feature


def read(deployment: Deployment, query: Path) -> tuple[Query, bytes]:
    """Return a query and its USK, as the KMC reads them."""
    public = deployment.public
    parsed = parse_query(query.read_bytes(), public.parameters, public.fingerprint)
    return parsed, parsed.open_usk(Kmc.open(deployment / "kmc").sealing_key)


def query_codes(deployment: Deployment) -> list[np.ndarray]:
    """Return the codes of alice's query pictures."""
    return [feature_of(deployment / "pictures/queries" / name) for name in ("q1.png", "q2.png")]


def refuse(deployment: Deployment, code: int, words: str, *command: object) -> None:
    before = snapshot(deployment / "alice")
    output = deployment / "refused.h5"
    outcome = refused(code, "user", "query", deployment / "alice", *command, "-o", output)
    assert words in outcome.err
    assert not output.exists()
    assert snapshot(deployment / "alice") == before


def test_a_query_holds_the_sums_of_its_images(sum_scheme: Deployment) -> None:
    query, _ = read(sum_scheme, sum_scheme / "alice.query.h5")
    features = [codes.astype(int) for codes in query_codes(sum_scheme)]
    cipher = sum_scheme.public.parameters.cipher
    eq, eqq = (column.reshape(2, 80, -1) for column in query.features)
    assert cipher.sums(eq) == [int(feature.sum()) for feature in features]
    assert cipher.sums(eqq) == [int((feature**2).sum()) for feature in features]


def test_a_query_for_the_kmc_holds_the_codes_of_its_images(exact: Deployment) -> None:
    query, usk = read(exact, exact / "alice.query.h5")
    protocol, place = exact.public.parameters.protocol, exact.public.fingerprint
    assert isinstance(protocol, ExactProtocol)
    opened = protocol.open_query(query.features[0], usk, features_place(place, "alice", query.query_id))
    assert [row.tolist() for row in opened] == [codes.tolist() for codes in query_codes(exact)]
    for codes in query_codes(exact):
        assert codes.tobytes() not in query.data


def test_codes_of_one_query_do_not_open_in_another(exact: Deployment) -> None:
    query, usk = read(exact, exact / "alice.query.h5")
    protocol, public = exact.public.parameters.protocol, exact.public
    assert isinstance(protocol, ExactProtocol)
    swapped = query.features[0][::-1]
    for rows, place in (
        (swapped, features_place(public.fingerprint, "alice", query.query_id)),
        (query.features[0], features_place(public.fingerprint, "alice", "0" * 32)),
        (query.features[0], features_place(public.fingerprint, "bob", query.query_id)),
    ):
        with pytest.raises(TamperedError):
            protocol.open_query(rows, usk, place)


def test_no_two_queries_are_alike(any_scheme: Deployment, tmp_path: Path) -> None:
    deployment = any_scheme.copy(tmp_path / "copy")
    one, two = (deployment.ask("alice") for _ in range(2))
    assert one.read_bytes().split(b"\n")[3] != two.read_bytes().split(b"\n")[3]
    (first, usk1), (second, usk2) = read(deployment, one), read(deployment, two)
    assert usk1 != usk2
    for column, other in zip(first.features, second.features, strict=True):
        assert (column != other).any(axis=1).all()


def test_the_answer_key_goes_to_the_kmc_and_is_remembered(any_scheme: Deployment) -> None:
    query = any_scheme / "alice.query.h5"
    parsed, usk = read(any_scheme, query)
    assert remembered_query(any_scheme.role("alice"), parsed.query_id).usk == usk
    assert usk not in query.read_bytes()
    assert usk.hex().encode() not in query.read_bytes()


def test_a_query_that_cannot_be_written_is_not_remembered(changeable: Deployment) -> None:
    before = snapshot(changeable / "alice")
    images = changeable / "pictures" / "queries"
    words = ("user", "query", changeable / "alice", images, "-o", changeable / "missing" / "q.h5")
    refused(10, *words)
    assert snapshot(changeable / "alice") == before


def test_a_query_that_cannot_be_put_in_place_is_forgotten(
    changeable: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def fail(path: Path, target: Path) -> Path:
        if target.name == "refused.h5":
            raise OSError(28, "No space left on device")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", fail)
    refuse(changeable, 10, "No space left on device", changeable / "pictures/queries/q1.png")


def test_a_query_interrupted_after_writing_keeps_its_key(
    changeable: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = changeable / "q.h5"
    words = ("user", "query", changeable / "alice", changeable / "pictures/queries/q1.png", "-o", query)
    write_query = user_role.write_query

    def interrupted(*words: Any, **options: Any) -> None:
        write_query(*words, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(user_role, "write_query", interrupted)
        assert run(*words).code == 130
    answer = changeable.answer(changeable.search(query))
    done("user", "decrypt", changeable / "alice", answer, "-o", changeable / "m")


def test_a_query_interrupted_before_writing_is_forgotten(
    changeable: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = changeable / "q.h5"
    query.write_bytes(b"mine")
    words = ("user", "query", changeable / "alice", changeable / "pictures/queries/q1.png", "-o", query)

    write_query, remembered = user_role.write_query, []

    def interrupted(*words: Any, before_it_is_out: Callable[[Path], object], **options: Any) -> None:
        def stop(path: Path) -> None:
            before_it_is_out(path)
            remembered.extend((changeable / "alice" / "queries").iterdir())
            raise KeyboardInterrupt

        write_query(*words, before_it_is_out=stop, **options)

    before = snapshot(changeable / "alice")
    monkeypatch.setattr(user_role, "write_query", interrupted)
    assert run(*words, "--force").code == 130
    assert remembered
    assert query.read_bytes() == b"mine"
    assert snapshot(changeable / "alice") == before


def test_a_folder_of_images_is_one_query(changeable: Deployment) -> None:
    query = changeable / "q.h5"
    words = (
        "user",
        "query",
        changeable / "alice",
        changeable / "pictures" / "queries",
        "-o",
        query,
        "--json",
    )
    assert done(*words).json["counts"]["query images"] == 2


@pytest.mark.parametrize("candidates", [1, 7, 1_000_000])
def test_a_query_says_how_many_matches_it_asks_for(changeable: Deployment, candidates: int) -> None:
    assert read(changeable, changeable.ask("alice", candidates=candidates))[0].candidates == candidates


@pytest.mark.parametrize("candidates", [0, -1, 1_000_001, 10**30])
def test_an_impossible_number_of_matches_is_refused(changeable: Deployment, candidates: int) -> None:
    image = changeable / "pictures/queries/q1.png"
    refuse(changeable, 2, "a query cannot ask for", image, "--candidates", candidates)


def test_too_many_query_images_are_refused(changeable: Deployment, tmp_path: Path) -> None:
    for number in range(IMAGES_LIMIT + 1):
        (tmp_path / f"{number}.png").touch()
    refuse(changeable, 2, f"more than {IMAGES_LIMIT} images", tmp_path)


def test_a_query_image_that_cannot_be_read_is_named(changeable: Deployment, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_text("no picture")
    words = (changeable / "pictures/queries/q1.png", tmp_path / "x.jpg")
    refuse(changeable, 7, f"{tmp_path / 'x.jpg'}: the file is not a picture", *words)


def test_a_query_image_without_edges_is_warned_of(changeable: Deployment, tmp_path: Path) -> None:
    Image.new("L", (80, 80), 99).save(tmp_path / "flat.png")
    words = ("user", "query", changeable / "alice", tmp_path / "flat.png", "-o", tmp_path / "q.h5")
    assert "flat.png has no edges, so its matches are meaningless" in done(*words).err


def test_what_is_remembered_of_a_query_image_is_small(changeable: Deployment, tmp_path: Path) -> None:
    picture(1, size=(1500, 1200)).save(tmp_path / "large.png")
    done("user", "query", changeable / "alice", tmp_path / "large.png", "-o", tmp_path / "q.h5")
    query_id = (tmp_path / "q.h5").read_bytes().split(b"\n")[3].removeprefix(b"number ").decode()
    file = changeable / "alice" / "queries" / f"{query_id}.json"
    assert file.stat().st_size < 200_000
    assert state_of(file)["pictures"][0]["name"] == "large.png"
    (remembered,) = remembered_query(changeable.role("alice"), query_id).pictures
    assert remembered.small.size == (450, 360)


def test_a_user_and_an_owner_may_have_the_same_name(deployment: Deployment, tmp_path: Path) -> None:
    done("user", "init", tmp_path / "u", "--id", "north", "--kmc", deployment / "kmc" / "kmc.pub")
    assert deployment.role("north").name == json.loads((tmp_path / "u" / "user.pub").read_bytes())["id"]


# Whose images are asked for.


def ask(deployment: Deployment, *owners: str) -> Path:
    """Make a query in alice's name for the images of some owners."""
    query = deployment / f"asked-{'-'.join(owners)}.h5"
    options = [word for owner in owners for word in ("--owner", owner)]
    done("user", "query", deployment / "alice", deployment / "pictures/queries", "-o", query, *options)
    return query


def decrypted(deployment: Deployment, query: Path) -> dict[str, Any]:
    """Search with a query in alice's name and return what her last step says."""
    answer = deployment.answer(deployment.search(query))
    words = (deployment / "alice", answer, "-o", query.with_suffix(".matches"), "--top", 100, "--json")
    return done("user", "decrypt", *words).json


def test_a_query_names_the_owners_once_each(each_way: Deployment) -> None:
    words = ("--owner", "south", "--owner", "north", "--owner", "south")
    images = each_way / "pictures/queries"
    done("user", "query", each_way / "alice", images, "-o", each_way / "q.h5", *words)
    assert read(each_way, each_way / "q.h5")[0].owners == {"north", "south"}


def test_of_owners_named_those_alone_are_searched(each_way: Deployment) -> None:
    told = decrypted(each_way, ask(each_way, "south"))
    assert {match["owner"] for match in told["matches"]} == {"south"}
    assert (told["counts"]["owners searched"], told["counts"]["images searched"]) == (1, 5)
    assert told["notes"] == ["searched: south (5 images)"]
    assert told["warnings"] == []


def not_searched(owner: str) -> str:
    """Return what the user is told: whether there is such an owner is not hers to know."""
    return f"{owner} was not searched: the owner is not enrolled, or did not authorise the user"


def test_an_owner_who_did_not_authorise_is_not_searched(each_way: Deployment) -> None:
    told = decrypted(each_way, ask(each_way, "south", "lake"))
    assert {match["owner"] for match in told["matches"]} == {"south"}
    assert told["warnings"] == [not_searched("lake")]
    assert told["searched"]["lake"]["images"] is None
    assert told["searched"]["south"]["images"] == 5
    assert told["notes"] == ["searched: south (5 images)"]


def test_an_owner_whom_nobody_knows_is_not_searched(each_way: Deployment) -> None:
    told = decrypted(each_way, ask(each_way, "south", "nobody"))
    assert told["warnings"] == [not_searched("nobody")]


def test_whoever_ranks_says_whom_it_does_not_search(each_way: Deployment) -> None:
    query = ask(each_way, "south", "lake")
    words: tuple[object, ...] = ("cloud", "search", each_way / "cloud", query)
    if each_way.scheme == "exact":
        words = ("kmc", "rank", each_way / "kmc", query)
    told = done(*words, "-o", each_way / "out.h5").err
    assert "warning: lake was not searched: " in told
    assert "did not authorise the user" in told


def test_a_query_whose_owners_did_not_authorise_is_refused(each_way: Deployment) -> None:
    query = ask(each_way, "lake")
    words: tuple[object, ...] = ("cloud", "search", each_way / "cloud", query)
    if each_way.scheme == "exact":
        words = ("kmc", "rank", each_way / "kmc", query)
    outcome = refused(4, *words, "-o", each_way / "out.h5")
    assert "none of the owners named in the query authorised the user 'alice': lake" in outcome.err
    assert "hint: these did: north, south; ask the user for a new query" in outcome.err
    assert not (each_way / "out.h5").exists()


@pytest.mark.parametrize("name", ["North", "nobody"])
def test_an_unknown_owner_is_named_with_those_there_are(each_way: Deployment, name: str) -> None:
    role = ("kmc", "rank") if each_way.scheme == "exact" else ("cloud", "search")
    words = (*role, each_way / role[0], ask(each_way, name), "-o", each_way / "out.h5")
    outcome = refused(4, *words)
    assert f"authorised the user 'alice': {name}" in outcome.err
    assert "north" in outcome.err and "south" in outcome.err


def test_a_query_whose_owners_were_changed_is_refused(each_way: Deployment) -> None:
    query = ask(each_way, "south")
    data = query.read_bytes()
    assert data.count(b"south") == 1
    query.write_bytes(data.replace(b"south", b"north"))
    words: tuple[object, ...] = ("cloud", "search", each_way / "cloud", query)
    if each_way.scheme == "exact":
        words = ("kmc", "rank", each_way / "kmc", query)
    assert "does not match the digest" in refused(3, *words, "-o", each_way / "out.h5").err


@pytest.mark.parametrize("owner", ["../x", "", "x" * 65, "a b"])
def test_an_owner_of_no_proper_name_is_refused(each_way: Deployment, owner: str) -> None:
    image = each_way / "pictures/queries/q1.png"
    refuse(each_way, 2, "cannot be an owner's identifier", image, f"--owner={owner}")


def test_more_owners_than_a_query_may_name_are_refused(changeable: Deployment) -> None:
    options = [word for number in range(OWNERS_LIMIT + 1) for word in ("--owner", f"o{number}")]
    words = (changeable / "pictures/queries/q1.png", *options)
    refuse(changeable, 2, f"cannot name more than {OWNERS_LIMIT} owners", *words)


def test_where_the_kmc_ranks_matches_are_bounded(changeable_exact: Deployment) -> None:
    images, candidates = changeable_exact / "pictures/queries", MATCHES_LIMIT // 2
    refuse(changeable_exact, 2, "images × candidates may be at most", images, "--candidates", candidates + 1)
    words = (changeable_exact / "alice", images, "--candidates", candidates)
    done("user", "query", *words, "-o", changeable_exact / "most.h5")


# What the user is told of how an answer came about.


def test_the_user_is_told_who_was_searched_and_how_many_images(any_scheme: Deployment) -> None:
    words = (any_scheme / "alice", any_scheme / "alice.answer.h5", "-o", any_scheme / "again")
    try:
        told = done("user", "decrypt", *words, "--json").json
    finally:
        shutil.rmtree(any_scheme / "again", ignore_errors=True)
    assert (told["counts"]["owners searched"], told["counts"]["images searched"]) == (2, 10)
    assert told["notes"] == ["searched: north (5 images), south (5 images)"]
    for owner in ("north", "south"):
        said = told["searched"][owner]
        assert said["images"] == 5
        assert (said["bad"], said["missing"], said["withdrawn"], said["unranked"]) == (0, 0, 0, 0)


def test_the_user_is_told_of_images_that_are_not_what_was_sent(each_way: Deployment) -> None:
    """They have the length that was stated, since others are not brought."""
    images = [("spoiled", Picture().envelope(), random_feature(1))]

    def spoil(_cipher: object, plaintext: bytes, _name: str) -> bytes:
        return bytes(len(plaintext) + OVERHEAD_BYTES)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mipp_cli.containers.messages.upload.UploadCipher.encrypt", spoil)
        upload = forge_upload(each_way, "south", images, each_way / "bad.h5")
    each_way.index(upload)
    told = decrypted(each_way, ask(each_way, "south"))
    assert told["searched"]["south"]["bad"] == 1
    assert any("1 image of south could not be used" in each for each in told["warnings"])
    assert {match["name"] for match in told["matches"]} == set(each_way.pictures("south"))


def test_the_user_is_told_which_upload_the_cloud_lacks(changeable_exact: Deployment) -> None:
    number = next_number()
    images = [("late", Picture().envelope(), random_feature(1))]
    upload = forge_upload(changeable_exact, "south", images, changeable_exact / "late.h5", number=number)
    done("kmc", "index", changeable_exact / "kmc", features_beside(upload))
    told = decrypted(changeable_exact, ask(changeable_exact, "south"))
    assert told["searched"]["south"]["missing"] == 1
    assert told["searched"]["south"]["uploads"] == [number]
    assert any(
        f"1 image of south, from upload {number}, are not at the cloud: add the upload with mipp cloud index"
        in each
        for each in told["warnings"]
    )


def test_the_user_is_told_of_images_that_were_deleted_meanwhile(changeable_exact: Deployment) -> None:
    query = ask(changeable_exact, "south")
    results = changeable_exact.search(query)
    deletion = changeable_exact / "d.h5"
    done("owner", "delete", changeable_exact / "south", "a.webp", "-o", deletion)
    done("kmc", "index", changeable_exact / "kmc", deletion)
    answer = changeable_exact.answer(results)
    words = (changeable_exact / "alice", answer, "-o", changeable_exact / "m", "--top", 100, "--json")
    told = done("user", "decrypt", *words).json
    assert told["searched"]["south"]["withdrawn"] == 1
    assert any("matched, but were withdrawn since" in each for each in told["warnings"])
    assert "a.webp" not in {match["name"] for match in told["matches"]}
