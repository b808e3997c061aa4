"""The feature from an image model: the codes that numpy finds too, however the model is run."""

from __future__ import annotations

import contextvars
import math
import pickle
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mipp_cli.compute.cores import grant_cores
from mipp_cli.descriptors.describer import codes_of
from mipp_cli.descriptors.image_model import ImageModel, pin_model
from mipp_cli.errors import UnreadableImageError
from tests.support.deployment import picture
from tests.support.preprocessing import slowly
from tests.support.tiny_model import (
    DIMENSION,
    PREPROCESSING,
    SIDE,
    UNCHANGED,
    nested_model,
    random_pixels,
    tiny_model,
    tiny_tokens,
    tiny_vectors,
    tiny_weights,
)

PIXELS = random_pixels(9)
BLACK = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)


def rule(vector: Sequence[float]) -> list[int]:
    """Return the codes of a vector as they are defined: v / ‖v‖ of ±8 / √l in 256 steps, in plain floats."""
    norm = math.sqrt(math.fsum(value * value for value in vector))
    high = 8 / math.sqrt(len(vector))
    shares = [(max(-high, min(high, value / norm)) + high) / (2 * high) for value in vector]
    return [min(255, math.floor(256 * share)) for share in shares]


def codes(model: ImageModel, pixels: Sequence[NDArray[np.uint8]] = PIXELS) -> NDArray[np.int64]:
    """Return the codes of pictures that all have some, shape (n, l)."""
    return np.array([*map(np.asarray, model.codes(pixels))], dtype=np.int64)


def farthest(found: NDArray[np.int64], wanted: NDArray[np.int64] | list[Any]) -> int:
    """Return by how much codes differ at the most."""
    assert found.shape == np.shape(wanted)
    return int(np.abs(found - np.asarray(wanted)).max())


def opened(path: Path, **options: str) -> ImageModel:
    return ImageModel(path, pin_model(path, **options))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ImageModel:
    return opened(tiny_model(tmp_path_factory.mktemp("model")))


def wanted_codes(**options: Any) -> list[list[int]]:
    return [rule(vector) for vector in tiny_vectors(np.array(PIXELS), **options).tolist()]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch": 1},
        {"batch": 4},
        {"input_type": "float16", "output_type": "float16"},
        {"output_type": "double"},
        {"dimension": 12},
        {"dimension": 48, "preprocessing": UNCHANGED},
        {"weights": "w.bin"},
        {"shape": (3, "height", "width")},
        {"shape": ("channels", SIDE, "width"), "batch": 4},
    ],
    ids=str,
)
def test_codes_are_those_of_the_network_in_numpy(tmp_path: Path, options: dict[str, Any]) -> None:
    found = codes(opened(tiny_model(tmp_path, **options)))
    known = {name: value for name, value in options.items() if name in ("dimension", "preprocessing")}
    distance = farthest(found, wanted_codes(**known))
    assert distance <= 1, f"codes differ by {distance}"


@pytest.mark.parametrize("where", ["constant", "if", "loop"])
def test_a_model_with_inner_graphs_has_the_same_codes(tmp_path: Path, where: str) -> None:
    distance = farthest(codes(opened(nested_model(tmp_path, where, location=None))), wanted_codes())
    assert distance <= 1, f"codes differ by {distance}"


@pytest.mark.parametrize(
    ("outputs", "chosen"),
    [
        (["image_embeds"], "image_embeds"),
        (["logits"], "logits"),
        (["pooler_output", "image_embeds"], "image_embeds"),
        (["sentence_embedding", "pooler_output"], "pooler_output"),
        (["logits", "sentence_embedding"], "sentence_embedding"),
    ],
)
def test_the_output_is_chosen_by_its_name(tmp_path: Path, outputs: list[str], chosen: str) -> None:
    model = opened(tiny_model(tmp_path, outputs=dict.fromkeys(outputs, "vector")))
    assert model.descriptor.model is not None
    assert (model.descriptor.model.output, model.descriptor.model.pooling) == (chosen, None)
    assert farthest(codes(model), wanted_codes(name=chosen)) <= 1


def test_the_only_vector_is_taken_among_other_outputs(tmp_path: Path) -> None:
    outputs = {"grid": "tokens", "classes": "vector", "numbers": "whole", "map": "map"}
    found = opened(tiny_model(tmp_path, outputs=outputs)).descriptor.model
    assert found is not None
    assert found.output == "classes"


def test_any_output_of_floats_can_be_named(tmp_path: Path) -> None:
    path = tiny_model(tmp_path, outputs={"image_embeds": "vector", "other": "vector"})
    assert farthest(codes(opened(path, output="other")), wanted_codes(name="other")) <= 1


@pytest.mark.parametrize("name", ["pooler_output", "features"])
def test_an_output_of_one_pixel_is_a_vector(tmp_path: Path, name: str) -> None:
    path = tiny_model(tmp_path, outputs={name: "map"})
    assert farthest(codes(opened(path, output=name)), wanted_codes(name=name)) <= 1


@pytest.mark.parametrize("pooling", [None, "cls", "mean"])
@pytest.mark.parametrize("output_type", ["float", "float16"])
def test_tokens_are_pooled(tmp_path: Path, pooling: str | None, output_type: str) -> None:
    path = tiny_model(tmp_path, outputs={"last_hidden_state": "tokens"}, output_type=output_type)
    tokens = tiny_tokens(np.array(PIXELS))
    vectors = tokens.mean(axis=1) if pooling == "mean" else tokens[:, 0]
    model = opened(path, **({} if pooling is None else {"pooling": pooling}))
    assert model.descriptor.model is not None
    assert model.descriptor.model.pooling == (pooling or "cls")
    assert farthest(codes(model), [rule(vector) for vector in vectors.tolist()]) <= 1


def test_vectors_become_codes_by_the_rule(model: ImageModel) -> None:
    vectors = model.vectors(PIXELS)
    assert vectors.dtype == np.float32
    assert codes(model).tolist() == [rule(vector) for vector in vectors.tolist()]


def test_a_vector_far_from_the_others_is_clipped(model: ImageModel) -> None:
    vector = np.zeros((2, 256), dtype=np.float32)
    vector[0, 3], vector[1, 3] = 1e30, -1e-30
    descriptor = type(model.descriptor)("model", 256, 256, "l2", model.descriptor.model)
    found, clipped = descriptor.quantised(vector)
    assert found[:, 3].tolist() == [255, 0]
    assert found[:, 4].tolist() == [128, 128]
    assert clipped.tolist() == [1, 1]


def test_codes_hardly_depend_on_how_a_model_is_run(tmp_path: Path) -> None:
    path = tiny_model(tmp_path, dimension=48)
    descriptor = pin_model(path)
    first = codes(ImageModel(path, descriptor))
    largest = 0
    for threads in (1, 2):
        for batch in (1, 3, 8):
            model = ImageModel(path, descriptor)

            def run(
                model: ImageModel = model, threads: int = threads, batch: int = batch
            ) -> NDArray[np.int64]:
                grant_cores(threads)
                parts = [PIXELS[begin : begin + batch] for begin in range(0, len(PIXELS), batch)]
                return np.concatenate([codes(model, part) for part in parts])

            largest = max(largest, farthest(contextvars.copy_context().run(run), first))
    assert largest <= 1, f"codes differ by {largest}"


def test_a_pickled_copy_has_the_same_codes(model: ImageModel) -> None:
    found = codes(model)
    copy = pickle.loads(pickle.dumps(model))
    distance = farthest(codes(copy), found)
    assert distance <= 1, f"codes differ by {distance}"


def test_threads_may_share_a_model(model: ImageModel) -> None:
    found = codes(model)
    shared = pickle.loads(pickle.dumps(model))  # not opened yet
    with ThreadPoolExecutor(4) as threads:
        largest = max(farthest(each, found) for each in threads.map(codes, [shared] * 8))
    assert largest <= 1, f"codes differ by {largest}"


def test_a_copy_that_travels_needs_no_file(tmp_path: Path) -> None:
    model = opened(tiny_model(tmp_path / "model", weights="w.bin"))
    found = codes(model)
    sent = pickle.dumps(model.travelling())
    shutil.rmtree(tmp_path / "model")
    distance = farthest(codes(pickle.loads(sent)), found)
    assert distance <= 1, f"codes differ by {distance}"


def test_what_travels_from_the_models_directory_is_the_file(model: ImageModel) -> None:
    assert len(pickle.dumps(model)) < 2000 < len(pickle.dumps(model.travelling()))


def test_a_picture_is_prepared_and_described(model: ImageModel) -> None:
    image = picture(1)
    planes = slowly(image, PREPROCESSING).reshape(3, 4, 4, 4, 4).mean(axis=(2, 4))
    vector = planes.ravel() @ tiny_weights("image_embeds", DIMENSION).astype(np.float64)
    assert farthest(codes_of(model, image).astype(np.int64), rule(vector.tolist())) <= 1


@pytest.mark.parametrize("fault", [None, "brightest"])
def test_only_the_picture_without_a_feature_is_left_out(tmp_path: Path, fault: str | None) -> None:
    model = opened(tiny_model(tmp_path, fault=fault, preprocessing=UNCHANGED))
    found = model.codes([*PIXELS[:3], BLACK, *PIXELS[3:]])
    error = found.pop(3)
    assert isinstance(error, UnreadableImageError)
    assert error.message == "the model's output for it is not finite or all zeros"
    assert "a model with 16-bit floats may overflow" in str(error.hint)
    alone = codes(model)
    assert farthest(np.array(found, dtype=np.int64), alone) <= 1


def test_of_pictures_without_features_there_are_no_codes(tmp_path: Path) -> None:
    model = opened(tiny_model(tmp_path, preprocessing=UNCHANGED))
    assert [type(each) for each in model.codes([BLACK] * 5)] == [UnreadableImageError] * 5
