"""What makes features of pictures: the edge histogram, colours and edges, or a model; one interface for all.

A picture is prepared by itself, so that only one need be in memory; prepared ones are described a few at a
time, since models are faster so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from numpy.typing import NDArray
from PIL import Image

from mipp_cli.descriptors.colour_edge import colour_edge
from mipp_cli.descriptors.edge_histogram import edge_histogram
from mipp_cli.errors import InvalidRequestError, UnreadableImageError
from mipp_cli.scheme.descriptor import COLOUR_EDGE, EDGE_HISTOGRAM, Codes, Descriptor

Prepared = NDArray[Any]


class Describer(Protocol):
    """Describes pictures by one ``descriptor``; it can be sent to another process."""

    descriptor: Descriptor

    @property
    def in_threads(self) -> bool:
        """Whether workers are to be threads of one process, which owns a device."""

    def check(self) -> None:
        """Make sure that pictures can be described, before work is begun."""

    def travelling(self) -> Describer:
        """Return one that describes on another machine, where this machine's files are not."""

    def prepare(self, picture: Image.Image) -> Prepared:
        """Return what of a picture is needed to describe it; raises UnreadableImageError."""

    def codes(self, prepared: Sequence[Prepared]) -> list[Codes | UnreadableImageError]:
        """Return the feature of each prepared picture: codes, shape (l,), or why there are none."""


def codes_of(describer: Describer, picture: Image.Image) -> Codes:
    """Return the feature of one picture; raises UnreadableImageError."""
    (found,) = describer.codes([describer.prepare(picture)])
    if isinstance(found, UnreadableImageError):
        raise found
    return found


def check_device(device: str, *, is_model: bool) -> None:
    """Refuse a device where no model runs that could use it; raises InvalidRequestError."""
    if device != "cpu" and not is_model:
        raise InvalidRequestError(
            f"there is no image model to run on {device}: features come from a formula or a file",
            hint="leave out --device",
        )


class BuiltIn:
    """Describes pictures by a formula of this package, which needs nothing but the picture.

    Codes that somebody brings pass through it as they are.
    """

    in_threads: Final = False

    def __init__(self, descriptor: Descriptor):
        self.descriptor = descriptor

    def check(self) -> None:
        """Do nothing: a formula can always be computed."""

    def travelling(self) -> BuiltIn:
        """Return itself: a formula needs no file."""
        return self

    def prepare(self, picture: Image.Image) -> Codes:
        """Return the codes of a picture; raises UnreadableImageError."""
        return FORMULAS[self.descriptor.name](picture)

    def codes(self, prepared: Sequence[Codes]) -> list[Codes | UnreadableImageError]:
        """Return what was prepared, which is codes already."""
        return [*prepared]


FORMULAS: Final[dict[str, Callable[..., Codes]]] = {
    EDGE_HISTOGRAM: edge_histogram,
    COLOUR_EDGE: colour_edge,
}
