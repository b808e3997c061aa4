"""The sealed part of an answer: which of its images are real, what they match, and what was searched.

Its length does not reveal its content: entries have a fixed size, and in scheme `exact`, where the cloud must
not learn the number of matches, there are as many entries as the query could have matches.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mipp_cli.containers.base.header import IDENTIFIER
from mipp_cli.errors import MalformedError

_ENTRY = np.dtype([("query", "<u4"), ("image", "<u4"), ("owner", "<u4"), ("distance", "<u8")])
_NONE = 2**32 - 1  # the query image of a padding entry
_UNKNOWN = 2**64 - 1
_OWNER_BYTES = 512
_NUMBERS_SHOWN = 3


@dataclass(frozen=True)
class SearchedOwner:
    """The outcome of a search for one owner.

    ``images`` is the number of images ranked, None if the owner did not authorise the user; ``unranked`` are
    encrypted under keys that the KMC does not have. Of the rows requested from the cloud, ``bad`` differ from
    what the owner sent, and ``missing`` were not delivered (``uploads`` lists some of their uploads).
    ``withdrawn`` matched, but were deleted or replaced since, or the user's authorisation ended. ``gaps`` are
    messages that the KMC lacks. ``unread`` means that the KMC's data of the owner are damaged; then the other
    fields mean nothing.
    """

    name: str
    images: int | None = None
    unranked: int = 0
    bad: int = 0
    missing: int = 0
    withdrawn: int = 0
    uploads: tuple[int, ...] = ()
    gaps: tuple[int, ...] = ()
    unread: bool = False

    def __post_init__(self) -> None:
        images = 0 if self.images is None else self.images
        numbers = (images, self.unranked, self.bad, self.missing, self.withdrawn)
        listed = (*self.uploads, *self.gaps)
        sound = all(type(number) is int and 0 <= number < 2**63 for number in (*numbers, *listed))
        if not sound or type(self.unread) is not bool or not IDENTIFIER.fullmatch(self.name):
            raise MalformedError("has an invalid entry of an owner")

    def shortened(self) -> SearchedOwner:
        """Return a copy with only as many numbers as a manifest has room for."""
        return replace(self, uploads=self.uploads[:_NUMBERS_SHOWN], gaps=self.gaps[:_NUMBERS_SHOWN])


@dataclass(frozen=True)
class ManifestMatch:
    """A match: the query image, the position of the image in NER, its owner, and the distance, if known.

    ``distance`` is the squared distance of the features (Eq. 7), an integer.
    """

    query: int
    image: int
    owner: str
    distance: int | None = None


@dataclass(frozen=True)
class Manifest:
    """The content of an answer: the digest of the query, the owners searched, and the matches by rank.

    ``images`` counts the images in NER; some may be random bytes, which no match refers to. ``left_out`` is
    the number of groups left out because the cloud would have had to deliver too much.
    """

    query_digest: str
    images: int
    owners: tuple[SearchedOwner, ...]
    matches: tuple[ManifestMatch, ...]
    left_out: int = 0

    def __post_init__(self) -> None:
        names = [owner.name for owner in self.owners]
        if len(set(names)) != len(names) or self.left_out < 0:
            raise MalformedError("lists an owner twice, or has an invalid number of groups left out")
        if not 0 <= self.images <= _NONE:
            raise MalformedError("has an invalid number of images")
        known = set(names)
        if any(not 0 <= match.image < self.images or match.owner not in known for match in self.matches):
            raise MalformedError("has a match with an image that it does not contain")
        if any(
            not 0 <= match.query < _NONE or not 0 <= (match.distance or 0) < _UNKNOWN
            for match in self.matches
        ):
            raise MalformedError("has a match with an invalid query image or distance")

    def pack(self, capacity: int, owners: int) -> bytes:
        """Return the manifest as bytes, with room for ``capacity`` matches and so many ``owners``.

        Raises MalformedError if that is not enough.
        """
        if len(self.matches) > capacity or len(self.owners) > owners:
            raise MalformedError("has more matches or owners than its manifest has room for")
        place = {owner.name: number for number, owner in enumerate(self.owners)}
        entries = np.zeros(capacity, dtype=_ENTRY)
        entries["query"] = _NONE
        for number, match in enumerate(self.matches):
            distance = _UNKNOWN if match.distance is None else match.distance
            entries[number] = (match.query, match.image, place[match.owner], distance)
        fields = {
            "query": self.query_digest,
            "images": self.images,
            "owners": [asdict(owner.shortened()) for owner in self.owners],
            "left_out": self.left_out,
        }
        head = json.dumps(fields, separators=(",", ":")).encode().ljust(_OWNER_BYTES * (owners + 1))
        if len(head) > _OWNER_BYTES * (owners + 1):
            raise MalformedError("has entries that are too long for its manifest")
        return len(head).to_bytes(4, "big") + head + entries.tobytes()

    @classmethod
    def unpack(cls, data: bytes) -> Manifest:
        """Read what :meth:`pack` wrote; raises MalformedError for anything else."""
        size = int.from_bytes(data[:4], "big")
        head, body = data[4 : 4 + size], data[4 + size :]
        try:
            if len(head) != size:
                raise ValueError("the manifest was cut short")
            fields = json.loads(head)
            owners = tuple(map(searched_owner, fields["owners"]))
            entries = np.frombuffer(body, dtype=_ENTRY)
            used = entries[entries["query"] != _NONE].tolist()
            matches = tuple(
                ManifestMatch(query, image, owners[owner].name, None if distance == _UNKNOWN else distance)
                for query, image, owner, distance in used
            )
            query, images, left_out = str(fields["query"]), int(fields["images"]), int(fields["left_out"])
        except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError):
            raise MalformedError("contains an unreadable manifest") from None
        manifest = cls(query, images, owners, matches, left_out)
        if manifest.pack(len(entries), size // _OWNER_BYTES - 1) != data:
            raise MalformedError("contains a manifest that is not in canonical form")
        return manifest


def searched_owner(fields: dict[str, Any]) -> SearchedOwner:
    """Return an owner from JSON fields, as of ``asdict``; raises KeyError, TypeError or MalformedError."""
    lists = {name: tuple(fields[name]) for name in ("uploads", "gaps")}
    return SearchedOwner(**{**fields, **lists})
