"""How many pixels the frames of an AVIF file have, whatever its container states."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image

from mipp_cli.errors import UnreadableImageError
from mipp_cli.images.av1 import frame_pixels
from mipp_cli.images.pictures import open_picture

WIDTH, HEIGHT = 300, 200
SIZE = f"1000 0111 {WIDTH - 1:09b} {HEIGHT - 1:08b}"
STILL = f"000 1 1 00000 {SIZE} 000 000 0"
DEEP_STILL = f"{STILL[:-1]}1"
# Without timing, with one operating point, no frame numbers, no order hints, and tools chosen by each frame.
FILM = f"000 0 0 0 0 00000 {'0' * 12} 00000 {SIZE} 0 000 0000 0 1 1 000 0"
SHOWN_KEY_FRAME = "0 00 1 0 0"  # then whether it states its own size


def packed(bits: str) -> bytes:
    digits = bits.replace(" ", "")
    digits += "0" * (-len(digits) % 8)
    return int(digits, 2).to_bytes(len(digits) // 8)


def obus(sequence: str, frame: str = "0") -> bytes:
    """Return a sequence header and a frame as a decoder is given them."""
    header, content = packed(sequence), packed(frame)
    return bytes([0x0A, len(header)]) + header + bytes([0x32, len(content)]) + content


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def of_items(stream: bytes, cut: int, *, inside: bool) -> bytes:
    """Return a file with one item in two extents, in a box idat or mdat."""
    start = 0 if inside else 8
    item = struct.pack(">HHHHIIII", 1, int(inside), 0, 2, start, cut, start + cut, len(stream) - cut)
    iloc = box(b"iloc", b"\1\0\0\0\x44\0\0\1" + item)
    meta = box(b"meta", bytes(4) + iloc + (box(b"idat", stream) if inside else b""))
    return (b"" if inside else box(b"mdat", stream)) + meta


def of_track(stream: bytes) -> bytes:
    """Return a file with one track, whose first sample is followed by another."""
    chunks = box(b"stco", struct.pack(">III", 0, 1, 8))
    sizes = box(b"stsz", struct.pack(">IIIII", 0, 0, 2, len(stream), len(stream)))
    for name in (b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        chunks, sizes = box(name, chunks + sizes), b""
    return box(b"mdat", 2 * stream) + chunks


def understated(size: tuple[int, int]) -> bytes:
    """Return an AVIF file whose container states 16×16 pixels."""
    out = io.BytesIO()
    Image.linear_gradient("L").resize(size).save(out, "AVIF")
    return out.getvalue().replace(struct.pack(">II", *size), struct.pack(">II", 16, 16))


@pytest.mark.parametrize(
    "content",
    [
        of_items(obus(STILL), 4, inside=False),
        of_items(obus(STILL), 4, inside=True),
        of_items(obus(FILM, f"{SHOWN_KEY_FRAME} 0"), 4, inside=False),
        of_track(obus(STILL)),
    ],
    ids=["extents", "idat", "film", "track"],
)
def test_frames_are_found_wherever_they_lie(content: bytes) -> None:
    assert frame_pixels(content) == WIDTH * HEIGHT


def test_deep_samples_count_twice() -> None:
    assert frame_pixels(of_track(obus(DEEP_STILL))) == 2 * WIDTH * HEIGHT


def test_a_frame_of_its_own_size_counts_as_the_largest() -> None:
    content = of_track(obus(FILM, f"{SHOWN_KEY_FRAME} 1"))
    assert frame_pixels(content) == 512 * 256


def test_hidden_frames_count() -> None:
    hidden = packed("0 00 0 1 0 0 0 0")
    content = obus(FILM, f"{SHOWN_KEY_FRAME} 0") + bytes([0x32, len(hidden)]) + hidden
    assert frame_pixels(of_track(content)) == 2 * WIDTH * HEIGHT


@pytest.mark.parametrize(
    "content", [b"", box(b"mdat", obus(STILL)), of_track(obus(STILL)[:6])], ids=["empty", "no-item", "cut"]
)
def test_a_file_without_a_readable_frame_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="AVIF file"):
        frame_pixels(content)


def test_an_understated_size_does_not_pass_the_limit() -> None:
    with pytest.raises(UnreadableImageError, match=r"decoding .* takes"):
        open_picture(understated((512, 512)), path=None, budget=500_000)


def test_the_limit_lets_a_picture_of_the_stated_size_pass() -> None:
    assert open_picture(understated((16, 16)), path=None, budget=500_000).facts.width == 16


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (box(b"iloc", b"\1" + bytes(7)), "lists its items twice"),
        (box(b"stsz", struct.pack(">IIII", 0, 9, 1, 9)), "lists its samples twice"),
        (box(b"stbl", bytes(8)), "does not list its samples"),
        (box(b"stbl", box(b"stco", struct.pack(">II", 0, 0))), "has no samples"),
    ],
    ids=["items", "samples", "no table", "no samples"],
)
def test_lists_that_a_decoder_may_read_otherwise_are_refused(more: bytes, reason: str) -> None:
    content = of_track(obus(STILL)) + box(b"iloc", bytes(8))
    assert frame_pixels(content)
    with pytest.raises(ValueError, match=reason):
        frame_pixels(content + more)


def test_a_redundant_frame_header_counts_as_a_frame() -> None:
    header, content = packed(STILL), packed("0")
    stream = bytes([0x0A, len(header)]) + header + bytes([0x3A, len(content)]) + content
    assert frame_pixels(of_items(stream, 4, inside=False)) == WIDTH * HEIGHT


@pytest.mark.parametrize("kind", [0x1A, 0x22, 0x32], ids=["frame header", "tile group", "frame"])
def test_a_frame_with_headers_in_another_stream_is_refused(kind: int) -> None:
    stream = bytes([kind, 1, 0, 0x12, 0])
    with pytest.raises(ValueError, match="no header of its own"):
        frame_pixels(of_items(stream, 2, inside=False))


def test_items_without_data_count_too() -> None:
    iloc = box(b"iloc", b"\2\0\0\0\0\0" + struct.pack(">I", 70_000) + bytes(10 * 70_000))
    with pytest.raises(ValueError, match="too many parts"):
        frame_pixels(box(b"meta", bytes(4) + iloc))
