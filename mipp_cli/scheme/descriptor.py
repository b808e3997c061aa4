"""What a deployment's features are: the name of the descriptor, how many codes, and how many levels each."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipp_cli.errors import InvalidRequestError, MalformedError

EDGE_HISTOGRAM = "edge-histogram"
DIMENSION = 80
"""Codes of an edge histogram: 16 sub-images × 5 kinds of edge; the paper's l."""
LEVELS = 8
"""Codes of an edge histogram run from 0 to ``LEVELS`` − 1."""
_NAME = re.compile("[a-z0-9][a-z0-9-]{0,63}")
_DIMENSIONS = (3, (1 << 16) - 1)
_LEVELS = (2, 1 << 8)


@dataclass(frozen=True)
class Descriptor:
    """A descriptor: features are ``l`` codes, each below ``levels``; valid if it exists.

    A code takes one byte. Σx² ≤ 65,535·255² < 2^32 then, so that a word of scheme `mask` holds it, and
    every modulus by far; and l·(Σx² + Σy²) ≤ 2·(65,535·255)² < 2^63, so that Sim's integers fit int64. Only
    the edge histogram is computed here; features of any other name come from a file of the caller's.
    """

    name: str = EDGE_HISTOGRAM
    l: int = DIMENSION
    levels: int = LEVELS

    def __post_init__(self) -> None:
        # JSON has 80.0 too, which equals 80 and is no dimension.
        if not all(isinstance(number, int) for number in (self.l, self.levels)):
            raise MalformedError("the numbers of the descriptor are not whole numbers")
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise MalformedError(
                f"the descriptor {self.name!r} has an impossible name",
                hint="1 to 64 of a-z, 0-9 and -, the first no -",
            )
        for what, number, (least, most) in (
            ("dimension", self.l, _DIMENSIONS),
            ("levels", self.levels, _LEVELS),
        ):
            if not least <= number <= most:
                raise MalformedError(
                    f"a descriptor cannot have {number} for its {what}", hint=f"{least} to {most}"
                )
        if self.name == EDGE_HISTOGRAM and (self.l, self.levels) != (DIMENSION, LEVELS):
            raise MalformedError(
                f"an edge histogram has {DIMENSION} codes of {LEVELS} levels",
                hint="give a descriptor of your own another name",
            )

    @property
    def computed(self) -> bool:
        """Whether the package computes these features itself, so that no file need give them."""
        return self.name == EDGE_HISTOGRAM

    def has(self, feature: NDArray[np.number]) -> bool:
        """Say whether ``feature`` can be one: its shape, its type, and that each code is below ``levels``."""
        return (
            feature.shape == (self.l,) and feature.dtype == np.uint8 and bool((feature < self.levels).all())
        )


def parse_descriptor(text: str) -> Descriptor:
    """Read NAME:DIMENSION:LEVELS; raises InvalidRequestError for anything else, or what cannot be."""
    match = re.fullmatch(r"([^:]*):([0-9]{1,9}):([0-9]{1,9})", text, flags=re.ASCII)
    if match is None:
        raise InvalidRequestError(
            f"{text!r} is no descriptor", hint="write NAME:DIMENSION:LEVELS, as resnet:512:256"
        )
    try:
        return Descriptor(match[1], int(match[2]), int(match[3]))
    except MalformedError as error:
        raise InvalidRequestError(error.message, hint=error.hint) from None
