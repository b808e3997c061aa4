"""How much memory decoding a picture takes at its peak, known before it is decoded, and how much it may take.

A file of half a megabyte can hold a hundred million pixels, and decoders take one to thirty bytes for each.
The figures below were measured, with what is made of the picture afterwards, and rounded up; a test holds
them to what decoding takes.
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

_MAX_SCANNED: Final = 1 << 32  # pixels of a JPEG file in all its scans; common ones have up to 15
_MAX_PARTS: Final = 1 << 16  # segments and chunks, which Pillow reads in Python
_MAX_RUNS: Final = 1 << 23  # bytes of a BMP file of run lengths, which Pillow unpacks in Python
_MAX_RUN_PIXELS: Final = 1 << 24  # which few bytes of run lengths may fill
# Bytes a pixel, by Pillow's mode: the picture, and the levels of one whose samples are deep.
_MODES: Final = {"1": 1.1, "L": 1.1, "P": 1.1, "I;16": 6.0, "I": 14.0, "F": 14.0}
_PICTURE: Final = 4.0
_ROW: Final = 16  # bytes a row, or column once it is turned: two pointers
# And of decoders that take more than that.
_DECODERS: Final = {kinds.GIF: 2.0, kinds.BMP: 4.0, kinds.WEBP: 17.0, kinds.AVIF: 10.0}
_ALPHA_OF_AVIF: Final = 4.0
_AV1_FRAME: Final = 4.0
_JPEG_2000: Final = 5.2  # for a component; and beside it the picture itself
_HEIC: Final = {8: 9.0, 16: 28.0}


def check_parts(data: bytes) -> None:
    """Refuse a file in so many parts that reading them would take longer than the picture."""
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
    """Refuse a picture that Pillow opened and did not decode yet, if decoding it takes more than a budget.

    ``claim`` is that of a JPEG 2000 codestream. ``size`` is that of the whole picture, whose sides
    are halved so many times while it is decoded. Raises UnreadableImageError.
    """
    pixels, scale = size[0] * size[1], 1 << halvings
    later = _MODES.get(image.mode[:4], _PICTURE)
    wanted = 0.0
    if kind == kinds.JPEG:
        layers: Any = getattr(image, "layer", [])
        scans = check_scans(data, len(layers), pixels)
        if scans > 1:  # all coefficients are kept, of two bytes each
            largest = max((h * v for _, h, v, *_ in layers), default=1)
            wanted = _PICTURE / scale**2 + 2 * sum(h * v for _, h, v, *_ in layers) / max(largest, 1)
    elif claim is not None:
        wanted = (_PICTURE + _JPEG_2000 * claim.samples) / scale**2
        pixels = max(pixels, claim.width * claim.height)
    else:
        wanted = _DECODERS.get(kind, 0.0) + _ALPHA_OF_AVIF * (kind == kinds.AVIF and image.mode == "RGBA")
        runs = any("rle" in tile.codec_name for tile in getattr(image, "tile", []))
        if kind == kinds.BMP and runs and (len(data) > _MAX_RUNS or pixels > _MAX_RUN_PIXELS):
            raise too_many_steps(f"run lengths of {len(data)} bytes for {pixels} pixels")
    wanted = max(wanted, later / scale**2)
    beside = _chunk_bytes(image) + _ROW * max(size) + (claim.beside if claim is not None else 0)
    if kind == kinds.AVIF:  # the size that Pillow reports is its container's; frames may be larger, or many
        planes = 2 if image.mode == "RGBA" else 1  # alpha is a frame of its own
        beside += int(_AV1_FRAME * max(0, frame_pixels(data) - planes * pixels))
    check_bytes(int(wanted * pixels) + beside, budget, size)


def check_scans(data: bytes, components: int, pixels: int) -> int:
    """Return how many scans a JPEG file or frame has, as :func:`jpeg_scans`; refuse it if these are many."""
    scans = jpeg_scans(data, components)
    if scans * pixels > _MAX_SCANNED:
        raise too_many_steps(f"{scans} scans")
    return scans


def check_heic(size: tuple[int, int], bits: int, budget: int) -> None:
    """Refuse a HEIC picture if decoding it takes more than a budget; raises UnreadableImageError."""
    check_bytes(int(_HEIC[8 if bits <= 8 else 16] * size[0] * size[1]), budget, size)


def _chunk_bytes(image: Image.Image) -> int:
    """Return the size of a strip or tile of a TIFF file, which is unpacked whole, be the picture smaller."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return 0
    tags: Any = image.tag_v2
    width, height = image.size
    columns, rows = tags.get(322, width), tags.get(323, min(tags.get(278, height), height))
    sample_bytes = max(4, tags.get(277, 1) * -(-max(tags.get(258, (8,))) // 8))
    chunk = columns * rows * sample_bytes if image.use_load_libtiff else 0
    copied = exif_orientation(image) != 1  # Pillow turns it upright itself
    return int(chunk + copied * width * height * sample_bytes)
