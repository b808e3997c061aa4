"""`KMC/features/OID/index`: which messages of an owner the KMC applied, and what is left of each.

It is the commit point of the store: what it does not list counts for nothing.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

from mipp_cli.errors import MalformedError

UPLOAD = "upload"
DELETE = "delete"
_LARGEST = 2**63 - 1
_MOST_CHANGES = 1 << 18  # honest lists change by a few numbers from one message to the next
_DIGEST_DIGITS = 64


@dataclass(frozen=True)
class StoredBlock:
    """A run of rows of one upload: how many are left, the index that wrote them, and the first group there.

    A block of which no row is left keeps its place in the list, and has no file.
    """

    rows: int
    generation: int
    first_group: int

    def __post_init__(self) -> None:
        if not all(type(each) is int and 0 <= each <= _LARGEST for each in self._numbers):
            raise ValueError("no block is like this")

    @property
    def _numbers(self) -> tuple[int, int, int]:
        return self.rows, self.generation, self.first_group


@dataclass(frozen=True)
class StoredMessage:
    """An upload or a deletion that was applied, and what is left of it.

    ``digest`` is that of the file as it came, in hex. ``key_id`` is that of the key of an upload's codes,
    which are not there (``coded``) if that key was forgotten before they came. ``deleted`` is how many
    names a deletion deletes. ``earlier_change`` says which earlier messages it lists (StoreIndex.lists).
    """

    number: int
    kind: str
    digest: str
    key_id: int = 0
    coded: bool = False
    deleted: int = 0
    blocks: tuple[StoredBlock, ...] = ()
    earlier_change: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        firsts = [block.first_group for block in self.blocks]
        numbers = (self.number, self.deleted, *self.earlier_change)
        sound = (
            all(type(each) is int and 0 <= each <= _LARGEST for each in numbers)
            and 0 <= self.key_id < 2**64
            and self.kind in (UPLOAD, DELETE)
            and len(bytes.fromhex(self.digest)) * 2 == _DIGEST_DIGITS
            and type(self.coded) is bool
            and all(low < high for low, high in pairwise(firsts))
            and firsts[:1] in ([], [0])
            and not (self.kind == DELETE and (self.blocks or self.coded))
        )
        if not sound:
            raise ValueError("no message is like this")

    @cached_property
    def rows(self) -> int:
        """How many of its images are live."""
        return sum(block.rows for block in self.blocks)

    def groups_of(self, block_number: int) -> tuple[int, int | None]:
        """Return the first group of a block, and that of the next block; None if there is none."""
        following = self.blocks[block_number + 1 : block_number + 2]
        return self.blocks[block_number].first_group, following[0].first_group if following else None

    def block_of(self, group: int) -> int | None:
        """Return the number of the block that a group lies in, if it lies in one."""
        if not self.blocks or group < 0:
            return None
        return bisect_left(self.blocks, group + 1, key=lambda block: block.first_group) - 1


@dataclass(frozen=True)
class StoreIndex:
    """What the KMC applied of one owner; ``number`` grows with every change."""

    number: int = 0
    messages: tuple[StoredMessage, ...] = ()

    def __post_init__(self) -> None:
        numbers = [message.number for message in self.messages]
        if type(self.number) is not int or not 0 <= self.number <= _LARGEST:
            raise ValueError("no index is like this")
        if any(low >= high for low, high in pairwise(numbers)):
            raise ValueError("the messages are not in order")

    @cached_property
    def _places(self) -> dict[int, int]:
        return {message.number: place for place, message in enumerate(self.messages)}

    def message(self, number: int) -> StoredMessage | None:
        """Return the message with a number, or None."""
        place = self._places.get(number)
        return None if place is None else self.messages[place]

    @property
    def uploads(self) -> Iterator[StoredMessage]:
        """The uploads of which images are live, by number."""
        return (message for message in self.messages if message.rows)

    @property
    def newest(self) -> int:
        """The highest number that was applied; 0 if there is none."""
        return self.messages[-1].number if self.messages else 0

    @cached_property
    def rows(self) -> int:
        """How many images are live."""
        return sum(message.rows for message in self.messages)

    def rows_by_number(self) -> dict[int, int]:
        """Return how many images are live in each message, by its number."""
        return {message.number: message.rows for message in self.messages}

    def digests(self) -> dict[int, str]:
        """Return the digest of each message's file, by its number."""
        return {message.number: message.digest for message in self.messages}

    def lists(self) -> Iterator[tuple[int, frozenset[int]]]:
        """Yield the number of each message and the earlier ones that it lists, the newest message first.

        Most messages list what the one before lists, and that one: kept is only what differs from it.
        """
        listed = self._list_of(len(self.messages) - 1)
        for place in reversed(range(len(self.messages))):
            message = self.messages[place]
            yield message.number, frozenset(listed)
            listed ^= set(message.earlier_change)
            listed -= {self.messages[place - 1].number}

    def _list_of(self, place: int) -> set[int]:
        listed: set[int] = set()
        for number in range(place + 1):
            if number:
                listed.add(self.messages[number - 1].number)
            listed ^= set(self.messages[number].earlier_change)
        return listed

    def with_message(self, message: StoredMessage, earlier: Collection[int]) -> StoreIndex:
        """Return the index with one message more, which lists ``earlier``."""
        place = bisect_left(self.messages, message.number, key=lambda each: each.number)
        expected = self._list_of(place - 1) if place else set()
        if place:
            expected.add(self.messages[place - 1].number)
        before, after = self.messages[:place], self.messages[place:]
        if after:
            change = (set(earlier) | {message.number}) ^ self._list_of(place)
            after = (replace(after[0], earlier_change=tuple(sorted(change))), *after[1:])
        change = expected ^ set(earlier)
        message = replace(message, earlier_change=tuple(sorted(change)))
        messages = (*before, message, *after)
        if sum(len(each.earlier_change) for each in messages) > _MOST_CHANGES:
            raise MalformedError(
                "lists earlier messages that have too little to do with what came before",
                hint="an owner's record lists what still counts: ask the owner for another file",
            )
        return replace(self, messages=messages)

    def with_changed(self, message: StoredMessage) -> StoreIndex:
        """Return the index with ``message`` in the place of the one with its number."""
        messages = list(self.messages)
        messages[self._places[message.number]] = message
        return replace(self, messages=tuple(messages))

    def to_bytes(self) -> bytes:
        """Return the index as bytes."""
        messages = [
            [
                each.number,
                each.kind,
                each.digest,
                each.key_id,
                each.coded,
                each.deleted,
                [block._numbers for block in each.blocks],
                each.earlier_change,
            ]
            for each in self.messages
        ]
        return json.dumps({"number": self.number, "messages": messages}, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> StoreIndex:
        """Read what :meth:`to_bytes` wrote; raises ValueError, KeyError or TypeError for anything else."""
        fields = json.loads(data)
        return cls(fields["number"], tuple(_message(*each) for each in fields["messages"]))


def _message(*fields: Any) -> StoredMessage:
    number, kind, digest, key_id, coded, deleted, blocks, change = fields
    stored = tuple(StoredBlock(*each) for each in blocks)
    return StoredMessage(number, kind, digest, key_id, coded, deleted, stored, tuple(change))
