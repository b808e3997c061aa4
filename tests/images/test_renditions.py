"""What a browser is given of a picture: copies where it would show nothing or little, and none elsewhere."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mipp_cli.errors import UnreadableImageError
from mipp_cli.images.pictures import open_picture
from mipp_cli.images.renditions import jpeg, looks_best_on_black, render
from tests.support.deployment import picture, png_bomb

SIZE = (320, 240)
ORIENTATION = 0x0112


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("JPEG", "RGB"),
        ("JPEG", "L"),
        ("JPEG", "CMYK"),
        ("PNG", "L"),
        ("PNG", "P"),
        ("PNG", "RGBA"),
        ("WEBP", "RGB"),
        ("BMP", "RGB"),
    ],
)
def test_what_browsers_show_has_no_copy(kind: str, mode: str) -> None:
    shown = render(encoded(picture(1, mode=mode), kind), f"image/{kind.lower()}", SIZE)
    assert shown is not None and shown.large is None
    assert shown.small.mode == "RGB" and shown.full_size == (88, 72)


@pytest.mark.parametrize(("kind", "mode"), [("TIFF", "RGB"), ("TIFF", "I;16"), ("PNG", "I;16")])
def test_what_browsers_do_not_show_has_a_copy_as_large(kind: str, mode: str) -> None:
    shown = render(encoded(picture(1, mode=mode), kind), f"image/{kind.lower()}", SIZE)
    assert shown is not None and shown.large is not None
    with Image.open(io.BytesIO(shown.large)) as copy:
        assert (copy.format, copy.size, copy.mode) == ("JPEG", (88, 72), "RGB")


def test_the_copy_of_deep_greys_uses_all_levels() -> None:
    deep = Image.fromarray(np.linspace(1000, 1400, 64 * 64).reshape(64, 64).astype(np.uint16))
    shown = render(encoded(deep, "PNG"), "image/png", SIZE)
    assert shown is not None and shown.large is not None
    with Image.open(io.BytesIO(shown.large)) as copy:
        low, high = copy.convert("L").getextrema()
    assert low < 8 and high > 247


def test_a_copy_has_4096_pixels_a_side_at_most() -> None:
    shown = render(encoded(Image.new("L", (9000, 30), 90), "TIFF"), "image/tiff", SIZE)
    assert shown is not None and shown.large is not None and shown.full_size == (9000, 30)
    with Image.open(io.BytesIO(shown.large)) as copy:
        assert copy.size == (3000, 10)


def test_a_picture_under_a_false_suffix_has_a_copy_as_large() -> None:
    content = encoded(picture(1, size=(2000, 1600)), "JPEG")
    for said in ("image/png", "text/html", "image/svg+xml", ""):
        shown = render(content, said, (32, 32))
        assert shown is not None and shown.large is not None and shown.full_size == (2000, 1600)
        with Image.open(io.BytesIO(shown.large)) as copy:
            assert copy.size == (2000, 1600)


@pytest.mark.parametrize("content", [b"", b"<svg onload='alert(1)'/>", png_bomb(), b"\xff\xd8\xff"], ids=len)
def test_what_is_no_picture_is_not_rendered(content: bytes) -> None:
    assert render(content, "image/png", SIZE) is None


def test_a_picture_on_its_side_is_stood_upright() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    content = encoded(picture(1, size=(1600, 800)), "JPEG", exif=exif)
    shown = render(content, "image/jpeg", (40, 40))
    assert shown is not None
    assert (shown.small.size, shown.full_size) == ((20, 40), (800, 1600))


def test_the_small_copy_keeps_proportions_and_is_never_larger() -> None:
    for size, small in (((1000, 500), (320, 160)), ((500, 1000), (120, 240)), ((40, 30), (40, 30))):
        shown = render(encoded(picture(2, size=size), "JPEG"), "image/jpeg", SIZE)
        assert shown is not None and shown.small.size == small


def test_a_small_copy_from_a_fraction_looks_like_one_from_all() -> None:
    image = picture(5, size=(1600, 1200))
    by_fraction = render(encoded(image, "JPEG", quality=95), "image/jpeg", (160, 120))
    from_all = render(encoded(image, "PNG"), "image/png", (160, 120))
    assert by_fraction is not None and from_all is not None
    apart = np.abs(np.asarray(by_fraction.small, int) - np.asarray(from_all.small, int))
    assert apart.mean() < 4


# Opening at a fraction.


def test_a_jpeg_is_decoded_at_a_fraction_that_is_large_enough() -> None:
    content = encoded(picture(1, size=(1600, 1200)), "JPEG")
    for at_least, size in (((100, 100), (200, 150)), ((201, 100), (400, 300)), ((1600, 1), (1600, 1200))):
        opened = open_picture(content, path=None, at_least=at_least)
        assert opened.shown.size == size
        assert (opened.facts.width, opened.facts.height) == (1600, 1200)


def test_other_formats_are_decoded_whole() -> None:
    opened = open_picture(encoded(picture(1), "PNG"), path=None, at_least=(8, 8))
    assert opened.shown.size == (opened.facts.width, opened.facts.height) == (88, 72)


def test_a_jpeg_that_is_cut_short_is_found_at_a_fraction_too() -> None:
    content = encoded(picture(1, size=(1600, 1200)), "JPEG")
    with pytest.raises(UnreadableImageError, match="damaged or cut short"):
        open_picture(content[: len(content) // 2], path=None, at_least=(8, 8))


# The file that the page holds, and its ground.


def test_a_small_file_holds_no_metadata() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a patient's name"
    image = open_picture(encoded(picture(1), "JPEG", exif=exif, comment=b"secret"), path=None)
    file = jpeg(image.shown.convert("RGB"))
    assert b"patient" not in file and b"secret" not in file


@pytest.mark.parametrize(
    "colour",
    [(0, 0, 0), (255, 255, 255), (128, 130, 127), (20, 40, 10)],
)
def test_grey_and_dark_pictures_lie_on_black(colour: tuple[int, int, int]) -> None:
    assert looks_best_on_black(Image.new("RGB", (30, 20), colour))


def test_colours_with_a_bright_edge_do_not_lie_on_black() -> None:
    assert not looks_best_on_black(Image.new("RGB", (30, 20), (200, 90, 90)))


def test_a_single_pixel_has_a_ground() -> None:
    assert looks_best_on_black(Image.new("RGB", (1, 1)))
