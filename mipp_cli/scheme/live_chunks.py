"""Which chunks of features are live: those of a new upload, and what is left of chunks that rows leave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from mipp_cli.scheme.feature_chunks import ChunkPlace, LiveChunk, chunk_rows
from mipp_cli.scheme.parameters import Parameters


def chunks_of_upload(parameters: Parameters, upload: int, key_id: int, rows: int) -> list[LiveChunk]:
    """Return the chunks of an upload of so many images, as it brings them."""
    most = chunk_rows(parameters)
    return [
        LiveChunk(ChunkPlace(upload, number), upload, key_id, min(most, rows - number * most))
        for number in range(-(-rows // most))
    ]


def places_of_rows(chunks: Sequence[LiveChunk], rows: Sequence[int]) -> list[tuple[int, int]]:
    """Return (chunk, row within it) of live images of one upload, counted through in its order.

    ``chunks`` are that upload's live chunks, ascending; a chunk is given by its position among them.
    Raises IndexError for an image that there is not.
    """
    ends = np.cumsum([chunk.rows for chunk in chunks])
    found = np.searchsorted(ends, rows, side="right").tolist()
    return [
        (number, row - int(ends[number]) + chunks[number].rows)
        for number, row in zip(found, rows, strict=True)
    ]


def without_rows(
    chunks: Iterable[LiveChunk], dropped: Mapping[int, Sequence[int]], version: int
) -> tuple[list[LiveChunk], set[ChunkPlace]]:
    """Return the live chunks once images left, and the places of those to be encrypted anew.

    ``dropped`` gives, for each upload that images leave, which ones: counted through among its live images.
    What is left of a touched chunk is of ``version``; a chunk without rows is gone.
    """
    chunks = list(chunks)
    of_upload: dict[int, list[LiveChunk]] = {upload: [] for upload in dropped}
    for chunk in chunks:
        if chunk.place.upload in of_upload:
            of_upload[chunk.place.upload].append(chunk)
    lost: Counter[ChunkPlace] = Counter()
    for upload, rows in dropped.items():
        own = of_upload[upload]
        lost.update(own[number].place for number, _ in places_of_rows(own, rows))
    left = [
        replace(chunk, version=version, rows=chunk.rows - lost[chunk.place]) if chunk.place in lost else chunk
        for chunk in chunks
    ]
    left = [chunk for chunk in left if chunk.rows]
    return left, {chunk.place for chunk in left if chunk.place in lost}
