"""What a deployment's features are: the name of the descriptor, how many codes of how many levels, and how
numbers that are no codes yet become some."""

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
_FARTHEST: Final = 1e300  # the width of a range must be a number, too
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
"""How real numbers become codes: from a range, L2-normalised first (:data:`L2`), or not at all (None)."""


@dataclass(frozen=True)
class Descriptor:
    """A descriptor: features are ``l`` codes, each below ``levels``; valid if it exists.

    A code takes one byte. Σx² ≤ 65,535·255² < 2^32 then, so that a word of scheme `mask` holds it, and
    every modulus by far; and l·(Σx² + Σy²) ≤ 2·(65,535·255)² < 2^63, so that Sim's integers fit int64.

    ``quantisation`` says what becomes of real numbers; without it, features are codes from the start. The
    built-in descriptors are computed from a picture alone, and so is the feature of a ``model``; features of
    any other name come from a file of the caller's.
    """

    name: str = EDGE_HISTOGRAM
    l: int = DIMENSION
    levels: int = LEVELS
    quantisation: Quantisation = None
    model: PinnedModel | None = None

    def __post_init__(self) -> None:
        # JSON has 80.0 too, which equals 80 and is no dimension.
        if not all(type(number) is int for number in (self.l, self.levels)):
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
                    f"a descriptor cannot have {str(number)[:60]} for its {what}", hint=f"{least} to {most}"
                )
        self._check_quantisation()
        built_in = _BUILT_IN.get(self.name)
        if built_in and (self.l, self.levels, self.quantisation) != (*built_in, None):
            raise MalformedError(
                f"{self.name} has {built_in[0]} codes of {built_in[1]} levels",
                hint="give a descriptor of your own another name",
            )
        is_model = (self.name, self.levels, self.quantisation) == (MODEL, MODEL_LEVELS, L2)
        if (self.model is not None) != (self.name == MODEL) or (self.model is not None and not is_model):
            raise MalformedError(
                f"a model's descriptor, and no other, is called {MODEL!r}",
                hint="name a model with --model PATH; give a descriptor of your own another name",
            )

    def _check_quantisation(self) -> None:
        is_range = isinstance(self.quantisation, tuple)
        match self.quantisation:
            case None | "l2":
                return
            case (low, high) if all(type(each) in (int, float) for each in (low, high)):
                fits = -_FARTHEST <= low < high <= _FARTHEST  # neither is true of NaN
            case _:
                fits = False
        if not fits:
            shown = "..".join(map(str, self.quantisation)) if is_range else repr(self.quantisation)
            raise MalformedError(
                f"features cannot be quantised by {shown[:60]}",
                hint="l2, or a range LOW..HIGH of which LOW is the smaller",
            )

    @property
    def computed(self) -> bool:
        """Whether the package computes these features itself, so that no file need give them."""
        return self.name in _BUILT_IN or self.model is not None

    @property
    def label(self) -> str:
        """What readers of matches are told that pictures were compared by."""
        return "image model" if self.model is not None else self.name

    def has(self, feature: NDArray[np.number]) -> bool:
        """Say whether ``feature`` can be one: its shape, its type, and that each code is below ``levels``."""
        return (
            feature.shape == (self.l,) and feature.dtype == np.uint8 and bool((feature < self.levels).all())
        )

    def quantised(self, vectors: NDArray[np.number]) -> tuple[Codes, NDArray[np.int64]]:
        """Return codes for real ``vectors``, shape (n, l), and how many numbers of each were clipped, (n,).

        A number v of [low, high] becomes ⌊(v − low) / (high − low) · levels⌋, and high the last code; what
        lies outside is clipped. Under ``l2`` vectors are divided by their Euclidean norm first, and the
        range is ±8 / √l: 8 times what a number has in the root mean square. Numbers must be finite, and
        under ``l2`` no vector all zeros: see :meth:`quantisable`.
        """
        wide = vectors.astype(np.float64)
        if self.quantisation == L2:
            high = _L2_REACH / math.sqrt(self.l)
            low = -high
            wide = wide / _norms(wide)
        elif isinstance(self.quantisation, tuple):
            low, high = self.quantisation
        else:
            raise ValueError("features that are codes from the start are not quantised")
        clipped = ((wide < low) | (wide > high)).sum(axis=1)
        steps = np.floor((wide.clip(low, high) - low) / (high - low) * self.levels)
        return np.minimum(steps, self.levels - 1).astype(np.uint8), clipped

    def quantisable(self, vectors: NDArray[np.number]) -> NDArray[np.bool_]:
        """Say of each of ``vectors``, shape (n, l), whether it can be quantised: finite, with a direction."""
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
        """Read what :meth:`to_fields` gave; raises KeyError, TypeError, AttributeError or MalformedError."""
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
    """Return the Euclidean norm of each row, shape (n, 1), without overflow of its squares."""
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    norms: NDArray[np.float64] = largest * np.sqrt(((vectors / largest) ** 2).sum(axis=1, keepdims=True))
    return norms


def parse_descriptor(text: str) -> Descriptor:
    """Read the name of a built-in descriptor, or NAME:DIMENSION[:LEVELS][:l2|:LOW..HIGH] for one's own.

    Without LEVELS there are 256. Raises InvalidRequestError for anything else, or what cannot be.
    """
    if text in _BUILT_IN:
        return Descriptor(text, *_BUILT_IN[text])
    match = _FORM.fullmatch(text)
    if match is None:
        raise InvalidRequestError(
            f"{text!r} is not a descriptor",
            hint=f"write {' or '.join(_BUILT_IN)}, or NAME:DIMENSION[:LEVELS][:l2|:LOW..HIGH] for features "
            "of your own, as resnet:512:l2",
        )
    try:
        scale: Quantisation = match["scale"]
        if scale is not None and scale != L2:
            low, _, high = match["scale"].partition("..")
            scale = float(low), float(high)
        return Descriptor(match["name"], int(match["l"]), int(match["levels"] or 1 << 8), scale)
    except ValueError:
        raise InvalidRequestError(
            f"{match['scale']!r} is no range of numbers", hint="write LOW..HIGH, as -1..1 or 0..0.5"
        ) from None
    except MalformedError as error:
        raise InvalidRequestError(error.message, hint=error.hint) from None
