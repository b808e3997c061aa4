"""A deployment whose features are an image model's: every step with it, and what the steps refuse."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mipp_cli.descriptors.describer import codes_of
from mipp_cli.descriptors.image_model import ImageModel
from mipp_cli.images.pictures import open_picture
from tests.owner.test_encrypt import envelopes
from tests.support.deployment import (
    JOBS,
    PICTURES,
    SCHEMES,
    Deployment,
    done,
    draw_pictures,
    refused,
    snapshot,
    state_of,
)
from tests.support.tiny_model import UNCHANGED, tiny_model

OWNERS = ("north", "lake")
QUERIES = ("q1.png", "q2.png")
IMAGES = sum(len(PICTURES[owner]) for owner in OWNERS)
Step = Callable[..., object]


def make_roles(root: Path, scheme: str, **options: Any) -> Deployment:
    """Make a deployment of a tiny model, of which each role has a copy; two owners and a user, enrolled."""
    made, kmc = Deployment(root, scheme), root / "kmc" / "kmc.pub"
    tiny_model(root / "models" / "kmc", file="onnx/model.onnx", weights="weights.bin", **options)
    for role in ("alice", *OWNERS):
        shutil.copytree(root / "models" / "kmc", root / "models" / role)
    done("kmc", "init", root / "kmc", *SCHEMES[scheme], "--model", root / "models" / "kmc")
    done("cloud", "init", root / "cloud", "--kmc", kmc)
    model = ("--model", root / "models" / "alice")
    done("user", "init", root / "alice", "--id", "alice", "--kmc", kmc, *model)
    for owner in OWNERS:
        words = ("--authorize", root / "alice" / "user.pub", "--model", root / "models" / owner)
        done("owner", "init", root / owner, "--id", owner, "--kmc", kmc, *words)
    enrolments = [root / owner / "enrolment.h5" for owner in OWNERS]
    done("kmc", "enroll", root / "kmc", *enrolments, root / "cloud" / "cloud.pub")
    done("cloud", "enroll", root / "cloud", *(root / owner / "members.h5" for owner in OWNERS))
    draw_pictures(root / "pictures")
    return made


def plain_codes(made: Deployment, path: Path) -> list[int]:
    """Return the codes of a picture file, by the KMC's copy of the model."""
    model = ImageModel(made / "models" / "kmc", made.public.parameters.descriptor)
    return codes_of(model, open_picture(path.read_bytes(), path=None).eight_bits()).tolist()


def encrypt_and_query(made: Deployment, step: Step) -> Path:
    """Encrypt the pictures of both owners, and return a query by two."""
    for owner, jobs in zip(OWNERS, (1, 2), strict=True):
        words = ("--jobs", jobs, "-o", made / f"{owner}.h5")
        step("owner", "encrypt", made / owner, made / "pictures" / owner, *words)
    queries = [made / "pictures" / "queries" / name for name in QUERIES]
    query = made / "query.h5"
    step("user", "query", made / "alice", *queries, "-o", query, "--candidates", IMAGES)
    return query


def matches(made: Deployment, query: Path) -> dict[str, list[tuple[str, str, float]]]:
    """Index, search and decrypt, and return the matches of each query picture: owner, image, distance."""
    made.index(*(made / f"{owner}.h5" for owner in OWNERS))
    folder = made / "matches"
    answer = made.answer(made.search(query))
    done("user", "decrypt", made / "alice", answer, "-o", folder, "--top", IMAGES)
    found: dict[str, list[tuple[str, str, float]]] = {}
    with (folder / "matches.csv").open(newline="") as lines:
        for row in csv.DictReader(lines):
            found.setdefault(row["query"], []).append((row["owner"], row["name"], float(row["distance"])))
    return found


def check_matches(made: Deployment, found: dict[str, list[tuple[str, str, float]]]) -> None:
    """Demand that the matches are all images, at the distances of the plain codes, the nearest first."""
    codes = {
        (owner, name): plain_codes(made, path)
        for owner in OWNERS
        for name, path in made.pictures(owner).items()
    }
    assert set(found) == set(QUERIES)
    for query, rows in found.items():
        asked = plain_codes(made, made / "pictures" / "queries" / query)
        distances = {key: float(np.linalg.norm(np.subtract(each, asked))) for key, each in codes.items()}
        assert {row[:2] for row in rows} == set(distances)
        assert [row[2] for row in rows] == sorted(row[2] for row in rows)
        for owner, name, distance in rows:
            assert distance == pytest.approx(distances[owner, name], abs=1e-4)


@pytest.mark.parametrize("scheme", ["exact", "mask"])
def test_the_roles_rank_by_the_distance_of_the_models_codes(tmp_path: Path, scheme: str) -> None:
    made = make_roles(tmp_path, scheme)
    check_matches(made, matches(made, encrypt_and_query(made, done)))


def test_real_processes_rank_so_too(tmp_path: Path) -> None:
    made = make_roles(tmp_path, "mask")

    def step(*words: object) -> None:
        command = [sys.executable, "-m", "mipp_cli", *map(str, words)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert (ran.returncode, ran.stderr) == (0, "")

    check_matches(made, matches(made, encrypt_and_query(made, step)))


@pytest.fixture(scope="module")
def roles(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """Roles that have encrypted nothing; tests that change them take a copy."""
    return make_roles(tmp_path_factory.mktemp("roles"), "mask")


@pytest.fixture
def own(roles: Deployment, tmp_path: Path) -> Deployment:
    """A copy of the roles, whose models lie beside it and not where the roles remember them."""
    return roles.copy(tmp_path / "roles")


def encrypt(made: Deployment, *words: object) -> tuple[object, ...]:
    """Return the words that encrypt north's pictures."""
    images = made / "pictures" / "north"
    return ("owner", "encrypt", made / "north", images, "-o", made / "u.h5", *JOBS, *words)


def ask(made: Deployment, *words: object) -> tuple[object, ...]:
    """Return the words that make a query."""
    image = made / "pictures" / "queries" / "q1.png"
    return ("user", "query", made / "alice", image, "-o", made / "q.h5", *words)


def encrypted(made: Deployment) -> dict[str, list[int]]:
    """Return the codes inside north's upload, by the names of the pictures."""
    return {each.path: each.feature.tolist() for each in envelopes(made, made / "u.h5").values()}


def codes_of_north(made: Deployment) -> dict[str, list[int]]:
    return {name: plain_codes(made, path) for name, path in made.pictures("north").items()}


def test_features_prints_the_codes_of_a_model(roles: Deployment) -> None:
    images = sorted(roles.pictures("north").values())
    words = ("features", *images, "--descriptor", f"model:{roles / 'models' / 'kmc'}")
    wanted = [plain_codes(roles, path) for path in images]
    told = done(*words, "--json").json["descriptions"]
    assert [each["codes"] for each in told] == wanted
    lines = done(*words, "--csv").out.splitlines()
    assert [[*map(int, line.split(",")[1:])] for line in lines[1:]] == wanted
    shown = done(*words).out
    assert all(str(code) in shown.split() for code in wanted[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model:", "is not a descriptor"),
        ("model", "is not a descriptor"),
        ("model:missing", "does not exist"),
    ],
)
def test_a_missing_model_prints_no_features(roles: Deployment, text: str, message: str) -> None:
    image = roles / "pictures" / "queries" / "q1.png"
    assert message in refused(2, "features", image, "--descriptor", text).err


def test_kmc_pub_says_which_model_it_is(roles: Deployment) -> None:
    shown = done("inspect", roles / "kmc" / "kmc.pub").out
    model = roles.public.parameters.descriptor.model
    assert model is not None
    assert model.weights_sha256 is not None
    for each in (
        "model, 24 codes of 256 levels",
        model.sha256,
        model.weights_sha256,
        "image_embeds",
        "bilinear",
    ):
        assert each in shown


def test_names_inside_a_model_steer_no_terminal(tmp_path: Path) -> None:
    name = "\x1b]0;owned\x07embeds"
    path = tiny_model(tmp_path / "model", outputs={name: "vector"})
    told = done("kmc", "init", tmp_path / "kmc", *SCHEMES["mask"], "--model", path)
    shown = done("inspect", tmp_path / "kmc" / "kmc.pub")
    outcome = refused(2, "kmc", "init", tmp_path / "other", "--model", path, "--model-output", "missing")
    for text in (told.out, told.err, shown.out, outcome.err):
        assert "\x1b" not in text
        assert "\x07" not in text


@pytest.mark.parametrize(("role", "name"), [("owner", "south"), ("user", "bob")])
def test_a_role_must_name_its_copy_of_the_model(
    roles: Deployment, tmp_path: Path, role: str, name: str
) -> None:
    kmc = roles / "kmc" / "kmc.pub"
    outcome = refused(2, role, "init", tmp_path / name, "--id", name, "--kmc", kmc)
    assert "this deployment uses an image model" in outcome.err
    assert "--model PATH; ask the KMC which model it is" in outcome.err
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(("role", "name"), [("owner", "south"), ("user", "bob")])
def test_another_model_is_refused_and_nothing_made(
    roles: Deployment, tmp_path: Path, role: str, name: str
) -> None:
    other = tiny_model(tmp_path / "other", seed=2)
    kmc = roles / "kmc" / "kmc.pub"
    outcome = refused(8, role, "init", tmp_path / name, "--id", name, "--kmc", kmc, "--model", other)
    assert "is another model than the deployment's" in outcome.err
    assert not (tmp_path / name).exists()


def test_a_deployment_without_a_model_takes_none(deployment: Deployment, tmp_path: Path) -> None:
    kmc, model = deployment / "kmc" / "kmc.pub", ("--model", tiny_model(tmp_path / "model"))
    for role in ("owner", "user"):
        outcome = refused(2, role, "init", tmp_path / role, "--id", "new", "--kmc", kmc, *model)
        assert "this deployment uses no image model, but the descriptor edge-histogram" in outcome.err
        assert "leave out --model" in outcome.err
    for words in (encrypt(deployment, *model), ask(deployment, *model)):
        assert "leave out --model" in refused(2, *words).err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model-output", "image_embeds"), "--model-output and --model-pooling need --model"),
        (("--model-pooling", "mean"), "--model-output and --model-pooling need --model"),
        (
            ("--model", "MODEL", "--descriptor", "edge-histogram"),
            "--model and --descriptor cannot be combined",
        ),
        (("--model", "MODEL", "--model-output", "other"), "has no output 'other'"),
        (("--model", "MODEL", "--model-pooling", "cls"), "without tokens to pool"),
        (("--model", "missing"), "does not exist"),
        (("--descriptor", "model:24"), "the name 'model' is reserved for the descriptor of an image model"),
    ],
)
def test_options_of_a_model_belong_together(
    roles: Deployment, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    model = str(roles / "models" / "kmc")
    outcome = refused(
        2, "kmc", "init", tmp_path / "kmc", *(model if each == "MODEL" else each for each in words)
    )
    assert message in outcome.err
    assert not (tmp_path / "kmc").exists()


@pytest.mark.parametrize(("role", "words"), [("north", encrypt), ("alice", ask)])
def test_a_model_that_moved_is_named_again_once(
    own: Deployment, role: str, words: Callable[..., tuple[object, ...]]
) -> None:
    moved = own / "models" / f"{role}-new"
    (own / "models" / role).rename(moved)
    remembered = own / role / "model.json"
    directory = own.role(role)
    directory.write_json("model.json", {"path": str(own / "models" / role)})
    outcome = refused(2, *words(own))
    assert "no longer exists; it was this role's copy of the model" in outcome.err
    assert "give its new path: --model PATH" in outcome.err
    done(*words(own, "--model", moved, "--force"))
    assert state_of(remembered) == {"path": str(moved)}
    done(*words(own, "--force", *(["--again"] if role == "north" else [])))


@pytest.mark.parametrize(("role", "words"), [("north", encrypt), ("alice", ask)])
def test_another_model_is_not_remembered(
    roles: Deployment, own: Deployment, tmp_path: Path, role: str, words: Callable[..., tuple[object, ...]]
) -> None:
    outcome = refused(8, *words(own, "--model", tiny_model(tmp_path / "other", seed=2)))
    assert "is another model than the deployment's" in outcome.err
    assert state_of(own / role / "model.json") == {"path": str(roles / "models" / role)}
    assert not (own / "u.h5").exists()
    assert not (own / "q.h5").exists()


def test_a_model_named_from_elsewhere_is_remembered_in_full(
    own: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own / "models")
    done(*ask(own, "--model", "north"))
    assert state_of(own / "alice" / "model.json") == {"path": str(own / "models" / "north")}
    monkeypatch.chdir(tmp_path)
    done(*ask(own, "--force"))


@pytest.mark.parametrize("words", [encrypt, ask])
def test_a_copy_that_changed_since_is_refused(
    own: Deployment, words: Callable[..., tuple[object, ...]]
) -> None:
    role = "north" if words is encrypt else "alice"
    own.role(role).write_json("model.json", {"path": str(own / "models" / role)})
    weights = own / "models" / role / "onnx" / "weights.bin"
    weights.write_bytes(weights.read_bytes()[::-1])
    assert "has other weights in weights.bin than the deployment's model" in refused(8, *words(own)).err


@pytest.mark.parametrize("options", [("--model", "nowhere"), ("--device", "cuda")], ids=str)
def test_a_dry_run_tries_the_model_that_is_named(own: Deployment, options: tuple[str, str]) -> None:
    words = ("owner", "encrypt", own / "north", own / "pictures" / "north", "--dry-run")
    before = snapshot(own / "north" / "model.json")
    refused(2, *words, *options)
    done(*words)
    assert snapshot(own / "north" / "model.json") == before


@pytest.mark.parametrize("words", [encrypt, ask])
def test_a_graphics_card_that_is_not_there_is_missed(
    own: Deployment, words: Callable[..., tuple[object, ...]]
) -> None:
    outcome = refused(2, *words(own, "--device", "cuda"))
    assert "onnxruntime cannot use cuda on this machine" in outcome.err
    assert "or leave out --device" in outcome.err


@pytest.mark.parametrize("form", ["float32", "float64"])
def test_vectors_of_the_model_become_the_same_codes(own: Deployment, tmp_path: Path, form: str) -> None:
    images = own.pictures("north")
    model = ImageModel(own / "models" / "kmc", own.public.parameters.descriptor)
    prepared = [
        model.prepare(open_picture(images[name].read_bytes(), path=None).eight_bits())
        for name in sorted(images)
    ]
    rows = np.concatenate([model.vectors([each]) for each in prepared]).astype(form)
    np.save(tmp_path / "rows.npy", rows)
    done(*encrypt(own, "--features", tmp_path / "rows.npy"))
    assert encrypted(own) == codes_of_north(own)


@pytest.mark.parametrize("rows", [np.zeros((5, 24)), np.full((5, 24), np.nan), np.ones((5, 23))], ids=str)
def test_vectors_that_no_model_gives_are_refused(own: Deployment, tmp_path: Path, rows: np.ndarray) -> None:
    np.save(tmp_path / "rows.npy", rows)
    refused(2, *encrypt(own, "--features", tmp_path / "rows.npy"))


def test_the_picture_without_a_feature_is_named_or_left_out(tmp_path: Path) -> None:
    made = make_roles(tmp_path, "mask", preprocessing=UNCHANGED)
    black = made / "pictures" / "north" / "chest" / "black.png"
    Image.new("RGB", (20, 20)).save(black)
    outcome = refused(7, *encrypt(made))
    assert f"{black}: the model's output for it is not finite or all zeros" in outcome.err
    told = done(*encrypt(made, "--skip-unreadable", "--json", "--no-resume")).json
    assert told["counts"]["skipped"] == 1
    assert any(str(black) in warning for warning in told["warnings"])
    assert set(encrypted(made)) == set(PICTURES["north"])
    outcome = refused(7, "user", "query", made / "alice", black, "-o", made / "q.h5")
    assert f"{black}: the model's output for it" in outcome.err


def test_jobs_give_the_same_codes(own: Deployment) -> None:
    done(*encrypt(own)[:-2], "--jobs", 2)
    assert encrypted(own) == codes_of_north(own)


def test_a_folder_that_is_no_text_holds_a_model(own: Deployment) -> None:
    folder = Path(os.fsdecode(os.fsencode(own / "models") + b"/\xff\xfe"))
    (own / "models" / "alice").rename(folder)
    done(*ask(own, "--model", folder))
    done(*ask(own, "--force"))
