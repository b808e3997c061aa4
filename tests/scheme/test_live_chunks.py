"""Live chunks: what an upload brings, and what is left of it row by row."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipp_cli.scheme.feature_chunks import ChunkPlace, LiveChunk, chunk_rows
from mipp_cli.scheme.live_chunks import chunks_of_upload, places_of_rows, without_rows
from mipp_cli.scheme.parameters import Parameters
from tests.scheme.examples import repeatable

# long features: a full chunk has four rows
LONG = Parameters("exact", None, "long", 65535, 65536 // 4)


def test_an_upload_has_full_chunks_and_one_for_the_rest() -> None:
    assert chunk_rows(LONG) == 4
    assert chunks_of_upload(LONG, 9, 5, 10) == [
        LiveChunk(ChunkPlace(9, 0), 9, 5, 4),
        LiveChunk(ChunkPlace(9, 1), 9, 5, 4),
        LiveChunk(ChunkPlace(9, 2), 9, 5, 2),
    ]


def test_an_upload_of_as_many_images_as_fill_chunks_has_no_empty_one() -> None:
    assert [chunk.rows for chunk in chunks_of_upload(LONG, 9, 5, 8)] == [4, 4]


@repeatable(100)
@given(st.integers(1, 30), st.lists(st.sets(st.integers(0, 29), max_size=12), min_size=1, max_size=4))
def test_rows_leave_the_chunks_that_they_are_in(rows: int, deletions: list[set[int]]) -> None:
    live = chunks_of_upload(LONG, 9, 5, rows) + chunks_of_upload(LONG, 11, 5, 5)
    names = list(range(rows))  # row of the upload by image; its chunk is row // 4
    for version, deletion in enumerate(deletions, 12):
        gone = sorted(place for place, name in enumerate(names) if name in deletion)
        touched = {names[place] // 4 for place in gone}
        before = {chunk.place: chunk for chunk in live}
        live, anew = without_rows(live, {9: gone}, version)
        names = [name for name in names if name not in deletion]
        expected = {
            ChunkPlace(9, number): sum(name // 4 == number for name in names)
            for number in {n // 4 for n in names}
        }
        own = {chunk.place: chunk.rows for chunk in live if chunk.place.upload == 9}
        assert own == expected
        assert anew == {place for place in expected if place.number in touched}
        assert all(chunk.version == version for chunk in live if chunk.place in anew)
        assert all(before[chunk.place] == chunk for chunk in live if chunk.place not in anew)


def test_an_image_is_found_in_its_chunk_though_rows_left_before_it() -> None:
    live, _ = without_rows(chunks_of_upload(LONG, 9, 5, 10), {9: [1, 2, 4]}, 12)
    assert places_of_rows(live, [0, 1, 2, 4, 6]) == [(0, 0), (0, 1), (1, 0), (1, 2), (2, 1)]


def test_an_image_that_there_is_not_is_found_nowhere() -> None:
    with pytest.raises(IndexError):
        places_of_rows(chunks_of_upload(LONG, 9, 5, 10), [10])
