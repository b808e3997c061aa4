"""Which images of a run of `owner encrypt` go together: an image keeps its mates for life.

What is sent again is sent as whole groups, in the composition that the ledger has, without deleted images.
Where the pictures of the mates are not at hand, the images move to a new group. In schemes without groups
every image is a group of its own.
"""

from __future__ import annotations

import secrets
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass

from mipp_cli.errors import TooFewImagesError
from mipp_cli.owner.ledger import Ledger
from mipp_cli.scheme.groups import Row, cut, in_order

_ID_BYTES = 8


def thin_warning(images: int, group_size: int) -> list[str]:
    """Return what is warned of if so many images are in groups of fewer than ``group_size``."""
    if not images:
        return []
    return [
        f"{images} images are in groups of fewer than {group_size}, which hide less which of their images a "
        "query matches; if that is too few, delete them and send them with others (--undelete)"
    ]


def moved_warning(count: int) -> list[str]:
    """Return what is warned of if so many images move to new groups."""
    if not count:
        return []
    return [
        f"{count} images moved to new groups: the pictures of their mates are not among those named, or "
        "cannot be read; name the whole collection, so that images keep their mates for life"
    ]


@dataclass(frozen=True, slots=True)
class Group:
    """A group as it is sent: its id in the ledger, which stays, and the paths of its rows in order.

    All of its ciphertexts have the ``length`` of the largest.
    """

    name: str
    paths: tuple[str, ...]
    length: int

    @property
    def size(self) -> int:
        """Bytes of its ciphertexts together."""
        return self.length * len(self.paths)


class Grouping:
    """The groups of a run that sends the images ``sent``, of which the ledger has ``known`` in groups.

    ``sent`` is what is sent for its own sake, without mates.
    """

    def __init__(self, ledger: Ledger, known: Mapping[str, str], sent: Set[str], group_size: int):
        self.sent, self._group_size = sent, group_size
        group_of = {path: known[path] for path in sent if path in known}
        self._members = ledger.members(set(group_of.values()))
        mates = {path: group for group, paths in self._members.items() for path in paths}
        self._group_of = mates | group_of

    def mates(self, at_hand: Set[str]) -> list[str]:
        """Return the mates of the images that are sent, of the groups whose members are all ``at_hand``.

        Members that are sent themselves need not be.
        """
        others = (members - self.sent for members in self._members.values())
        return sorted(path for group in others if group <= at_hand for path in group)

    def moved(self, done: Set[str]) -> int:
        """Return how many images leave their groups, if ``done`` is all that is sent, mates among them.

        A group of which no image is live is none to leave.
        """
        known = (self._group_of.get(path) for path in self._new(done))
        return sum(group is not None and bool(self._members[group]) for group in known)

    def check_size(self, done: Set[str]) -> None:
        """Raise TooFewImagesError if those of ``done`` that go into new groups are too few for one."""
        count, moved = len(self._new(done)), self.moved(done)
        if not 0 < count < self._group_size:
            return
        ways = "wait until there are more, or give --small: a smaller group hides less which of its images a "
        ways += "query matches"
        if moved:
            ways = f"name the whole collection, so that {moved} of them stay with their mates; or {ways}"
        raise TooFewImagesError(
            f"too few new images for a group of {self._group_size}: {count}",
            hint=ways,
        )

    def groups(self, rows: Collection[Row]) -> list[Group]:
        """Return the groups of ``rows``, of the images sent and their mates, in the order of an upload."""
        new = self._new({row.path for row in rows})
        kept: defaultdict[str, list[Row]] = defaultdict(list)
        for row in rows:
            if row.path not in new:
                kept[self._group_of[row.path]].append(row)
        cuts = cut((row for row in rows if row.path in new), self._group_size)
        names = {path: group for path, group in self._group_of.items() if path not in new}
        return [
            Group(
                names.get(group[0].path) or secrets.token_hex(_ID_BYTES),
                tuple(row.path for row in group),
                max(row.length for row in group),
            )
            for group in in_order([*kept.values(), *cuts])
        ]

    def thinned(self, done: Set[str]) -> int:
        """Return how many images will be in groups that have fewer than a group has: sent, or left behind."""
        sizes = Counter(self._group_of[path] for path in done - self._new(done))
        left = (len(members - done) for group, members in self._members.items() if group not in sizes)
        return sum(size for size in (*sizes.values(), *left) if size < self._group_size)

    def _new(self, done: Set[str]) -> set[str]:
        """Return which images go into new groups: those that had none, or not all of whose mates are sent.

        An image that was deleted has none left if all of its mates were.
        """
        whole = {group for group, members in self._members.items() if members and members <= done}
        return {path for path in done if self._group_of.get(path) not in whole}
