"""Read the picture of a DICOM file, which may be damaged or hostile.

Sizes are checked before anything is decoded. Of several frames, only the middle one is decoded.

Source: DICOM PS3.3, C.7.6.3 (image pixels).
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from PIL import Image

from mipp_cli.errors import UnreadableImageError
from mipp_cli.images.dicom_frames import RLE, decoded, frame_of, unsupported
from mipp_cli.images.dicom_header import (
    Metered,
    inflated,
    layout_of,
    pixels_at,
    refuse_no_picture,
)
from mipp_cli.images.dicom_levels import grey_levels_of, has_modality_lut, lut_entries
from mipp_cli.images.kinds import DICOM
from mipp_cli.images.refusals import OWN_BYTES, SHOWN_BYTES, check_bytes, damaged
from mipp_cli.images.windowing import Levels, Samples, Windowed, mapped, windowed

_UID: Final = re.compile("[0-9.]{1,64}")  # PS3.5, 9.1

_PADDING: Final = tuple(f"{kind}PixelPadding" for kind in ("", "Float", "DoubleFloat"))
_PALETTES: Final = tuple(f"{colour}PaletteColorLookupTable" for colour in ("Red", "Green", "Blue"))
# The only attributes that are read from a header. None holds a person's name.
_KEYWORDS: Final = (
    *("SOPClassUID", "Modality", "Rows", "Columns"),
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames"),
    *("BitsAllocated", "BitsStored", "PixelRepresentation", "ExtendedOffsetTable"),
    *("ExtendedOffsetTableLengths", "ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *(f"{each}{what}" for each in _PADDING for what in ("Value", "RangeLimit")),
    *(f"{each}{what}" for each in _PALETTES for what in ("Descriptor", "Data")),
)


class Series(NamedTuple):
    """The StudyInstanceUID and SeriesInstanceUID of a DICOM file, empty if missing."""

    study: str = ""
    series: str = ""


@dataclass(frozen=True, slots=True)
class DicomPicture:
    """The picture of a DICOM file: its stored samples and the 8-bit levels that show it.

    ``stored`` has the shape (rows, columns), or (rows, columns, 3) in colour, with padding and polarity as in
    the file; ``levels`` are grey or RGB. ``bits`` is the bits of a stored sample. ``frame`` counts from 1,
    and is None if the file has one frame.
    """

    stored: Samples
    levels: Levels
    flat: bool
    bits: int
    inverted: bool
    frame: int | None

    def pixels(self) -> Image.Image:
        """Return the stored samples as a picture of mode 1, L, I;16 or RGB, without the header.

        Signed samples are raised by half their range, and MONOCHROME1 samples are subtracted from the
        highest value of their bits, so that bright is high; both are reversible. Raises
        UnreadableImageError for floats, grey of more than 16 bits, and colour of more than 8 bits.
        """
        stored = self.stored
        if stored.dtype.kind == "f" or self.bits > (16 if stored.ndim == 2 else 8):
            raise UnreadableImageError(
                "the pixel payload holds only grey of up to 16 bits and colours of 8 bits",
                hint="encrypt the file itself (--payload file), which keeps every bit",
            )
        if stored.ndim == 3:
            return Image.fromarray(stored)
        raised = stored.astype(np.int64) + (1 << (self.bits - 1)) * (stored.dtype.kind == "i")
        raised = (1 << self.bits) - 1 - raised if self.inverted else raised
        if self.bits == 1:
            return Image.fromarray(raised.astype(bool))
        return Image.fromarray(raised.astype(np.uint8 if self.bits <= 8 else np.uint16))


def read_dicom(data: bytes, budget: int = OWN_BYTES) -> DicomPicture:
    """Return the picture of a DICOM file, with or without its preamble.

    Colours are RGB. The palette of PALETTE COLOR is applied. Grey is mapped by :func:`grey_levels_of`;
    colours of more than 8 bits are windowed with the same limits for all channels (:func:`windowed`).

    Raises UnreadableImageError if the file has no picture, is damaged or cut short, has more than MAX_PIXELS
    pixels per frame, takes more than ``budget`` bytes to decode, or no installed decoder can read it.
    """
    with _reading():
        return _picture(data, budget)


@contextmanager
def _reading() -> Iterator[None]:
    """Turn whatever is raised in the block into UnreadableImageError.

    pydicom's remarks about a file are kept off the terminal, since they may contain names.
    """
    missing = DICOM.missing()
    if missing is not None:
        raise UnreadableImageError("a DICOM file needs pydicom, which is not installed", hint=missing)
    # Never undone: undoing a filter would undo it for other threads, too.
    warnings.filterwarnings("ignore", module=r"(pydicom|mipp_cli\.images\.dicom)")
    config = importlib.import_module("pydicom.config")
    config.settings.reading_validation_mode = config.IGNORE
    try:
        yield
    except UnreadableImageError:
        raise
    # Decoders meet hostile data here, and raise more than they document.
    except Exception as error:
        raise damaged(error) from error


def _picture(data: bytes, budget: int) -> DicomPicture:
    from pydicom.uid import UID  # noqa: PLC0415 -- an extra

    data = inflated(data, budget)
    header, at = _header(data, _KEYWORDS)
    syntax = UID(header.file_meta.get("TransferSyntaxUID") or "")
    refuse_no_picture(header)
    implicit, little = header.original_encoding
    pixels = pixels_at(data, at, implicit=bool(implicit), order="<" if little else ">")
    layout = layout_of(header, pixels.keyword)
    check_bytes(
        layout.decoding_bytes(
            aside=pixels.encapsulated and syntax != RLE, by_table=has_modality_lut(header, layout.frame)
        ),
        budget,
        (layout.columns, layout.rows),
    )
    if not syntax.is_transfer_syntax:  # private or missing: uncompressed pixels can still be read
        if pixels.encapsulated:
            raise unsupported(syntax.name or "none is given")
    elif pixels.encapsulated != syntax.is_encapsulated:
        raise ValueError(f"the pixels are not stored as {syntax.name}")
    stored = decoded(frame_of(data, pixels, layout, header), pixels, layout, syntax)
    stored = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    if layout.photometric == "PALETTE COLOR":
        stored = _coloured(stored, header)
    if stored.ndim == 2:
        shown = grey_levels_of(stored, header, layout.frame)
    elif stored.dtype.itemsize == 1:
        shown = Windowed(stored, flat=bool((stored == stored[0, 0]).all()))
    else:
        shown = windowed(stored)
    return DicomPicture(
        stored,
        *shown,
        layout.bits,
        layout.photometric == "MONOCHROME1",
        layout.frame + 1 if layout.frames > 1 else None,
    )


def series_of(data: bytes) -> Series:
    """Return the study and the series of a DICOM file from its header alone; empty if missing.

    Raises UnreadableImageError if pydicom is missing or the header is damaged.
    """
    with _reading():
        header, _ = _header(inflated(data, SHOWN_BYTES), ("StudyInstanceUID", "SeriesInstanceUID"))
        named = [str(header.get(f"{each}InstanceUID") or "") for each in ("Study", "Series")]
    return Series(*(each if _UID.fullmatch(each) else "" for each in named))


def _header(data: bytes, keywords: Collection[str]) -> tuple[Any, int]:
    """Return the attributes with these keywords that precede the pixels, and the offset of the pixels."""
    from pydicom import dcmread  # noqa: PLC0415 -- an extra, and slow to import

    file = Metered(data)
    return dcmread(file, force=True, stop_before_pixels=True, specific_tags=[*keywords]), file.tell()


def _coloured(stored: Samples, header: Any) -> Samples:
    """Apply the palette to indices (C.7.6.3.1.5): 8 bits per channel, the high ones of 16."""
    colours = np.empty((*stored.shape, 3), np.uint8)
    for channel, table in enumerate(_PALETTES):
        first, bits, entries = lut_entries(
            header, f"{table}Descriptor", f"{table}Data", signed=stored.dtype.kind == "i"
        )
        levels = (entries >> 8 if bits > 8 and int(entries.max()) > 255 else entries).astype(np.uint8)
        colours[..., channel] = mapped(stored, _looked_up(levels, first))
    return colours


def _looked_up(levels: Levels, first: int) -> Callable[[Samples], Levels]:
    return lambda indices: levels[np.clip(indices.astype(np.int64) - first, 0, len(levels) - 1)]
