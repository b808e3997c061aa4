"""Open pictures of every kind, which may be damaged or hostile, through one interface."""

from __future__ import annotations

import importlib
import io
import logging
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from mipp_cli.errors import UnreadableImageError, errors_at
from mipp_cli.images import kinds, tiff
from mipp_cli.images.codestreams import Claim, avif_is_deep, jpeg_2000_claim, without_remarks
from mipp_cli.images.colours import upright
from mipp_cli.images.costs import check_cost, check_heic, check_parts
from mipp_cli.images.dicom import DicomPicture, read_dicom
from mipp_cli.images.grey_levels import exif_orientation, is_deep
from mipp_cli.images.kinds import KINDS, Kind, kind_of
from mipp_cli.images.refusals import DAMAGED_HINT, MAX_PIXELS, OWN_BYTES, check_size, damaged, too_large
from mipp_cli.images.windowing import Samples, windowed

logging.getLogger("PIL").addHandler(logging.NullHandler())  # its remarks about a file stay off the terminal
# Otherwise Pillow returns the memory of each picture to the system, which clears it for the next one: a
# quarter of the time of decoding and describing a photograph. A block has 16 MB at most.
Image.core.set_blocks_max(2)  # type: ignore[attr-defined]  # missing from its stub

_BY_PILLOW: Final = {
    kinds.JPEG: "JPEG",
    kinds.PNG: "PNG",
    kinds.TIFF: "TIFF",
    kinds.BMP: "BMP",
    kinds.WEBP: "WEBP",
    kinds.GIF: "GIF",
    kinds.AVIF: "AVIF",
    kinds.JPEG_2000: "JPEG2000",
    kinds.CODESTREAM: "JPEG2000",
}
_EXTENSIONS: Final = {kind.media_type: kind.extension for kind in KINDS}
_BITS: Final = {"1": 1, "I": 32, "F": 32}  # per sample, by Pillow's mode; I;16 has 16, all others 8
_LOOKED_AT: Final = 8  # pixels on the diagonal


@dataclass(frozen=True, slots=True)
class Facts:
    """The upright size of a picture, and the bits of a sample as stored.

    ``frame`` is the frame that was taken from a DICOM file with several, counted from 1.
    """

    width: int
    height: int
    bits: int
    frame: int | None = None


@dataclass(frozen=True)
class Picture:
    """A decoded picture: descriptors use ``eight_bits``, contact sheets ``shown``, payloads ``stored``."""

    kind: Kind
    facts: Facts
    decoded: Image.Image | Samples | DicomPicture

    @cached_property
    def shown(self) -> Image.Image:
        """The picture at 8 bits per sample, perhaps with an alpha channel and an EXIF orientation to apply.

        Deep samples are windowed by the picture's own range, and upright already; 8-bit ones are as stored.
        """
        if isinstance(self.decoded, DicomPicture):
            return Image.fromarray(self.decoded.levels)
        if not isinstance(self.decoded, Image.Image):
            return Image.fromarray(windowed(self.decoded).levels)
        return upright(self.decoded) if is_deep(self.decoded) else self.decoded

    @cached_property
    def flat(self) -> bool:
        """Whether the picture has only one value, padding aside, so that it cannot be described."""
        if isinstance(self.decoded, DicomPicture):
            return self.decoded.flat
        picture = self.eight_bits()
        # A few pixels decide for nearly every picture; all of them take a fifth of the decoding time.
        along = (
            (picture.width * n // _LOOKED_AT, picture.height * n // _LOOKED_AT) for n in range(_LOOKED_AT)
        )
        first = picture.getpixel((0, 0))
        if any(picture.getpixel(place) != first for place in along):
            return False
        extrema: Any = picture.getextrema()
        return all(low == high for low, high in np.reshape(extrema, (-1, 2)))

    def eight_bits(self) -> Image.Image:
        """Return the picture upright, in mode L or RGB, without an alpha channel.

        Raises UnreadableImageError if its mode has no levels of known range (LAB).
        """
        return self._eight_bits

    @cached_property
    def _eight_bits(self) -> Image.Image:
        return upright(self.shown)

    def stored(self) -> Image.Image:
        """Return the picture with all bits of its samples, for the pixel payload.

        Raises UnreadableImageError if a payload cannot hold them.
        """
        if isinstance(self.decoded, DicomPicture):
            return self.decoded.pixels()
        if isinstance(self.decoded, Image.Image):
            return self.decoded
        raise UnreadableImageError(
            "the pixel payload holds only grey of up to 16 bits and colours of 8 bits",
            hint="encrypt the file itself (--payload file), which keeps every bit",
        )


def open_picture(
    data: bytes, *, path: str | None, at_least: tuple[int, int] | None = None, budget: int = OWN_BYTES
) -> Picture:
    """Decode the content of a picture file completely. Thread-safe.

    The kind is detected from the content. From a file with several pictures (MPO, TIFF pages, animations),
    the first one is read that is not a smaller copy or mask of another; from a DICOM file with several
    frames, the middle one. Where white is zero, samples are inverted. ``path`` names the file in errors.
    ``at_least`` is a width and height: JPEG and JPEG 2000 may be decoded at a half, a quarter or an eighth
    of their size, as long as that is no smaller; the facts describe the full picture. ``budget`` limits the
    bytes that decoding takes in addition to the file.

    Raises UnreadableImageError if the file is empty, damaged or cut short, its kind is unknown or needs an
    extra that is not installed, it has more than MAX_PIXELS pixels, decoding it takes more than its budget,
    or its colours have more than 8 bits and the decoder does not keep them.
    """
    with errors_at(path) if path is not None else nullcontext():
        if not data:
            raise UnreadableImageError("the file is empty", hint=DAMAGED_HINT)
        kind = kind_of(data)
        if kind is None:
            known = ", ".join(each.name for each in KINDS if each != kinds.CODESTREAM)
            raise UnreadableImageError(
                "the file is not a picture, or its header is damaged",
                hint=f"supported kinds are {known}; convert the file, or leave it out",
            )
        missing = kind.missing()
        if missing is not None:
            raise UnreadableImageError(
                f"reading {kind.name} needs a package that is not installed", hint=missing
            )
        if kind == kinds.DICOM:
            return _of_dicom(read_dicom(data, budget))
        try:
            if kind == kinds.HEIC:
                return _of_heic(data, budget)
            return _by_pillow(data, kind, at_least, budget)
        except UnreadableImageError:
            raise
        except Image.DecompressionBombError as error:
            raise too_large(f"more than {MAX_PIXELS}") from error
        # Decoders meet hostile data here, and raise more than they document.
        except Exception as error:
            raise damaged(error) from error


def extension(media_type: str) -> str:
    """Return the file suffix, with its dot, of a media type; ".bin" if it is unknown."""
    return _EXTENSIONS.get(media_type, ".bin")


def _of_dicom(picture: DicomPicture) -> Picture:
    height, width = picture.stored.shape[:2]
    facts = Facts(width, height, picture.bits, picture.frame)
    return Picture(kinds.DICOM, facts, picture)


def _of_heic(data: bytes, budget: int) -> Picture:
    heif: Any = importlib.import_module("pillow_heif")  # an extra
    image = heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
    check_size(*image.size)
    bits = image.info.get("bit_depth", 8)
    check_heic(image.size, bits, budget)
    # The library turns pictures upright itself.
    decoded = image.to_pillow() if bits <= 8 else np.asarray(image)[..., :3]
    return Picture(kinds.HEIC, Facts(image.size[0], image.size[1], bits), decoded)


def _by_pillow(data: bytes, kind: Kind, at_least: tuple[int, int] | None, budget: int) -> Picture:
    # Never undone: undoing a filter would undo it for other threads, too.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    if kind == kinds.AVIF and avif_is_deep(data):
        raise _depth_lost()
    check_parts(data)
    try:
        image = _decoded(data, kind, at_least, budget)
    except ValueError as error:
        if kind != kinds.PNG or "MAX_TEXT" not in str(error):
            raise
        image = _decoded(without_remarks(data), kind, at_least, budget)
    return image


def _decoded(data: bytes, kind: Kind, at_least: tuple[int, int] | None, budget: int) -> Picture:
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=[_BY_PILLOW[kind]])
    except UnidentifiedImageError as error:
        raise UnreadableImageError(
            f"the header of the {kind.name} file is damaged, or its pixel format is not supported",
            hint="convert the picture, restore it from its source, or leave it out",
        ) from error
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tiff.prepare(image)
    check_size(*image.size)
    claim = jpeg_2000_claim(data) if _BY_PILLOW[kind] == "JPEG2000" else None
    bits, size = _bits(image, claim), image.size
    halvings = 0 if at_least is None else _scaled_down(image, at_least, claim)
    check_cost(image, kind, data, claim, size, budget, halvings)
    image.load()
    # Reads and caches the EXIF data while errors in it are still caught.
    turned = exif_orientation(image) >= 5
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        size = image.size  # loading has turned it
        return Picture(kind, Facts(*size, bits), tiff.mended(image))
    width, height = size[::-1] if turned else size
    return Picture(kind, Facts(width, height, bits), image)


def _scaled_down(image: Image.Image, at_least: tuple[int, int], claim: Claim | None) -> int:
    """Request decoding at a fraction of the size if the format supports it; return the number of halvings."""
    width = image.width
    if claim is not None:
        fits = min(image.width // at_least[0], image.height // at_least[1])
        halvings = min(max(fits.bit_length() - 1, 0), claim.halvings, 3)
        opened: Any = image  # of this format, `reduce` is a property
        opened.reduce = halvings
        return halvings
    image.draft(None, at_least)
    return (-(-width // image.width)).bit_length() - 1


def _bits(image: Image.Image, claim: Claim | None) -> int:
    """Return the bits of a sample, before decoding; raises UnreadableImageError if some would be lost."""
    bits = 16 if image.mode.startswith("I;16") else _BITS.get(image.mode, 8)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = tiff.bits_of(image)
        lost = bits > 8 and not is_deep(image)
    elif claim is not None:
        bits = claim.bits
        lost = bits > (16 if is_deep(image) else 8)
    else:
        # The arguments of a tile's decoder begin with the layout of the stored samples, such as "RGB;16B".
        tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
        lost = not is_deep(image) and any(";16" in str(tile.args) for tile in tiles)
    if lost:
        raise _depth_lost()
    return bits


def _depth_lost() -> UnreadableImageError:
    return UnreadableImageError(
        "the depth of the picture is not supported: its decoder keeps only 8 bits per sample",
        hint="convert the picture to 8 bits per channel, or leave it out",
    )
