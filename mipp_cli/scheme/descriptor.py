"""The descriptor of a deployment: its name, its number of codes and levels, and how real numbers are
quantised to codes.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mipp_cli.errors import InvalidRequestError, MalformedError
from mipp_cli.scheme.image_model import PinnedModel

EDGE_HISTOGRAM: Final = "edge-histogram"
DIMENSION: Final = 80
"""Codes of an edge histogram: 16 sub-images × 5 kinds of edge; the paper's l."""
LEVELS: Final = 8
"""Codes of an edge histogram run from 0 to ``LEVELS`` − 1."""
COLOUR_EDGE: Final = "colour-edge"
COLOUR_EDGE_DIMENSION: Final = DIMENSION + 88
"""Codes of a colour-edge descriptor: 80 of edges, then 16 of greys, then 72 of colours."""
COLOUR_EDGE_LEVELS: Final = 32
"""Codes of a colour-edge descriptor run from 0 to ``COLOUR_EDGE_LEVELS`` − 1, those of edges to 7."""
MODEL: Final = "model"
MODEL_LEVELS: Final = 256
L2: Final = "l2"
_L2_REACH: Final = 8.0
_FARTHEST: Final = 1e300  # high − low must not overflow
_BUILT_IN: Final = {
    EDGE_HISTOGRAM: (DIMENSION, LEVELS),
    COLOUR_EDGE: (COLOUR_EDGE_DIMENSION, COLOUR_EDGE_LEVELS),
}
_NAME = re.compile("[a-z0-9][a-z0-9-]{0,63}")
_DIMENSIONS = (3, (1 << 16) - 1)
_LEVELS = (2, 1 << 8)
_FORM = re.compile(
    r"(?P<name>[^:]*):(?P<l>[0-9]{1,9})(:(?P<levels>[0-9]{1,9}))?(:(?P<scale>l2|[^:]+\.\.[^:]+))?", re.ASCII
)

Codes = NDArray[np.uint8]
Quantisation = tuple[float, float] | str | None
"""How real numbers are quantised: from a range, after L2 normalisation (:data:`L2`), or not at all (None)."""


@dataclass(frozen=True)
class Descriptor:
    """A descriptor: a feature is ``l`` codes, each below ``levels``. Every instance is valid.

    A code takes one byte. So Σx² ≤ 65,535·255² < 2^32, which fits a word of scheme `mask` and is far below
    every modulus, and l·(Σx² + Σy²) ≤ 2·(65,535·255)² < 2^63, so the integers of Sim fit int64.

    ``quantisation`` says how real numbers become codes; without it, features are codes already. The built-in
    descriptors and the feature of a ``model`` are computed from the picture; features of any other name come
    from a file that the caller supplies.
    """

    name: str = EDGE_HISTOGRAM
    l: int = DIMENSION
    levels: int = LEVELS
    quantisation: Quantisation = None
    model: PinnedModel | None = None

    def __post_init__(self) -> None:
        # JSON may hold 80.0, which equals 80 but is not a valid dimension.
        if not all(type(number) is int for number in (self.l, self.levels)):
            raise MalformedError("the descriptor's dimension and levels must be integers")
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise MalformedError(
                f"{self.name!r} is not a valid descriptor name",
                hint="use 1 to 64 characters of a-z, 0-9 and -, and do not begin with -",
            )
        for what, number, (least, most) in (
            ("dimension", self.l, _DIMENSIONS),
            ("levels", self.levels, _LEVELS),
        ):
            if not least <= number <= most:
                raise MalformedError(
                    f"the descriptor's {what} cannot be {str(number)[:60]}", hint=f"use {least} to {most}"
                )
        self._check_quantisation()
        built_in = _BUILT_IN.get(self.name)
        if built_in and (self.l, self.levels, self.quantisation) != (*built_in, None):
            raise MalformedError(
                f"{self.name} is built in and has {built_in[0]} codes of {built_in[1]} levels",
                hint="give your own descriptor another name",
            )
        is_model = (self.name, self.levels, self.quantisation) == (MODEL, MODEL_LEVELS, L2)
        if (self.model is not None) != (self.name == MODEL) or (self.model is not None and not is_model):
            raise MalformedError(
                f"the name {MODEL!r} is reserved for the descriptor of an image model",
                hint="name a model with --model PATH, or give your own descriptor another name",
            )

    def _check_quantisation(self) -> None:
        is_range = isinstance(self.quantisation, tuple)
        match self.quantisation:
            case None | "l2":
                return
            case (low, high) if all(type(each) in (int, float) for each in (low, high)):
                fits = -_FARTHEST <= low < high <= _FARTHEST  # false for NaN
            case _:
                fits = False
        if not fits:
            shown = "..".join(map(str, self.quantisation)) if is_range else repr(self.quantisation)
            raise MalformedError(
                f"features cannot be quantised by {shown[:60]}",
                hint="use l2, or a range LOW..HIGH with LOW below HIGH",
            )

    @property
    def computed(self) -> bool:
        """Whether the package computes these features itself, so no features file is needed."""
        return self.name in _BUILT_IN or self.model is not None

    @property
    def label(self) -> str:
        """The name of the descriptor as shown to readers of matches."""
        return "image model" if self.model is not None else self.name

    def has(self, feature: NDArray[np.number]) -> bool:
        """Return whether ``feature`` is valid: shape (l,), uint8, each code below ``levels``."""
        return (
            feature.shape == (self.l,) and feature.dtype == np.uint8 and bool((feature < self.levels).all())
        )

    def quantised(self, vectors: NDArray[np.number]) -> tuple[Codes, NDArray[np.int64]]:
        """Return codes for real ``vectors``, shape (n, l), and how many numbers of each were clipped, (n,).

        A number v in [low, high] becomes ⌊(v − low) / (high − low) · levels⌋, and high becomes the last code;
        numbers outside are clipped. Under ``l2`` each vector is first divided by its Euclidean norm, and the
        range is ±8 / √l, which is 8 times the root mean square of its numbers. Numbers must be finite and,
        under ``l2``, no vector may be all zeros: see :meth:`quantisable`.
        """
        wide = vectors.astype(np.float64)
        if self.quantisation == L2:
            high = _L2_REACH / math.sqrt(self.l)
            low = -high
            wide = wide / _norms(wide)
        elif isinstance(self.quantisation, tuple):
            low, high = self.quantisation
        else:
            raise ValueError("features that are codes already are not quantised")
        clipped = ((wide < low) | (wide > high)).sum(axis=1)
        steps = np.floor((wide.clip(low, high) - low) / (high - low) * self.levels)
        return np.minimum(steps, self.levels - 1).astype(np.uint8), clipped

    def quantisable(self, vectors: NDArray[np.number]) -> NDArray[np.bool_]:
        """Return for each of ``vectors``, shape (n, l), whether it is finite and, under ``l2``, not zero;
        (n,).
        """
        finite: NDArray[np.bool_] = np.isfinite(vectors).all(axis=1)
        if self.quantisation == L2:
            finite &= vectors.any(axis=1)
        return finite

    def to_fields(self) -> dict[str, Any]:
        """Return the descriptor as JSON fields."""
        return {
            "name": self.name,
            "dimension": self.l,
            "levels": self.levels,
            "quantisation": self.quantisation,
            "model": None if self.model is None else self.model.to_fields(),
        }

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Descriptor:
        """Parse the output of :meth:`to_fields`; raises KeyError, TypeError, AttributeError or
        MalformedError.
        """
        quantisation, model = fields["quantisation"], fields["model"]
        return cls(
            fields["name"],
            fields["dimension"],
            fields["levels"],
            tuple(quantisation) if isinstance(quantisation, list) else quantisation,
            None if model is None else PinnedModel.from_fields(model),
        )

    def __str__(self) -> str:
        scaled = f"{self.name}, {self.l} codes of {self.levels} levels"
        if isinstance(self.quantisation, tuple):
            return scaled + " from {:g}..{:g}".format(*self.quantisation)
        return scaled if self.quantisation is None else f"{scaled} of vectors divided by their L2 norm"


EDGES: Final = Descriptor()


def _norms(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Euclidean norm of each row, shape (n, 1); scaled so that squares do not overflow."""
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    norms: NDArray[np.float64] = largest * np.sqrt(((vectors / largest) ** 2).sum(axis=1, keepdims=True))
    return norms


def parse_descriptor(text: str) -> Descriptor:
    """Parse the name of a built-in descriptor, or NAME:DIMENSION[:LEVELS][:l2|:LOW..HIGH] for your own.

    LEVELS defaults to 256. Raises InvalidRequestError for anything else, or values out of range.
    """
    if text in _BUILT_IN:
        return Descriptor(text, *_BUILT_IN[text])
    match = _FORM.fullmatch(text)
    if match is None:
        raise InvalidRequestError(
            f"{text!r} is not a descriptor",
            hint=f"write {' or '.join(_BUILT_IN)}, or NAME:DIMENSION[:LEVELS][:l2|:LOW..HIGH] for your own "
            "features, such as resnet:512:l2",
        )
    try:
        scale: Quantisation = match["scale"]
        if scale is not None and scale != L2:
            low, _, high = match["scale"].partition("..")
            scale = float(low), float(high)
        return Descriptor(match["name"], int(match["l"]), int(match["levels"] or 1 << 8), scale)
    except ValueError:
        raise InvalidRequestError(
            f"{match['scale']!r} is not a range of numbers", hint="write LOW..HIGH, such as -1..1 or 0..0.5"
        ) from None
    except MalformedError as error:
        raise InvalidRequestError(error.message, hint=error.hint) from None
