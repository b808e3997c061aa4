"""The pixel payload gives every pixel back as a PNG file, and refuses what it cannot hold."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from mipp_cli.errors import UnreadableImageError
from mipp_cli.images.pictures import open_picture
from mipp_cli.images.pixels import png_of_pixels

MODES = ("1", "L", "LA", "RGB", "RGBA", "I;16")


def drawn(mode: str, width: int = 13, height: int = 7, seed: int = 0) -> Image.Image:
    generator = np.random.default_rng(seed)
    if mode == "1":
        return Image.fromarray(generator.random((height, width)) < 0.5)
    if mode == "I;16":
        return Image.fromarray(generator.integers(0, 65536, (height, width), dtype=np.uint16))
    bands = len(mode)
    pixels = generator.integers(0, 256, (height, width, bands), dtype=np.uint8)
    return Image.merge(mode, [Image.fromarray(pixels[:, :, band].copy()) for band in range(bands)])


def round_trip(image: Image.Image) -> Image.Image:
    return open_picture(png_of_pixels(image), path=None).stored()


@pytest.mark.parametrize("mode", MODES)
def test_every_lossless_mode_comes_back_pixel_for_pixel(mode: str) -> None:
    image = drawn(mode)
    result = round_trip(image)
    assert result.mode == mode
    assert result.format == "PNG"
    assert (np.asarray(result) == np.asarray(image)).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.sampled_from(MODES), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_every_size_comes_back_pixel_for_pixel(mode: str, width: int, height: int, seed: int) -> None:
    image = drawn(mode, width, height, seed)
    result = round_trip(image)
    assert result.size == (width, height)
    assert (np.asarray(result) == np.asarray(image)).all()


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i4"])
def test_16_bit_grey_of_any_byte_order_comes_back(dtype: str) -> None:
    samples = np.random.default_rng(1).integers(0, 65536, (7, 13))
    assert (np.asarray(round_trip(Image.fromarray(samples.astype(dtype)))) == samples).all()


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "I;16"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(mode: str, orientation: int) -> None:
    image = drawn(mode)
    image.getexif()[0x0112] = orientation
    wanted = ImageOps.exif_transpose(image)
    result = round_trip(image)
    assert result.size == wanted.size
    assert (np.asarray(result) == np.asarray(wanted)).all()


def test_a_turned_palette_becomes_turned_colours() -> None:
    palette = drawn("RGB").quantize(16)
    palette.getexif()[0x0112] = 6
    wanted = ImageOps.exif_transpose(palette).convert("RGB")
    assert (np.asarray(round_trip(palette)) == np.asarray(wanted)).all()


def test_a_palette_becomes_its_colours() -> None:
    palette = drawn("RGB").quantize(16)
    result = round_trip(palette)
    assert result.mode == "RGB"
    assert (np.asarray(result) == np.asarray(palette.convert("RGB"))).all()


@pytest.mark.parametrize("transparency", [3, bytes(range(0, 256, 16))])
def test_a_palette_with_transparency_keeps_it_as_alpha(transparency: Any) -> None:
    palette = drawn("RGB").quantize(16)
    palette.info["transparency"] = transparency
    result = round_trip(palette)
    assert result.mode == "RGBA"
    assert (np.asarray(result) == np.asarray(palette.convert("RGBA"))).all()
    assert np.asarray(result)[:, :, 3].min() < 255


@pytest.mark.parametrize(
    ("mode", "transparency", "wanted"), [("1", 255, "LA"), ("L", 77, "LA"), ("RGB", (1, 2, 3), "RGBA")]
)
def test_a_transparent_colour_becomes_an_alpha_channel(mode: str, transparency: Any, wanted: str) -> None:
    image = Image.new(mode, (3, 2), 0)
    image.putpixel((1, 0), transparency)
    image.info["transparency"] = transparency
    result = round_trip(image)
    assert result.mode == wanted
    assert np.asarray(result)[:, :, -1].tolist() == [[255, 0, 255], [255, 255, 255]]


def test_cmyk_becomes_rgb() -> None:
    image = drawn("CMYK")
    result = round_trip(image)
    assert result.mode == "RGB"
    assert (np.asarray(result) == np.asarray(image.convert("RGB"))).all()


@pytest.mark.parametrize("mode", ["F", "YCbCr", "LAB", "HSV"])
def test_a_mode_that_a_png_cannot_hold_is_refused(mode: str) -> None:
    with pytest.raises(UnreadableImageError, match=mode) as caught:
        png_of_pixels(Image.new(mode, (3, 2)))
    assert "file" in (caught.value.hint or "")


@pytest.mark.parametrize("level", [-1, 65536])
def test_grey_levels_beyond_16_bits_are_refused(level: int) -> None:
    with pytest.raises(UnreadableImageError, match="65535"):
        png_of_pixels(Image.new("I", (3, 2), level))


def test_16_bit_grey_with_a_transparent_level_is_refused() -> None:
    image = drawn("I;16")
    image.info["transparency"] = 5
    with pytest.raises(UnreadableImageError, match="transparent"):
        png_of_pixels(image)


def tiff_of_16_bit_colour() -> bytes:
    samples = np.random.default_rng(2).integers(0, 65536, (4, 5, 3), dtype=np.uint16)
    after_directory = 8 + 2 + 9 * 12 + 4
    entries = [  # tag, type (3 for 16, 4 for 32 bits), count, value or where it lies
        (256, 4, 1, 5),
        (257, 4, 1, 4),
        (258, 3, 3, after_directory),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, after_directory + 6),
        (277, 3, 1, 3),
        (278, 4, 1, 4),
        (279, 4, 1, samples.nbytes),
    ]
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + directory + bytes(4)
    return head + struct.pack("<HHH", 16, 16, 16) + samples.astype("<u2").tobytes()


def test_16_bit_colour_is_refused_because_reading_cuts_it() -> None:
    with pytest.raises(UnreadableImageError, match="depth"):
        open_picture(tiff_of_16_bit_colour(), path=None)


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (1_000_001, 1)])
def test_a_size_that_a_png_cannot_have_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UnreadableImageError, match="limit"):
        png_of_pixels(Image.new("1", size))


def test_nothing_but_the_pixels_is_in_the_file() -> None:
    image = drawn("RGB")
    exif = image.getexif()
    exif[0x010E], exif[0x0112] = "Jane Doe", 6
    words = PngInfo()
    words.add_text("Patient", "Jane Doe")
    memory = io.BytesIO()
    image.save(memory, "PNG", exif=exif, pnginfo=words, icc_profile=b"Jane Doe", dpi=(72, 72))
    png = png_of_pixels(open_picture(memory.getvalue(), path=None).stored())
    chunks, at = [], 8
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        chunks.append(kind)
        at += 12 + length
    assert b"Jane" in memory.getvalue()
    assert set(chunks) == {b"IHDR", b"IDAT", b"IEND"}


def test_equal_pictures_make_equal_files() -> None:
    assert png_of_pixels(drawn("RGB")) == png_of_pixels(drawn("RGB"))
