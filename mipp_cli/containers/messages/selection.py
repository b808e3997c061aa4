"""`selection` (KMC → cloud) and `groups` (cloud → KMC): the request for whole groups of rows, and the answer.

A selection has a random 128-bit number, the cloud that it is for, and (owner, upload, group, row length),
sorted, but no user, query or counts. The answer has every live row of each group that has this length, and
nothing for a group that the cloud lacks.
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
    """A group of rows at the cloud: its owner, its upload, and its number in the upload, from 0."""

    owner: str
    upload: int
    group: int


@dataclass(frozen=True)
class Selection:
    """The groups that the cloud with the public key ``cloud`` must deliver; ``number`` is 32 hex digits.

    ``lengths`` are the lengths of each group's ciphertexts, as the owner stated them to the KMC; rows of
    another length are not requested.
    """

    number: str
    cloud: bytes
    groups: tuple[GroupRef, ...]
    lengths: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.cloud) != _KEY_BYTES or len(self.groups) > MATCHES_LIMIT:
            raise MalformedError("has an invalid cloud key, or too many groups")
        if len(self.lengths) != len(self.groups):
            raise MalformedError("does not state the row length of each group")
        if any(low >= high for low, high in pairwise(self.groups)):
            raise MalformedError("lists its groups out of order")


def write_selection(path: Path, sender: Sender, selection: Selection, *, force: bool = False) -> None:
    """Write a `selection`."""
    owners, uploads, groups = zip(*selection.groups, strict=True) if selection.groups else ((), (), ())
    columns = {"owners": owners, "uploads": uploads, "groups": groups, "lengths": selection.lengths}
    write_whole(path, SELECTION, sender, selection.number, force=force, cloud=selection.cloud, **columns)


def read_selection(path: Path, deployment: str, check: Check | None = None) -> Selection:
    """Read and verify a `selection`."""
    with open_container(path, SELECTION, deployment=deployment, check=check) as container:
        if container.same_length("owners", "uploads", "groups", "lengths") > MATCHES_LIMIT:
            raise MalformedError("lists too many groups")
        owners = container.identifiers("owners", "an owner")
        uploads, groups = container.whole_numbers("uploads"), container.whole_numbers("groups")
        if any(number > LARGEST_NUMBER for number in uploads):
            raise MalformedError("has an invalid upload number")
        refs = tuple(map(GroupRef, owners, uploads, groups))
        lengths = tuple(container.whole_numbers("lengths"))
        return Selection(container.header.number, container.data("cloud", _KEY_BYTES), refs, lengths)


class BroughtRow(NamedTuple):
    """A row that the cloud delivers: the position of its group in the selection, its name, and EW."""

    place: int
    name: str
    ew: bytes


def write_groups(
    path: Path, sender: Sender, number: str, rows: Iterable[BroughtRow], *, force: bool = False
) -> int:
    """Write `groups`, the answer to the selection ``number``; return the number of rows."""
    count = 0
    with write_container(path, GROUPS, sender, number, force=force) as writer:
        for row in rows:
            writer.add(places=[row.place], image_names=[row.name], ER=[row.ew])
            count += 1
    return count


@dataclass(frozen=True)
class GroupsReader:
    """Open `groups`: the position of each row's group, ascending; names and ciphertexts on demand."""

    container: Container
    places: NDArray[np.int64]

    def rows_at(self, place: int) -> range:
        """Return the rows delivered for the group at ``place`` in the selection."""
        begin, end = np.searchsorted(self.places, (place, place + 1)).tolist()
        return range(begin, end)

    def names(self, rows: range) -> list[str]:
        """Return the names of rows; raises MalformedError if one is invalid or occurs twice."""
        return check_names(self.container.ragged("image_names").rows(rows.start, rows.stop))

    def encrypted_image(self, row: int) -> bytes:
        """Return EW of a row."""
        return self.container.ragged("ER").row(row)


def open_groups(path: Path, deployment: str, check: Check | None = None) -> GroupsReader:
    """Read and verify `groups`; the caller closes the reader's container."""
    container = open_container(path, GROUPS, deployment=deployment, check=check)
    with closed_on_failure(container):
        if container.same_length("places", "image_names", "ER") > _ROWS_LIMIT:
            raise MalformedError("contains more rows than an answer can have")
        places = container.matrix("places").all().astype(np.int64)
        if (np.diff(places) < 0).any():
            raise MalformedError("contains its groups out of order")
        return GroupsReader(container, places)
