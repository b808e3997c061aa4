"""`owner list`: the images that an owner sent, from the owner's ledger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from mipp_cli.errors import InvalidRequestError
from mipp_cli.names import as_called, composed
from mipp_cli.owner.ledger import Ledger, Standing, was_pixels
from mipp_cli.owner.owner import Owner
from mipp_cli.workdir.replay import iso_time

LIVE, DELETED, SUPERSEDED = "live", "deleted", "superseded"


class ListedImage(NamedTuple):
    """A row of the list: an image in one message.

    ``shown_as`` is the name that users see: the path, or for the pixel payload a keyed name.
    ``state`` is `live` or `deleted` if that message decides the image, and `superseded` if a newer one does.
    ``key`` and ``group`` are None for a deletion; so is ``group`` in schemes without groups.
    """

    path: str
    shown_as: str
    image_id: str
    upload: int
    time: str | None
    group: str | None
    state: str
    key: str | None


@dataclass(frozen=True)
class ListFilter:
    """The rows to list: live images, or deleted ones, or all images of one message.

    With ``match``, only rows whose path or user-visible name matches this pattern, in which * also matches /.
    Composed and decomposed accents are equal.
    """

    deleted: bool = False
    upload: int | None = None
    match: str | None = None

    @cached_property
    def _pattern(self) -> str | None:
        return None if self.match is None else composed(as_called(self.match))

    def takes(self, row: ListedImage) -> bool:
        """Return whether a row is to be listed."""
        pattern, names = self._pattern, (row.path, row.shown_as)
        if pattern is not None and not any(fnmatchcase(composed(name), pattern) for name in names):
            return False
        if self.deleted:
            return row.state == DELETED
        return row.state == LIVE or self.upload is not None


@dataclass(frozen=True)
class Listing:
    """The selected rows, their count, and warnings.

    Rows are not kept in memory: each call of :meth:`rows` reads them from the ledger, message by message.
    """

    owner: Owner
    ledger: Ledger
    wanted: ListFilter
    count: int
    warnings: tuple[str, ...]

    def rows(self) -> Iterator[ListedImage]:
        """Yield the rows."""
        return _selected(self.owner, self.ledger, self.wanted)


def listing_of(path: Path, wanted: ListFilter) -> Listing:
    """Return the list of the images that the owner at ``path`` sent.

    Damage in the ledger is detected here, before any row is printed. Raises InvalidRequestError if the
    selected message does not exist.
    """
    owner = Owner.open(path)
    with owner.directory.lock(shared=True):
        ledger = owner.ledger
        number = wanted.upload
        if number is not None and number not in {each.number for each in ledger.messages()}:
            raise InvalidRequestError(
                f"this owner sent no message {number}", hint="mipp inspect OWNER lists what was sent"
            )
        count = sum(1 for _ in _selected(owner, ledger, wanted))
    return Listing(owner, ledger, wanted, count, owner.directory.warnings)


def _selected(owner: Owner, ledger: Ledger, wanted: ListFilter) -> Iterator[ListedImage]:
    rows = (_row(owner, standing, decides) for standing, decides in ledger.everything(wanted.upload))
    return (row for row in rows if wanted.takes(row))


def _row(owner: Owner, standing: Standing, decides: bool) -> ListedImage:
    message, image = standing
    shown_as = owner.keyed_name(image.path) if was_pixels(image.version) else image.path
    state = SUPERSEDED if not decides else LIVE if standing.live else DELETED
    key = None if message.key is None else f"{message.key:016x}"
    time = iso_time(message.number)
    return ListedImage(
        image.path, shown_as, image.name, message.number, time, image.group or None, state, key
    )
