"""Every mode becomes upright RGB of 8 bits a channel."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from mipp_cli.errors import UnreadableImageError
from mipp_cli.images.colours import upright_rgb
from mipp_cli.images.windowing import windowed

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def colourful(width: int = 13, height: int = 7) -> Image.Image:
    generator = np.random.default_rng(width * height)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


def pixels(image: Image.Image) -> list[list[list[int]]]:
    assert image.mode == "RGB"
    rows: list[list[list[int]]] = np.asarray(image).tolist()
    return rows


def stored_as(image: Image.Image, orientation: int, file_format: str = "PNG") -> Image.Image:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, format=file_format, exif=exif)
    return Image.open(buffer)


def test_rgb_stays_as_it_is() -> None:
    image = colourful()
    assert pixels(upright_rgb(image)) == pixels(image)


# As EXIF defines it: where the stored first row and first column of a 2×2 picture go.
@pytest.mark.parametrize(
    ("orientation", "wanted"),
    [
        (1, [[RED, GREEN], [BLUE, WHITE]]),
        (2, [[GREEN, RED], [WHITE, BLUE]]),
        (3, [[WHITE, BLUE], [GREEN, RED]]),
        (4, [[BLUE, WHITE], [RED, GREEN]]),
        (5, [[RED, BLUE], [GREEN, WHITE]]),
        (6, [[BLUE, RED], [WHITE, GREEN]]),
        (7, [[WHITE, GREEN], [BLUE, RED]]),
        (8, [[GREEN, WHITE], [RED, BLUE]]),
    ],
)
def test_the_exif_orientation_is_applied(orientation: int, wanted: list[list[tuple[int, int, int]]]) -> None:
    stored = stored_as(Image.fromarray(np.array([[RED, GREEN], [BLUE, WHITE]], dtype=np.uint8)), orientation)
    assert pixels(upright_rgb(stored)) == [[list(pixel) for pixel in row] for row in wanted]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_pillow_turns_pictures_the_same_way(orientation: int, file_format: str) -> None:
    stored = stored_as(colourful(), orientation, file_format)
    assert pixels(upright_rgb(stored)) == pixels(ImageOps.exif_transpose(stored))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_second_turn_changes_nothing(orientation: int) -> None:
    once = upright_rgb(stored_as(colourful(), orientation))
    assert pixels(upright_rgb(once)) == pixels(once)


def test_the_picture_itself_is_left_alone() -> None:
    stored = stored_as(colourful(), 6)
    before = pixels(stored.copy())
    assert pixels(upright_rgb(stored)) != before
    assert pixels(stored) == before
    assert stored.getexif()[0x0112] == 6


def test_grey_has_three_equal_channels() -> None:
    grey = colourful().convert("L")
    assert pixels(upright_rgb(grey)) == pixels(Image.merge("RGB", [grey] * 3))


def test_grey_is_turned_as_well() -> None:
    stored = stored_as(Image.fromarray(np.array([[1, 2, 3]], dtype=np.uint8)), 8)
    assert pixels(upright_rgb(stored)) == [[[3] * 3], [[2] * 3], [[1] * 3]]


def test_one_bit_is_black_or_white() -> None:
    bits = Image.fromarray(np.array([[False, True]]))
    assert bits.mode == "1"
    assert pixels(upright_rgb(bits)) == [[[0] * 3, [255] * 3]]


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i4", "<f4"])
def test_deep_grey_is_windowed(dtype: str) -> None:
    samples = np.random.default_rng(1).integers(0, 5000, (20, 30)).astype(dtype)
    levels = windowed(samples).levels
    assert (np.asarray(upright_rgb(Image.fromarray(samples))) == levels[:, :, None]).all()


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_dropped(mode: str) -> None:
    opaque = colourful().convert(mode[:-1])
    with_alpha = opaque.copy()
    with_alpha.putalpha(Image.linear_gradient("L").resize(opaque.size))
    assert pixels(upright_rgb(with_alpha)) == pixels(opaque.convert("RGB"))


@pytest.mark.parametrize("transparency", [None, 7, bytes(range(256))])
def test_a_palette_becomes_its_colours(transparency: Any) -> None:
    palette = colourful().quantize(64)
    wanted = pixels(palette.convert("RGB"))
    if transparency is not None:
        palette.info["transparency"] = transparency
    assert pixels(upright_rgb(palette)) == wanted


def test_cmyk_becomes_rgb() -> None:
    inks = Image.frombytes("CMYK", (3, 1), bytes([0, 0, 0, 0, 255, 0, 0, 0, 0, 0, 0, 255]))
    assert pixels(upright_rgb(inks)) == [[[255, 255, 255], [0, 255, 255], [0, 0, 0]]]


@pytest.mark.parametrize("mode", ["YCbCr", "HSV"])
def test_other_colour_spaces_become_rgb(mode: str) -> None:
    image = colourful().convert(mode)
    assert pixels(upright_rgb(image)) == pixels(image.convert("RGB"))


def test_a_mode_of_unknown_range_is_refused() -> None:
    with pytest.raises(UnreadableImageError, match="LAB"):
        upright_rgb(Image.new("LAB", (2, 2)))
