"""Map the stored grey values of a DICOM file to 8-bit levels.

Sources: DICOM PS3.3, C.11.1 (modality LUT), C.11.2 (values of interest), C.7.5.1.1.2 (pixel padding),
C.7.6.3.1.2 (MONOCHROME1), C.7.6.16 (functional groups of a frame).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mipp_cli.images.windowing import BLOCK, Levels, Samples, Windowed, mapped, windowed

_LOST: Final = 0.9  # a window that makes more than this share black or white does not fit the picture

Values = NDArray[np.float64]


def grey_levels_of(stored: Samples, header: Any, frame: int) -> Windowed:
    """Return the levels of one frame of stored grey values, shape (rows, columns).

    ``header`` is a pydicom data set, ``frame`` counts from 0. The modality LUT or the rescaling is applied
    first, then the first VOI LUT, or else the first window. If there is none, or it makes over 90 % black
    or white, the picture is windowed by its own range. Padding is black and otherwise ignored.
    """
    modality = _group(header, frame, "PixelValueTransformationSequence")
    interest = _group(header, frame, "FrameVOILUTSequence")
    counted = _counted(stored, header)
    inverted = header.get("PhotometricInterpretation") == "MONOCHROME1"
    values, by_window, falling = _modality(modality, stored), _interest(interest, stored), False
    if by_window is not None:
        levels = mapped(stored, lambda v: _rounded(by_window(values(v))))
        shown = levels if counted is None else levels[counted]
        lost = np.count_nonzero((shown == 0) | (shown == 255))
        if shown.size and lost <= _LOST * shown.size:
            levels = 255 - levels if inverted else levels
            if counted is not None:
                levels[~counted] = 0
            return Windowed(levels, flat=bool((shown == shown.flat[0]).all()))
    if modality.get("ModalityLUTSequence"):
        stored = _in_blocks(values, stored)
    else:
        falling = _number(modality, "RescaleSlope", 1.0) < 0
    return windowed(stored, counted=counted, inverted=inverted != falling)


def has_modality_lut(header: Any, frame: int) -> bool:
    """Return whether stored values are mapped by a modality LUT, which takes more memory."""
    return bool(_group(header, frame, "PixelValueTransformationSequence").get("ModalityLUTSequence"))


def _in_blocks(values: Callable[[Samples], Values], stored: Samples) -> Samples:
    """Map a frame by a table with entries of at most 16 bits.

    It is done block by block, as the intermediate values take 16 bytes per pixel.
    """
    out = np.empty(stored.size, dtype=np.uint16)
    flat = stored.ravel()
    for begin in range(0, flat.size, BLOCK):
        out[begin : begin + BLOCK] = values(flat[begin : begin + BLOCK])
    return out.reshape(stored.shape)


def lut_entries(
    item: Any, descriptor: str, data: str, *, signed: bool
) -> tuple[int, int, NDArray[np.uint16]]:
    """Return the first value that a table maps, its bits, and its entries; raises ValueError.

    An entry count of 0 stands for 2^16. The first value is signed if the mapped values are. 8-bit entries
    may be packed two to a word (PS3.3 C.7.6.3.1.5 and C.11.1.1).
    """
    count, first, bits = (int(number) for number in item[descriptor].value)
    count, first = count % (1 << 16) or 1 << 16, first % (1 << 16)
    content = item[data].value
    if isinstance(content, bytes):
        entries = np.frombuffer(content, dtype=np.uint8 if len(content) < 2 * count else "<u2")
    else:
        entries = np.atleast_1d(np.asarray(content, dtype=np.int64)).astype(np.uint16)
    if len(entries) < count:
        raise ValueError("a table has fewer entries than it says")
    first -= (1 << 16) * (signed and first >= 1 << 15)
    return first, bits, entries[:count].astype(np.uint16)


def _group(header: Any, frame: int, name: str) -> Any:
    """Return the item with a frame's attributes: its functional group, a shared one, or the header itself."""
    per_frame, shared = (header.get(f"{each}FunctionalGroupsSequence") for each in ("PerFrame", "Shared"))
    for groups, place in ((per_frame, frame), (shared, 0)):
        if groups and place < len(groups) and groups[place].get(name):
            return groups[place].get(name)[0]
    return header


def _counted(stored: Samples, header: Any) -> NDArray[np.bool_] | None:
    """Return a mask of the stored values that are not padding; None if there is no padding."""
    kind = {4: "Float", 8: "DoubleFloat"}[stored.dtype.itemsize] if stored.dtype.kind == "f" else ""
    value = _number(header, f"{kind}PixelPaddingValue", math.nan)
    limit = _number(header, f"{kind}PixelPaddingRangeLimit", value)
    if math.isnan(value):
        return None
    if not kind:  # the range may be written as signed for unsigned samples, and vice versa
        span = np.iinfo(stored.dtype)
        value, limit = (
            each + (each < span.min) * (1 << span.bits) - (each > span.max) * (1 << span.bits)
            for each in (value, limit)
        )
    low, high = min(value, limit), max(value, limit)
    return (stored < low) | (stored > high)


def _number(header: Any, name: str, default: float) -> float:
    """Return an attribute's first value as a number; the default if it is not a finite number."""
    try:
        value = header.get(name)
        if isinstance(value, bytes):  # the file does not state the value's type
            value = int.from_bytes(value[:2], "little") if value else None
        elif not isinstance(value, str | int | float | None):
            value = value[0] if len(value) else None
        number = float(default if value is None else value)
    # A damaged display attribute must not make the picture unreadable.
    except (ValueError, TypeError, OverflowError, ArithmeticError):
        return default
    return number if math.isfinite(number) else default


def _modality(header: Any, stored: Samples) -> Callable[[Samples], Values]:
    """Return the function from stored values to values of the modality, such as Hounsfield units."""
    if header.get("ModalityLUTSequence"):
        first, _, entries = lut_entries(
            header.ModalityLUTSequence[0], "LUTDescriptor", "LUTData", signed=stored.dtype.kind == "i"
        )
        table = entries.astype(np.float64)
        return lambda v: table[np.clip(v.astype(np.int64) - first, 0, len(table) - 1)]
    slope, intercept = (
        _number(header, f"Rescale{each}", at) for each, at in (("Slope", 1.0), ("Intercept", 0.0))
    )
    return lambda v: v.astype(np.float64) * slope + intercept


def _interest(header: Any, stored: Samples) -> Callable[[Values], Values] | None:
    """Return the function from values of the modality to unrounded levels 0…255; None if none is given."""
    if header.get("VOILUTSequence"):
        item = header.VOILUTSequence[0]
        # the mapped values are signed if stored values or their rescaling may be negative
        signed = stored.dtype.kind == "i" or _number(header, "RescaleIntercept", 0.0) < 0
        first, bits, entries = lut_entries(item, "LUTDescriptor", "LUTData", signed=signed)
        most = max(int(entries.max()), (1 << bits) - 1) if 1 <= bits <= 16 else int(entries.max())
        shades: Values = entries.astype(np.float64) * (255 / max(most, 1))
        return lambda x: shades[np.clip(np.floor(x - first), 0, len(shades) - 1).astype(np.int64)]
    center, width = (_number(header, f"Window{each}", math.nan) for each in ("Center", "Width"))
    function = header.get("VOILUTFunction") or "LINEAR"
    if math.isnan(center) or not width > 0:
        return None
    if function == "SIGMOID":
        return lambda x: 255 / (1 + np.exp(np.clip(-4 * (x - center) / width, -700, 700)))
    if function == "LINEAR" and width > 1:
        center, width = center - 0.5, width - 1
    return lambda x: np.clip((x - center) / width + 0.5, 0, 1) * 255


def _rounded(levels: Values) -> Levels:
    whole: Values = np.floor(np.nan_to_num(levels, nan=0.0) + 0.5)
    return whole.astype(np.uint8)
