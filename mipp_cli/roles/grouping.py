"""Which images of a run of `owner encrypt` go together: an image keeps its mates for life.

What is sent again is sent as whole groups, in the composition that the ledger has, without deleted images.
Where the pictures of the mates are not at hand, the images move to a new group. In schemes without groups
every image is a group of its own.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mipp_cli.errors import InvalidRequestError
from mipp_cli.roles.ledger import Ledger
from mipp_cli.scheme.groups import Row, cut, in_order

_ID_BYTES = 8


@dataclass(frozen=True)
class Group:
    """A group as it is sent: its id in the ledger, which stays, and its rows in order."""

    name: str
    rows: tuple[Row, ...]

    @property
    def length(self) -> int:
        """The length of its ciphertexts: that of the largest."""
        return max(row.length for row in self.rows)

    @property
    def size(self) -> int:
        """Bytes of its ciphertexts together."""
        return self.length * len(self.rows)


class Grouping:
    """The groups of the images that are sent; ``known`` are the groups that the ledger has them in."""

    def __init__(self, ledger: Ledger, known: Mapping[str, str], group_size: int):
        self._known, self._group_size = known, group_size
        self._members = ledger.members({known[path] for path in known})
        self.moved = 0

    def mates(self, sent: Collection[str], at_hand: Collection[str]) -> list[str]:
        """Return the mates of images that are ``sent``, if those of a group are all ``at_hand``."""
        found: set[str] = set()
        for group in {self._known[path] for path in sent if path in self._known}:
            others = self._members[group] - set(sent)
            if others <= set(at_hand):
                found |= others
        return sorted(found)

    def groups(self, rows: Collection[Row], *, small: bool) -> list[Group]:
        """Return the groups of ``rows`` in the order of an upload.

        Raises InvalidRequestError for new groups that would be too small, unless ``small`` admits them.
        """
        sent = {row.path for row in rows}
        kept: defaultdict[str, list[Row]] = defaultdict(list)
        pool = []
        for row in rows:
            group = self._known.get(row.path)
            if group is not None and self._members[group] <= sent:
                kept[group].append(row)
            else:
                pool.append(row)
                self.moved += group is not None
        if pool and len(pool) < self._group_size and not small:
            raise InvalidRequestError(
                f"{len(pool)} images are too few for a group of {self._group_size}",
                hint="wait until there are more, or give --small: the fewer images a group has, the less it "
                "hides which of them a query matches",
            )
        new = cut(pool, self._group_size) if pool else []
        names = {group[0].path: name for name, group in kept.items()}
        ordered = in_order([*kept.values(), *new])
        by_path = {row.path: names.get(group[0].path) for group in [*kept.values(), *new] for row in group}
        return [
            Group(by_path[group[0].path] or secrets.token_hex(_ID_BYTES), tuple(group)) for group in ordered
        ]
