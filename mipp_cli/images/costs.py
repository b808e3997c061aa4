"""Estimate the peak memory of decoding a picture before it is decoded, and enforce the limits.

A file of half a megabyte can hold a hundred million pixels, and decoders take one to thirty bytes per pixel.
The figures below were measured, including the processing after decoding, and rounded up. A test compares
them with the memory that decoding takes.
"""

from __future__ import annotations

from typing import Any, Final

from PIL import Image, TiffImagePlugin

from mipp_cli.images import kinds
from mipp_cli.images.av1 import frame_pixels
from mipp_cli.images.codestreams import Claim, jpeg_scans, parts
from mipp_cli.images.grey_levels import exif_orientation
from mipp_cli.images.kinds import Kind
from mipp_cli.images.refusals import check_bytes, too_many_steps

_MAX_SCANNED: Final = 1 << 32  # pixels times scans of a JPEG file; common files have up to 15 scans
_MAX_PARTS: Final = 1 << 16  # segments and chunks, which Pillow reads in Python
_MAX_RUNS: Final = 1 << 23  # bytes of a run-length encoded BMP file, which Pillow unpacks in Python
_MAX_RUN_PIXELS: Final = 1 << 24  # a few bytes of run lengths can fill many pixels
# Bytes per pixel by Pillow's mode: the picture, and its 8-bit levels or its copies in RGB.
_MODES: Final = {"1": 1.1, "L": 1.1, "P": 1.1, "I;16": 6.0, "I": 14.0, "F": 14.0, "CMYK": 12.0}
_PICTURE: Final = 4.0
_ROW: Final = 16  # bytes per row, or per column once turned: two pointers
# Decoders that take more than that.
_DECODERS: Final = {
    kinds.GIF: 2.0,
    kinds.BMP: 4.0,
    kinds.WEBP: 17.0,
    kinds.AVIF: 13.0,
}  # AVIF with film grain
_ALPHA_OF_AVIF: Final = 4.0
_AV1_FRAME: Final = 6.0
_JPEG_2000: Final = 5.2  # per component, in addition to the picture itself
_HEIC: Final = {8: 9.0, 16: 28.0}


def check_parts(data: bytes) -> None:
    """Refuse a file with so many parts that reading them would take longer than decoding the picture."""
    if any(number > _MAX_PARTS for number, _ in enumerate(parts(data))):
        raise too_many_steps(f"more than {_MAX_PARTS} parts")


def check_cost(
    image: Image.Image,
    kind: Kind,
    data: bytes,
    claim: Claim | None,
    size: tuple[int, int],
    budget: int,
    halvings: int,
) -> None:
    """Refuse a picture, opened but not yet decoded, if decoding it takes more than ``budget`` bytes.

    ``claim`` is for JPEG 2000 only. ``size`` is the full size of the picture, whose sides the decoder
    halves ``halvings`` times. Raises UnreadableImageError.
    """
    pixels, scale = size[0] * size[1], 1 << halvings
    later = _MODES.get(image.mode[:4], _PICTURE)
    wanted = 0.0
    if kind == kinds.JPEG:
        layers: Any = getattr(image, "layer", [])
        scans = check_scans(data, len(layers), pixels)
        if scans > 1:  # the decoder keeps all coefficients, two bytes each
            largest = max((h * v for _, h, v, *_ in layers), default=1)
            wanted = _PICTURE / scale**2 + 2 * sum(h * v for _, h, v, *_ in layers) / max(largest, 1)
    elif claim is not None:
        wanted = (_PICTURE + _JPEG_2000 * claim.samples) / scale**2
        pixels = max(pixels, claim.width * claim.height)
    else:
        wanted = _DECODERS.get(kind, 0.0) + _ALPHA_OF_AVIF * (kind == kinds.AVIF and image.mode == "RGBA")
        runs = any("rle" in tile.codec_name for tile in getattr(image, "tile", []))
        if kind == kinds.BMP and runs and (len(data) > _MAX_RUNS or pixels > _MAX_RUN_PIXELS):
            raise too_many_steps(f"{len(data)} bytes of run lengths for {pixels} pixels")
    wanted = max(wanted, later / scale**2)
    beside = _chunk_bytes(image) + _ROW * max(size) + (claim.beside if claim is not None else 0)
    if kind == kinds.AVIF:  # Pillow reports the container's size; the frames may be larger, or many
        planes = 2 if image.mode == "RGBA" else 1  # alpha is a frame of its own
        beside += int(_AV1_FRAME * max(0, frame_pixels(data) - planes * pixels))
    check_bytes(int(wanted * pixels) + beside, budget, size)


def check_scans(data: bytes, components: int, pixels: int) -> int:
    """Return the number of scans of a JPEG file or frame (:func:`jpeg_scans`); refuse too many."""
    scans = jpeg_scans(data, components)
    if scans * pixels > _MAX_SCANNED:
        raise too_many_steps(f"{scans} scans")
    return scans


def check_heic(size: tuple[int, int], bits: int, budget: int) -> None:
    """Refuse a HEIC picture if decoding it takes more than ``budget`` bytes; raises UnreadableImageError."""
    check_bytes(int(_HEIC[8 if bits <= 8 else 16] * size[0] * size[1]), budget, size)


def _chunk_bytes(image: Image.Image) -> int:
    """Return the bytes of a strip or tile of a TIFF file, which is unpacked whole."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return 0
    tags: Any = image.tag_v2
    width, height = image.size
    columns, rows = tags.get(322, width), tags.get(323, min(tags.get(278, height), height))
    sample_bytes = max(4, tags.get(277, 1) * -(-max(tags.get(258, (8,))) // 8))
    chunk = columns * rows * sample_bytes if image.use_load_libtiff else 0
    copied = exif_orientation(image) != 1  # Pillow turns it upright itself
    return int(chunk + copied * width * height * sample_bytes)
