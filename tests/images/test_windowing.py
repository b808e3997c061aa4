"""Samples of any depth become 8 bits by the picture itself, exactly as the formula says."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mipp_cli.images.windowing import FLAT, windowed

DEEP = ["<i2", ">i2", "<u2", ">u2", "<i4", ">u4", "<f4", ">f4", "f8", "i8", "f2"]

any_samples = st.lists(st.integers(-100, 100), min_size=1, max_size=600)
properties = settings(max_examples=150, deadline=None, derandomize=True)


def photograph(bits: int = 16, shape: tuple[int, ...] = (96, 80)) -> NDArray[np.int64]:
    """Return smooth samples that fill so many bits."""
    y, x = np.indices(shape[:2])
    smooth = np.sin(x / 9) + np.cos(y / 7 + x / 31) + 0.2 * np.sin(x * y / 50)
    low, high = smooth.min(), smooth.max()
    return ((smooth - low) / (high - low) * (2**bits - 1)).astype(np.int64)


def by_the_formula(values: list[int], *, inverted: bool = False) -> list[int]:
    """Return the levels as the documentation has them, in fractions."""
    ordered, n = sorted(values), len(values)
    lowest, highest = ordered[0], ordered[-1]
    if lowest == highest:
        return [FLAT] * n
    others = [v for v in ordered if not (v == lowest and values.count(v) > n / 20)]
    others = [v for v in others if not (v == highest and values.count(v) > n / 20)] or ordered
    k = (len(others) - 1) // 200
    a, b = others[k], others[-1 - k]
    if a == b:
        a, b = lowest, highest
    parts = [Fraction(b - v if inverted else v - a, b - a) for v in values]
    return [min(255, max(0, (255 * part + Fraction(1, 2)).__floor__())) for part in parts]


@properties
@given(any_samples, st.sampled_from(DEEP), st.booleans())
def test_levels_are_those_of_the_formula(values: list[int], dtype: str, inverted: bool) -> None:
    lifted = [v + 100 for v in values]
    levels, flat = windowed(np.array(lifted, dtype=dtype), inverted=inverted)
    assert levels.tolist() == by_the_formula(values, inverted=inverted)
    assert flat == (len(set(values)) == 1)


@properties
@given(any_samples)
def test_a_brighter_sample_is_never_darker(values: list[int]) -> None:
    order = np.argsort(values, kind="stable")
    levels = windowed(np.array(values, dtype=np.int16)).levels[order]
    assert (np.diff(levels.astype(int)) >= 0).all()


@properties
@given(any_samples, st.integers(1, 200), st.integers(-10_000, 10_000))
def test_scale_and_offset_change_nothing(values: list[int], scale: int, offset: int) -> None:
    samples = np.array(values, dtype=np.int32)
    levels = windowed(samples).levels
    assert (windowed(samples * scale + offset).levels == levels).all()
    assert (windowed(-(samples * scale + offset), inverted=True).levels == levels).all()


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_one_photograph_of_any_depth_looks_the_same(bits: int) -> None:
    deep, shallow = photograph(16), photograph(bits)
    wanted = windowed(deep.astype(np.uint16)).levels.astype(int)
    for samples in (shallow, shallow << (16 - bits), shallow - 2**15):
        dtype = np.int16 if samples.min() < 0 else np.uint16
        assert abs(windowed(samples.astype(dtype)).levels.astype(int) - wanted).max() <= 1


def test_limits_are_percentiles_as_numpy_has_them() -> None:
    samples = np.random.default_rng(1).normal(1000, 200, (70, 90)).astype(np.uint16)
    low = int(np.percentile(samples, 0.5, method="lower"))
    high = int(np.percentile(samples, 99.5, method="higher"))
    levels = windowed(samples).levels
    assert low > samples.min() and high < samples.max()
    assert (levels[samples <= low] == 0).all() and levels[samples == low + 5].min() > 0
    assert (levels[samples >= high] == 255).all() and levels[samples == high - 5].max() < 255


@pytest.mark.parametrize("padding", [-2000, 0, 4000])
def test_padding_outside_a_circle_changes_nothing(padding: int) -> None:
    y, x = np.indices((128, 128))
    inside = (y - 64) ** 2 + (x - 64) ** 2 < 60**2
    slice_of_body = photograph(11, (128, 128)) + 100
    padded = np.where(inside, slice_of_body, padding).astype(np.int16)
    levels = windowed(padded).levels
    wanted = windowed(slice_of_body.astype(np.int16), counted=inside).levels
    assert (levels[inside] == wanted[inside]).all()
    assert set(levels[~inside].tolist()) == {0 if padding <= 0 else 255}


def test_samples_that_do_not_count_are_black() -> None:
    samples = np.array([[5, 6, 7], [9000, 9000, -9000]], dtype=np.int16)
    counted = samples < 10
    counted[1, 2] = False
    assert windowed(samples, counted=counted).levels.tolist() == [[0, 128, 255], [0, 0, 0]]
    assert windowed(samples, counted=counted, inverted=True).levels.tolist() == [[255, 128, 0], [0, 0, 0]]


@pytest.mark.parametrize("share", [0.001, 0.03, 0.5, 0.97, 0.999])
@pytest.mark.parametrize("values", [(0, 1), (7, 4095), (-3, 30_000)])
def test_a_mask_of_two_values_is_black_and_white(share: float, values: tuple[int, int]) -> None:
    mask = np.random.default_rng(2).random((64, 64)) < share
    levels, flat = windowed(np.where(mask, *reversed(values)).astype(np.int16))
    assert not flat
    assert (levels == np.where(mask, 255, 0)).all()


def test_labels_of_three_values_are_told_apart() -> None:
    labels = np.repeat(np.array([0, 1, 2], dtype=np.uint16), 50)
    assert sorted(set(windowed(labels).levels.tolist())) == [0, 128, 255]


@pytest.mark.parametrize("value", [0, 7, 65535])
def test_a_constant_picture_is_flat(value: int) -> None:
    levels, flat = windowed(np.full((4, 5), value, dtype=np.uint16))
    assert flat
    assert (levels == FLAT).all()


def test_a_picture_in_which_nothing_counts_is_flat() -> None:
    samples = np.arange(6, dtype=np.uint16)
    assert windowed(samples, counted=np.zeros(6, dtype=bool)) == (pytest.approx(0), True)
    levels, flat = windowed(np.full(3, np.nan, dtype=np.float32))
    assert (levels.tolist(), flat) == ([0, 0, 0], True)


def test_what_is_no_number_is_black_and_counts_for_nothing() -> None:
    floats = np.array([np.nan, 1, 2, 3, np.inf, -np.inf], dtype=np.float32)
    assert windowed(floats).levels.tolist() == [0, 0, 128, 255, 255, 0]
    assert windowed(floats, inverted=True).levels.tolist() == [0, 255, 128, 0, 0, 255]


def test_a_signalling_nan_is_black_without_a_warning() -> None:
    samples = np.arange(64, dtype=np.float32)
    samples.view(np.uint32)[7] = 0x7F800001
    assert windowed(samples).levels[7] == 0


@pytest.mark.parametrize("scale", [1e-310, 1e-40, 1.0, 1e30, 8e307])
def test_floats_of_any_size_are_levels(scale: float) -> None:
    levels = windowed(np.arange(-50, 52, 1, dtype=np.float64) / 32 * scale).levels
    assert levels.tolist() == [(510 * place + 101) // 202 for place in range(102)]


def test_channels_of_a_picture_in_colour_have_the_same_limits() -> None:
    colours = np.stack([photograph(12) + offset for offset in (0, 500, 1000)], axis=-1).astype(np.uint16)
    levels = windowed(colours).levels
    assert levels.shape == colours.shape
    assert (levels.ravel() == windowed(colours.ravel()).levels).all()
    assert (levels[..., 2].astype(int) - levels[..., 0]).max() > 20


@pytest.mark.parametrize("dtype", DEEP)
def test_samples_themselves_stay_as_they_are(dtype: str) -> None:
    samples: NDArray[Any] = photograph(10).astype(dtype)
    before = samples.copy()
    windowed(samples)
    assert (samples == before).all()
