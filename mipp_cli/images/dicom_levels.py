"""How the grey values that a DICOM file stores are shown: what is black, what is white, and what is padding.

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

_LOST: Final = 0.9  # a window that leaves more than this share black or white was meant for something else


Values = NDArray[np.float64]


def grey_levels_of(stored: Samples, header: Any, frame: int) -> Windowed:
    """Return the levels of one frame of stored grey values, shape (rows, columns).

    ``header`` is a pydicom data set, ``frame`` counts from 0. The modality LUT or the rescaling comes first,
    then the first VOI LUT, or else the first window. Where there is none, or it leaves over 90 % black or
    white, the picture is windowed by itself. Padding is black and counts for nothing.
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
    """Say whether stored values go through a table, for which they are held as real numbers."""
    return bool(_group(header, frame, "PixelValueTransformationSequence").get("ModalityLUTSequence"))


def _in_blocks(values: Callable[[Samples], Values], stored: Samples) -> Samples:
    """Return the values of a frame, which are entries of a table of 16 bits at most.

    It goes block by block: whole, they would take 16 bytes a pixel on the way.
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

    The number of entries is 0 for 2^16. The first value is signed where what is mapped is. Entries of 8 bits
    may come two to a word (PS3.3 C.7.6.3.1.5 and C.11.1.1).
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
    """Return where the attributes of a frame stand: in its functional groups, in shared ones, or outside."""
    per_frame, shared = (header.get(f"{each}FunctionalGroupsSequence") for each in ("PerFrame", "Shared"))
    for groups, place in ((per_frame, frame), (shared, 0)):
        if groups and place < len(groups) and groups[place].get(name):
            return groups[place].get(name)[0]
    return header


def _counted(stored: Samples, header: Any) -> NDArray[np.bool_] | None:
    """Tell which stored values are no padding; None if there is no padding."""
    kind = {4: "Float", 8: "DoubleFloat"}[stored.dtype.itemsize] if stored.dtype.kind == "f" else ""
    value = _number(header, f"{kind}PixelPaddingValue", math.nan)
    limit = _number(header, f"{kind}PixelPaddingRangeLimit", value)
    if math.isnan(value):
        return None
    if not kind:  # the range may be written as signed where samples are not, and the other way round
        span = np.iinfo(stored.dtype)
        value, limit = (
            each + (each < span.min) * (1 << span.bits) - (each > span.max) * (1 << span.bits)
            for each in (value, limit)
        )
    low, high = min(value, limit), max(value, limit)
    return (stored < low) | (stored > high)


def _number(header: Any, name: str, default: float) -> float:
    """Return an attribute's value, or the first of several; the default if there is no finite number."""
    try:
        value = header.get(name)
        if isinstance(value, bytes):  # of a file that does not say what kind of value it is
            value = int.from_bytes(value[:2], "little") if value else None
        elif not isinstance(value, str | int | float | None):
            value = value[0] if len(value) else None
        number = float(default if value is None else value)
    # A picture is not lost for an attribute that only says how to show it.
    except (ValueError, TypeError, OverflowError, ArithmeticError):
        return default
    return number if math.isfinite(number) else default


def _modality(header: Any, stored: Samples) -> Callable[[Samples], Values]:
    """Return what makes values of the modality, such as Hounsfield units, of stored ones."""
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
    """Return what makes levels 0…255, not rounded yet, of values of the modality; None if nothing is said."""
    if header.get("VOILUTSequence"):
        item = header.VOILUTSequence[0]
        # what is mapped is signed where stored values or their rescaling may be negative
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
