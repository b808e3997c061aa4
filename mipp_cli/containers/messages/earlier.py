"""The list in uploads and deletions of the earlier messages that still decide an image.

An owner's messages commute, so a receiver does not need them in order. From this list it notices that a
message never arrived, or that the owner's record lacks one that did. If there are very many, only the newest
are listed.
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
    """Return the numbers to list in a message, of the earlier ones that still decide an image after it."""
    return sorted(numbers)[-LIMIT:]


def read_earlier(container: Container) -> tuple[int, ...]:
    """Return these numbers; raises MalformedError unless they ascend and are below the message's own."""
    if len(container.matrix("earlier")) > LIMIT:
        raise MalformedError("lists too many earlier messages")
    numbers = tuple(container.whole_numbers("earlier"))
    bounds = [*numbers, container.header.sequence_number]
    if any(low >= high for low, high in pairwise(bounds)):
        raise MalformedError("lists earlier messages out of order")
    return numbers
