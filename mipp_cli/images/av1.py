"""Count the pixels of the frames in an AVIF file before they are decoded.

The decoder obeys the frames, whatever size the container states.

Sources: AV1 Bitstream Specification, 5.3 (OBUs), 5.5 (sequence headers), 5.9.2 (frame headers);
ISO/IEC 14496-12 for the boxes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

_CONTAINERS: Final = {b"meta": 4, b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0}  # bytes skipped
_MAX_PARTS: Final = 1 << 16  # boxes, extents and OBUs together
_HEADER_BYTES: Final = 1 << 10
_SEQUENCE_HEADER, _FRAME_HEADER, _TILE_GROUP, _FRAME, _REDUNDANT_FRAME_HEADER = 1, 3, 4, 6, 7
_SWITCH_FRAME: Final = 3
_SELECT: Final = 2  # each frame header says whether a tool is used


class _Sequence(NamedTuple):
    """What a sequence header says about its frames; ``pixels`` counts samples of more than 8 bits twice."""

    pixels: int
    max_pixels: int  # of a frame that states its own size
    reduced: bool
    time_bits: int
    id_bits: int
    screen_content: int
    integer_vectors: int


class _Reader:
    """Read bits, the most significant first."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> int:
        """Return the next ``count`` bits as a number; raises ValueError at the end."""
        start, self._at = self._at, self._at + count
        if self._at > 8 * len(self._data):
            raise ValueError("a header of the AVIF file is cut short")
        octets = self._data[start >> 3 : (self._at + 7) >> 3]
        return int.from_bytes(octets) >> (-self._at & 7) & ((1 << count) - 1)

    def skip_uvlc(self) -> None:
        """Skip a number in the variable-length code of the specification, 4.10.3."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        self.take(zeros)


class _Parts:
    """Count the parts of one file, of whatever kind: no step is done more often than its limit."""

    def __init__(self) -> None:
        self._left = _MAX_PARTS

    def count(self, parts: int = 1) -> None:
        """Count some parts; raises ValueError if there are too many."""
        self._left -= parts
        if self._left < 0:
            raise ValueError("the AVIF file has too many parts")


def frame_pixels(data: bytes) -> int:
    """Return the number of pixels of all frames in the items and first samples of an AVIF file.

    Each stream must have its own headers: a decoder may keep those of the stream before. Raises ValueError
    if one has not, or if the file has no frame or too many parts.
    """
    pixels, parts = 0, _Parts()
    for stream in _streams(data, parts):
        sequence, has_frame = None, False
        for kind, header in _obus(stream):
            parts.count()
            if kind == _SEQUENCE_HEADER:
                sequence = _sequence(_Reader(header))
            elif kind in (_FRAME_HEADER, _FRAME, _REDUNDANT_FRAME_HEADER) and sequence is not None:
                own = not sequence.reduced and _states_size(_Reader(header), sequence)
                pixels += sequence.max_pixels if own else sequence.pixels
                has_frame = True
            elif kind in (_FRAME_HEADER, _FRAME) or (kind == _TILE_GROUP and not has_frame):
                raise ValueError("a frame of the AVIF file has no header of its own")
    if not pixels:
        raise ValueError("the AVIF file has no frame")
    return pixels


def _streams(data: bytes, parts: _Parts) -> Iterator[memoryview]:
    """Yield the data of each item, and of the first sample of each track."""
    lists: dict[bytes, tuple[int, int]] = {}  # the boxes that list items, and their data: one of each
    tables: list[dict[str, int]] = []  # of each track: the place and size of its first sample
    for name, start, end in _boxes(data, 0, len(data)):
        parts.count()
        if name == b"stbl":
            tables.append({})
        elif name in (b"iloc", b"idat"):
            if name in lists:
                raise ValueError("the AVIF file lists its items twice")
            lists[name] = start, end
        elif name in (b"stco", b"co64", b"stsz"):
            kind = "size" if name == b"stsz" else "place"
            if not tables or kind in tables[-1]:
                raise ValueError("a track of the AVIF file lists its samples twice")
            tables[-1][kind] = _first_entry(name, data[start : min(end, start + 16)])
    whole = memoryview(data)
    for table in tables:
        if len(table) != 2:
            raise ValueError("a track of the AVIF file does not list its samples")
        yield whole[table["place"] : table["place"] + table["size"]]
    if b"iloc" not in lists:
        return
    start, end = lists[b"iloc"]
    bases = {1: lists[b"idat"][0]} if b"idat" in lists else {}
    joined = 0
    for method, extents in _items(data[start:end], parts):
        base = bases.get(method, 0)
        found = [whole[base + offset :][: length or None] for offset, length in extents]
        joined += sum(map(len, found)) if len(found) > 1 else 0
        if joined > len(data):
            raise ValueError("the items of the AVIF file overlap")
        yield found[0] if len(found) == 1 else memoryview(b"".join(found))


def _first_entry(name: bytes, box: bytes) -> int:
    """Return the first entry of a table of sizes (stsz) or places; raises ValueError if it has none."""
    if name == b"stsz":
        same, count = struct.unpack_from(">II", box, 4)
        first = same or (struct.unpack_from(">I", box, 12)[0] if count else 0)
    else:
        (count,) = struct.unpack_from(">I", box, 4)
        first = struct.unpack_from(">I" if name == b"stco" else ">Q", box, 8)[0] if count else 0
    if not count:
        raise ValueError("a track of the AVIF file has no samples")
    return int(first)


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name of each box and the start and end of its content, nested boxes included."""
    while at + 16 <= end:
        size, name, large = struct.unpack_from(">I4sQ", data, at)
        start = at + (16 if size == 1 else 8)
        at = min(at + (large if size == 1 else size or end), end)
        if at < start:
            raise ValueError("a box of the AVIF file is cut short")
        yield name, start, at
        if name in _CONTAINERS:
            yield from _boxes(data, start + _CONTAINERS[name], at)


def _items(box: bytes, parts: _Parts) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Yield the construction method of each item in an iloc box, and its extents as offset and length."""
    version, sizes = box[0], box[4] << 8 | box[5]
    bits = _Reader(box[6:])
    offset, length, base, index = (8 * (sizes >> shift & 15) for shift in (12, 8, 4, 0))
    wide = 32 if version == 2 else 16
    for _ in range(bits.take(wide)):
        bits.take(wide)
        method = bits.take(16) & 15 if version else 0
        bits.take(16)
        start, count = bits.take(base), bits.take(16)
        parts.count(1 + count)
        extents = []
        for _ in range(count):
            bits.take(index if version else 0)
            extents.append((start + bits.take(offset), bits.take(length)))
        yield method, extents


def _obus(stream: memoryview) -> Iterator[tuple[int, bytes]]:
    """Yield the type of each OBU and the first bytes of its content, which hold its header."""
    at = 0
    while at < len(stream):
        head = stream[at]
        at += 2 if head & 4 else 1
        size = 0 if head & 2 else len(stream)
        for place, octet in enumerate(stream[at : at + 8] if head & 2 else b""):
            at += 1
            size |= (octet & 127) << 7 * place
            if octet < 128:
                break
        yield head >> 3 & 15, bytes(stream[at : at + min(size, _HEADER_BYTES)])
        at += size


def _sequence(bits: _Reader) -> _Sequence:
    bits.take(4)  # profile, still picture
    reduced = bool(bits.take(1))
    time_bits = 0 if reduced else _skip_operating_points(bits)
    if reduced:
        bits.take(5)
    wide, high = bits.take(4) + 1, bits.take(4) + 1
    width, height = bits.take(wide) + 1, bits.take(high) + 1
    id_bits = bits.take(4) + bits.take(3) + 3 if not reduced and bits.take(1) else 0
    bits.take(3)
    screen_content = integer_vectors = _SELECT
    if not reduced:
        bits.take(4)
        ordered = bits.take(1)
        bits.take(2 * ordered)
        screen_content = _SELECT if bits.take(1) else bits.take(1)
        if screen_content and not bits.take(1):
            integer_vectors = bits.take(1)
        bits.take(3 * ordered)
    bits.take(3)
    depth = 1 + bits.take(1)
    most = depth << wide + high
    return _Sequence(
        depth * width * height, most, reduced, time_bits, id_bits, screen_content, integer_vectors
    )


def _skip_operating_points(bits: _Reader) -> int:
    """Skip timing and operating points; return the bit length of a shown frame's presentation time."""
    delay_bits = time_bits = equal = 0
    if bits.take(1):
        bits.take(64)
        equal = bits.take(1)
        if equal:
            bits.skip_uvlc()
        if bits.take(1):
            delay_bits = bits.take(5) + 1
            bits.take(37)
            time_bits = bits.take(5) + 1
    delayed = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if delay_bits and bits.take(1):
            bits.take(2 * delay_bits + 1)
        if delayed and bits.take(1):
            bits.take(4)
    return 0 if equal else time_bits


def _states_size(bits: _Reader, sequence: _Sequence) -> bool:
    """Return whether a frame header overrides the size that its sequence header states."""
    if bits.take(1):  # shows a frame that was decoded before
        return False
    kind, shown = bits.take(2), bits.take(1)
    bits.take(sequence.time_bits if shown else 1)
    if kind != _SWITCH_FRAME and not (kind == 0 and shown):
        bits.take(1)
    bits.take(1)
    content = bits.take(1) if sequence.screen_content == _SELECT else sequence.screen_content
    if content and sequence.integer_vectors == _SELECT:
        bits.take(1)
    bits.take(sequence.id_bits)
    return kind == _SWITCH_FRAME or bool(bits.take(1))
