"""Compressed frames, looked at before they are decoded: what they claim to hold, and run lengths unpacked.

Sources: ISO/IEC 10918-1, annex B (JPEG; JPEG-LS has the same markers); ISO/IEC 15444-1, annex A (JPEG 2000);
DICOM PS3.5, annex G (run lengths).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

_JPEG_2000: Final = b"\xff\x4f\xff\x51"
# Start of frame: of all codings but those that are other markers; 0xF7 is that of JPEG-LS.
_FRAMES: Final = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
_PROGRESSIVE: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_SCAN: Final = b"\xff\xda"
_REMARKS: Final = frozenset({b"iCCP", b"tEXt", b"zTXt", b"iTXt"})
_XMP: Final = b"XML:com.adobe.xmp\0\0"  # and not compressed
_ALONE: Final = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})  # markers that no length follows


class Claim(NamedTuple):
    """What a compressed frame says it holds; ``halvings`` is how often JPEG 2000 can halve it."""

    width: int
    height: int
    samples: int
    bits: int
    halvings: int = 0


def check_frame(frame: bytes, width: int, height: int, samples: int) -> None:
    """Make sure that a JPEG, JPEG-LS or JPEG 2000 frame is of the size expected; raises ValueError."""
    claim = jpeg_2000_claim(frame) or _jpeg_claim(frame)
    if claim is None:
        raise ValueError("the compressed frame has no size")
    if claim[:3] != (width, height, samples):
        found = f"{claim.width}×{claim.height}×{claim.samples}"
        raise ValueError(f"the compressed frame has {found} samples, not {width}×{height}×{samples}")


def jpeg_2000_claim(data: bytes) -> Claim | None:
    """Return what the JPEG 2000 codestream in some bytes says it holds; None if there is none.

    Of several, as a box before the codestream may hold, it is the one that claims most.
    """
    claims, at = [], data.find(_JPEG_2000)
    while at >= 0:
        if len(data) >= at + 43:
            claims.append(_jpeg_2000_claim(data, at))
        at = data.find(_JPEG_2000, at + 4)
    return max(claims, key=lambda claim: claim.width * claim.height * claim.samples, default=None)


def _jpeg_2000_claim(data: bytes, at: int) -> Claim:
    right, bottom, left, top = struct.unpack_from(">4I", data, at + 8)
    samples, depth = struct.unpack_from(">HB", data, at + 40)
    halvings, marker = 0, at + 2
    while marker + 10 <= len(data) and data[marker] == 0xFF and data[marker + 1] != 0x90:
        if data[marker + 1] == 0x52:  # coding style
            halvings = data[marker + 9]
            break
        marker += 2 + struct.unpack_from(">H", data, marker + 2)[0]
    return Claim(right - left, bottom - top, samples, (depth & 0x7F) + 1, halvings)


def jpeg_scans(data: bytes, components: int) -> int:
    """Return how many scans a JPEG file has; 1 if it is decoded in one go, without being kept in memory."""
    for marker, at in _jpeg_segments(data):
        if marker in _PROGRESSIVE or (marker == 0xDA and data[at + 4] < components):
            return data.count(_SCAN, at)
    return 1


def parts(data: bytes) -> Iterator[int]:
    """Yield where each segment of a JPEG file before its first scan begins, or each chunk of a PNG file."""
    if data[:2] == b"\xff\xd8":
        yield from (at for _, at in _jpeg_segments(data))
    at = 8
    while data[:4] == b"\x89PNG" and at + 8 <= len(data):
        yield at
        at += 12 + int(struct.unpack_from(">I", data, at)[0])


def without_remarks(png: bytes) -> bytes:
    """Return a PNG file without texts and colour profile, of which Pillow reads a megabyte at most.

    XMP data stay, since they may say how a picture is turned.
    """
    kept, begun = [png[:8]], 8
    for at in parts(png):
        end = at + 12 + int(struct.unpack_from(">I", png, at)[0])
        if png[at + 4 : at + 8] in _REMARKS and png[at + 8 : at + 8 + len(_XMP)] != _XMP:
            kept.append(png[begun:at])
            begun = end
    return b"".join([*kept, png[begun:]])


def avif_is_deep(data: bytes) -> bool:
    """Tell whether an AVIF file has samples of more than 8 bits (AV1-ISOBMFF, 2.3: the box av1C)."""
    at = data.find(b"av1C")
    return 0 <= at < len(data) - 6 and bool(data[at + 6] & 0x40)


def _jpeg_claim(frame: bytes) -> Claim | None:
    for marker, at in _jpeg_segments(frame):
        if marker in _FRAMES:
            bits, height, width, samples = struct.unpack_from(">BHHB", frame, at + 4)
            return Claim(width, height, samples, bits)
    return None


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the marker of each segment up to the first scan, and where it begins.

    Decoders pass over what stands between segments, and over stuffed and fill bytes; each counts, with the
    marker 0 or 0xFF.
    """
    at = 2 if data[:2] == b"\xff\xd8" else len(data)
    while at + 10 <= len(data):
        marker = data[at + 1] if data[at] == 0xFF else 0
        yield marker, at
        if marker == 0xDA:
            return
        if marker == 0xFF or data[at] != 0xFF:
            at += 1
        elif marker in _ALONE:
            at += 2
        else:
            at += 2 + int(struct.unpack_from(">H", data, at + 2)[0])


def unpacked_run_lengths(frame: bytes, planes: int, size: int) -> bytes:
    """Return the planes of a frame of run lengths, one after the other, each of ``size`` bytes.

    Nothing beyond that is unpacked, whatever the frame holds. Raises ValueError.
    """
    count, *offsets = struct.unpack_from("<16I", frame)
    if count != planes or count > 15:
        raise ValueError(f"the frame has {count} segments of run lengths, not {planes}")
    bounds = [*offsets[:count], len(frame)]
    whole = bytearray()
    for start, end in pairwise(bounds):
        whole += _unpacked(frame[start:end], size)
    return bytes(whole)


def _unpacked(segment: bytes, size: int) -> bytes:
    unpacked, at = bytearray(), 0
    while len(unpacked) < size and at < len(segment):
        head = segment[at]
        if head < 128:
            unpacked += segment[at + 1 : at + 2 + head]
            at += 2 + head
        elif head > 128:
            unpacked += segment[at + 1 : at + 2] * (257 - head)
            at += 2
        else:
            at += 1
    if len(unpacked) < size:
        raise ValueError("a segment of run lengths is cut short")
    return bytes(unpacked[:size])
