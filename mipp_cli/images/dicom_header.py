"""Check the header of a DICOM file before anything is decoded: its sizes, and whether it holds a picture.

The header is a data set read by pydicom. This module limits how many bytes are read as header, and the size
of an inflated file.

Sources: DICOM PS3.3, C.7.6.3 (image pixels); PS3.5, 7.1 and annex A (elements and encapsulation); PS3.6,
annex A (the SOP classes).
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any, Final, NamedTuple

from mipp_cli.errors import NoPictureError, UnreadableImageError
from mipp_cli.images.refusals import DAMAGED_HINT, MAX_PIXELS, check_size, too_large

_MAX_BYTES: Final = 4 * MAX_PIXELS  # of one decoded frame
# In a file of thousands of frames, each takes a dozen items and a kilobyte. Their Python objects take about a
# hundred times as much.
_MAX_HEADER: Final = 1 << 25
_MAX_ITEMS: Final = 1 << 18
_MAX_READS: Final = 1 << 20  # of elements, which are parsed in Python
_ITEMS: Final = (b"\xfe\xff\0\xe0", b"\xff\xfe\xe0\0")  # tag of an item, little and big endian
_UNDEFINED: Final = 0xFFFFFFFF
_FLOATS: Final = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}
_DEFLATED: Final = b"1.2.840.10008.1.2.1.99"
EXPLICIT: Final = b"1.2.840.10008.1.2.1"
_NO_PICTURES: Final = {  # SOP classes, or prefixes of them, that are not pictures
    "1.2.840.10008.1.3.10": "a directory of DICOM files (DICOMDIR)",
    "1.2.840.10008.5.1.4.1.1.66.": "a segmentation or registration",
    "1.2.840.10008.5.1.4.1.1.88.": "a structured report",
    "1.2.840.10008.5.1.4.1.1.104.": "an encapsulated document",
    "1.2.840.10008.5.1.4.1.1.481.2": "a radiotherapy dose",
}
_MODALITIES: Final = {"SEG": "a segmentation", "RTDOSE": "a radiotherapy dose", "SR": "a structured report"}
_ONE_SAMPLE: Final = frozenset({"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"})
_COLOURS: Final = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"})


class Metered(io.BytesIO):
    """The bytes of a file, with a limit on how many may be read; skipped bytes do not count."""

    _left, _items, _reads = _MAX_HEADER, _MAX_ITEMS, _MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        """Read bytes; raises UnreadableImageError once too many bytes, items or elements were read."""
        content = super().read(size)
        self._left -= len(content)
        self._items -= sum(content.count(item) for item in _ITEMS)
        self._reads -= 1
        if self._left < 0 or self._items < 0 or self._reads < 0:
            raise UnreadableImageError("the header is too long", hint="leave the file out")
        return content


class Layout(NamedTuple):
    """The layout of the pixels, as the header states it."""

    rows: int
    columns: int
    samples: int
    allocated: int
    bits: int
    signed: bool
    photometric: str
    planar: int
    frames: int

    @property
    def frame(self) -> int:
        """The middle frame, counted from 0."""
        return (self.frames - 1) // 2

    @property
    def frame_bits(self) -> int:
        """The size of one uncompressed frame in bits."""
        samples = 2 if self.photometric == "YBR_FULL_422" else self.samples
        return self.rows * self.columns * samples * self.allocated

    def decoding_bytes(self, *, aside: bool, by_table: bool) -> int:
        """Return the bytes that decoding and processing one frame take in addition to the file.

        The figures were measured. ``aside`` adds a separate decoder process, ``by_table`` a modality LUT.
        """
        samples = self.rows * self.columns * self.samples * -(-self.allocated // 8)
        colours = 12 if self.photometric == "PALETTE COLOR" else 3 * (self.samples == 3)
        return (10 if aside else 3) * samples + (3 + colours + 8 * by_table) * self.rows * self.columns


class PixelsElement(NamedTuple):
    """The place of the pixels in a file, or of their compressed frames if they are ``encapsulated``."""

    keyword: str
    start: int
    end: int
    encapsulated: bool
    order: str


def pixels_at(data: bytes, at: int, *, implicit: bool, order: str) -> PixelsElement:
    """Return the pixel element where the header ends; raises UnreadableImageError if there is none."""
    keywords = {0x0010: "PixelData", 0x0008: "FloatPixelData", 0x0009: "DoubleFloatPixelData"}
    start = at + (8 if implicit else 12)
    group, element = struct.unpack_from(f"{order}HH", data, at) if len(data) >= start else (0, 0)
    if group != 0x7FE0 or element not in keywords:
        raise _no_pixels()
    (length,) = struct.unpack_from(f"{order}I", data, start - 4)
    end = len(data) if length == _UNDEFINED else min(len(data), start + length)
    return PixelsElement(keywords[element], start, end, length == _UNDEFINED, order)


def check_items(data: bytes, pixels: PixelsElement) -> None:
    """Raise UnreadableImageError if the file ends within one of the items that hold compressed frames."""
    at = pixels.start
    while data[at : at + 4] == _ITEMS[pixels.order == ">"] and at + 8 <= len(data):
        at += 8 + struct.unpack_from(f"{pixels.order}I", data, at + 4)[0]
    if at > len(data):
        raise UnreadableImageError("the pixels are cut short", hint=DAMAGED_HINT)


def inflated(data: bytes, budget: int) -> bytes:
    """Inflate a deflated file, which pydicom would do without a limit; return others unchanged."""
    at = 132 if data[128:132] == b"DICM" else 0
    named = None
    while data[at : at + 2] == b"\2\0" and len(data) >= at + 12:
        (length,) = struct.unpack_from("<H", data, at + 6)
        value = at + 8
        if data[at + 4 : at + 6] in (b"OB", b"UN", b"UT", b"SQ"):
            (length,), value = struct.unpack_from("<I", data, at + 8), at + 12
        if data[at + 2 : at + 4] == b"\x10\0" and data[value : value + length].rstrip(b"\0 ") == _DEFLATED:
            named = value
        at = value + length
    if named is None:
        return data
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    content = inflater.decompress(data[at:], budget // 4)
    if inflater.unconsumed_tail:
        raise UnreadableImageError(
            f"the inflated file exceeds the limit of {budget // 4_000_000} MB",
            hint="store it in another transfer syntax, or leave it out",
        )
    meta = data[:named] + EXPLICIT.ljust(len(_DEFLATED), b"\0") + data[named + len(_DEFLATED) : at]
    return meta + content


def _no_pixels() -> NoPictureError:
    return NoPictureError("contains no pixels", hint="leave it out")


def refuse_no_picture(header: Any) -> None:
    """Raise UnreadableImageError, naming the kind of file, if its pixels, if any, are not a picture."""
    media = str(header.file_meta.get("MediaStorageSOPClassUID") or "")
    sop_class = str(header.get("SOPClassUID") or media)
    what = _MODALITIES.get(str(header.get("Modality")))
    for start, named in _NO_PICTURES.items():
        if sop_class == start or (start.endswith(".") and sop_class.startswith(start)):
            what = named
    if what is not None:
        raise NoPictureError(f"contains {what}, not a picture", hint="leave it out")


def layout_of(header: Any, keyword: str) -> Layout:
    """Return the layout of the pixels; raises UnreadableImageError if it is invalid or not supported."""

    def number(name: str, default: int) -> int:
        value = header.get(name)
        return default if value in (None, "") else int(value)

    rows, columns, samples = number("Rows", 0), number("Columns", 0), number("SamplesPerPixel", 1)
    allocated = _FLOATS.get(keyword) or number("BitsAllocated", 8)
    bits = allocated if keyword in _FLOATS else number("BitsStored", allocated)
    photometric = str(header.get("PhotometricInterpretation") or "MONOCHROME2").strip()
    layout = Layout(
        *(rows, columns, samples, allocated, bits, number("PixelRepresentation", 0) == 1),
        *(photometric, number("PlanarConfiguration", 0), number("NumberOfFrames", 1)),
    )
    if rows == columns == 0:
        raise _no_pixels()
    check_size(columns, rows)
    if layout.frame_bits > 8 * _MAX_BYTES:
        raise too_large(f"{columns}×{rows}")
    wanted = {1: _ONE_SAMPLE, 3: _COLOURS}.get(samples, frozenset())
    if photometric not in wanted:
        raise UnreadableImageError(
            f"pixels of {samples} samples and the kind {photometric[:40]!r} are not supported",
            hint="convert it to MONOCHROME2 or RGB, or leave it out",
        )
    if allocated not in (1, 8, 16, 32, *_FLOATS.values()) or not 1 <= bits <= allocated or layout.frames < 1:
        raise UnreadableImageError(
            f"the header is damaged: {bits} of {allocated} bits, {layout.frames} frames", hint=DAMAGED_HINT
        )
    return layout
