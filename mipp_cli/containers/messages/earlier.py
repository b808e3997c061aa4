"""What uploads and deletions share: the numbers of the earlier messages that still decide an image.

An owner's messages commute, so none of them says which came before it. This list is how a receiver notices
that one of them never came, or that the owner's record lacks one that did. Of very many, the newest are
listed.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

import numpy as np

from mipp_cli.containers.base.columns import Matrix
from mipp_cli.containers.base.container import Container, ContainerWriter
from mipp_cli.errors import MalformedError

EARLIER = {"earlier": Matrix("<u8")}
LIMIT = 1 << 14


def write_earlier(writer: ContainerWriter, numbers: Collection[int]) -> None:
    """Write the numbers of the messages before this one that still decide an image once this one counts."""
    writer.matrix("earlier").append(np.array(sorted(numbers)[-LIMIT:], dtype=np.uint64))


def read_earlier(container: Container) -> tuple[int, ...]:
    """Return these numbers, ascending; MalformedError if they are not, or one is not before this message."""
    column = container.matrix("earlier")
    if len(column) > LIMIT:
        raise MalformedError("lists too many earlier messages")
    numbers = tuple(column.all().tolist())
    bounds = [*numbers, container.header.sequence_number]
    if any(low >= high for low, high in pairwise(bounds)):
        raise MalformedError("lists earlier messages out of order")
    return numbers
