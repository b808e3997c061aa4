"""Limits on the size of a picture, and the errors for pictures that are refused."""

from __future__ import annotations

from typing import Final

from mipp_cli.errors import UnreadableImageError

MAX_PIXELS: Final = 2**27
"""Maximum pixels of a picture: 134 million, below Pillow's own limit. :mod:`costs` has the other limits."""
OWN_BYTES: Final = 1 << 30
"""Maximum bytes that decoding may take, beside the file, for a picture that is sent or searched by."""
SHOWN_BYTES: Final = 360_000_000
"""The same for others' pictures, which are only shown: their makers are unknown, and all are decoded."""

DAMAGED_HINT: Final = "restore the file from its source, or leave it out"


def check_size(width: int, height: int) -> None:
    """Raise UnreadableImageError for a picture without pixels or with more than :data:`MAX_PIXELS`."""
    if width < 1 or height < 1:
        raise UnreadableImageError("the picture has no pixels", hint=DAMAGED_HINT)
    if width * height > MAX_PIXELS:
        raise too_large(f"{width}×{height}")


def too_large(pixels: str) -> UnreadableImageError:
    """Return the error for a picture that claims too many pixels."""
    return UnreadableImageError(
        f"the picture claims {pixels} pixels; the limit is {MAX_PIXELS}",
        hint="scale the picture down, or leave it out",
    )


def check_bytes(wanted: int, budget: int, size: tuple[int, int]) -> None:
    """Raise UnreadableImageError if decoding a picture takes more bytes than its budget."""
    if wanted > budget:
        raise UnreadableImageError(
            f"decoding the {size[0]}×{size[1]} pixels takes {wanted // 10**6} MB; "
            f"the limit is {budget // 10**6} MB",
            hint="scale the picture down or save it in another format, or leave it out",
        )


def too_many_steps(what: str) -> UnreadableImageError:
    """Return the error for a picture that takes far longer to decode than others of its size."""
    return UnreadableImageError(
        f"the picture takes too long to decode: it has {what}", hint="save it again, or leave it out"
    )


def damaged(error: Exception) -> UnreadableImageError:
    """Return the error for a decoder's exception, whose text may quote the file, as one bounded line."""
    if isinstance(error, MemoryError):
        return UnreadableImageError(
            "there is not enough memory to decode the picture", hint="scale the picture down"
        )
    words = " ".join(str(error).split()) or type(error).__name__
    reason = printable(words[:200])
    return UnreadableImageError(f"the picture is damaged or cut short ({reason})", hint=DAMAGED_HINT)


def printable(text: str) -> str:
    """Return text from a file with unprintable characters, which a terminal might obey, as question marks."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
