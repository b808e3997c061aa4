"""Extract and decode one frame of a DICOM file.

The size that a compressed frame claims is checked before a decoder sees it.

Sources: DICOM PS3.5, 8 and annexes A (encapsulation) and G (run lengths).
"""

from __future__ import annotations

import io
from typing import Any, Final

import numpy as np

from mipp_cli.errors import UnreadableImageError
from mipp_cli.images.codestreams import check_frame, unpacked_run_lengths
from mipp_cli.images.costs import check_parts, check_scans
from mipp_cli.images.decoder_process import DecoderProcess
from mipp_cli.images.dicom_header import EXPLICIT, Layout, PixelsElement, check_items
from mipp_cli.images.refusals import DAMAGED_HINT, check_bytes, printable
from mipp_cli.images.windowing import Samples

RLE: Final = "1.2.840.10008.1.2.5"
_JPEG_EXTENDED: Final = "1.2.840.10008.1.2.4.51"
_PREFERRED: Final = ("pillow", "gdcm", "pylibjpeg")  # the most robust against hostile files first
_ASIDE: Final = DecoderProcess()
_MAX_BESIDE: Final = 50_000_000  # bytes for tiles, precincts and code-blocks of a JPEG 2000 frame


def frame_of(data: bytes, pixels: PixelsElement, layout: Layout, header: Any) -> bytes:
    """Return the bytes of the middle frame, as they are stored; raises UnreadableImageError."""
    if pixels.encapsulated:
        from pydicom.encaps import get_frame  # noqa: PLC0415 -- an extra

        check_items(data, pixels)
        tables = header.get("ExtendedOffsetTable"), header.get("ExtendedOffsetTableLengths")
        file = io.BytesIO(data)
        file.seek(pixels.start)
        return get_frame(
            file,
            layout.frame,
            number_of_frames=layout.frames,
            extended_offsets=tables if all(tables) else None,
        )
    skipped = layout.frame_bits * layout.frame
    first, last = pixels.start + skipped // 8, pixels.start + -(-(skipped + layout.frame_bits) // 8)
    if last > pixels.end:
        raise UnreadableImageError("the pixels are cut short", hint=DAMAGED_HINT)
    if skipped % 8:  # frames of one bit per pixel need not begin at a byte boundary
        bits = np.unpackbits(np.frombuffer(data[first:last], np.uint8), bitorder="little")
        return np.packbits(bits[skipped % 8 :], bitorder="little").tobytes()
    return data[first:last]


def decoded(frame: bytes, pixels: PixelsElement, layout: Layout, syntax: Any) -> Samples:
    """Decode a frame to samples of the shape (rows, columns), or (rows, columns, 3) for RGB.

    Raises UnreadableImageError if no installed decoder can decode it or it needs too much memory or time,
    and whatever a decoder raises.
    """
    from pydicom.pixels.decoders.base import get_decoder  # noqa: PLC0415 -- an extra

    planar = layout.planar
    if syntax == RLE:
        planes = layout.samples * layout.allocated // 8
        unpacked = unpacked_run_lengths(frame, planes, layout.rows * layout.columns)
        # the planes of the highest bytes come first
        split = np.frombuffer(unpacked, np.uint8).reshape(layout.samples, layout.allocated // 8, -1)[:, ::-1]
        frame, planar = np.moveaxis(split, 1, 2).tobytes(), 1
    native = not pixels.encapsulated or syntax == RLE
    name = EXPLICIT.decode() if native and pixels.order == "<" else syntax or "1.2.840.10008.1.2.2"
    try:
        decoder = get_decoder(name)
    except NotImplementedError:
        raise unsupported(syntax.name) from None
    options: dict[str, Any] = {
        "rows": layout.rows,
        "columns": layout.columns,
        "number_of_frames": 1,
        "samples_per_pixel": layout.samples,
        "bits_allocated": layout.allocated,
        "bits_stored": layout.bits,
        "photometric_interpretation": layout.photometric,
        "pixel_keyword": pixels.keyword,
        "pixel_representation": int(layout.signed),
        "planar_configuration": planar,
    }
    if native:
        return decoder.as_array(frame, index=0, **options)[0]
    check_parts(frame)
    claim = check_frame(frame, layout.columns, layout.rows, layout.samples)
    check_bytes(claim.beside, _MAX_BESIDE, (layout.columns, layout.rows))
    check_scans(frame, layout.samples, layout.columns * layout.rows)
    able, packages = [each for each in _PREFERRED if each in decoder.available_plugins], "python-gdcm"
    if syntax == _JPEG_EXTENDED and layout.bits > 8:
        able, packages = [each for each in able if each == "pylibjpeg"], "pylibjpeg pylibjpeg-libjpeg"
    if not able:
        raise unsupported(syntax.name, f"pip install {packages}")
    for plugin in able[:-1]:
        try:
            return _by_plugin(frame, decoder, plugin, options)
        except Exception:  # noqa: BLE001, S112 -- the next may succeed; the last one's error is reported
            continue
    return _by_plugin(frame, decoder, able[-1], options)


def _by_plugin(frame: bytes, decoder: Any, plugin: str, options: dict[str, Any]) -> Samples:
    if plugin != "pillow":
        return _ASIDE.decode(frame, str(decoder.UID), plugin, options)
    from pydicom.encaps import encapsulate  # noqa: PLC0415 -- an extra

    samples: Samples = decoder.as_array(encapsulate([frame]), index=0, decoding_plugin=plugin, **options)[0]
    return samples


def unsupported(name: str, hint: str = "convert the file, or leave it out") -> UnreadableImageError:
    """Return the error for a transfer syntax that cannot be read."""
    return UnreadableImageError(f"the transfer syntax is not supported: {printable(name[:80])}", hint=hint)
