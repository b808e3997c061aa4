"""What leaks if the paper is implemented literally: one R_i for x and x², one key stream for two pictures.

The package does neither elsewhere. Eq. 4 for EF and EFF: section 5.3.3. Algorithm 1: section 5.3.2.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mipp_cli.experiments.attack.keyless_reading import Numbers, Reading, integers, read_quotients
from mipp_cli.files.system_errors import output_error
from mipp_cli.images.grey_levels import grey_levels
from mipp_cli.images.pictures import open_picture
from mipp_cli.images.sheet_text import font, shorten
from mipp_cli.scheme.feature_cipher import ProductCipher
from mipp_cli.scheme.parameters import Parameters

_TILE = 288  # side of a picture on the sheet, in pixels
_GAP, _CAPTION, _TEXT = 12, 22, 14

Pixels = NDArray[np.uint8]


def shared_blinding(parameters: Parameters, codes: Numbers) -> Reading:
    """Encrypt codes and squares with the same R_i, as printed in the paper, and recover x² − x."""
    x: list[int] = codes.tolist()
    cipher = parameters.cipher
    # an encryption of zero is the blinding itself: R_i, or the mask
    blinding = integers(parameters, cipher.encrypt(np.zeros((1, len(x)), dtype=np.uint8))[0])
    if isinstance(cipher, ProductCipher):
        of_codes = [int(c) for c in cipher.encrypt_with(x, blinding)]
        of_squares = [int(c) for c in cipher.encrypt_with([value**2 for value in x], blinding)]
    else:
        of_codes = [mask + value for mask, value in zip(blinding, x, strict=True)]
        of_squares = [mask + value**2 for mask, value in zip(blinding, x, strict=True)]
    return read_quotients(parameters, of_codes, of_squares)


@dataclass(frozen=True)
class TwoTimePad:
    """Two pictures of equal size under one key stream, as Algorithm 1 is printed."""

    names: tuple[str, str]
    plain: tuple[Pixels, Pixels]
    encrypted: tuple[Pixels, Pixels]

    @property
    def difference(self) -> Pixels:
        """The XOR of the two encrypted pictures, which needs no key."""
        return self.encrypted[0] ^ self.encrypted[1]

    @property
    def share_of_plain(self) -> float:
        """The share of its bytes that equal the XOR of the two plaintext pictures."""
        return float((self.difference == self.plain[0] ^ self.plain[1]).mean())

    def write_sheet(self, path: Path) -> None:
        """Write a sheet of all these pictures as a PNG; raises OutputError."""
        known = self.difference ^ self.plain[0]
        tiles = [
            (f"picture 1: {self.names[0]}", self.plain[0]),
            ("picture 1 encrypted", self.encrypted[0]),
            ("both encrypted pictures, XOR", self.difference),
            (f"picture 2: {self.names[1]}", self.plain[1]),
            ("picture 2 encrypted", self.encrypted[1]),
            ("that XOR with a known picture 1", known),
        ]
        wide, high = _TILE + _GAP, _TILE + _GAP + _CAPTION
        sheet = Image.new("L", (3 * wide + _GAP, 2 * high + _GAP), 255)
        draw = ImageDraw.Draw(sheet)
        for number, (caption, pixels) in enumerate(tiles):
            left, top = _GAP + number % 3 * wide, _GAP + number // 3 * high
            draw.text((left, top), shorten(caption, _TILE, _TEXT), fill=0, font=font(_TEXT))
            tile = Image.fromarray(pixels).resize((_TILE, _TILE), Image.Resampling.NEAREST)
            sheet.paste(tile, (left, top + _CAPTION))
        try:
            sheet.save(path, "PNG")
        except OSError as error:
            raise output_error(error, path) from error


def one_key_stream(first: Path, second: Path) -> TwoTimePad:
    """Encrypt two pictures, cropped to equal squares, with the same key stream: Algorithm 1 with one SK.

    Raises UnreadableImageError.
    """
    pictures = [_grey(first), _grey(second)]
    side = min(min(pixels.shape) for pixels in pictures)
    one, two = (_middle(pixels, side) for pixels in pictures)
    stream = np.frombuffer(os.urandom(side * side), dtype=np.uint8).reshape(side, side)
    return TwoTimePad((first.name, second.name), (one, two), (one ^ stream, two ^ stream))


def _grey(path: Path) -> Pixels:
    picture = open_picture(path.read_bytes(), path=str(path))
    return grey_levels(picture.eight_bits()).astype(np.uint8)


def _middle(pixels: Pixels, side: int) -> Pixels:
    top, left = ((length - side) // 2 for length in pixels.shape)
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])
