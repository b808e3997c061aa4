"""Which files are read as pictures, and that every other file is refused in the same clean way."""

from __future__ import annotations

import io
import random
import struct
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mipp_cli.errors import UnreadableImageError
from mipp_cli.images.grey_levels import exif_orientation
from mipp_cli.images.pictures import (
    COLOUR_DEPTH_LOST,
    PICTURE_SUFFIXES,
    extension,
    media_type,
    open_picture,
)
from mipp_cli.images.refusals import MAX_PIXELS

SIZE = (23, 17)


def photo(mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    if mode in ("RGBA", "LA"):
        image = image.convert(mode[:-1])
        image.putalpha(Image.linear_gradient("L").resize(SIZE))
        return image
    return image.quantize(16) if mode == "P" else image.convert(mode)


def deep_grey() -> Image.Image:
    samples = np.random.default_rng(2).integers(0, 65536, (SIZE[1], SIZE[0]), dtype=np.uint16)
    return Image.fromarray(samples)


def saved(image: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=file_format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, bits: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    body = b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + body


def png_of_16_bit_colour() -> bytes:
    rows = np.random.default_rng(3).integers(0, 256, (4, 1 + 5 * 6), dtype=np.uint8)
    rows[:, 0] = 0
    return png(5, 4, 16, 2, rows.tobytes())


ACCEPTED: dict[str, tuple[str, str, Callable[[], bytes]]] = {
    "jpeg": ("RGB", "image/jpeg", lambda: saved(photo(), "JPEG")),
    "jpeg-progressive": ("RGB", "image/jpeg", lambda: saved(photo(), "JPEG", progressive=True)),
    "jpeg-grey": ("L", "image/jpeg", lambda: saved(photo("L"), "JPEG")),
    "jpeg-cmyk": ("CMYK", "image/jpeg", lambda: saved(photo("CMYK"), "JPEG")),
    "jpeg-mpo": ("RGB", "image/jpeg", lambda: saved(photo(), "MPO", save_all=True, append_images=[photo()])),
    "png": ("RGB", "image/png", lambda: saved(photo(), "PNG")),
    "png-one-bit": ("1", "image/png", lambda: saved(photo("1"), "PNG")),
    "png-grey": ("L", "image/png", lambda: saved(photo("L"), "PNG")),
    "png-grey-16": ("I;16", "image/png", lambda: saved(deep_grey(), "PNG")),
    "png-colour-16": ("RGB", "image/png", png_of_16_bit_colour),
    "png-palette": ("P", "image/png", lambda: saved(photo("P"), "PNG")),
    "png-palette-transparent": ("P", "image/png", lambda: saved(photo("P"), "PNG", transparency=b"\0\x80")),
    "png-alpha": ("RGBA", "image/png", lambda: saved(photo("RGBA"), "PNG")),
    "png-grey-alpha": ("LA", "image/png", lambda: saved(photo("LA"), "PNG")),
    "tiff": ("RGB", "image/tiff", lambda: saved(photo(), "TIFF")),
    "tiff-lzw": ("RGB", "image/tiff", lambda: saved(photo(), "TIFF", compression="tiff_lzw")),
    "tiff-16": ("I;16", "image/tiff", lambda: saved(deep_grey(), "TIFF")),
    "tiff-float": ("F", "image/tiff", lambda: saved(photo("F"), "TIFF")),
    "bmp": ("RGB", "image/bmp", lambda: saved(photo(), "BMP")),
    "webp": ("RGB", "image/webp", lambda: saved(photo(), "WEBP")),
    "webp-lossless-alpha": ("RGBA", "image/webp", lambda: saved(photo("RGBA"), "WEBP", lossless=True)),
    "webp-animated": (
        "RGB",
        "image/webp",
        lambda: saved(photo(), "WEBP", save_all=True, append_images=[photo("L")]),
    ),
}

LOSSLESS = ["png", "png-alpha", "tiff", "tiff-lzw", "bmp", "webp-lossless-alpha"]


@pytest.mark.parametrize("name", ACCEPTED)
def test_every_accepted_kind_of_picture_is_decoded(name: str) -> None:
    mode, _, make = ACCEPTED[name]
    image = open_picture(make(), path=None)
    assert image.mode == mode
    assert np.asarray(image).size


@pytest.mark.parametrize("name", ACCEPTED)
def test_media_type_names_the_format_of_the_file(name: str) -> None:
    _, wanted, make = ACCEPTED[name]
    assert media_type(open_picture(make(), path=None)) == wanted


@pytest.mark.parametrize("name", LOSSLESS)
def test_pixels_of_a_lossless_file_come_back(name: str) -> None:
    mode, _, make = ACCEPTED[name]
    assert (np.asarray(open_picture(make(), path=None)) == np.asarray(photo(mode))).all()


def test_a_picture_of_no_file_has_a_media_type_too() -> None:
    assert media_type(Image.new("L", (1, 1))) == "application/octet-stream"


def test_every_media_type_has_its_extension() -> None:
    for _, kind, _ in ACCEPTED.values():
        assert extension(kind) in PICTURE_SUFFIXES


@pytest.mark.parametrize("unknown", ["text/plain", "", "application/octet-stream", "image/../../x"])
def test_an_unknown_media_type_has_the_extension_bin(unknown: str) -> None:
    assert extension(unknown) == ".bin"


REFUSED = {
    "empty": b"",
    "gif": saved(photo("P"), "GIF"),
    "ppm": saved(photo(), "PPM"),
    "text": b"this is no picture\n" * 20,
    "zeros": bytes(1000),
    "jpeg-start-only": b"\xff\xd8\xff",
    "png-signature-only": b"\x89PNG\r\n\x1a\n",
    "png-without-pixels": png(0, 5, 8, 0, b""),
    "webp-header-only": b"RIFF\x10\0\0\0WEBPVP8 ",
    "tiff-header-only": b"II*\0\x08\0\0\0",
    "bmp-header-only": b"BM" + bytes(30),
}


@pytest.mark.parametrize("name", REFUSED)
def test_anything_else_is_refused(name: str) -> None:
    with pytest.raises(UnreadableImageError) as caught:
        open_picture(REFUSED[name], path="album/a.jpg")
    assert caught.value.path == "album/a.jpg"
    assert caught.value.hint


@pytest.mark.parametrize(
    "name", ["jpeg", "png", "tiff", "tiff-lzw", "bmp", "webp", "jpeg-cmyk", "png-grey-16"]
)
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_file_cut_short_is_refused(name: str, kept: float) -> None:
    data = ACCEPTED[name][2]()
    with pytest.raises(UnreadableImageError):
        open_picture(data[: int(len(data) * kept)], path=None)


@pytest.mark.parametrize(
    ("width", "height"), [(2**31 - 1, 2**31 - 1), (20000, 20000), (MAX_PIXELS + 1, 1), (11586, 11586)]
)
def test_a_small_file_that_claims_too_many_pixels_is_refused(width: int, height: int) -> None:
    with pytest.raises(UnreadableImageError, match=f"limit is {MAX_PIXELS}"):
        open_picture(png(width, height, 8, 2, bytes(100)), path=None)


def test_a_compressed_text_that_swells_is_refused() -> None:
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**24)))
    with pytest.raises(UnreadableImageError):
        open_picture(png(1, 1, 8, 0, b"\0\0", text), path=None)


def test_the_reason_for_damage_is_one_printable_line() -> None:
    data = png(1, 1, 8, 0, b"\0\0", struct.pack(">I", 4) + b"\x1b[2J" + bytes(8))
    with pytest.raises(UnreadableImageError) as caught:
        open_picture(data, path=None)
    assert caught.value.message.isprintable()


def test_damaged_exif_data_do_not_spoil_a_picture() -> None:
    data = saved(photo(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(20))
    assert open_picture(data, path=None).size == SIZE


def test_a_loss_of_colour_depth_is_noted() -> None:
    assert COLOUR_DEPTH_LOST in open_picture(png_of_16_bit_colour(), path=None).info
    assert COLOUR_DEPTH_LOST not in open_picture(saved(deep_grey(), "PNG"), path=None).info


def test_a_file_cannot_claim_a_loss_of_colour_depth() -> None:
    data = png(1, 1, 8, 0, b"\0\0", chunk(b"tEXt", COLOUR_DEPTH_LOST.encode() + b"\0yes"))
    assert COLOUR_DEPTH_LOST not in open_picture(data, path=None).info


def test_warnings_of_the_decoder_are_not_shown() -> None:
    cut_short_exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0" + bytes(6)
    data = saved(photo(), "JPEG", exif=cut_short_exif)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        Image.open(io.BytesIO(data)).getexif()
        shown_by_pillow = len(seen)
        exif_orientation(open_picture(data, path=None))
    assert shown_by_pillow
    assert len(seen) == shown_by_pillow


def test_threads_reading_at_once_leave_one_warning_filter() -> None:
    files = [make() for _, _, make in ACCEPTED.values()] * 5
    open_picture(files[0], path=None)
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        sizes = [image.size for image in pool.map(lambda data: open_picture(data, path=None), files)]
    assert len(sizes) == len(files)
    assert list(warnings.filters) == before


@pytest.mark.parametrize("name", ACCEPTED)
def test_flipped_bytes_lead_to_a_picture_or_a_clean_refusal(name: str) -> None:
    original = ACCEPTED[name][2]()
    generator = random.Random(f"flip {name}")
    refused = 0
    for _ in range(150):
        data = bytearray(original)
        for _ in range(generator.choice([1, 1, 2, 5])):
            # Half of the flips go to the first 200 bytes: there the headers are.
            end = min(200, len(data)) if generator.random() < 0.5 else len(data)
            data[generator.randrange(end)] ^= generator.randrange(1, 256)
        try:
            open_picture(bytes(data), path=None)
        except UnreadableImageError:
            refused += 1
    assert refused


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.sampled_from(
        [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"BM", b"RIFF\0\0\0\0WEBP"]
    ),
    st.binary(max_size=300),
)
def test_random_bytes_give_a_picture_or_a_clean_refusal(start: bytes, rest: bytes) -> None:
    try:
        open_picture(start + rest, path=None)
    except UnreadableImageError as error:
        assert error.hint
