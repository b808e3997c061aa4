"""`part`: rows of Table 2 of one owner, sorted so that a search reads only what it returns.

Distinct pairs (Σx, Σx²) ascending, with the number of images of each; for every image, by pair and
then by name, its place in the order of names; and by name, the names and the rows in the segments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mipp_cli.containers.base.columns import UNSIGNED, Matrix, Ragged, unsigned
from mipp_cli.containers.base.container import Container, Schema, Sender, read_header, write_container
from mipp_cli.containers.base.source import Source
from mipp_cli.containers.messages.upload import NAME_LIMIT
from mipp_cli.errors import MalformedError
from mipp_cli.scheme.retrieval_index import PairTable

PART = Schema(
    "part",
    {
        "pair_sum1": Matrix(UNSIGNED),
        "pair_sum2": Matrix(UNSIGNED),
        "pair_counts": Matrix(UNSIGNED),
        "positions": Matrix(UNSIGNED),
        "names": Ragged(NAME_LIMIT, UNSIGNED),
        "rows": Matrix(UNSIGNED),
    },
)
ROWS_LIMIT = 2**32 - 1
_BATCH = 1 << 16


@dataclass(frozen=True)
class PartContent:
    """What a part is written from; the sequences are walked once.

    ``positions`` gives the places in the order of names, by pair and ascending within it; ``names`` the
    names in ascending batches, each with the rows of its images.
    """

    pairs: PairTable
    names_bytes: int
    positions: Iterable[NDArray[np.integer]]
    names: Iterable[tuple[Sequence[bytes], NDArray[np.integer]]]


def write_part(path: Path, sender: Sender, number: int, content: PartContent) -> None:
    """Write a `part`, every column as narrow as its largest value allows."""
    pairs, rows = content.pairs, content.pairs.rows
    counts = np.diff(pairs.starts)
    place = unsigned(rows)
    columns: dict[str, Matrix | Ragged] = {
        "pair_sum1": Matrix(unsigned(int(pairs.sum1.max(initial=0)))),
        "pair_sum2": Matrix(unsigned(int(pairs.sum2.max(initial=0)))),
        "pair_counts": Matrix(unsigned(int(counts.max(initial=0)))),
        "positions": Matrix(place),
        "names": Ragged(NAME_LIMIT, unsigned(content.names_bytes)),
        "rows": Matrix(place),
    }
    with write_container(path, Schema("part", columns), sender, number, force=True) as writer:
        for name, values in zip(list(columns)[:3], (pairs.sum1, pairs.sum2, counts), strict=True):
            writer.matrix(name).append(values)
        for names, numbers in content.names:
            writer.ragged("names").extend(names)
            writer.matrix("rows").append(numbers)
        # last: a merge knows the places once it has seen all names
        for positions in content.positions:
            writer.matrix("positions").append(positions)


@dataclass(frozen=True)
class PartRows:
    """Images of a part: places in the order of names, ascending, their rows, and bytes of their names."""

    places: NDArray[np.int64]
    rows: NDArray[np.int64]
    names_bytes: int

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True)
class PartReader:
    """An open part; every block of it is checked as it is read."""

    container: Container
    pairs: PairTable

    def __len__(self) -> int:
        return self.pairs.rows

    @property
    def names_bytes(self) -> int:
        """Bytes of all names together."""
        return self.container.ragged("names").total_bytes

    def positions(self, begin: int, end: int) -> NDArray[np.int64]:
        """Return places in the order of names, for rows ``begin`` to ``end`` in the order of pairs."""
        return self.container.matrix("positions").rows(begin, end).astype(np.int64)

    def image(self, position: int) -> tuple[bytes, int]:
        """Return name and row of an image by its place in the order of names."""
        return self.name(position), int(self.container.matrix("rows").rows(position, position + 1)[0])

    def name(self, position: int) -> bytes:
        """Return a name by its place in the order of names."""
        return self.container.ragged("names").row(position)

    def names(self) -> Iterator[tuple[list[bytes], NDArray[np.int64]]]:
        """Yield names, ascending, and rows, in batches."""
        for begin in range(0, len(self), _BATCH):
            end = min(begin + _BATCH, len(self))
            rows = self.container.matrix("rows").rows(begin, end).astype(np.int64)
            yield self.container.ragged("names").rows(begin, end), rows

    def known(self, names: Sequence[bytes]) -> list[bytes]:
        """Return those of ``names`` that images of the part have."""
        return [name for name, _ in self._places(names)]

    def find(self, names: Sequence[bytes]) -> PartRows:
        """Find the images of the part that are called one of ``names``."""
        places, size = [], 0
        for name, place in self._places(names):
            places.append(place)
            size += len(name)
        ascending = np.sort(np.array(places, dtype=np.int64))
        return PartRows(ascending, self._rows_at(ascending), size)

    def _places(self, names: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
        """Yield names that there are, and their places: by bisection, or in one pass if they are many."""
        if len(self) < 64 * len(names):
            wanted, place = set(names), 0
            for batch, _ in self.names():
                yield from ((name, place + i) for i, name in enumerate(batch) if name in wanted)
                place += len(batch)
            return
        for name in names:
            place = self._place(name)
            if place < len(self) and self.name(place) == name:
                yield name, place

    def _place(self, name: bytes) -> int:
        """Return the place of the first name that is not before ``name``."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self.name(middle) < name:
                low = middle + 1
            else:
                high = middle
        return low

    def _rows_at(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows of images by their places, ascending: a batch is read where there are some."""
        batches = np.split(places, np.flatnonzero(np.diff(places // _BATCH)) + 1) if len(places) else []
        found = [np.empty(0, dtype=np.int64)]
        for batch in batches:
            first = int(batch[0])
            column = self.container.matrix("rows").rows(first, int(batch[-1]) + 1)
            found.append(column[batch - first].astype(np.int64))
        return np.concatenate(found)

    def table(self) -> Iterator[tuple[bytes, int, int]]:
        """Yield (name, Σx, Σx²) of every image, by pair and name: Table 2."""
        sums = zip(self.pairs.sum1.tolist(), self.pairs.sum2.tolist(), strict=True)
        starts = self.pairs.starts.tolist()
        for pair, (sum1, sum2) in enumerate(sums):
            for begin in range(starts[pair], starts[pair + 1], _BATCH):
                for position in self.positions(begin, min(begin + _BATCH, starts[pair + 1])).tolist():
                    yield self.name(position), sum1, sum2


def open_part(source: Source, deployment: str) -> PartReader:
    """Open a part from a source that checks its blocks."""
    container = Container(source, read_header(source, kind="part", deployment=deployment), PART)
    try:
        rows = container.same_length("positions", "names", "rows")
        container.same_length("pair_sum1", "pair_sum2", "pair_counts")
        sum1, sum2, counts = (
            container.matrix(name).all().astype(np.uint64) for name in list(PART.columns)[:3]
        )
        starts = np.append(np.uint64(0), np.cumsum(counts, dtype=np.uint64))
        pairs = PairTable(sum1, sum2, starts)
        if pairs.rows != rows:
            raise MalformedError("the columns of the index have different lengths")
        return PartReader(container, pairs)
    except BaseException:
        container.close()
        raise
