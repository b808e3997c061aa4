"""`candidates` (cloud → KMC, scheme `exact`): the query byte for byte, and encrypted features of owners."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from mipp_cli.containers.columns import Matrix, Ragged
from mipp_cli.containers.container import Container, Schema, Sender, open_container, write_container
from mipp_cli.containers.header import IDENTIFIER, Header
from mipp_cli.containers.manifest import MANIFEST_BYTES_LIMIT
from mipp_cli.containers.query import QUERY_BYTES_LIMIT
from mipp_cli.errors import MalformedError

CANDIDATES = Schema(
    "candidates",
    {
        "query": Matrix("u1"),
        "owners": Ragged(limit=64),
        "manifests": Ragged(limit=MANIFEST_BYTES_LIMIT),
        "chunks": Ragged(),
    },
)
_OWNERS_LIMIT = 1 << 20


@dataclass(frozen=True)
class OwnerFeatures:
    """The features of one owner: its manifest byte for byte, and the sizes of its chunks in that order."""

    owner: str
    manifest: bytes
    sizes: Sequence[int]
    chunks: Callable[[], Iterable[bytes]]


def write_candidates(
    path: Path,
    sender: Sender,
    query_id: str,
    query: bytes,
    owners: Sequence[OwnerFeatures],
    *,
    force: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Write `candidates`; chunks are streamed, and ``advance`` is called with the bytes of each."""
    sizes = [size for each in owners for size in each.sizes]
    with write_container(path, CANDIDATES, sender, query_id, force=force) as writer:
        writer.matrix("query").append(np.frombuffer(query, dtype=np.uint8))
        # in one piece, which is read fastest
        writer.ragged("chunks").expect(len(sizes), sum(sizes))
        for each in sorted(owners, key=lambda owner: owner.owner):
            writer.ragged("owners").append(each.owner.encode("ascii"))
            writer.ragged("manifests").append(each.manifest)
            for chunk in each.chunks():
                writer.ragged("chunks").append(chunk)
                advance(len(chunk))


@dataclass(frozen=True)
class CandidatesReader:
    """Open `candidates`: the query's bytes, owners ascending, and the manifest of each, unverified."""

    container: Container
    query_octets: bytes
    owners: list[str]

    def manifests(self) -> Iterator[tuple[str, bytes]]:
        """Yield each owner with the bytes of its manifest."""
        for number, owner in enumerate(self.owners):
            yield owner, self.container.ragged("manifests").row(number)

    def __len__(self) -> int:
        return len(self.container.ragged("chunks"))

    def chunk(self, number: int) -> bytes:
        """Return one encrypted chunk, counted through in the order of owners and manifests."""
        return self.container.ragged("chunks").row(number)


def open_candidates(
    path: Path, deployment: str, check: Callable[[Header], None] | None = None
) -> CandidatesReader:
    """Read and verify `candidates`; close the reader's container when done."""
    container = open_container(path, CANDIDATES, deployment=deployment, check=check)
    try:
        if container.same_length("owners", "manifests") > _OWNERS_LIMIT:
            raise MalformedError("holds more owners than there can be")
        owners = container.ragged("owners").texts()
        if not all(IDENTIFIER.fullmatch(owner) for owner in owners):
            raise MalformedError("names an owner by an identifier that is not one")
        if any(first >= second for first, second in pairwise(owners)):
            raise MalformedError("holds an owner twice, or owners in another order than that of their names")
        return CandidatesReader(container, container.octets("query", QUERY_BYTES_LIMIT), owners)
    except BaseException:
        container.close()
        raise
