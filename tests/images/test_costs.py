"""What a stranger's picture may cost: bounded memory for each kind, and no more steps than its size tells."""

from __future__ import annotations

import io
import logging
import math
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSLossless

from mipp_cli.errors import UnreadableImageError
from mipp_cli.images import kinds
from mipp_cli.images.kinds import Kind
from mipp_cli.images.pictures import open_picture
from mipp_cli.images.refusals import SHOWN_BYTES
from mipp_cli.images.renditions import render
from tests.images.made_dicom import compressed, header_of, made, recompressed, table
from tests.images.test_pictures import chunk, png, saved

PROMISED = 500_000_000
"""Bytes that a process takes at most in which a picture is shown, beside the picture's file."""
ASIDE = 100_000_000
"""And what a second process takes by itself, in which compressed frames of DICOM files are decoded."""

_SHOW = """
import sys
from pathlib import Path
from mipp_cli.images import dicom_frames
from mipp_cli.images.renditions import render

def peak(process):
    status = Path(f"/proc/{process}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])

content = Path(sys.argv[1]).read_bytes()
for _ in range(int(sys.argv[3])):
    shown = render(content, sys.argv[2], (320, 240))
aside = dicom_frames._ASIDE._process
print(shown is not None, peak("self") - len(content) + (peak(aside.pid) if aside else 0))
"""


def ramp(mode: str, pixels: float) -> Image.Image:
    """Return a square picture of so many pixels, whose rows get brighter."""
    side = math.isqrt(int(pixels))
    rows = np.repeat((np.arange(side) * 250 // side).astype(np.uint8)[:, None], side, axis=1)
    if mode == "I;16":
        return Image.fromarray(rows.astype(np.uint16) * 200)
    grey = Image.fromarray(rows)
    return Image.fromarray(rows.astype(np.float32)) if mode == "F" else grey.convert(mode)


def streamed_png(bits: int, colour: int, bytes_a_pixel: int, pixels: float, *extra: bytes) -> bytes:
    side = math.isqrt(int(pixels))
    rows = b"".join(b"\0" + bytes([row * 250 // side]) * (side * bytes_a_pixel) for row in range(side))
    return png(side, side, bits, colour, rows, *extra)


def palette() -> bytes:
    return chunk(b"PLTE", bytes(256) * 3) + chunk(b"tRNS", bytes(range(256)))


def in_one_tile(side: int) -> bytes:
    """Return a TIFF file of 16×16 pixels, which lie in a corner of one tile."""
    tile = zlib.compress(bytes(3 * side * side))
    tags = [(256, 4, 16), (257, 4, 16), (258, 3, 8), (259, 3, 8), (262, 3, 2), (277, 3, 3)]
    tags += [(322, 4, side), (323, 4, side), (324, 4, 0), (325, 4, len(tile))]
    start = 8 + 2 + 12 * len(tags) + 4
    out = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    for tag, kind, value in tags:
        out += struct.pack("<HHIHH", tag, 3, 1, 8, 0) if tag == 258 else b""
        out += struct.pack("<HHII", tag, kind, 1, start if tag == 324 else value) if tag != 258 else b""
    return out + bytes(4) + tile


def deep_slice(pixels: float) -> np.ndarray:
    return np.asarray(ramp("I;16", pixels))


# Millions of pixels that each kind may have at most, a little less than the limit, and how it is made.
LARGEST: dict[str, tuple[float, Kind, Callable[[float], bytes]]] = {
    "png-alpha": (89, kinds.PNG, lambda n: streamed_png(8, 6, 4, n)),
    "png-palette": (134, kinds.PNG, lambda n: streamed_png(8, 3, 1, n, palette())),
    "png-16": (59, kinds.PNG, lambda n: streamed_png(16, 0, 2, n)),
    "png-as-jpeg": (89, kinds.JPEG, lambda n: streamed_png(8, 2, 3, n)),
    "tiff": (88, kinds.TIFF, lambda n: saved(ramp("RGB", n), "TIFF", compression="tiff_adobe_deflate")),
    "tiff-float": (25, kinds.TIFF, lambda n: saved(ramp("F", n), "TIFF", compression="tiff_adobe_deflate")),
    "tiff-tile": (89, kinds.TIFF, lambda n: in_one_tile(math.isqrt(int(n)) // 16 * 16)),
    "jpeg": (134, kinds.JPEG, lambda n: saved(ramp("RGB", n), "JPEG")),
    "jpeg-progressive": (
        58,
        kinds.JPEG,
        lambda n: saved(ramp("RGB", n), "JPEG", progressive=True, subsampling=0),
    ),
    "webp": (21, kinds.WEBP, lambda n: saved(ramp("RGB", n), "WEBP", method=0)),
    "avif": (27, kinds.AVIF, lambda n: saved(ramp("RGB", n), "AVIF", speed=10)),
    "jpeg-2000": (18, kinds.JPEG_2000, lambda n: saved(ramp("RGB", n), "JPEG2000", num_resolutions=1)),
    "gif": (134, kinds.GIF, lambda n: saved(ramp("L", n), "GIF")),
    "dicom": (39, kinds.DICOM, lambda n: made(deep_slice(n), DeflatedExplicitVRLittleEndian)),
}


def shown_in_a_process(content: bytes, said: str, folder: Path, times: int = 1) -> tuple[bool, int]:
    """Return whether a new process could show a picture, and the most memory that it took beside the file."""
    file = folder / "picture"
    file.write_bytes(content)
    words = [sys.executable, "-c", _SHOW, str(file), said, str(times)]
    shown, peak = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    return shown == "True", int(peak)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to measure memory")
@pytest.mark.parametrize("name", LARGEST)
def test_the_largest_that_is_shown_keeps_the_promise(name: str, tmp_path: Path) -> None:
    millions, said, make = LARGEST[name]
    shown, peak = shown_in_a_process(make(millions * 1e6), said.media_type, tmp_path)
    assert shown
    assert peak < PROMISED


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to measure memory")
def test_the_memory_of_many_does_not_add_up(tmp_path: Path) -> None:
    millions, said, make = LARGEST["webp"]
    shown, peak = shown_in_a_process(make(millions * 1e6), said.media_type, tmp_path, times=4)
    assert shown
    assert peak < PROMISED


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to measure memory")
def test_a_decoder_aside_counts_too(tmp_path: Path) -> None:
    content = recompressed(made(deep_slice(15e6)), 12, tmp_path)
    assert JPEGLSLossless.encode() in content
    shown, peak = shown_in_a_process(content, kinds.DICOM.media_type, tmp_path)
    assert shown
    assert peak < PROMISED + ASIDE


def progressive_of(side: int) -> bytes:
    """Return a JPEG file that says it is so large, whose coefficients would all be kept."""
    content = bytearray(saved(ramp("RGB", 4096), "JPEG", progressive=True, subsampling=0))
    at = content.index(b"\xff\xc2")
    content[at + 5 : at + 9] = struct.pack(">HH", side, side)
    return bytes(content)


@pytest.mark.parametrize(
    "content",
    [
        progressive_of(7800),
        png(9490, 9490, 8, 6, b""),
        png(7800, 7800, 16, 0, b""),
        in_one_tile(9600),
        b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + struct.pack("<I", 4700)[:3] * 2 + bytes(8),
    ],
    ids=["jpeg-progressive", "png-alpha", "png-16", "tiff-tile", "webp"],
)
def test_above_the_limit_nothing_is_decoded(content: bytes) -> None:
    kind = kinds.kind_of(content)
    assert kind is not None
    assert render(content, kind.media_type, (320, 240)) is None


def test_the_reason_names_what_decoding_takes() -> None:
    with pytest.raises(UnreadableImageError) as caught:
        open_picture(png(9490, 9490, 8, 6, b""), path="a.png", budget=SHOWN_BYTES)
    assert caught.value.message == "decoding the 9490×9490 pixels takes 360 MB; the limit is 360 MB"
    assert "scale" in str(caught.value.hint)


def test_one_may_send_larger_ones_than_are_shown() -> None:
    content = png(9490, 9490, 8, 6, b"")
    with pytest.raises(UnreadableImageError, match="damaged or cut short"):  # so it was about to be decoded
        open_picture(content, path=None)


def test_many_scans_of_a_large_jpeg_are_refused() -> None:
    content = saved(ramp("L", 4e6), "JPEG", progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    assert open_picture(content[:-2] + last * 20 + content[-2:], path=None).facts.width == 2000
    with pytest.raises(UnreadableImageError, match="too long to decode: it has 1106 scans"):
        open_picture(content[:-2] + last * 1100 + content[-2:], path=None)


@pytest.mark.parametrize("junk", [b"\0", b"\xff\0", b"\xff\xff\0\1"])
def test_junk_does_not_hide_that_a_jpeg_is_progressive(junk: bytes) -> None:
    content = progressive_of(7800)
    at = content.index(b"\xff\xc2")
    with pytest.raises(UnreadableImageError, match="the limit is 360 MB"):
        open_picture(content[:at] + junk + content[at:], path=None, budget=SHOWN_BYTES)


@pytest.mark.parametrize("syntax", [JPEGExtended12Bit, JPEGBaseline8Bit])
def test_many_scans_of_a_dicom_frame_are_refused(syntax: str) -> None:
    content = saved(ramp("L", 4e6), "JPEG", progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    frame = content[:-2] + last * 1100 + content[-2:]
    header = header_of(np.zeros((2000, 2000), np.uint8))
    with pytest.raises(UnreadableImageError, match="too long to decode: it has 1106 scans"):
        open_picture(compressed(header, [frame], syntax), path=None)


@pytest.mark.parametrize(
    "content",
    [
        saved(Image.new("L", (8, 8)), "JPEG").replace(b"\xff\xdb", bytes(70_000) + b"\xff\xdb", 1),
        b"\xff\xd8" + b"\xff\xfe\0\2" * 70_000 + saved(Image.new("L", (8, 8)), "JPEG")[2:],
        png(8, 8, 8, 0, bytes(72), chunk(b"tEXt", b"a\0b") * 70_000),
    ],
    ids=["jpeg-junk", "jpeg", "png"],
)
def test_a_file_in_very_many_parts_is_refused(content: bytes) -> None:
    with pytest.raises(UnreadableImageError, match="more than 65536 parts"):
        open_picture(content, path=None)


def test_long_run_lengths_of_bmp_are_refused() -> None:
    runs = b"\1\5" * (1 << 22)
    header = struct.pack("<IiiHHIIiiII", 40, 2048, 2048, 1, 8, 1, len(runs), 0, 0, 256, 0)
    content = b"BM" + struct.pack("<IHHI", 1078 + len(runs), 0, 0, 1078) + header + bytes(1024) + runs
    with pytest.raises(UnreadableImageError, match="run lengths"):
        open_picture(content, path=None)


def test_a_jpeg_2000_is_decoded_at_a_fraction() -> None:
    content = saved(ramp("RGB", 1600 * 1600), "JPEG2000")
    opened = open_picture(content, path=None, at_least=(300, 300))
    assert opened.shown.size == (400, 400)
    assert (opened.facts.width, opened.facts.height) == (1600, 1600)
    whole = open_picture(content, path=None).shown.resize((400, 400), Image.Resampling.BOX)
    apart = np.abs(np.asarray(opened.shown, int) - np.asarray(whole, int))
    assert apart.mean() < 2


def test_a_codestream_is_as_large_as_it_says() -> None:
    """A decoy before the codestream, or a header of the file that says less, changes nothing."""
    content = bytearray(saved(ramp("L", 64 * 64), "JPEG2000"))
    at = content.index(b"\xff\x4f\xff\x51")
    content[at + 8 : at + 16] = struct.pack(">II", 30_000, 30_000)
    with pytest.raises(UnreadableImageError, match="limit"):
        open_picture(bytes(content), path=None)


def _refused(content: bytes, words: str) -> None:
    with pytest.raises(UnreadableImageError, match=words):
        open_picture(content, path=None, budget=SHOWN_BYTES)


def test_the_rows_of_a_picture_one_pixel_wide_count() -> None:
    buffer = io.BytesIO()
    Image.new("1", (1, 30_000_000)).save(buffer, "PNG")
    _refused(buffer.getvalue(), "the limit is 360 MB")


def test_tiles_of_jpeg_2000_count() -> None:
    buffer = io.BytesIO()
    Image.new("L", (500, 500), 7).save(buffer, "JPEG2000", no_jp2=True)
    codestream = bytearray(buffer.getvalue())
    at = codestream.index(b"\xff\x51") + 22
    codestream[at : at + 8] = struct.pack(">II", 1, 1)
    _refused(bytes(codestream), "the limit is 360 MB")


def test_run_lengths_of_a_bmp_file_are_unpacked_of_few_pixels() -> None:
    head = struct.pack("<IiiHHIIiiII", 40, 9000, 9000, 1, 8, 1, 2, 0, 0, 256, 0)
    start = 14 + len(head) + 1024
    _refused(struct.pack("<2sIHHI", b"BM", start + 2, 0, 0, start) + head + bytes(1024) + b"\0\1", "too long")


def test_a_modality_lut_counts() -> None:
    lut = table([2, 0, 16], [0, 9])
    lut[0].ModalityLUTType = "US"
    samples = np.zeros((5000, 5000), np.uint16)
    _refused(made(samples, DeflatedExplicitVRLittleEndian, ModalityLUTSequence=lut), "the limit is 360 MB")


def test_a_header_of_millions_of_elements_is_refused() -> None:
    content = made(np.zeros((9, 9), np.uint8))
    at = content.index(b"\x28\0\x02\0US")
    empty = b"".join(struct.pack("<HH2sH", 0x0009, 0x1000 + n % 0xE000, b"LO", 0) for n in range(1 << 12))
    _refused(content[:at] + empty * (1 << 8) + content[at:], "the header is too long")


def test_pillow_says_nothing_of_a_file_on_the_terminal() -> None:
    assert any(isinstance(each, logging.NullHandler) for each in logging.getLogger("PIL").handlers)
