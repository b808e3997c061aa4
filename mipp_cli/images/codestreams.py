"""Inspect compressed frames before they are decoded, and unpack run lengths.

Sources: ISO/IEC 10918-1, annex B (JPEG; JPEG-LS has the same markers); ISO/IEC 15444-1, annex A (JPEG 2000);
DICOM PS3.5, annex G (run lengths).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

_JPEG_2000: Final = b"\xff\x4f\xff\x51"
# Start-of-frame markers; 0xC4, 0xC8 and 0xCC mean something else, and 0xF7 is JPEG-LS.
_FRAMES: Final = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
_PROGRESSIVE: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_SCAN: Final = b"\xff\xda"
_REMARKS: Final = frozenset({b"iCCP", b"tEXt", b"zTXt", b"iTXt"})
_XMP: Final = b"XML:com.adobe.xmp\0\0"  # uncompressed
_ALONE: Final = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})  # markers without a length

# Bytes that OpenJPEG takes for each, estimated from files with many; a tile counts once per component.
_PRECINCT, _BLOCK, _TILE = 1200, 200, 2600
_MAX_MARKERS: Final = 1 << 17
_MAX_STREAMS: Final = 16


class Claim(NamedTuple):
    """What a compressed frame says it holds; ``halvings`` is how often JPEG 2000 can halve it.

    ``beside`` estimates the bytes that its tiles, precincts and code-blocks take in addition to the pixels.
    """

    width: int
    height: int
    samples: int
    bits: int
    halvings: int = 0
    beside: int = 0


def check_frame(frame: bytes, width: int, height: int, samples: int) -> Claim:
    """Return the claim of a JPEG, JPEG-LS or JPEG 2000 frame; raises ValueError if its size differs."""
    claim = jpeg_2000_claim(frame) or _jpeg_claim(frame)
    if claim is None:
        raise ValueError("the compressed frame states no size")
    if claim[:3] != (width, height, samples):
        found = f"{claim.width}×{claim.height}×{claim.samples}"
        raise ValueError(f"the compressed frame has {found} samples, not {width}×{height}×{samples}")
    return claim


def jpeg_2000_claim(data: bytes) -> Claim | None:
    """Return the claim of the JPEG 2000 codestream in ``data``; None if there is none.

    If there are several, as a box before the codestream may hold one, return the largest. Raises ValueError.
    """
    claims: list[Claim] = []
    at = data.find(_JPEG_2000)
    while at >= 0:
        if len(claims) == _MAX_STREAMS:
            raise ValueError("the file has too many codestreams")
        if len(data) >= at + 43:
            claims.append(_jpeg_2000_claim(data, at))
        at = data.find(_JPEG_2000, at + 4)
    largest = max(claims, key=lambda claim: claim.width * claim.height * claim.samples, default=None)
    return largest and largest._replace(beside=max(claim.beside for claim in claims))


def _jpeg_2000_claim(data: bytes, at: int) -> Claim:
    right, bottom, left, top, wide, high, _, _ = struct.unpack_from(">8I", data, at + 8)
    samples, depth = struct.unpack_from(">HB", data, at + 40)
    width, height, wide, high = right - left, bottom - top, max(wide, 1), max(high, 1)
    tiles = -(-right // wide) * -(-bottom // high)
    halvings, styles = None, [(0, 15, 15, 6, 6, 1)]
    for style in _coding_styles(data, at + 2, samples):
        styles.append(style)
        halvings = style[0] if halvings is None else halvings
    levels, _, _, _, _, layers = (max(each) for each in zip(*styles, strict=True))
    _, across, down, block_across, block_down, _ = (min(each) for each in zip(*styles, strict=True))
    wide, high = min(wide, width), min(high, height)
    # An upper bound: every resolution has the smallest precincts of any.
    precincts = tiles * samples * (levels + 1) * -(-wide >> across) * -(-high >> down)
    blocks = 2 * samples * width * height >> (block_across + block_down)
    beside = _PRECINCT * precincts + _BLOCK * blocks + _TILE * tiles * (1 + samples) + 2 * layers * precincts
    return Claim(width, height, samples, (depth & 0x7F) + 1, halvings or 0, beside)


def _coding_styles(data: bytes, at: int, samples: int) -> Iterator[tuple[int, int, int, int, int, int]]:
    """Yield the fields of each COD and COC marker in the main header and all tile-parts.

    These are the number of halvings, the logarithms of the smallest width and height of the precincts in
    pixels of the full picture, those of the code-blocks, and the number of layers. Raises ValueError.
    """
    part = 0
    for _ in range(_MAX_MARKERS):
        if at + 12 > len(data):
            return
        marker, length = struct.unpack_from(">HH", data, at)
        if marker == 0xFFD9:
            return
        if marker == 0xFF90:
            part = at
        elif marker in (0xFF52, 0xFF53):
            fields = data[at + 4 : at + 2 + length]
            layers = struct.unpack_from(">H", fields, 2)[0] if marker == 0xFF52 else 1
            begun = 5 if marker == 0xFF52 else 2 + (samples > 256)
            own = fields[0 if marker == 0xFF52 else begun - 1] & 1
            levels, xcb, ycb = (fields[begun], (fields[begun + 1] & 15) + 2, (fields[begun + 2] & 15) + 2)
            sizes = [*fields[begun + 5 : begun + 6 + levels]] if own else [0xFF]
            if not sizes:
                raise ValueError("a codestream has no sizes of precincts")
            across = min((size & 15) + levels - n for n, size in enumerate(sizes)) if own else 15
            down = min((size >> 4) + levels - n for n, size in enumerate(sizes)) if own else 15
            narrow, low = min(size & 15 for size in sizes), min(size >> 4 for size in sizes)
            yield levels, across, down, min(xcb, max(narrow - 1, 0)), min(ycb, max(low - 1, 0)), layers
        if marker == 0xFF93:
            length = struct.unpack_from(">I", data, part + 6)[0] if part else 0
            if not length:
                return
            at = max(part + length, at + 2)
        elif marker >> 8 != 0xFF:
            raise ValueError("a marker of the codestream is missing")
        else:
            at += 2 + length
    raise ValueError("the codestream has too many parts")


def jpeg_scans(data: bytes, components: int) -> int:
    """Return the number of scans of a JPEG file; 1 if the decoder need not keep its coefficients."""
    for marker, at in _jpeg_segments(data):
        if marker in _PROGRESSIVE or (marker == 0xDA and data[at + 4] < components):
            return data.count(_SCAN, at)
    return 1


def parts(data: bytes) -> Iterator[int]:
    """Yield the offset of each segment of a JPEG file up to its first scan, or each chunk of a PNG file."""
    if data[:2] == b"\xff\xd8":
        yield from (at for _, at in _jpeg_segments(data))
    at = 8
    while data[:4] == b"\x89PNG" and at + 8 <= len(data):
        yield at
        at += 12 + int(struct.unpack_from(">I", data, at)[0])


def without_remarks(png: bytes) -> bytes:
    """Return a PNG file without texts and colour profile, of which Pillow reads at most a megabyte.

    XMP data are kept, since they may state the orientation.
    """
    kept, begun = [png[:8]], 8
    for at in parts(png):
        end = at + 12 + int(struct.unpack_from(">I", png, at)[0])
        if png[at + 4 : at + 8] in _REMARKS and png[at + 8 : at + 8 + len(_XMP)] != _XMP:
            kept.append(png[begun:at])
            begun = end
    return b"".join([*kept, png[begun:]])


def avif_is_deep(data: bytes) -> bool:
    """Return whether an AVIF file has samples of more than 8 bits (AV1-ISOBMFF, 2.3: the av1C box)."""
    at = data.find(b"av1C")
    return 0 <= at < len(data) - 6 and bool(data[at + 6] & 0x40)


def _jpeg_claim(frame: bytes) -> Claim | None:
    for marker, at in _jpeg_segments(frame):
        if marker in _FRAMES:
            bits, height, width, samples = struct.unpack_from(">BHHB", frame, at + 4)
            return Claim(width, height, samples, bits)
    return None


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the marker and the offset of each segment up to the first scan.

    Decoders skip bytes between segments, stuffed bytes and fill bytes; each is yielded with the marker 0 or
    0xFF.
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
    """Unpack the planes of a run-length encoded frame, ``size`` bytes each, and return them joined.

    Nothing beyond that is unpacked, whatever the frame holds. Raises ValueError.
    """
    count, *offsets = struct.unpack_from("<16I", frame)
    if count != planes or count > 15:
        raise ValueError(f"the frame has {count} run-length segments, not {planes}")
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
        raise ValueError("a run-length segment is cut short")
    return bytes(unpacked[:size])
