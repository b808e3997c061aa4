"""`selection` (KMC → cloud) and `groups` (cloud → KMC): whole groups of rows, asked for and brought.

A selection holds a number of 128 random bits, the cloud that it is for, and (owner, upload, group, length of
a row), sorted: no user, no query, no counts. The answer holds every live row of each group, if it has
that length, and nothing for a group that the cloud lacks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mipp_cli.containers.base.columns import Matrix, Ragged
from mipp_cli.containers.base.container import Check, Container, Schema, closed_on_failure, open_container
from mipp_cli.containers.base.header import LARGEST_NUMBER
from mipp_cli.containers.base.writer import Sender, write_container, write_whole
from mipp_cli.containers.messages.upload import NAME_LIMIT, check_names
from mipp_cli.errors import MalformedError
from mipp_cli.scheme.groups import LARGEST_GROUP_SIZE
from mipp_cli.scheme.protocol import MATCHES_LIMIT

_KEY_BYTES = 32
_ROWS_LIMIT = MATCHES_LIMIT * 2 * LARGEST_GROUP_SIZE

SELECTION = Schema(
    "selection",
    {
        "cloud": Matrix("u1"),
        "owners": Ragged(limit=64),
        "uploads": Matrix("<u8"),
        "groups": Matrix("<u4"),
        "lengths": Matrix("<u8"),
    },
)
GROUPS = Schema(
    "groups",
    {"ER": Ragged(), "places": Matrix("<u4"), "image_names": Ragged(limit=NAME_LIMIT)},
)


class GroupRef(NamedTuple):
    """A group of rows at the cloud: its owner, the upload, and the number of the group in it, from 0."""

    owner: str
    upload: int
    group: int


@dataclass(frozen=True)
class Selection:
    """Which groups the cloud with the public key ``cloud`` is to bring; ``number`` is 32 hex digits.

    ``lengths`` are those of the ciphertexts of each group, as the owner stated them to the KMC: rows of
    another length are not asked for, however large they are.
    """

    number: str
    cloud: bytes
    groups: tuple[GroupRef, ...]
    lengths: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.cloud) != _KEY_BYTES or len(self.groups) > MATCHES_LIMIT:
            raise MalformedError("names no cloud, or too many groups")
        if len(self.lengths) != len(self.groups):
            raise MalformedError("does not say how long the rows of each group are")
        if any(low >= high for low, high in pairwise(self.groups)):
            raise MalformedError("names its groups out of order")


def write_selection(path: Path, sender: Sender, selection: Selection, *, force: bool = False) -> None:
    """Write a `selection`."""
    owners, uploads, groups = zip(*selection.groups, strict=True) if selection.groups else ((), (), ())
    columns = {"owners": owners, "uploads": uploads, "groups": groups, "lengths": selection.lengths}
    write_whole(path, SELECTION, sender, selection.number, force=force, cloud=selection.cloud, **columns)


def read_selection(path: Path, deployment: str, check: Check | None = None) -> Selection:
    """Read and verify a `selection`."""
    with open_container(path, SELECTION, deployment=deployment, check=check) as container:
        if container.same_length("owners", "uploads", "groups", "lengths") > MATCHES_LIMIT:
            raise MalformedError("names too many groups")
        owners = container.identifiers("owners", "an owner")
        uploads, groups = container.whole_numbers("uploads"), container.whole_numbers("groups")
        if any(number > LARGEST_NUMBER for number in uploads):
            raise MalformedError("names an upload by a number that is not one")
        refs = tuple(map(GroupRef, owners, uploads, groups))
        lengths = tuple(container.whole_numbers("lengths"))
        return Selection(container.header.number, container.data("cloud", _KEY_BYTES), refs, lengths)


class BroughtRow(NamedTuple):
    """A row that the cloud brings: the place of its group in the selection, its name, and EW."""

    place: int
    name: str
    ew: bytes


def write_groups(
    path: Path, sender: Sender, number: str, rows: Iterable[BroughtRow], *, force: bool = False
) -> int:
    """Write `groups`, the answer to the selection ``number``; return how many rows there were."""
    count = 0
    with write_container(path, GROUPS, sender, number, force=force) as writer:
        for row in rows:
            writer.add(places=[row.place], image_names=[row.name], ER=[row.ew])
            count += 1
    return count


@dataclass(frozen=True)
class GroupsReader:
    """Open `groups`: of each row the place of its group, ascending; names and ciphertexts when asked for."""

    container: Container
    places: NDArray[np.int64]

    def rows_at(self, place: int) -> range:
        """Return the rows that were brought of the group at ``place`` in the selection."""
        begin, end = np.searchsorted(self.places, (place, place + 1)).tolist()
        return range(begin, end)

    def names(self, rows: range) -> list[str]:
        """Return the names of rows; raises MalformedError if one cannot be, or comes twice."""
        return check_names(self.container.ragged("image_names").rows(rows.start, rows.stop))

    def encrypted_image(self, row: int) -> bytes:
        """Return EW of a row."""
        return self.container.ragged("ER").row(row)


def open_groups(path: Path, deployment: str, check: Check | None = None) -> GroupsReader:
    """Read and verify `groups`; close the reader's container when done."""
    container = open_container(path, GROUPS, deployment=deployment, check=check)
    with closed_on_failure(container):
        if container.same_length("places", "image_names", "ER") > _ROWS_LIMIT:
            raise MalformedError("holds more rows than an answer can have")
        places = container.matrix("places").all().astype(np.int64)
        if (np.diff(places) < 0).any():
            raise MalformedError("holds its groups out of order")
        return GroupsReader(container, places)
