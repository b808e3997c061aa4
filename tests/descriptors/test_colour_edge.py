"""The colour codes against values worked out by hand and against a second, slow implementation."""

from __future__ import annotations

import colorsys
import io
import math
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from mipp_cli.descriptors.colour_edge import colour_edge, colour_histogram
from mipp_cli.descriptors.edge_histogram import edge_histogram
from mipp_cli.errors import UnreadableImageError
from mipp_cli.images.windowing import windowed
from mipp_cli.scheme.descriptor import Descriptor, parse_descriptor

EDGES = 80
Pixel = tuple[int, int, int]

levels = st.integers(0, 255)
colours = st.tuples(levels, levels, levels)


def patches(width: int, height: int, seed: int, side: int = 3) -> Image.Image:
    """Random patches of colour, some of them grey or nearly so."""
    generator = np.random.default_rng(seed)
    shape = (height // side + 1, width // side + 1)
    grey = generator.integers(0, 256, (*shape, 1))
    spread = generator.choice([0, 5, 20, 90, 255], (*shape, 1))
    small = np.clip(grey + generator.integers(-1, 2, (*shape, 3)) * spread // 2, 0, 255).astype(np.uint8)
    return Image.fromarray(small.repeat(side, axis=0).repeat(side, axis=1)[:height, :width].copy())


def of_colours(*pixels: Pixel) -> Image.Image:
    """A picture of columns, each of one colour, and all of the same number of pixels."""
    return Image.fromarray(np.array([pixels], dtype=np.uint8).repeat(80, axis=0).repeat(80, axis=1))


def colour_codes(image: Image.Image) -> dict[int, int]:
    """The codes of colours that are not 0, by bin."""
    codes = colour_edge(image)[EDGES:]
    return {int(place): int(codes[place]) for place in np.flatnonzero(codes)}


def test_descriptor_is_168_codes_of_five_bits() -> None:
    codes = colour_edge(patches(200, 120, seed=1))
    assert parse_descriptor("colour-edge") == Descriptor("colour-edge", 168, 32)
    assert codes.shape == (168,)
    assert codes.dtype == np.uint8
    assert codes.max() < 32


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_the_first_80_codes_are_those_of_edges(mode: str) -> None:
    image = patches(200, 120, seed=2).convert(mode)
    assert (colour_edge(image)[:EDGES] == edge_histogram(image)).all()


# By hand. Bin 16 + 9·hue + 3·saturation + value; hues are red, orange, chartreuse, green, cyan, azure,
# violet and rose, of 45° each, the first around 0°.
@pytest.mark.parametrize(
    ("colour", "place"),
    [
        ((0, 0, 0), 0),
        ((15, 15, 15), 0),
        ((16, 16, 16), 1),
        ((128, 128, 128), 8),
        ((255, 255, 255), 15),
        ((255, 0, 0), 16 + 0 + 6 + 2),
        ((255, 128, 0), 16 + 9 + 6 + 2),  # 30°
        ((255, 255, 0), 16 + 9 + 6 + 2),  # 60°
        ((128, 255, 0), 16 + 18 + 6 + 2),  # 90°
        ((0, 255, 0), 16 + 27 + 6 + 2),  # 120°
        ((0, 255, 255), 16 + 36 + 6 + 2),  # 180°
        ((0, 0, 255), 16 + 45 + 6 + 2),  # 240°
        ((128, 0, 255), 16 + 54 + 6 + 2),  # 270°
        ((255, 0, 255), 16 + 63 + 6 + 2),  # 300°
        ((255, 0, 64), 16 + 0 + 6 + 2),  # 345°
        ((255, 200, 200), 16 + 0 + 0 + 2),  # saturation 55/255
        ((255, 150, 150), 16 + 0 + 3 + 2),  # saturation 105/255
        ((85, 0, 0), 16 + 0 + 6 + 0),
        ((86, 0, 0), 16 + 0 + 6 + 1),
        ((170, 0, 0), 16 + 0 + 6 + 1),
        ((171, 0, 0), 16 + 0 + 6 + 2),
    ],
)
def test_a_colour_falls_into_its_bin(colour: Pixel, place: int) -> None:
    assert colour_codes(Image.new("RGB", (90, 90), colour)) == {place: 31}


def test_colour_begins_at_a_chroma_of_16() -> None:
    assert colour_codes(Image.new("RGB", (90, 90), (115, 100, 100))) == {105 * 3 // 48: 31}
    assert colour_codes(Image.new("RGB", (90, 90), (116, 100, 100))) == {16 + 0 + 0 + 1: 31}


def test_a_code_is_31_roots_of_the_share() -> None:
    # 31·√½ = 21.9, 31·√⅓ = 17.9, 31·√¼ = 15.5 exactly, which is rounded up.
    black, white, red, green = (0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0)
    assert colour_codes(of_colours(black, white)) == {0: 22, 15: 22}
    assert colour_codes(of_colours(black, white, red)) == {0: 18, 15: 18, 24: 18}
    assert colour_codes(of_colours(black, white, red, green)) == {0: 16, 15: 16, 24: 16, 51: 16}


@pytest.mark.parametrize(("red", "codes"), [(2, {0: 31}), (3, {0: 31, 24: 1})])
def test_a_colour_counts_from_a_share_of_1_in_3844(red: int, codes: dict[int, int]) -> None:
    image = Image.new("RGB", (100, 100))
    for x in range(red):
        image.putpixel((x, 50), (255, 0, 0))
    assert colour_codes(image) == codes


# A second implementation, pixel by pixel, in fractions and with Python's own hue, from the docstring.


def slow_bin(pixel: Pixel) -> int:
    red, green, blue = pixel
    most, chroma = max(pixel), max(pixel) - min(pixel)
    if chroma < 16:
        return (red + green + blue) // 48
    if most == red:
        sixths = Fraction(green - blue, chroma)
    elif most == green:
        sixths = 2 + Fraction(blue - red, chroma)
    else:
        sixths = 4 + Fraction(red - green, chroma)
    hue = math.floor(sixths / 6 * 8 + Fraction(1, 2)) % 8
    return 16 + 9 * hue + 3 * min(2, 3 * chroma // most) + 3 * most // 256


def slow_codes(rows: list[list[Pixel]]) -> list[int]:
    factor = math.isqrt(len(rows) * len(rows[0]) // 16384)
    if factor > 1:
        rows = slow_reduced(rows, factor)
    counts = Counter(slow_bin(pixel) for row in rows for pixel in row)
    return [slow_code(counts[place], counts.total()) for place in range(88)]


def slow_code(count: int, total: int) -> int:
    code = 0
    while Fraction(2 * code + 1, 62) ** 2 <= Fraction(count, total):
        code += 1
    return code


def slow_reduced(rows: list[list[Pixel]], factor: int) -> list[list[Pixel]]:
    return [
        [
            slow_mean([p for row in rows[y : y + factor] for p in row[x : x + factor]])
            for x in range(0, len(rows[0]), factor)
        ]
        for y in range(0, len(rows), factor)
    ]


def slow_mean(block: list[Pixel]) -> Pixel:
    size = len(block)
    red, green, blue = (
        (sum(channel) + size // 2) * (2**24 // size) // 2**24 for channel in zip(*block, strict=True)
    )
    return red, green, blue


def rows_of(image: Image.Image) -> list[list[Pixel]]:
    return [[tuple(pixel) for pixel in row] for row in np.asarray(image.convert("RGB")).tolist()]


@pytest.mark.parametrize(
    "size",
    [(1, 1), (9, 2), (20, 33), (128, 128), (255, 257), (256, 256), (300, 219), (301, 223), (1300, 917)],
)
def test_codes_equal_a_slow_implementation(size: tuple[int, int]) -> None:
    image = patches(*size, seed=sum(size))
    assert colour_edge(image)[EDGES:].tolist() == slow_codes(rows_of(image))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(colours, min_size=1, max_size=22))
def test_any_colours_have_the_codes_of_the_formula(pixels: list[Pixel]) -> None:
    image = Image.fromarray(np.array([pixels], dtype=np.uint8))
    codes = colour_edge(image)
    assert codes[EDGES:].tolist() == slow_codes([pixels])
    assert codes.max() < 32


@settings(max_examples=200, deadline=None, derandomize=True)
@given(colours)
def test_hue_is_what_python_takes_for_hue(colour: Pixel) -> None:
    place = int(colour_histogram(Image.new("RGB", (1, 1), colour)).argmax())
    if max(colour) - min(colour) < 16:
        assert place < 16
    else:
        eighths = colorsys.rgb_to_hsv(*colour)[0] * 8
        away = abs(eighths - (place - 16) // 9)
        assert min(away, 8 - away) <= 0.5 + 1e-9


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_colours_do_not_depend_on_the_size(width: int, height: int, times: int, seed: int) -> None:
    image = patches(width, height, seed, side=1)
    larger = image.resize((times * width, times * height), Image.Resampling.NEAREST)
    assert colour_histogram(larger).tolist() == [
        times * times * count for count in colour_histogram(image).tolist()
    ]
    if max(width, height) <= 22 * min(width, height):
        assert colour_edge(larger)[EDGES:].tolist() == colour_edge(image)[EDGES:].tolist()


@pytest.mark.parametrize("times", [3, 8, 20])
def test_scaling_down_brings_the_colours_back(times: int) -> None:
    image = patches(128, 128, seed=3, side=1)
    larger = image.resize((128 * times, 128 * times), Image.Resampling.NEAREST)
    assert colour_histogram(larger).tolist() == colour_histogram(image).tolist()


@pytest.mark.parametrize("size", [(4000, 3000), (10, 200000)])
def test_large_pictures_are_counted_in_few_pixels(size: tuple[int, int]) -> None:
    counts = colour_histogram(Image.new("RGB", size, (255, 0, 0)))
    assert 16384 <= counts[24] == counts.sum() < 70000


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_first(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    patches(301, 263, seed=9).save(buffer, format="PNG", exif=exif)
    stored = Image.open(buffer)
    upright = ImageOps.exif_transpose(stored)
    codes = colour_edge(stored)
    assert (codes == colour_edge(upright)).all()
    assert codes[EDGES:].tolist() == slow_codes(rows_of(upright))


def test_a_grey_picture_equals_the_same_picture_in_rgb() -> None:
    grey = patches(120, 90, seed=4).convert("L")
    codes = colour_edge(grey)
    assert (codes == colour_edge(Image.merge("RGB", [grey] * 3))).all()
    assert not codes[EDGES + 16 :].any()


def test_slight_noise_gives_grey_no_colour() -> None:
    grey = patches(120, 90, seed=4).convert("L")
    shifts = np.random.default_rng(5).integers(-7, 8, (90, 120, 3))
    noisy = np.clip(np.asarray(grey)[:, :, None] + shifts, 0, 255).astype(np.uint8)
    assert not colour_edge(Image.fromarray(noisy))[EDGES + 16 :].any()


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i4"])
def test_deep_grey_is_windowed(dtype: str) -> None:
    deep = (np.asarray(patches(120, 90, seed=6).convert("L")).astype(np.int64) << 4).astype(dtype)
    shown = Image.fromarray(windowed(deep).levels)
    assert (colour_edge(Image.fromarray(deep)) == colour_edge(shown)).all()


@pytest.mark.parametrize("transparency", [None, 7, bytes(range(256))])
def test_a_palette_stands_for_its_colours(transparency: Any) -> None:
    palette = patches(120, 90, seed=6).quantize(64)
    wanted = colour_edge(palette.convert("RGB"))
    if transparency is not None:
        palette.info["transparency"] = transparency
    assert (colour_edge(palette) == wanted).all()


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_dropped(mode: str) -> None:
    opaque = patches(120, 90, seed=7).convert(mode[:-1])
    with_alpha = opaque.copy()
    with_alpha.putalpha(Image.linear_gradient("L").resize(opaque.size))
    assert (colour_edge(with_alpha) == colour_edge(opaque)).all()


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "1"])
def test_other_modes_become_rgb(mode: str) -> None:
    image = patches(120, 90, seed=8).convert(mode)
    assert (colour_edge(image) == colour_edge(image.convert("RGB"))).all()


@pytest.mark.parametrize("mode", ["LAB"])
def test_a_mode_of_unknown_range_is_refused(mode: str) -> None:
    with pytest.raises(UnreadableImageError, match=mode):
        colour_edge(Image.new(mode, (80, 80)))


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (2000, 50)])
def test_a_picture_too_narrow_for_edges_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UnreadableImageError, match="too narrow") as caught:
        colour_edge(Image.new("RGB", size))
    assert caught.value.hint
