"""The descriptor against the reference software's output and against a second, slow implementation."""

from __future__ import annotations

import hashlib
import io
import json
import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from mipp_cli.descriptors.edge_histogram import (
    edge_histogram,
    edge_shares,
    is_edgeless,
    quantise,
)
from mipp_cli.errors import UnreadableImageError
from mipp_cli.images.grey_levels import exif_orientation, grey_levels, turn_upright
from mipp_cli.scheme.descriptor import DIMENSION, EDGES, LEVELS

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "ehd.json").read_text(encoding="utf-8"))
FORMULA_IMAGES = VECTORS["formula_images"]["vectors"]
LOSSLESS: dict[str, dict[str, Any]] = {"TIFF": {"compression": "tiff_lzw"}, "WEBP": {"lossless": True}}
PHOTOGRAPHS = VECTORS["scikit_image_pictures"]["vectors"]


def draw_formula(kind: str, width: int, height: int, parameters: list[int]) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    if kind == "waves":
        a, b, c, d, e = parameters
        channels = [(a * x + b * y) % 256, (x * y // c + d * x) % 256, ((x * x + y * y) // e) % 256]
    elif kind == "checks":
        c, d, low, high = parameters
        channels = [np.where((x // c + y // d) % 2 == 1, high, low)] * 3
    elif kind == "stripes":
        a, b, c, low, high = parameters
        value = np.where(((a * x + b * y) // c) % 2 == 1, high, low)
        channels = [value, (value + 40) % 256, (value + 80) % 256]
    elif kind == "rings":
        cx, cy, c = parameters
        channels = [np.where((((x - cx) ** 2 + (y - cy) ** 2) // c) % 2 == 1, 230, 20)] * 3
    else:
        base, amplitude = parameters
        channels = [base + (x * 37 + y * 101 + (x * y) % 17) % amplitude] * 3
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def scikit_image_file(vector: dict[str, Any]) -> bytes:
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        pytest.skip("scikit-image, whose wheel ships the photographs, is not installed")
    return (Path(spec.origin).parent / "data" / vector["file"]).read_bytes()


def noise(width: int, height: int, seed: int) -> Image.Image:
    """Random patches of 3×3 pixels, so that blocks of every size find edges of every kind."""
    generator = np.random.default_rng(seed)
    patches = generator.integers(0, 256, (height // 3 + 1, width // 3 + 1, 3), dtype=np.uint8)
    return Image.fromarray(patches.repeat(3, axis=0).repeat(3, axis=1)[:height, :width].copy())


def formula_name(vector: dict[str, Any]) -> str:
    return f"{vector['kind']}-{vector['width']}x{vector['height']}"


@pytest.mark.parametrize("vector", FORMULA_IMAGES, ids=formula_name)
def test_codes_equal_the_reference_software_on_formula_images(vector: dict[str, Any]) -> None:
    image = draw_formula(vector["kind"], vector["width"], vector["height"], vector["parameters"])
    assert edge_histogram(image).tolist() == vector["codes"]


@pytest.mark.parametrize("vector", PHOTOGRAPHS, ids=lambda vector: str(vector["file"]))
def test_codes_equal_the_reference_software_on_photographs(vector: dict[str, Any]) -> None:
    data = scikit_image_file(vector)
    assert hashlib.sha256(data).hexdigest() == vector["sha256"]
    assert edge_histogram(Image.open(io.BytesIO(data))).tolist() == vector["codes"]


@pytest.mark.parametrize("vector", FORMULA_IMAGES, ids=formula_name)
def test_edge_shares_equal_the_reference_software(vector: dict[str, Any]) -> None:
    image = draw_formula(vector["kind"], vector["width"], vector["height"], vector["parameters"])
    shares = edge_shares(grey_levels(image))
    assert shares.shape == (16, 5)
    np.testing.assert_allclose(shares.ravel(), vector["fractions"], atol=6e-7)


def test_quantiser_steps_are_the_midpoints_of_the_table() -> None:
    table = np.array(VECTORS["quantiser"])
    midpoints = (table[:, :-1] + table[:, 1:]) / 2
    for step in range(LEVELS - 1):
        at = quantise(np.tile(midpoints[:, step], (16, 1))).reshape(16, 5)
        above = quantise(np.tile(np.nextafter(midpoints[:, step], 1), (16, 1))).reshape(16, 5)
        assert (at == step).all()
        assert (above == step + 1).all()


def test_descriptor_is_80_codes_of_three_bits() -> None:
    codes = edge_histogram(noise(200, 120, seed=1))
    assert codes.shape == (DIMENSION,)
    assert codes.dtype == np.uint8
    assert codes.max() < LEVELS


# A second implementation, pixel by pixel, from the text of the design.


def slow_codes(rgb: list[list[tuple[int, int, int]]]) -> list[int]:
    grey = [[sum(pixel) // 3 for pixel in row] for row in rgb]
    if min(len(grey), len(grey[0])) < 70:
        grey = slow_upsampled(grey)
    height, width = len(grey), len(grey[0])
    size = max(2, 2 * int(math.sqrt(width * height // 1100) / 2))
    blocks = [0] * 16
    votes = [[0] * 5 for _ in range(16)]
    for y in range(0, height - size + 1, size):
        for x in range(0, width - size + 1, size):
            sub_image = 4 * x // width + 4 * (4 * y // height)
            blocks[sub_image] += 1
            kind = slow_edge(grey, x, y, size)
            if kind is not None:
                votes[sub_image][kind] += 1
    return [
        slow_code(votes[sub_image][kind] / blocks[sub_image], VECTORS["quantiser"][kind])
        for sub_image in range(16)
        for kind in range(5)
    ]


def slow_edge(grey: list[list[int]], x: int, y: int, size: int) -> int | None:
    half = size // 2
    d1, d2, d3, d4 = (
        sum(grey[y + dy + j][x + dx + i] for j in range(half) for i in range(half)) / (size * size / 4)
        for dy in (0, half)
        for dx in (0, half)
    )
    strengths = [
        abs(d1 + d3 - (d2 + d4)),
        abs(d1 + d2 - (d3 + d4)),
        math.sqrt(2) * abs(d1 - d4),
        math.sqrt(2) * abs(d2 - d3),
        2 * abs(d1 - d2 - d3 + d4),
    ]
    return None if max(strengths) < 11 else strengths.index(max(strengths))


def slow_code(share: float, table: list[float]) -> int:
    for step in range(7):
        if share <= (table[step] + table[step + 1]) / 2:
            return step
    return 7


def slow_upsampled(grey: list[list[int]]) -> list[list[int]]:
    height, width = len(grey), len(grey[0])
    scale = 70 / min(height, width)
    result = []
    for j in range(int(height * scale + 0.5)):
        row = []
        for i in range(int(width * scale + 0.5)):
            x, y = int(i / scale), int(j / scale)
            right, below = min(x + 1, width - 1), min(y + 1, height - 1)
            u, v = i / scale - x, j / scale - y
            top = grey[y][x] + u * (grey[y][right] - grey[y][x])
            bottom = grey[below][x] + u * (grey[below][right] - grey[below][x])
            row.append(int(top + v * (bottom - top) + 0.5))
        result.append(row)
    return result


def rows_of(image: Image.Image) -> list[list[tuple[int, int, int]]]:
    return [[tuple(pixel) for pixel in row] for row in np.asarray(image.convert("RGB")).tolist()]


@pytest.mark.parametrize(
    "size", [(97, 71), (70, 70), (151, 200), (69, 69), (64, 64), (35, 50), (33, 20), (5, 3), (2, 9), (1, 1)]
)
def test_codes_equal_a_slow_implementation(size: tuple[int, int]) -> None:
    image = noise(*size, seed=sum(size))
    assert edge_histogram(image).tolist() == slow_codes(rows_of(image))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(4, 80), st.integers(4, 80), st.integers(0, 2**32 - 1))
def test_codes_equal_a_slow_implementation_at_any_small_size(width: int, height: int, seed: int) -> None:
    image = noise(width, height, seed)
    assert edge_histogram(image).tolist() == slow_codes(rows_of(image))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_first(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    noise(90, 140, seed=9).save(buffer, format="PNG", exif=exif)
    stored = Image.open(buffer)
    turned = ImageOps.exif_transpose(stored)
    assert exif_orientation(stored) == orientation
    assert (turn_upright(np.asarray(stored), orientation) == np.asarray(turned)).all()
    assert edge_histogram(stored).tolist() == slow_codes(rows_of(turned))


@pytest.mark.parametrize("file_format", ["TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_orientation_is_applied_once_in_every_format(file_format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = noise(90, 140, seed=9)
    upright.getexif()[0x0112] = orientation
    buffer = io.BytesIO()
    noise(90, 140, seed=9).save(buffer, format=file_format, exif=exif, **LOSSLESS[file_format])
    wanted = edge_histogram(ImageOps.exif_transpose(upright))
    assert (edge_histogram(Image.open(buffer)) == wanted).all()


def test_a_grey_picture_equals_the_same_picture_in_rgb() -> None:
    grey = noise(120, 90, seed=4).convert("L")
    assert (edge_histogram(grey) == edge_histogram(Image.merge("RGB", [grey] * 3))).all()


def test_a_picture_of_one_bit_equals_black_and_white() -> None:
    bits = noise(120, 90, seed=5).convert("L").point(lambda level: 255 * (level > 128)).convert("1")
    assert (edge_histogram(bits) == edge_histogram(bits.convert("L"))).all()
    assert edge_histogram(bits).any()


@pytest.mark.parametrize("transparency", [None, 7, bytes(range(256))])
def test_a_palette_stands_for_its_colours(transparency: Any) -> None:
    palette = noise(120, 90, seed=6).quantize(64)
    wanted = edge_histogram(palette.convert("RGB"))
    if transparency is not None:
        palette.info["transparency"] = transparency
    assert (edge_histogram(palette) == wanted).all()


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_dropped(mode: str) -> None:
    opaque = noise(120, 90, seed=7).convert(mode[:-1])
    with_alpha = opaque.copy()
    with_alpha.putalpha(Image.linear_gradient("L").resize(opaque.size))
    assert with_alpha.mode == mode
    assert (edge_histogram(with_alpha) == edge_histogram(opaque)).all()


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_other_colour_spaces_become_rgb(mode: str) -> None:
    image = noise(120, 90, seed=8).convert(mode)
    assert (edge_histogram(image) == edge_histogram(image.convert("RGB"))).all()


@pytest.mark.parametrize("mode", ["LAB"])
def test_a_mode_without_grey_levels_is_refused(mode: str) -> None:
    with pytest.raises(UnreadableImageError, match=mode):
        edge_histogram(Image.new(mode, (80, 80)))


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (2000, 50)])
def test_a_picture_too_narrow_for_16_sub_images_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UnreadableImageError, match="too narrow") as caught:
        edge_histogram(Image.new("RGB", size))
    assert caught.value.hint


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 12), st.integers(1, 264), st.booleans())
def test_sides_within_22_to_1_are_always_described(short: int, long: int, upright: bool) -> None:
    long = min(long, 22 * short)
    size = (short, long) if upright else (long, short)
    assert edge_histogram(Image.new("L", size)).shape == (DIMENSION,)


def test_a_picture_of_one_colour_is_edgeless() -> None:
    assert is_edgeless(EDGES, edge_histogram(Image.new("RGB", (100, 80), (10, 200, 30))))


def test_a_picture_with_edges_is_not_edgeless() -> None:
    assert not is_edgeless(EDGES, edge_histogram(noise(100, 80, seed=11)))


def test_an_edge_begins_at_the_contrast_threshold() -> None:
    columns = np.arange(100) // 10 % 2
    for contrast, edgeless in ((5, True), (6, False)):
        grey = np.tile(columns * contrast, (80, 1)).astype(np.uint8)
        shifted = np.roll(grey, 1, axis=1)  # stripes change inside blocks of 2, where 2 × 5 < 11 ≤ 2 × 6
        assert is_edgeless(EDGES, edge_histogram(Image.fromarray(shifted))) is edgeless
