"""An image model as kmc.pub pins it: which file it is, what goes in, and what comes out.

How a model is found and run is known to `descriptors/`; what becomes of its numbers is the descriptor's.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Final

from mipp_cli.errors import MalformedError

RESAMPLING: Final = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Filters by which a picture is resized, in the order of the numbers that preprocessing files give them."""
POOLINGS: Final = ("cls", "mean")

_NUMBERS: Final = (1e-6, 1e6)  # what samples are reckoned with, so that 32-bit floats can
_LARGEST_SIDE: Final = 4096  # pixels; it bounds what a stranger's kmc.pub makes an owner's machine do
_SHA256: Final = re.compile("[0-9a-f]{64}")
_LONGEST_NAME: Final = 200

Size = tuple[int, int]


@dataclass(frozen=True)
class Preprocessing:
    """What is done to an upright RGB picture of 8 bits before a model sees it; valid if it exists.

    The picture is resized to ``resize`` by the filter ``resample``: to (height, width); or its shorter side
    to one number, and the longer one in proportion; or, where that is None, not at all. Then ``crop``,
    (height, width), is cut from the middle; what lies outside of the picture is black. Then each sample v
    of channel c becomes (v · scale − mean[c]) / std[c].
    """

    resize: Size | int | None
    resample: str
    crop: Size | None
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for what, size in (("resize", self.resize), ("crop", self.crop)):
            pair = (size, size) if what == "resize" and isinstance(size, int) else size
            if not (
                pair is None or (isinstance(pair, tuple) and len(pair) == 2 and all(map(_is_side, pair)))
            ):
                raise MalformedError(
                    f"has {str(size)[:60]} for a {what} of pictures",
                    hint=f"1 to {_LARGEST_SIDE} pixels a side",
                )
        if self.resample not in RESAMPLING:
            raise MalformedError(
                f"has {self.resample!r} for a filter", hint="one of " + ", ".join(RESAMPLING)
            )
        if not all(isinstance(each, tuple) and len(each) == 3 for each in (self.mean, self.std)):
            raise MalformedError(
                "has a mean or std that is not three numbers", hint="one for R, G and B each"
            )
        least, most = _NUMBERS
        numbers, divisors = (self.scale, *self.mean, *self.std), (self.scale, *self.std)
        if not all(type(each) in (int, float) and abs(each) <= most for each in numbers) or any(
            abs(each) < least for each in divisors
        ):
            raise MalformedError(
                "has a scale, mean or std that no sample can be divided by",
                hint=f"none is beyond {most:g}, and scale and std are {least:g} at least",
            )
        if self.input_size is None:
            raise MalformedError(
                "leaves pictures of any size and shape, and a model takes one",
                hint="resize to a height and a width, or crop",
            )

    @property
    def input_size(self) -> Size | None:
        """The (height, width) of what the model sees; None if it depends on the picture."""
        return self.crop or (self.resize if isinstance(self.resize, tuple) else None)

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Preprocessing:
        """Read what :func:`dataclasses.asdict` and JSON made of one; raises TypeError or MalformedError."""
        values: dict[str, Any] = {
            name: tuple(each) if isinstance(each, list) else each for name, each in fields.items()
        }
        return cls(**values)


@dataclass(frozen=True)
class PinnedModel:
    """The one model whose output is the feature of a deployment; valid if it exists.

    ``sha256`` is the digest of the .onnx file; ``weights_sha256`` that of the list of its external files, as
    `sha256sum` writes it, None if it has none. The feature is the ``output``; where that has a row a token,
    ``pooling`` says what is taken: the first row (`cls`), or the mean of all (`mean`).
    """

    sha256: str
    weights_sha256: str | None
    preprocessing: Preprocessing
    output: str
    pooling: str | None

    def __post_init__(self) -> None:
        digests = [self.sha256] if self.weights_sha256 is None else [self.sha256, self.weights_sha256]
        if not all(isinstance(each, str) and _SHA256.fullmatch(each) for each in digests):
            raise MalformedError("names a model by a digest that is not one")
        if not isinstance(self.output, str) or not 1 <= len(self.output) <= _LONGEST_NAME:
            raise MalformedError("names an output of the model by no name")
        if self.pooling is not None and self.pooling not in POOLINGS:
            raise MalformedError(f"has {self.pooling!r} for the pooling of tokens")

    def to_fields(self) -> dict[str, Any]:
        """Return the model as JSON fields."""
        return asdict(self)

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> PinnedModel:
        """Read what :meth:`to_fields` gave; raises TypeError, KeyError or MalformedError."""
        return cls(**{**fields, "preprocessing": Preprocessing.from_fields(fields["preprocessing"])})


def _is_side(side: object) -> bool:
    return type(side) is int and 1 <= side <= _LARGEST_SIDE
