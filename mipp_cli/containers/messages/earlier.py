"""What uploads and deletions share: the numbers of the earlier messages that still decide an image.

An owner's messages commute, so none of them says which came before it. This list is how a receiver notices
that one of them never came, or that the owner's record lacks one that did. Of very many, the newest are
listed.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

from mipp_cli.containers.base.columns import Matrix
from mipp_cli.containers.base.container import Container
from mipp_cli.errors import MalformedError

EARLIER = {"earlier": Matrix("<u8")}
LIMIT = 1 << 14


def listed(numbers: Collection[int]) -> list[int]:
    """Return what a message lists of the earlier ones that still decide an image once it counts."""
    return sorted(numbers)[-LIMIT:]


def read_earlier(container: Container) -> tuple[int, ...]:
    """Return these numbers, ascending; MalformedError if they are not, or one is not before this message."""
    if len(container.matrix("earlier")) > LIMIT:
        raise MalformedError("lists too many earlier messages")
    numbers = tuple(container.whole_numbers("earlier"))
    bounds = [*numbers, container.header.sequence_number]
    if any(low >= high for low, high in pairwise(bounds)):
        raise MalformedError("lists earlier messages out of order")
    return numbers
