"""How large a picture may be, and what is said of files that are no sound picture."""

from __future__ import annotations

from typing import Final

from mipp_cli.errors import UnreadableImageError

MAX_PIXELS: Final = 2**27
"""Pixels a picture may have: 134 million. Pillow's own limit lies above it; :mod:`costs` says the rest."""
OWN_BYTES: Final = 1 << 30
"""Memory that decoding a picture may take, beside its file, that somebody sends or searches by."""
SHOWN_BYTES: Final = 360_000_000
"""The same of others' pictures, which are only shown: who made them is not known, and all are looked at."""

DAMAGED_HINT: Final = "restore the file from its source, or leave it out"


def check_size(width: int, height: int) -> None:
    """Refuse pictures without pixels, and those of more than :data:`MAX_PIXELS`: UnreadableImageError."""
    if width < 1 or height < 1:
        raise UnreadableImageError("the picture has no pixels", hint=DAMAGED_HINT)
    if width * height > MAX_PIXELS:
        raise too_large(f"{width}×{height}")


def too_large(pixels: str) -> UnreadableImageError:
    """Return the error for a picture that claims so many pixels."""
    return UnreadableImageError(
        f"the picture claims {pixels} pixels; the limit is {MAX_PIXELS}",
        hint="scale the picture down, or leave it out",
    )


def check_bytes(wanted: int, budget: int, size: tuple[int, int]) -> None:
    """Refuse a picture of a size if decoding it takes more bytes than a budget: UnreadableImageError."""
    if wanted > budget:
        raise UnreadableImageError(
            f"decoding the {size[0]}×{size[1]} pixels takes {wanted // 10**6} MB; "
            f"the limit is {budget // 10**6} MB",
            hint="scale the picture down or save it in another format, or leave it out",
        )


def too_many_steps(what: str) -> UnreadableImageError:
    """Return the error for a picture that takes far longer to decode than others of its size."""
    return UnreadableImageError(
        f"the picture takes too long to decode: it has {what}", hint="save it anew, or leave it out"
    )


def damaged(error: Exception) -> UnreadableImageError:
    """Return the error for what a decoder raised, in which bytes of the file may stand: one bounded line."""
    if isinstance(error, MemoryError):
        return UnreadableImageError(
            "there is not enough memory to decode the picture", hint="scale the picture down"
        )
    words = " ".join(str(error).split()) or type(error).__name__
    reason = printable(words[:200])
    return UnreadableImageError(f"the picture is damaged or cut short ({reason})", hint=DAMAGED_HINT)


def printable(text: str) -> str:
    """Return text from a file with a question mark for each letter that a terminal might obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
