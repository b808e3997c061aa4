"""The levels that pixels become, and the orientation read from pictures that lie about it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from mipp_cli.images.grey_levels import exif_orientation, grey_levels
from mipp_cli.images.windowing import windowed


def test_grey_level_is_a_third_of_the_sum_rounded_down() -> None:
    generator = np.random.default_rng(3)
    pixels = generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    wanted = pixels.astype(int).sum(axis=2) // 3
    assert (grey_levels(Image.fromarray(pixels)) == wanted).all()


@pytest.mark.parametrize("value", [0, 9, 65535, "6", (6, 6)])
def test_an_orientation_that_is_none_counts_as_upright(value: Any) -> None:
    image = Image.new("L", (2, 2))
    image.getexif()[0x0112] = value
    assert exif_orientation(image) == 1


def test_damaged_exif_data_count_as_upright() -> None:
    image = Image.new("L", (2, 2))
    image.info["exif"] = b"Exif\0\0XX*\0\1\2\3"
    assert exif_orientation(image) == 1


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i4", "<f4"])
def test_deep_samples_are_windowed(dtype: str) -> None:
    samples = np.random.default_rng(10).integers(0, 65536, (80, 100)).astype(dtype)
    assert (grey_levels(Image.fromarray(samples)) == windowed(samples).levels).all()
