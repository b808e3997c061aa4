"""Make the copies of a picture for a browser: a small JPEG, and a large one if it cannot show the file."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageChops, ImageStat

from mipp_cli.errors import UnreadableImageError
from mipp_cli.images.kinds import kind_of
from mipp_cli.images.pictures import open_picture
from mipp_cli.images.refusals import SHOWN_BYTES
from mipp_cli.images.thumbnails import Size, reduced_to, thumbnail

LARGE: Final = (4096, 4096)
"""Maximum pixels per side of a large copy, which browsers decode easily."""

_BROWSERS_SHOW: Final = frozenset(
    {"image/jpeg", "image/png", "image/webp", "image/bmp", "image/gif", "image/avif"}
)
_SHOWN_BITS: Final = 8
_SMALL_QUALITY, _LARGE_QUALITY = 80, 92
_DARK: Final = 48  # level of 255: an edge that is darker on average counts as dark
_GREY: Final = 6  # mean difference of the channels of a grey picture, which JPEG causes


@dataclass(frozen=True)
class Rendition:
    """The copies of a picture for a browser.

    ``large`` is a JPEG file, or None if a browser shows the picture's own file; ``full_size`` is the
    picture's upright size.
    """

    small: Image.Image
    full_size: Size
    large: bytes | None


def render(content: bytes, said: str, size: Size) -> Rendition | None:
    """Return copies of a picture file of the claimed media type ``said``, the small one fitted into ``size``.

    A JPEG or JPEG 2000 picture is decoded at a fraction of its size. There is a large copy if browsers do
    not show the file: other formats, grey of more than 8 bits, which they do not stretch, and files whose
    format is not ``said``, from which their suffix comes. Returns None if the picture cannot be decoded, or
    decoding it takes more than SHOWN_BYTES.
    """
    try:
        kind = kind_of(content)
        trusted = kind is not None and kind.media_type == said and said in _BROWSERS_SHOW
        at_least = _roomy(size) if trusted else LARGE
        picture = open_picture(content, path=None, at_least=at_least, budget=SHOWN_BYTES)
        small = thumbnail(picture.shown, size)
        large = None
        if not trusted or picture.facts.bits > _SHOWN_BITS:
            large = jpeg(reduced_to(picture.shown, LARGE), _LARGE_QUALITY)
    except UnreadableImageError:
        return None
    return Rendition(small, (picture.facts.width, picture.facts.height), large)


def jpeg(picture: Image.Image, quality: int = _SMALL_QUALITY) -> bytes:
    """Return an RGB picture as a JPEG file without metadata."""
    buffer = io.BytesIO()
    subsampling = "4:4:4" if quality == _LARGE_QUALITY else "4:2:0"
    # Without comment=, Pillow would copy the picture's comment.
    picture.save(buffer, "JPEG", quality=quality, optimize=True, subsampling=subsampling, comment=b"")
    return buffer.getvalue()


def looks_best_on_black(picture: Image.Image) -> bool:
    """Return whether an RGB picture is grey, as radiographs are, or has a dark edge."""
    red, green, blue = picture.split()
    apart = ImageChops.add(ImageChops.difference(red, green), ImageChops.difference(green, blue))
    if ImageStat.Stat(apart).mean[0] < _GREY:
        return True
    grey = picture.convert("L")
    width, height = grey.size
    strips = (
        (0, 0, width, 1),
        (0, height - 1, width, height),
        (0, 0, 1, height),
        (width - 1, 0, width, height),
    )
    return sum(ImageStat.Stat(grey.crop(strip)).mean[0] for strip in strips) < _DARK * len(strips)


def _roomy(size: Size) -> Size:
    """Return a square of twice a size: a reduced decoding, of either orientation, is still scaled down."""
    side = 2 * max(size)
    return side, side
