"""Parts of the index: made of an upload's sums, and merged so that their number stays small.

The parts of an owner shrink in size from first to last by a factor of four at least, so an index of n
images has some log n parts for each owner, and adding a few images does not touch the large ones.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
from numpy.typing import NDArray

from mipp_cli.containers.store.part import ROWS_LIMIT, PartContent, PartReader
from mipp_cli.files.atomic import output_error
from mipp_cli.scheme.retrieval_index import PairTable, index_construct, merge_pairs

_RATIO = 4
_BATCH = 1 << 16


def part_of_sums(sum1: Sequence[int], sum2: Sequence[int], names: Sequence[bytes]) -> PartContent:
    """IndexConstruct for one upload: ``names`` and sums in the order of its rows."""
    pairs, order = index_construct(sum1, sum2, names)
    by_name = np.array(sorted(range(len(names)), key=names.__getitem__), dtype=np.int64)
    position = np.empty(len(names), dtype=np.int64)
    position[by_name] = np.arange(len(names))
    sorted_names = [names[row] for row in by_name.tolist()]
    return PartContent(pairs, sum(map(len, names)), [position[order]], [(sorted_names, by_name)])


def parts_to_merge(sizes: Sequence[int]) -> int:
    """Return how many of an owner's last parts, of ``sizes`` rows each, should become one; 1 for none."""
    if not sizes:
        return 1
    count, together = 1, sizes[-1]
    for place, size in enumerate(reversed(sizes[:-1]), start=2):
        if size + together > ROWS_LIMIT:
            break
        if size < _RATIO * together:  # of a part that lost images, though the next one may be in order
            count = place
        together += size
    return count


def merged(readers: Sequence[PartReader], scratch: Path, advance: Callable[[int], None]) -> PartContent:
    """Merge parts of one owner; the rows of a later part follow those of an earlier one.

    What must be remembered of each image meanwhile lies in unnamed files in the folder ``scratch``;
    ``advance`` is called with the images done.
    """
    pairs, merged_pair = merge_pairs([reader.pairs for reader in readers])
    places = [_scratch_column(len(reader), scratch) for reader in readers]
    return PartContent(
        pairs,
        sum(reader.names_bytes for reader in readers),
        _merged_positions(readers, pairs, merged_pair, places),
        _merged_names(readers, places, advance),
    )


def _scratch_column(rows: int, folder: Path) -> NDArray[np.int64]:
    try:
        with TemporaryFile(dir=folder) as file:  # the mapping outlives the name and the handle
            # taken now: a disk found full by writing to a mapping would end the process
            os.posix_fallocate(file.fileno(), 0, rows * np.dtype(np.int64).itemsize)
            return np.memmap(file, dtype=np.int64, mode="r+", shape=(rows,))
    except OSError as error:
        raise output_error(error, folder) from error


def _merged_names(
    readers: Sequence[PartReader],
    places: Sequence[NDArray[np.int64]],
    advance: Callable[[int], None],
) -> Iterator[tuple[list[bytes], NDArray[np.int64]]]:
    """Yield all names ascending, with their rows; note in ``places`` where each image's name went."""
    bases = np.cumsum([0, *(len(reader) for reader in readers)]).tolist()
    entries = heapq.merge(*(_entries(reader, part, bases[part]) for part, reader in enumerate(readers)))
    done = 0
    while batch := list(islice(entries, _BATCH)):
        names, parts, positions, rows = zip(*batch, strict=True)
        part_of, position_of = np.array(parts), np.array(positions)
        new_places = np.arange(done, done + len(batch))
        for part, column in enumerate(places):
            chosen = part_of == part
            column[position_of[chosen]] = new_places[chosen]
        yield list(names), np.array(rows, dtype=np.int64)
        done += len(batch)
        advance(len(batch))


def _entries(reader: PartReader, part: int, base: int) -> Iterator[tuple[bytes, int, int, int]]:
    position = 0
    for names, rows in reader.names():
        for name, row in zip(names, rows.tolist(), strict=True):
            yield name, part, position, base + row
            position += 1


def _merged_positions(
    readers: Sequence[PartReader],
    pairs: PairTable,
    merged_pair: Sequence[NDArray[np.int64]],
    places: Sequence[NDArray[np.int64]],
) -> Iterator[NDArray[np.int64]]:
    """Yield the places of all images by merged pair and name, some pairs at a time."""
    begin = 0
    while begin < len(pairs.sum1):
        enough = int(np.searchsorted(pairs.starts, pairs.starts[begin] + np.uint64(_BATCH)))
        end = max(begin + 1, min(enough, len(pairs.sum1)))
        found, labels = [], []
        for reader, pair_of, column in zip(readers, merged_pair, places, strict=True):
            first, last = np.searchsorted(pair_of, (begin, end)).tolist()
            starts = reader.pairs.starts[first : last + 1].astype(np.int64)
            found.append(column[reader.positions(int(starts[0]), int(starts[-1]))])
            labels.append(np.repeat(pair_of[first:last], np.diff(starts)))
        positions = np.concatenate(found)
        yield positions[np.lexsort((positions, np.concatenate(labels)))]
        begin = end
