"""Compressed frames, looked at before they are decoded: what they claim to hold, and run lengths unpacked.

Sources: ISO/IEC 10918-1, annex B (JPEG; JPEG-LS has the same markers); ISO/IEC 15444-1, annex A (JPEG 2000);
DICOM PS3.5, annex G (run lengths).
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Final, NamedTuple

_JPEG_2000: Final = b"\xff\x4f\xff\x51"
# Start of frame: of all codings but those that are other markers; 0xF7 is that of JPEG-LS.
_FRAMES: Final = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})  # markers that no length follows


class Claim(NamedTuple):
    """What a compressed frame says it holds."""

    width: int
    height: int
    samples: int
    bits: int


def check_frame(frame: bytes, width: int, height: int, samples: int) -> None:
    """Make sure that a JPEG, JPEG-LS or JPEG 2000 frame is of the size expected; raises ValueError."""
    claim = jpeg_2000_claim(frame) or _jpeg_claim(frame)
    if claim is None:
        raise ValueError("the compressed frame has no size")
    if claim[:3] != (width, height, samples):
        found = f"{claim.width}×{claim.height}×{claim.samples}"
        raise ValueError(f"the compressed frame has {found} samples, not {width}×{height}×{samples}")


def jpeg_2000_claim(data: bytes) -> Claim | None:
    """Return what the first JPEG 2000 codestream in some bytes says it holds; None if there is none."""
    at = data.find(_JPEG_2000)
    if at < 0 or len(data) < at + 43:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", data, at + 8)
    samples, depth = struct.unpack_from(">HB", data, at + 40)
    return Claim(right - left, bottom - top, samples, (depth & 0x7F) + 1)


def avif_is_deep(data: bytes) -> bool:
    """Tell whether an AVIF file has samples of more than 8 bits (AV1-ISOBMFF, 2.3: the box av1C)."""
    at = data.find(b"av1C")
    return 0 <= at < len(data) - 6 and bool(data[at + 6] & 0x40)


def _jpeg_claim(frame: bytes) -> Claim | None:
    at = 2 if frame[:2] == b"\xff\xd8" else len(frame)
    while at + 10 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF or marker in _ALONE:
            at += 1 if marker == 0xFF else 2
        elif marker in _FRAMES:
            bits, height, width, samples = struct.unpack_from(">BHHB", frame, at + 4)
            return Claim(width, height, samples, bits)
        else:
            at += 2 + struct.unpack_from(">H", frame, at + 2)[0]
    return None


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
