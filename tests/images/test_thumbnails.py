"""Small copies of pictures: upright, in plain colours, whatever the picture was."""

from __future__ import annotations

import pytest
from PIL import Image

from mipp_cli.images.thumbnails import NEUTRAL_GROUND, thumbnail

RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK"])
def test_a_thumbnail_of_any_colour_mode_is_rgb(mode: str) -> None:
    small = thumbnail(Image.new(mode, (300, 200)), (60, 60))
    assert (small.mode, small.size) == ("RGB", (60, 40))


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "LAB", "I", "F", "I;16", "I;16L", "I;16B"])
def test_a_thumbnail_of_any_rarer_mode_is_rgb(mode: str) -> None:
    assert thumbnail(Image.new(mode, (300, 200)), (60, 60)).mode == "RGB"


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I", "F"])
def test_deep_greys_are_stretched_from_darkest_to_brightest(mode: str) -> None:
    picture = Image.new("I", (80, 40), 1000)
    picture.paste(1200, (40, 0, 80, 40))
    small = thumbnail(picture if mode == "I" else picture.convert(mode), (80, 40))
    assert small.getpixel((5, 20)) == (0, 0, 0)
    assert small.getpixel((75, 20)) == (255, 255, 255)


def test_a_deep_grey_of_one_value_is_drawn_grey() -> None:
    assert thumbnail(Image.new("I;16", (8, 8), 4000), (8, 8)).getpixel((4, 4)) == (128, 128, 128)


def test_a_transparent_grey_of_a_deep_picture_does_not_matter() -> None:
    picture = Image.new("I;16", (8, 8), 4000)
    picture.info["transparency"] = 40_000
    assert "transparency" not in thumbnail(picture, (8, 8)).info


def test_transparent_pixels_show_the_neutral_ground() -> None:
    assert thumbnail(Image.new("RGBA", (9, 9), (255, 0, 0, 0)), (9, 9)).getpixel((4, 4)) == NEUTRAL_GROUND
    palette = Image.new("P", (9, 9), 3)
    palette.info["transparency"] = 3
    assert thumbnail(palette, (9, 9)).getpixel((4, 4)) == NEUTRAL_GROUND


def test_the_orientation_of_a_photograph_is_applied() -> None:
    picture = Image.new("RGB", (60, 30), RED)
    picture.paste(BLUE, (0, 0, 30, 30))
    picture.getexif()[0x0112] = 6  # the camera was turned: rotate clockwise to see it upright
    small = thumbnail(picture, (60, 60))
    assert small.size == (30, 60)
    assert (small.getpixel((15, 5)), small.getpixel((15, 55))) == (BLUE, RED)
    assert thumbnail(small, (60, 60)).size == (30, 60)


def test_a_thumbnail_never_enlarges() -> None:
    picture = Image.new("RGB", (30, 20), RED)
    assert thumbnail(picture, (300, 300)).size == (30, 20)
    assert thumbnail(picture, (3, 3)).size == (3, 2)
    assert picture.size == (30, 20)


def test_a_thumbnail_is_at_least_one_pixel_high() -> None:
    assert thumbnail(Image.new("RGB", (9000, 2)), (100, 100)).size == (100, 1)
