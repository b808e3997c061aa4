"""Pictures as their formats mean them where a decoder leaves something undone; known by made values."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from mipp_cli.errors import UnreadableImageError
from mipp_cli.images.pictures import open_picture
from mipp_cli.images.thumbnails import NEUTRAL_GROUND, thumbnail
from mipp_cli.images.windowing import windowed
from tests.images.test_pictures import chunk, png, saved

WIDTH, HEIGHT = 48, 32
Y, X = np.mgrid[0:HEIGHT, 0:WIDTH]
SHADES = (np.sin(X / 7) + np.cos(Y / 5 + X / 30)) / 4 + 0.5
"""A smooth picture, 0…1."""
GREY = (SHADES * 255).astype(np.uint8)
TURNED = 6  # the EXIF orientation of what is turned a quarter to the left
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="r"><rdf:Description '
    b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)

Entry = tuple[int, Sequence[int]]
CODES = {1: "B", 3: "H", 4: "I"}


def page(data: bytes, at: int, order: str, tags: dict[int, Entry]) -> bytes:
    """Return a page of a TIFF file that begins ``at`` some place in it: its tags, their values, its data."""
    lists = at + 2 + 12 * len(tags) + 4
    body, entries = b"", struct.pack(f"{order}H", len(tags))
    strip = lists + sum(len(v) * struct.calcsize(CODES[kind]) for kind, v in tags.values() if len(v) > 1)
    for tag, (kind, values) in sorted(tags.items()):
        shown = (strip,) if tag == 273 else values
        packed = struct.pack(f"{order}{len(shown)}{CODES[kind]}", *shown)
        if len(shown) > 1:
            packed, body = struct.pack(f"{order}I", lists + len(body)), body + packed
        entries += struct.pack(f"{order}HHI", tag, kind, len(shown)) + packed.ljust(4, b"\0")
    return entries + b"\0NXT" + body + data


def tiff(
    samples: NDArray[np.generic] | bytes,
    bits: Sequence[int],
    photometric: int,
    *,
    sample_format: int = 1,
    order: str = "<",
    compressed: bool = False,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    more: dict[int, Entry] | None = None,
    at: int = 8,
) -> bytes:
    """Return a TIFF file of one strip; or without its header, if ``at`` is no start of a file."""
    data = samples if isinstance(samples, bytes) else samples.tobytes()
    data = zlib.compress(data) if compressed else data
    values: dict[int, Entry] = {
        256: (4, [size[0]]),
        257: (4, [size[1]]),
        258: (3, bits),
        259: (3, [8 if compressed else 1]),
        262: (3, [photometric]),
        273: (4, [0]),
        277: (3, [len(bits)]),
        278: (4, [size[1]]),
        279: (4, [len(data)]),
        339: (3, [sample_format] * len(bits)),
        **(more or {}),
    }
    made = page(data, at, order, values)
    if at != 8:
        return made.replace(b"\0NXT", bytes(4), 1)
    name = b"II" if order == "<" else b"MM"
    return struct.pack(f"{order}2sHI", name, 42, 8) + made.replace(b"\0NXT", bytes(4), 1)


def levels(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(open_picture(data, path=None).eight_bits())


def deep(kind: str) -> NDArray[np.generic]:
    """Return the shades in all the range that a type has."""
    if kind[0] == "f":
        return (SHADES * 1000 - 300).astype(kind)
    span = np.iinfo(kind)
    return (SHADES * (float(span.max) - float(span.min)) * 0.999 + float(span.min)).astype(kind)


FORMATS = {"u": 1, "i": 2, "f": 3}


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "deflate"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["u2", "i2", "u4", "i4", "f4"])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_deep_samples_of_tiff(kind: str, order: str, compressed: bool, white_is_zero: bool) -> None:
    samples = deep(kind)
    stored = (-samples if kind == "f4" else ~samples) if white_is_zero else samples
    data = tiff(
        stored.astype(order + kind),
        [8 * samples.itemsize],
        int(not white_is_zero),
        sample_format=FORMATS[kind[0]],
        order=order,
        compressed=compressed,
    )
    assert (levels(data) == windowed(samples).levels).all()
    assert open_picture(data, path=None).facts.bits == 8 * samples.itemsize


def test_signed_bytes_of_tiff_are_raised() -> None:
    data = tiff((GREY.astype(int) - 128).astype(np.int8), [8], 1, sample_format=2)
    assert (levels(data) == GREY).all()
    assert (np.asarray(open_picture(data, path=None).stored()) == GREY).all()


def packed(samples: NDArray[np.integer], bits: int, *, reversed_bits: bool = False) -> bytes:
    places = np.arange(bits - 1, -1, -1)
    ones = ((samples.astype(int)[..., None] >> places) & 1).astype(np.uint8).reshape(HEIGHT, -1)
    return np.packbits(ones, axis=1, bitorder="little" if reversed_bits else "big").tobytes()


@pytest.mark.parametrize("reversed_bits", [False, True])
@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_packed_bits_of_tiff(bits: int, photometric: int, reversed_bits: bool) -> None:
    most = 2**bits - 1
    samples = (SHADES * 1.2 * most).clip(0, most).astype(int)
    stored = samples if photometric else most - samples
    data = packed(stored, bits, reversed_bits=reversed_bits)
    file = tiff(data, [bits], photometric, more={266: (3, [2 if reversed_bits else 1])})
    assert (levels(file) == samples * 255 // most).all()
    assert open_picture(file, path=None).facts.bits == bits


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("photometric", [0, 1])
def test_twelve_packed_bits_of_tiff(photometric: int, order: str) -> None:
    samples = (SHADES * 4095).astype(int)
    file = tiff(packed(samples if photometric else 4095 - samples, 12), [12], photometric, order=order)
    picture = open_picture(file, path=None)
    assert picture.facts.bits == 12
    assert (np.asarray(picture.stored()) == samples).all()


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("compressed", [False, True])
def test_deep_colours_of_tiff_are_refused(planar: bool, compressed: bool) -> None:
    colours = np.stack([deep("u2")] * 3, axis=0 if planar else -1)
    more: dict[int, Entry] = {284: (3, [2])} if planar else {}
    if planar:
        size = colours.nbytes // 3
        more |= {273: (4, [0, 0, 0]), 279: (4, [size] * 3)}
    file = tiff(colours.astype("<u2"), [16] * 3, 2, compressed=compressed, more=more)
    with pytest.raises(UnreadableImageError, match="depth"):
        open_picture(file, path=None)


def test_subsampled_colours_of_tiff_are_not_called_damaged() -> None:
    file = tiff(bytes(WIDTH * HEIGHT * 3 // 2), [8] * 3, 6, more={530: (3, [2, 2])})
    with pytest.raises(UnreadableImageError, match="uncompressed subsampled colours"):
        open_picture(file, path=None)


@pytest.mark.parametrize("role", [1, 4, 5])
def test_a_small_copy_is_not_taken_for_the_picture(role: int) -> None:
    first = bytearray(tiff(GREY[::4, ::4], [8], 1, size=(12, 8), more={254: (4, [role])}))
    end = len(first) + len(first) % 2
    next_page = 8 + 2 + 12 * 11
    first[next_page : next_page + 4] = struct.pack("<I", end)
    file = bytes(first).ljust(end, b"\0") + tiff(GREY, [8], 1, at=end)
    assert (levels(file) == GREY).all()
    assert (
        levels(bytes(first[:next_page]) + bytes(4) + bytes(first[next_page + 4 :])) == GREY[::4, ::4]
    ).all()


def test_a_quarter_turn_said_in_xmp_is_taken_once() -> None:
    stored = Image.fromarray(GREY).transpose(Image.Transpose.ROTATE_90)
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
    in_tiff = tiff(np.asarray(stored), [8], 1, size=stored.size, more={700: (1, list(XMP))})
    for data in (
        in_tiff,
        saved(stored, "PNG", pnginfo=texts),
        saved(stored, "JPEG", xmp=XMP, quality=100),
        saved(stored.convert("RGB"), "WEBP", xmp=XMP, quality=100),
    ):
        picture = open_picture(data, path=None)
        assert (picture.facts.width, picture.facts.height) == (WIDTH, HEIGHT)
        shown = np.asarray(picture.eight_bits().convert("L"), int)
        assert np.abs(shown - GREY).mean() < 3
        assert thumbnail(picture.shown, (WIDTH, HEIGHT)).size == (WIDTH, HEIGHT)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF", "WEBP", "AVIF"])
def test_a_quarter_turn_said_in_exif_is_taken_once(file_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = TURNED
    stored = Image.fromarray(GREY).transpose(Image.Transpose.ROTATE_90).convert("RGB")
    picture = open_picture(saved(stored, file_format, exif=exif), path=None)
    assert (picture.facts.width, picture.facts.height) == (WIDTH, HEIGHT)
    assert np.abs(np.asarray(picture.eight_bits().convert("L"), int) - GREY).mean() < 6


LARGE_TEXTS = {
    "profile": chunk(b"iCCP", b"x\0\0" + zlib.compress(os.urandom(1 << 20) + bytes(1 << 20))),
    "compressed": chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2 << 20))),
    "international": chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(2 << 20))),
    "plain": chunk(b"tEXt", b"a\0" + bytes(66 << 20)),
}


@pytest.mark.parametrize("name", LARGE_TEXTS)
@pytest.mark.parametrize("after", [False, True])
def test_what_a_png_says_beside_its_pixels_may_be_long(name: str, after: bool) -> None:
    plain = saved(Image.fromarray(GREY), "PNG")
    place = len(plain) - 12 if after and name != "profile" else 33
    assert (levels(plain[:place] + LARGE_TEXTS[name] + plain[place:]) == GREY).all()


def test_a_turn_in_xmp_outlives_a_large_profile() -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
    stored = Image.fromarray(GREY).transpose(Image.Transpose.ROTATE_90)
    data = saved(stored, "PNG", pnginfo=texts)
    assert (levels(data[:33] + LARGE_TEXTS["profile"] + data[33:]) == GREY).all()


def test_inverted_inks_of_jpeg_with_and_without_a_marker() -> None:
    """Photoshop stores inks inverted; YCCK is what Adobe's marker says with transform 2."""
    inks = Image.fromarray(GREY).convert("RGB").convert("CMYK")
    marked = saved(inks, "JPEG", quality=100, subsampling=0)
    assert np.abs(levels(marked).mean(-1) - GREY).mean() < 3
    cyan, magenta, yellow, black = inks.split()
    luma = Image.merge("RGB", (cyan, magenta, yellow)).convert("YCbCr")
    stored = Image.merge("CMYK", (*(band.point(lambda v: 255 - v) for band in luma.split()), black))
    ycck = bytearray(saved(stored, "JPEG", quality=100, subsampling=0))
    ycck[ycck.index(b"Adobe") + 11] = 2
    assert np.corrcoef(levels(bytes(ycck)).mean(-1).ravel(), GREY.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "GIF", "AVIF", "TIFF"])
def test_of_several_frames_the_first_is_taken(file_format: str) -> None:
    first, second = Image.fromarray(GREY).convert("RGB"), Image.fromarray(255 - GREY).convert("RGB")
    data = saved(first, file_format, save_all=True, append_images=[second])
    assert np.abs(levels(data).mean(-1) - GREY).mean() < 6


def test_transparency_shows_the_ground_and_hides_nothing() -> None:
    picture = Image.fromarray(GREY).convert("RGBA")
    picture.putalpha(Image.new("L", picture.size, 0))
    opened = open_picture(saved(picture, "PNG"), path=None)
    assert (np.asarray(opened.eight_bits()) == GREY[..., None]).all()
    assert thumbnail(opened.shown, (WIDTH, HEIGHT)).getpixel((5, 5)) == NEUTRAL_GROUND


def test_deep_grey_with_alpha_is_refused_as_a_depth() -> None:
    both = np.stack([deep("u2"), np.full_like(deep("u2"), 65535)], -1).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in both)
    with pytest.raises(UnreadableImageError, match="depth"):
        open_picture(png(WIDTH, HEIGHT, 16, 4, rows), path=None)


def test_gamma_is_not_applied() -> None:
    plain = saved(Image.fromarray(GREY), "PNG")
    assert (levels(plain[:33] + chunk(b"gAMA", struct.pack(">I", 100_000)) + plain[33:]) == GREY).all()
