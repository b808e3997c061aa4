"""Groups of the images of an `owner encrypt` run: an image keeps its group mates for life.

Images are sent again as whole groups, as the ledger lists them, without deleted images. If the pictures of
the mates are not available, the images move to a new group. In schemes without groups every image is its own
group.
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
    """Return the warning about ``images`` images in groups of fewer than ``group_size``, if any."""
    if not images:
        return []
    return [
        f"{images} images are in groups of fewer than {group_size}, which hide less which of their images a "
        "query matches; to avoid that, delete them and send them again with others (--undelete)"
    ]


def moved_warning(count: int) -> list[str]:
    """Return the warning about ``count`` images that move to new groups, if any."""
    if not count:
        return []
    return [
        f"{count} images moved to new groups: their group mates were not named or cannot be read; name the "
        "whole collection, so that images stay in their groups"
    ]


@dataclass(frozen=True, slots=True)
class Group:
    """A group to send: its permanent id in the ledger, and the paths of its rows in order.

    All of its ciphertexts are padded to the ``length`` of the largest.
    """

    name: str
    paths: tuple[str, ...]
    length: int

    @property
    def size(self) -> int:
        """Total length of its ciphertexts."""
        return self.length * len(self.paths)


class Grouping:
    """The groups of a run that sends the images ``sent``, without counting the mates sent along.

    ``known`` maps images to their groups in the ledger.
    """

    def __init__(self, ledger: Ledger, known: Mapping[str, str], sent: Set[str], group_size: int):
        self.sent, self._group_size = sent, group_size
        group_of = {path: known[path] for path in sent if path in known}
        self._members = ledger.members(set(group_of.values()))
        mates = {path: group for group, paths in self._members.items() for path in paths}
        self._group_of = mates | group_of

    def mates(self, at_hand: Set[str]) -> list[str]:
        """Return the mates to send along: those of groups whose other members are all ``at_hand``."""
        others = (members - self.sent for members in self._members.values())
        return sorted(path for group in others if group <= at_hand for path in group)

    def moved(self, done: Set[str]) -> int:
        """Return how many images leave their groups if ``done`` are all images sent, including mates.

        Leaving a group without live images does not count.
        """
        known = (self._group_of.get(path) for path in self._new(done))
        return sum(group is not None and bool(self._members[group]) for group in known)

    def check_size(self, done: Set[str]) -> None:
        """Raise TooFewImagesError if fewer images of ``done`` than a group need new groups."""
        count, moved = len(self._new(done)), self.moved(done)
        if not 0 < count < self._group_size:
            return
        ways = "wait until there are more, or give --small: a smaller group hides less which of its images a "
        ways += "query matches"
        if moved:
            ways = f"name the whole collection, so that {moved} of them stay in their groups; or {ways}"
        raise TooFewImagesError(
            f"too few new images for a group of {self._group_size}: {count}",
            hint=ways,
        )

    def groups(self, rows: Collection[Row]) -> list[Group]:
        """Return the groups of ``rows`` (the images sent and their mates), in the order of an upload."""
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
        """Return how many images will be in groups that are too small, whether sent or left behind."""
        sizes = Counter(self._group_of[path] for path in done - self._new(done))
        left = (len(members - done) for group, members in self._members.items() if group not in sizes)
        return sum(size for size in (*sizes.values(), *left) if size < self._group_size)

    def _new(self, done: Set[str]) -> set[str]:
        """Return the images that need new groups: they had none, or not all of their mates are sent.

        A deleted image whose mates were all deleted needs a new group too.
        """
        whole = {group for group, members in self._members.items() if members and members <= done}
        return {path for path in done if self._group_of.get(path) not in whole}
