"""What an owner sent, image by image, as the owner's ledger tells it."""

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
    """A row of the list: an image as one message has it.

    ``shown_as`` is the name that users see: the path, or for the pixel payload a keyed name.
    ``state`` is `live` or `deleted` if that message decides the image, and `superseded` if a newer one does.
    A deletion has no ``key`` and no ``group``; nor has an upload a group where the scheme has none.
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
    """Which rows are listed: those that are live, or those that are deleted, or all of one message.

    Of these, those whose path, or the name that users see, fits the pattern ``match``. In it * stands for /
    too, and it does not matter how letters and their accents are composed.
    """

    deleted: bool = False
    upload: int | None = None
    match: str | None = None

    @cached_property
    def _pattern(self) -> str | None:
        return None if self.match is None else composed(as_called(self.match))

    def takes(self, row: ListedImage) -> bool:
        """Say whether a row is listed."""
        pattern, names = self._pattern, (row.path, row.shown_as)
        if pattern is not None and not any(fnmatchcase(composed(name), pattern) for name in names):
            return False
        if self.deleted:
            return row.state == DELETED
        return row.state == LIVE or self.upload is not None


@dataclass(frozen=True)
class Listing:
    """The rows that were selected, how many they are, and what to be warned of.

    No row is kept: they are read from the ledger as often as they are asked for, message by message.
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
    """Return the list of what the owner at ``path`` sent.

    Whatever is damaged in the ledger is found here, and not when half of the rows are printed. Raises
    InvalidRequestError if there is no message of the number that was selected.
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
