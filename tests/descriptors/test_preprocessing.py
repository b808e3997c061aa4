"""What a model sees of a picture: as published image processors show it, and as their documentation says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mipp_cli.descriptors.preprocessing import preprocessed, read_preprocessing
from mipp_cli.errors import UnreadableImageError
from mipp_cli.images.pictures import open_picture
from mipp_cli.images.windowing import windowed
from tests.support.deployment import picture
from tests.support.preprocessing import PICTURES, seen_by_the_model, slowly, turned

PHOTOGRAPHS = Path(os.environ.get("MIPP_PHOTOGRAPHS", Path(__file__).parents[3] / "shared" / "data"))
VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "preprocessing.json").read_text()
)
EXACT = {"rtol": 1e-6, "atol": 2e-5}
SMALL = {
    "resample": 3,
    "image_mean": [0.48, 0.45, 0.4],
    "image_std": [0.26, 0.25, 0.28],
    "size": {"height": 24, "width": 20},
}
CROPPED = SMALL | {
    "size": {"shortest_edge": 24},
    "do_center_crop": True,
    "crop_size": {"height": 21, "width": 22},
}
CONFIGS = {
    "squeezed": SMALL,
    "cropped": CROPPED,
    "padded": CROPPED | {"crop_size": {"height": 31, "width": 40}},
    "padded and cropped": CROPPED | {"crop_size": {"height": 9, "width": 47}},
    "not resized": CROPPED | {"do_resize": False},
    "not scaled": SMALL | {"do_rescale": False},
    "scaled otherwise": SMALL | {"rescale_factor": 1 / 127.5},
    "not normalised": SMALL | {"do_normalize": False},
    **{f"by filter {number}": SMALL | {"resample": number} for number in range(6)},
}


@pytest.mark.parametrize("output", VECTORS["outputs"], ids=lambda each: f"{each['config']}-{each['file']}")
def test_photographs_are_prepared_as_published(output: dict[str, Any]) -> None:
    file = PHOTOGRAPHS / output["file"]
    if not file.exists():
        pytest.skip(f"{file} is not there: name the folder of photographs by MIPP_PHOTOGRAPHS")
    image = open_picture(file.read_bytes(), path=str(file)).eight_bits()
    seen = seen_by_the_model(image, VECTORS["configs"][output["config"]])
    assert list(seen.shape) == output["shape"]
    sampled = seen[:, output["rows"]][:, :, output["cols"]]
    np.testing.assert_allclose(sampled, output["values"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(seen.mean(axis=(1, 2)), output["mean"], rtol=0, atol=5e-4)
    np.testing.assert_allclose(seen.std(axis=(1, 2)), output["std"], rtol=0, atol=5e-4)


def test_each_configuration_was_run_on_each_photograph() -> None:
    pairs = {(each["config"], each["file"]) for each in VECTORS["outputs"]}
    assert len(pairs) == len(VECTORS["outputs"]) == 18
    assert {config for config, _ in pairs} == set(VECTORS["configs"])


@pytest.mark.parametrize("config", CONFIGS)
def test_a_picture_is_prepared_as_documented(config: str) -> None:
    image = PICTURES["wide"]
    np.testing.assert_allclose(
        seen_by_the_model(image, CONFIGS[config]), slowly(image, CONFIGS[config]), **EXACT
    )


@pytest.mark.parametrize("config", ["squeezed", "cropped", "padded", "not resized"])
@pytest.mark.parametrize("what", PICTURES)
def test_every_picture_is_prepared_as_documented(what: str, config: str) -> None:
    image = PICTURES[what]
    rgb = image.convert("RGBA").convert("RGB") if what == "of a palette" else image.convert("RGB")
    np.testing.assert_allclose(
        seen_by_the_model(image, CONFIGS[config]), slowly(rgb, CONFIGS[config]), **EXACT
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright_first(orientation: int) -> None:
    upright = PICTURES["tall"]
    stored = turned(upright, orientation)
    assert (stored.size == upright.size) == (orientation < 5)
    np.testing.assert_allclose(seen_by_the_model(stored, CROPPED), slowly(upright, CROPPED), **EXACT)


def test_grey_of_16_bits_is_windowed() -> None:
    deep = Image.fromarray(np.random.default_rng(1).integers(0, 1 << 16, (30, 40)).astype(np.uint16))
    shown = Image.fromarray(windowed(np.asarray(deep)).levels).convert("RGB")
    np.testing.assert_allclose(seen_by_the_model(deep, SMALL), slowly(shown, SMALL), **EXACT)


def test_the_picture_itself_stays_as_it_is() -> None:
    image = turned(PICTURES["wide"], 6)
    before = image.tobytes()
    seen_by_the_model(image, SMALL)
    assert (image.tobytes(), image.getexif()[0x0112]) == (before, 6)


def test_a_picture_as_large_as_is_wanted_is_not_resampled() -> None:
    image = picture(1, (20, 24))
    seen = preprocessed(image, read_preprocessing(json.dumps(SMALL).encode()))
    assert np.array_equal(seen, np.asarray(image))


@pytest.mark.parametrize("size", [(1, 300_000), (300_000, 1)])
def test_a_picture_that_is_a_line_is_refused(size: tuple[int, int]) -> None:
    config = CROPPED | {"size": {"shortest_edge": 224}}
    with pytest.raises(UnreadableImageError, match="too narrow for its length") as error:
        seen_by_the_model(Image.new("RGB", size), config)
    assert "leave it out" in str(error.value.hint)


@pytest.mark.parametrize("mode", ["LAB"])
def test_a_picture_without_colours_of_known_range_is_refused(mode: str) -> None:
    with pytest.raises(UnreadableImageError, match=f"in mode {mode}"):
        seen_by_the_model(Image.new(mode, (30, 30)), SMALL)
