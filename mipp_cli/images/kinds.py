"""Detect the kind of a picture file from its first bytes, whatever its name.

Sources: the signatures in each format's specification; ISO/IEC 14496-12 and 23008-12 for the brands of
AVIF and HEIC; DICOM PS3.10, 7.1, for the preamble, and PS3.5, 7.1, for files that lack it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

HEAD_BYTES: Final = 1024
"""Number of bytes at the start of a file that :func:`kind_of` looks at."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of picture: its name, its media type, and its file suffix.

    If reading it needs optional ``packages``, ``module`` is the one of them that is imported.
    """

    name: str
    media_type: str
    extension: str
    packages: str | None = None
    module: str | None = None

    def missing(self) -> str | None:
        """Return the command that installs missing packages for this kind; None if nothing is missing."""
        if self.module is None or find_spec(self.module) is not None:
            return None
        return f"pip install {self.packages}"


JPEG: Final = Kind("JPEG", "image/jpeg", ".jpg")
PNG: Final = Kind("PNG", "image/png", ".png")
TIFF: Final = Kind("TIFF", "image/tiff", ".tif")
BMP: Final = Kind("BMP", "image/bmp", ".bmp")
WEBP: Final = Kind("WebP", "image/webp", ".webp")
GIF: Final = Kind("GIF", "image/gif", ".gif")
AVIF: Final = Kind("AVIF", "image/avif", ".avif")
JPEG_2000: Final = Kind("JPEG 2000", "image/jp2", ".jp2")
CODESTREAM: Final = Kind("JPEG 2000 codestream", "image/j2c", ".j2c")
HEIC: Final = Kind("HEIC", "image/heic", ".heic", "pillow-heif", "pillow_heif")
DICOM: Final = Kind("DICOM", "application/dicom", ".dcm", "pydicom python-gdcm", "pydicom")

KINDS: Final = (JPEG, PNG, TIFF, BMP, WEBP, GIF, AVIF, JPEG_2000, CODESTREAM, HEIC, DICOM)
"""Every kind of picture that can be read, some only with an extra."""

_SIGNATURES: Final = (
    (b"\xff\xd8\xff", JPEG),
    (b"\x89PNG\r\n\x1a\n", PNG),
    *((start, TIFF) for start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    *((start, GIF) for start in (b"GIF87a", b"GIF89a")),
    (b"\0\0\0\x0cjP  \r\n\x87\n", JPEG_2000),
    (b"\xff\x4f\xff\x51", CODESTREAM),
)
# Texts may also begin with "BM"; the size of the header that follows tells them from pictures.
_BMP_HEADERS: Final = (12, 40, 52, 56, 64, 108, 124)
_AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})
_HEIC_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_IMAGE_BRANDS: Final = frozenset({b"mif1", b"mif2", b"msf1"})  # of either; the other brands decide

_PREAMBLE: Final = 128
_SHORT_VRS: Final = frozenset(
    {b"UL", b"UI", b"CS", b"DA", b"TM", b"DT", b"SH", b"LO", b"PN", b"AE", b"IS", b"LT"}
)
_LONG_VRS: Final = frozenset({b"OB", b"SQ", b"UN", b"UT", b"UC"})
_LONGEST_FIRST: Final = 1 << 10  # bytes of the first element's value: a class, a character set, …


def kind_of(head: bytes) -> Kind | None:
    """Return the kind of a file from its first :data:`HEAD_BYTES` bytes; None if it is not a picture.

    DICOM files may lack the 128-byte preamble. A file whose preamble makes it TIFF as well is DICOM, because
    it carries the patient data of a DICOM file.
    """
    head = head[:HEAD_BYTES]
    if head[_PREAMBLE : _PREAMBLE + 4] == b"DICM":
        return DICOM
    for start, kind in _SIGNATURES:
        if head.startswith(start):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return WEBP
    if head[:2] == b"BM" and len(head) >= 18 and struct.unpack_from("<I", head, 14)[0] in _BMP_HEADERS:
        return BMP
    if head[4:8] == b"ftyp":
        return _by_brand(head)
    return DICOM if any(_has_elements(head, order) for order in "<>") else None


def _by_brand(head: bytes) -> Kind | None:
    """Tell AVIF, HEIC and video apart: the first brand is the file's own, the others are compatible ones."""
    size = min(struct.unpack_from(">I", head)[0], len(head))
    major, others = head[8:12], {head[at : at + 4] for at in range(16, size - 3, 4)}
    if major in _AVIF_BRANDS or (major in _IMAGE_BRANDS and others & _AVIF_BRANDS):
        return AVIF
    return HEIC if major in _HEIC_BRANDS or (major in _IMAGE_BRANDS and others & _HEIC_BRANDS) else None


def _has_elements(head: bytes, order: str) -> bool:
    """Return whether the file begins with two of the first elements of a DICOM file, in ascending order."""
    first = _element(head, 0, order)
    if first is None:
        return False
    tag, end = first
    second = _element(head, end, order)
    return second is not None and tag < second[0]


def _element(head: bytes, at: int, order: str) -> tuple[tuple[int, int], int] | None:
    """Return the tag of an element of group 2 or 8 and the offset of the next; None if there is none."""
    if len(head) < at + 12:
        return None
    group, element = struct.unpack_from(f"{order}HH", head, at)
    vr = head[at + 4 : at + 6]
    if vr in _SHORT_VRS:
        header, (length,) = 8, struct.unpack_from(f"{order}H", head, at + 6)
    elif vr in _LONG_VRS:
        header, (length,) = 12, struct.unpack_from(f"{order}I", head, at + 8)
    else:
        header, (length,) = 8, struct.unpack_from(f"{order}I", head, at + 4)
    known = group in (0x0002, 0x0008) and element <= 0x1200
    return ((group, element), at + header + length) if known and length <= _LONGEST_FIRST else None
