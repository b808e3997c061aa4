"""Which files are read as pictures, and that every other file is refused in the same clean way."""

from __future__ import annotations

import io
import random
import struct
import sys
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mipp_cli.descriptors.edge_histogram import edge_histogram
from mipp_cli.errors import UnreadableImageError
from mipp_cli.images.grey_levels import exif_orientation, turn_upright
from mipp_cli.images.kinds import KINDS
from mipp_cli.images.pictures import (
    extension,
    open_picture,
)
from mipp_cli.images.refusals import MAX_PIXELS
from mipp_cli.images.thumbnails import thumbnail
from mipp_cli.images.windowing import windowed
from tests.images.made_dicom import made, slice_of_body

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


def heic(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=-1)
    return buffer.getvalue()


def avif_of_10_bits() -> bytes:
    """Return an AVIF file that says it has 10 bits a sample, which is refused before it is decoded."""
    data = bytearray(saved(photo(), "AVIF"))
    data[data.index(b"av1C") + 6] |= 0x40
    return bytes(data)


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
    "gif": ("P", "image/gif", lambda: saved(photo("P"), "GIF")),
    "gif-animated": (
        "P",
        "image/gif",
        lambda: saved(photo("P"), "GIF", save_all=True, append_images=[photo("L")]),
    ),
    "avif": ("RGB", "image/avif", lambda: saved(photo(), "AVIF")),
    "jpeg-2000": ("RGB", "image/jp2", lambda: saved(photo(), "JPEG2000")),
    "jpeg-2000-grey-16": ("I;16", "image/jp2", lambda: saved(deep_grey(), "JPEG2000")),
    "jpeg-2000-codestream": ("RGB", "image/j2c", lambda: saved(photo(), "JPEG2000", no_jp2=True)),
    "heic": ("RGB", "image/heic", lambda: heic(photo())),
}

LOSSLESS = ["png", "png-alpha", "tiff", "tiff-lzw", "bmp", "webp-lossless-alpha"]


@pytest.mark.parametrize("name", ACCEPTED)
def test_every_accepted_kind_of_picture_is_decoded(name: str) -> None:
    mode, _, make = ACCEPTED[name]
    picture = open_picture(make(), path=None)
    assert picture.stored().mode == mode
    assert picture.eight_bits().mode in ("L", "RGB")
    assert picture.eight_bits().size == (picture.facts.width, picture.facts.height) == SIZE
    assert not picture.flat


@pytest.mark.parametrize("name", ACCEPTED)
def test_media_type_names_the_format_of_the_file(name: str) -> None:
    _, wanted, make = ACCEPTED[name]
    assert open_picture(make(), path="a.dcm").kind.media_type == wanted


@pytest.mark.parametrize("name", LOSSLESS)
def test_pixels_of_a_lossless_file_come_back(name: str) -> None:
    mode, _, make = ACCEPTED[name]
    assert (np.asarray(open_picture(make(), path=None).stored()) == np.asarray(photo(mode))).all()


def test_every_media_type_has_its_extension() -> None:
    for kind in KINDS:
        assert extension(kind.media_type) == kind.extension


@pytest.mark.parametrize("unknown", ["text/plain", "", "application/octet-stream", "image/../../x"])
def test_an_unknown_media_type_has_the_extension_bin(unknown: str) -> None:
    assert extension(unknown) == ".bin"


REFUSED = {
    "empty": b"",
    "png-colour-16": png_of_16_bit_colour(),
    "avif-10-bit": avif_of_10_bits(),
    "gif-header-only": b"GIF89a\x05\0\x05\0",
    "heic-header-only": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "jpeg-2000-signature-only": b"\0\0\0\x0cjP  \r\n\x87\n",
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
    "name",
    ["jpeg", "png", "tiff", "tiff-lzw", "bmp", "webp", "jpeg-cmyk", "png-grey-16", "gif", "avif", "heic"],
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


def test_a_compressed_text_that_swells_is_passed_over() -> None:
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**24)))
    picture = open_picture(png(1, 1, 8, 0, b"\0\7", text), path=None)
    assert picture.stored().getpixel((0, 0)) == 7
    assert "Comment" not in picture.stored().info


def test_the_reason_for_damage_is_one_printable_line() -> None:
    data = png(1, 1, 8, 0, b"\0\0", struct.pack(">I", 4) + b"\x1b[2J" + bytes(8))
    with pytest.raises(UnreadableImageError) as caught:
        open_picture(data, path=None)
    assert caught.value.message.isprintable()


def test_damaged_exif_data_do_not_spoil_a_picture() -> None:
    data = saved(photo(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(20))
    assert open_picture(data, path=None).stored().size == SIZE


@pytest.mark.parametrize("name", ["png-colour-16", "avif-10-bit"])
def test_colours_that_lose_their_depth_are_refused(name: str) -> None:
    with pytest.raises(UnreadableImageError, match="depth"):
        open_picture(REFUSED[name], path=None)


def test_deep_colours_of_jpeg_2000_are_refused() -> None:
    data = bytearray(saved(photo(), "JPEG2000"))
    data[data.index(b"\xff\x4f\xff\x51") + 42] = 11  # bits of the first channel, less one
    with pytest.raises(UnreadableImageError, match="depth"):
        open_picture(bytes(data), path=None)


def test_deep_colours_of_heic_are_windowed() -> None:
    grey = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    deep = np.stack([grey, grey // 2, grey[::-1]], axis=-1)
    buffer = io.BytesIO()
    pillow_heif.encode("RGB;16", (64, 64), deep.tobytes(), buffer, quality=-1)
    picture = open_picture(buffer.getvalue(), path=None)
    assert picture.facts.bits > 8
    assert abs(np.asarray(picture.eight_bits()).astype(int) - windowed(deep).levels).mean() < 3
    with pytest.raises(UnreadableImageError, match="pixel payload"):
        picture.stored()


@pytest.mark.parametrize(
    ("name", "bits"),
    [("png-one-bit", 1), ("png", 8), ("tiff-16", 16), ("jpeg-2000-grey-16", 16), ("tiff-float", 32)],
)
def test_the_bits_of_a_sample_are_known(name: str, bits: int) -> None:
    assert open_picture(ACCEPTED[name][2](), path=None).facts.bits == bits


@pytest.mark.parametrize("name", ["png-grey-16", "tiff-16", "jpeg-2000-grey-16", "tiff-float"])
def test_deep_grey_is_shown_as_it_is_compared(name: str) -> None:
    picture = open_picture(ACCEPTED[name][2](), path=None)
    assert (np.asarray(picture.shown) == windowed(np.asarray(picture.stored())).levels).all()
    assert (np.asarray(picture.eight_bits()) == np.asarray(picture.shown)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_grey_is_turned_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = open_picture(saved(deep_grey(), "PNG", exif=exif), path=None)
    wanted = turn_upright(windowed(np.asarray(deep_grey())).levels, orientation)
    assert (np.asarray(picture.eight_bits()) == wanted).all()
    assert (picture.facts.height, picture.facts.width) == wanted.shape
    assert thumbnail(picture.shown, SIZE).size == thumbnail(picture.eight_bits(), SIZE).size


def white_is_zero(samples: np.ndarray, bits: int, sample_format: int) -> bytes:
    """Return a TIFF file of grey samples, in which it is said that white is zero."""
    entries = [(256, 4, SIZE[0]), (257, 4, SIZE[1]), (258, 3, bits), (259, 3, 1), (262, 3, 0), (273, 4, 0)]
    entries += [(277, 3, 1), (278, 4, SIZE[1]), (279, 4, samples.nbytes), (339, 3, sample_format)]
    start = 8 + 2 + 12 * len(entries) + 4
    out = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    for tag, kind, value in entries:
        out += struct.pack("<HHII", tag, kind, 1, start if tag == 273 else value)
    return out + struct.pack("<I", 0) + samples.tobytes()


def test_where_white_is_zero_samples_are_inverted() -> None:
    bright = np.asarray(deep_grey())
    deep = open_picture(white_is_zero(65535 - bright, 16, 1), path=None)
    assert (np.asarray(deep.stored()) == bright).all()
    assert (np.asarray(deep.eight_bits()) == windowed(bright).levels).all()
    plain = open_picture(white_is_zero((255 - (bright >> 8)).astype(np.uint8), 8, 1), path=None)
    assert (np.asarray(plain.stored()) == bright >> 8).all()
    floats = open_picture(white_is_zero(-bright.astype("<f4"), 32, 3), path=None)
    assert (np.asarray(floats.eight_bits()) == windowed(bright).levels).all()


@pytest.mark.parametrize(
    "image", [Image.new("L", (9, 9), 7), Image.new("RGB", (9, 9), (1, 2, 3)), Image.new("I;16", (9, 9), 700)]
)
def test_a_constant_picture_is_flat(image: Image.Image) -> None:
    assert open_picture(saved(image, "PNG"), path=None).flat


def test_a_dicom_file_is_a_picture_like_others() -> None:
    samples = slice_of_body()
    picture = open_picture(made(samples), path="IM0001")
    assert (picture.kind.name, picture.facts.bits) == ("DICOM", 16)
    assert (np.asarray(picture.eight_bits()) == windowed(samples).levels).all()
    assert (np.asarray(picture.stored()) == samples.astype(int) + 2**15).all()
    assert edge_histogram(picture.eight_bits()).any()


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, packages, data in (
        ("pydicom", "pydicom python-gdcm", made(slice_of_body())),
        ("pillow_heif", "pillow-heif", heic(photo())),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(UnreadableImageError) as caught:
            open_picture(data, path="a")
        assert (caught.value.path, caught.value.hint) == ("a", f"pip install {packages}")


def test_warnings_of_the_decoder_are_not_shown() -> None:
    cut_short_exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0" + bytes(6)
    data = saved(photo(), "JPEG", exif=cut_short_exif)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        Image.open(io.BytesIO(data)).getexif()
        shown_by_pillow = len(seen)
        exif_orientation(open_picture(data, path=None).stored())
    assert shown_by_pillow
    assert len(seen) == shown_by_pillow


def test_threads_reading_at_once_leave_one_warning_filter() -> None:
    files = [make() for _, _, make in ACCEPTED.values()] * 5
    open_picture(files[0], path=None)
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        sizes = [
            picture.facts.width for picture in pool.map(lambda data: open_picture(data, path=None), files)
        ]
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
            open_picture(bytes(data), path=None).eight_bits()
        except UnreadableImageError:
            refused += 1
    assert refused


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.sampled_from(
        [
            b"",
            b"\xff\xd8\xff",
            b"\0\0\0\x10ftypheic",
            b"\0\0\0\x10ftypavif",
            b"\xff\x4f\xff\x51",
            b"GIF89a",
            b"\x89PNG\r\n\x1a\n",
            b"II*\0",
            b"MM\0*",
            b"BM",
            b"RIFF\0\0\0\0WEBP",
        ]
    ),
    st.binary(max_size=300),
)
def test_random_bytes_give_a_picture_or_a_clean_refusal(start: bytes, rest: bytes) -> None:
    try:
        open_picture(start + rest, path=None)
    except UnreadableImageError as error:
        assert error.hint
