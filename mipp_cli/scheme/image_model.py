"""An image model as pinned in kmc.pub: its file, its input and its output.

`descriptors/` finds and runs the model; the descriptor quantises its output.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Final

from mipp_cli.errors import MalformedError

RESAMPLING: Final = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Filters for resizing a picture, in the order of their numbers in preprocessing files."""
POOLINGS: Final = ("cls", "mean")

_NUMBERS: Final = (1e-6, 1e6)  # bounds of scale, mean and std, so that 32-bit floats suffice
_LARGEST_SIDE: Final = 4096  # pixels; bounds the work that a hostile kmc.pub can cause at an owner
_SHA256: Final = re.compile("[0-9a-f]{64}")
_LONGEST_NAME: Final = 200

Size = tuple[int, int]


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing of an upright 8-bit RGB picture for a model. Every instance is valid.

    The picture is resized with the filter ``resample`` to ``resize``: to (height, width); or its shorter side
    to one number, with the aspect ratio kept; or not at all if it is None. Then ``crop``, (height, width), is
    cut from the centre; outside of the picture it is black. Then each sample v of channel c becomes (v ·
    scale − mean[c]) / std[c].
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
                    f"has an invalid {what}: {str(size)[:60]}",
                    hint=f"use 1 to {_LARGEST_SIDE} pixels a side",
                )
        if self.resample not in RESAMPLING:
            raise MalformedError(
                f"has an unknown resampling filter: {self.resample!r}",
                hint="use one of " + ", ".join(RESAMPLING),
            )
        if not all(isinstance(each, tuple) and len(each) == 3 for each in (self.mean, self.std)):
            raise MalformedError(
                "has a mean or std that is not three numbers", hint="give one each for R, G and B"
            )
        least, most = _NUMBERS
        numbers, divisors = (self.scale, *self.mean, *self.std), (self.scale, *self.std)
        if not all(type(each) in (int, float) and abs(each) <= most for each in numbers) or any(
            abs(each) < least for each in divisors
        ):
            raise MalformedError(
                "has a scale, mean or std that is out of range",
                hint=f"use numbers up to {most:g}, and at least {least:g} for scale and std",
            )
        if self.input_size is None:
            raise MalformedError(
                "does not give pictures of one fixed size, which a model needs",
                hint="resize to a height and a width, or crop",
            )

    @property
    def input_size(self) -> Size | None:
        """The (height, width) of the model's input; None if it depends on the picture."""
        return self.crop or (self.resize if isinstance(self.resize, tuple) else None)

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Preprocessing:
        """Parse the JSON of :func:`dataclasses.asdict`; raises TypeError or MalformedError."""
        values: dict[str, Any] = {
            name: tuple(each) if isinstance(each, list) else each for name, each in fields.items()
        }
        return cls(**values)


@dataclass(frozen=True)
class PinnedModel:
    """The model whose output is the feature of a deployment. Every instance is valid.

    ``sha256`` is the digest of the .onnx file; ``weights_sha256`` that of the list of its external files in
    the format of `sha256sum`, or None if it has none. The feature is ``output``; if that has one row per
    token, ``pooling`` selects the first row (`cls`) or the mean of all rows (`mean`).
    """

    sha256: str
    weights_sha256: str | None
    preprocessing: Preprocessing
    output: str
    pooling: str | None

    def __post_init__(self) -> None:
        digests = [self.sha256] if self.weights_sha256 is None else [self.sha256, self.weights_sha256]
        if not all(isinstance(each, str) and _SHA256.fullmatch(each) for each in digests):
            raise MalformedError("names a model by an invalid SHA-256 digest")
        if not isinstance(self.output, str) or not 1 <= len(self.output) <= _LONGEST_NAME:
            raise MalformedError("does not name the model's output")
        if self.pooling is not None and self.pooling not in POOLINGS:
            raise MalformedError(f"has an unknown pooling of tokens: {self.pooling!r}")

    def to_fields(self) -> dict[str, Any]:
        """Return the model as JSON fields."""
        return asdict(self)

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> PinnedModel:
        """Parse the output of :meth:`to_fields`; raises TypeError, KeyError or MalformedError."""
        return cls(**{**fields, "preprocessing": Preprocessing.from_fields(fields["preprocessing"])})


def _is_side(side: object) -> bool:
    return type(side) is int and 1 <= side <= _LARGEST_SIDE
