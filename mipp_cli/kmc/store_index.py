"""The index of an owner's feature store: the messages that the KMC applied, and the live rows of each.

It is the commit point of the store: files that it does not list have no effect.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from mipp_cli.errors import MalformedError

_MOST_CHANGES = 1 << 18  # in honest lists only a few numbers change from one message to the next


class StoredBlock(NamedTuple):
    """A block of rows of one upload: its first group, the index that wrote it, and whether it has codes."""

    upload: int
    first_group: int
    generation: int
    rows: int
    coded: bool


class StoredMessage(NamedTuple):
    """An applied upload or deletion, and its live rows.

    ``digest`` is the digest of the file as received, in hex; ``key_id`` is the id of the key of an upload's
    codes; ``deleted`` is the number of names that a deletion deletes. ``earlier_change`` encodes the earlier
    messages that it lists (:meth:`StoreIndex.lists`).
    """

    number: int
    digest: str
    key_id: int = 0
    deleted: int = 0
    blocks: tuple[StoredBlock, ...] = ()
    earlier_change: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        """The number of its live images."""
        return sum(block.rows for block in self.blocks)

    def block_of(self, group: int) -> StoredBlock | None:
        """Return the block with a group, or None."""
        place = bisect_right(self.blocks, group, key=lambda block: block.first_group)
        return self.blocks[place - 1] if place else None


@dataclass(frozen=True)
class StoreIndex:
    """The applied messages of one owner, sorted by number; ``number`` grows with every change."""

    number: int = 0
    messages: tuple[StoredMessage, ...] = ()

    def _place(self, number: int) -> int:
        return bisect_left(self.messages, number, key=lambda message: message.number)

    def message(self, number: int) -> StoredMessage | None:
        """Return the message with a number, or None."""
        found = self.messages[self._place(number) :][:1]
        return found[0] if found and found[0].number == number else None

    @property
    def newest(self) -> int:
        """The highest message number applied; 0 if there is none."""
        return self.messages[-1].number if self.messages else 0

    @cached_property
    def rows(self) -> int:
        """The number of live images."""
        return sum(message.rows for message in self.messages)

    @property
    def blocks(self) -> Iterator[StoredBlock]:
        """All blocks of all uploads."""
        return (block for message in self.messages for block in message.blocks)

    def lists(self) -> Iterator[tuple[int, frozenset[int]]]:
        """Yield the number of each message and the earlier ones that it lists, the newest message first.

        Most messages list the same as the message before, plus that message; only the difference from this is
        stored.
        """
        listed = self._expected(len(self.messages))
        for message in reversed(self.messages):
            listed.discard(message.number)
            yield message.number, frozenset(listed)
            listed ^= set(message.earlier_change)

    def _expected(self, place: int) -> set[int]:
        listed: set[int] = set()
        for message in self.messages[:place]:
            listed ^= set(message.earlier_change)
            listed.add(message.number)
        return listed

    def with_message(self, message: StoredMessage, earlier: Collection[int]) -> StoreIndex:
        """Return the index with a message added, which lists ``earlier``."""
        place = self._place(message.number)
        before, after = self.messages[:place], self.messages[place:]
        change = self._expected(place) ^ set(earlier)
        if after:  # its list is unchanged, but the message before it is another now
            differs = change ^ {message.number} ^ set(after[0].earlier_change)
            after = (after[0]._replace(earlier_change=tuple(sorted(differs))), *after[1:])
        messages = (*before, message._replace(earlier_change=tuple(sorted(change))), *after)
        if sum(len(each.earlier_change) for each in messages) > _MOST_CHANGES:
            raise MalformedError(
                "lists earlier messages that differ too much from those of the message before",
                hint="ask the owner to check its record and to write the file again",
            )
        return replace(self, messages=messages)

    def with_blocks(self, number: int, blocks: Collection[StoredBlock]) -> StoreIndex:
        """Return the index with the blocks of a message replaced."""
        place, messages = self._place(number), list(self.messages)
        messages[place] = messages[place]._replace(blocks=tuple(blocks))
        return replace(self, messages=tuple(messages))

    def to_bytes(self) -> bytes:
        """Return the index as bytes."""
        return json.dumps([self.number, self.messages], separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> StoreIndex:
        """Parse the output of :meth:`to_bytes`; raises MalformedError for anything else."""
        try:
            number, messages = json.loads(data)
            return cls(number, tuple(_message(*each) for each in messages))
        except (ValueError, TypeError):
            raise MalformedError("is damaged") from None


def _message(
    number: int, digest: str, key_id: int, deleted: int, blocks: list[Any], change: list[int]
) -> StoredMessage:
    stored = tuple(StoredBlock(*block) for block in blocks)
    return StoredMessage(number, digest, key_id, deleted, stored, tuple(change))
