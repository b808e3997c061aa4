"""The interface that computes features of pictures, for built-in descriptors and image models.

Pictures are prepared one by one, so that only one is in memory. Prepared pictures are described in batches,
which is faster for models.
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
        """Whether workers must be threads of one process, which owns a device."""

    def check(self) -> None:
        """Raise an error now if pictures cannot be described, before any work is done."""

    def travelling(self) -> Describer:
        """Return a describer that works on another machine, without this machine's files."""

    def prepare(self, picture: Image.Image) -> Prepared:
        """Return the data of a picture that is needed to describe it; raises UnreadableImageError."""

    def codes(self, prepared: Sequence[Prepared]) -> list[Codes | UnreadableImageError]:
        """Return the feature of each prepared picture: codes, shape (l,), or why there are none."""


def codes_of(describer: Describer, picture: Image.Image) -> Codes:
    """Return the feature of one picture; raises UnreadableImageError."""
    (found,) = describer.codes([describer.prepare(picture)])
    if isinstance(found, UnreadableImageError):
        raise found
    return found


def check_device(device: str, *, is_model: bool) -> None:
    """Raise InvalidRequestError for a device without a model that could use it."""
    if device != "cpu" and not is_model:
        raise InvalidRequestError(
            f"there is no image model to run on {device}: the descriptor is built in or read from a file",
            hint="leave out --device",
        )


class BuiltIn:
    """Describes pictures by a built-in descriptor, which needs only the picture.

    For external features it passes codes through unchanged.
    """

    in_threads: Final = False

    def __init__(self, descriptor: Descriptor):
        self.descriptor = descriptor

    def check(self) -> None:
        """Do nothing: a built-in descriptor can always be computed."""

    def travelling(self) -> BuiltIn:
        """Return itself: a built-in descriptor needs no file."""
        return self

    def prepare(self, picture: Image.Image) -> Codes:
        """Return the codes of a picture; raises UnreadableImageError."""
        return FORMULAS[self.descriptor.name](picture)

    def codes(self, prepared: Sequence[Codes]) -> list[Codes | UnreadableImageError]:
        """Return ``prepared``, which are codes already."""
        return [*prepared]


FORMULAS: Final[dict[str, Callable[..., Codes]]] = {
    EDGE_HISTOGRAM: edge_histogram,
    COLOUR_EDGE: colour_edge,
}
