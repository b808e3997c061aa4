"""The user's queries: fresh, sealed, and remembered before they are out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mipp_cli.containers import atomic
from mipp_cli.containers.query import IMAGES_LIMIT, parse_query
from mipp_cli.roles import user as user_role
from mipp_cli.roles.kmc import Kmc
from mipp_cli.roles.user import remembered_query
from tests.deployment import Deployment, done, feature_of, picture, refused, run, snapshot


def read(deployment: Deployment, query: Path) -> tuple[int, np.ndarray, np.ndarray, bytes]:
    public = deployment.public
    parsed = parse_query(query.read_bytes(), public.parameters, public.fingerprint)
    return parsed.candidates, parsed.eq, parsed.eqq, parsed.open_usk(Kmc.open(deployment / "kmc").sealing_key)


def refuse(deployment: Deployment, code: int, words: str, *command: object) -> None:
    before = snapshot(deployment / "alice")
    output = deployment / "refused.h5"
    outcome = refused(code, "user", "query", deployment / "alice", *command, "-o", output)
    assert words in outcome.err
    assert not output.exists()
    assert snapshot(deployment / "alice") == before


def test_a_query_holds_the_sums_of_its_images(any_scheme: Deployment) -> None:
    _, eq, eqq, _ = read(any_scheme, any_scheme / "alice.query.h5")
    features = [
        feature_of(any_scheme / "pictures/queries" / name).astype(int) for name in ("q1.png", "q2.png")
    ]
    cipher = any_scheme.public.parameters.cipher
    assert cipher.sums(eq) == [int(feature.sum()) for feature in features]
    assert cipher.sums(eqq) == [int((feature**2).sum()) for feature in features]


def test_no_two_queries_are_alike(any_scheme: Deployment, tmp_path: Path) -> None:
    deployment = any_scheme.copy(tmp_path / "copy")
    one, two = (deployment.ask("alice") for _ in range(2))
    assert one.read_bytes().split(b"\n")[3] != two.read_bytes().split(b"\n")[3]
    (_, eq1, eqq1, usk1), (_, eq2, eqq2, usk2) = read(deployment, one), read(deployment, two)
    assert usk1 != usk2
    assert (eq1 != eq2).any(axis=(1, 2)).all()
    assert (eqq1 != eqq2).any(axis=(1, 2)).all()


def test_the_key_of_the_answer_goes_to_the_kmc_and_is_remembered(deployment: Deployment) -> None:
    query = deployment / "alice.query.h5"
    _, _, _, usk = read(deployment, query)
    query_id = query.read_bytes().split(b"\n")[3].removeprefix(b"number ").decode()
    assert remembered_query(deployment.role("alice"), query_id).usk == usk
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


def test_a_query_that_is_interrupted_once_it_is_out_keeps_its_key(
    changeable: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = changeable / "q.h5"
    words = ("user", "query", changeable / "alice", changeable / "pictures/queries/q1.png", "-o", query)
    write_bytes = atomic.write_bytes

    def interrupted(*words: Any, **options: Any) -> None:
        write_bytes(*words, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(user_role, "write_bytes", interrupted)
        assert run(*words).code == 130
    answer = changeable.answer(changeable.search(query))
    done("user", "decrypt", changeable / "alice", answer, "-o", changeable / "m")


def test_a_query_that_is_interrupted_before_it_is_out_is_forgotten(
    changeable: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = changeable / "q.h5"
    query.write_bytes(b"mine")
    words = ("user", "query", changeable / "alice", changeable / "pictures/queries/q1.png", "-o", query)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    before = snapshot(changeable / "alice")
    monkeypatch.setattr(user_role, "write_bytes", interrupted)
    assert run(*words, "--force").code == 130
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
    assert read(changeable, changeable.ask("alice", candidates=candidates))[0] == candidates


@pytest.mark.parametrize("candidates", [0, -1, 1_000_001, 10**30])
def test_an_impossible_number_of_matches_is_refused(changeable: Deployment, candidates: int) -> None:
    image = changeable / "pictures/queries/q1.png"
    refuse(changeable, 2, "candidates cannot be asked for", image, "--candidates", candidates)


def test_too_many_query_images_are_refused(changeable: Deployment, tmp_path: Path) -> None:
    for number in range(IMAGES_LIMIT + 1):
        (tmp_path / f"{number}.png").touch()
    refuse(changeable, 2, f"at most {IMAGES_LIMIT} images", tmp_path)


def test_a_query_image_that_cannot_be_read_is_named(changeable: Deployment, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_text("no picture")
    words = (changeable / "pictures/queries/q1.png", tmp_path / "x.jpg")
    refuse(changeable, 7, f"{tmp_path / 'x.jpg'}: this is no JPEG", *words)


def test_a_query_image_without_edges_is_warned_of(changeable: Deployment, tmp_path: Path) -> None:
    Image.new("L", (80, 80), 99).save(tmp_path / "flat.png")
    words = ("user", "query", changeable / "alice", tmp_path / "flat.png", "-o", tmp_path / "q.h5")
    assert "flat.png has no edges: its matches mean nothing" in done(*words).err


def test_what_is_remembered_of_a_query_image_is_small(changeable: Deployment, tmp_path: Path) -> None:
    picture(1, size=(1500, 1200)).save(tmp_path / "large.png")
    done("user", "query", changeable / "alice", tmp_path / "large.png", "-o", tmp_path / "q.h5")
    query_id = (tmp_path / "q.h5").read_bytes().split(b"\n")[3].removeprefix(b"number ").decode()
    file = changeable / "alice" / "queries" / f"{query_id}.json"
    assert file.stat().st_size < 400_000
    assert json.loads(file.read_bytes())["pictures"][0]["name"] == "large.png"


def test_a_user_and_an_owner_may_have_the_same_name(deployment: Deployment, tmp_path: Path) -> None:
    done("user", "init", tmp_path / "u", "--id", "north", "--kmc", deployment / "kmc" / "kmc.pub")
    assert deployment.role("north").name == json.loads((tmp_path / "u" / "user.pub").read_bytes())["id"]
