"""IndexConstruct and ImageRetrieval against sorting and searching without an index."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipp_cli.errors import MalformedError
from mipp_cli.scheme import retrieval_index
from mipp_cli.scheme.feature_cipher import FeatureCipher, encrypt_features
from mipp_cli.scheme.retrieval_index import (
    Ids,
    PairTable,
    Rows,
    among,
    check_sums,
    ids_of,
    index_construct,
    merged,
    nearest_pairs,
)
from tests.support.examples import Features, Octets, features, repeatable

Row = tuple[int, int, bytes]


@st.composite
def tables(draw: st.DrawFn) -> list[Row]:
    """Draw rows of (Σx, Σx², id), few pairs on many rows, each id once."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 60)), min_size=1, max_size=8))
    places = draw(st.lists(st.integers(0, len(pairs) - 1), max_size=40))
    names = draw(st.permutations(range(len(places))))
    return [
        (*pairs[place], name.to_bytes(1).ljust(16, b"\0")) for place, name in zip(places, names, strict=True)
    ]


def rows_of(rows: list[Row]) -> Rows:
    return index_construct([r[0] for r in rows], [r[1] for r in rows], as_ids(r[2] for r in rows))


def as_ids(ids: Iterable[bytes]) -> Ids:
    return np.frombuffer(b"".join(ids), dtype="S16")


def construct(rows: list[Row]) -> tuple[PairTable, list[Row]]:
    """Index rows; return the table of pairs and the rows in its order."""
    found = rows_of(rows)
    pairs, begins = np.unique(found.pairs, return_index=True)
    starts = np.append(begins, len(rows)).astype(np.uint64)
    return PairTable(pairs >> np.uint64(32), pairs & np.uint64(2**32 - 1), starts), [
        rows[i] for i in found.images.tolist()
    ]


@repeatable(300)
@given(rows=tables())
def test_index_construct_orders_rows_by_both_sums_and_the_id(rows: list[Row]) -> None:
    found = rows_of(rows)
    assert [rows[i] for i in found.images.tolist()] == sorted(rows)
    assert [divmod(pair, 2**32) for pair in found.pairs.tolist()] == [row[:2] for row in sorted(rows)]
    assert found.ids.tobytes() == b"".join(row[2] for row in sorted(rows))


def test_index_construct_compares_ids_as_bytes() -> None:
    ids = [each.ljust(16, b"\0") for each in (b"b", b"a\0b", b"a", b"\xff", b"", b"B")]
    assert [ids[i] for i in index_construct([1] * 6, [1] * 6, as_ids(ids)).images.tolist()] == sorted(ids)


def test_sums_are_compared_as_numbers_up_to_the_largest() -> None:
    largest = 65_535 * 255**2  # the most components, of the highest code
    sums = [0, 1, 255, 256, 2**31, largest]
    ids = as_ids(bytes([byte]) * 16 for byte in range(6))
    assert index_construct(sums, sums, ids).images.tolist() == list(range(6))
    assert index_construct([1] * 6, sums, ids).pairs.tolist() == [2**32 + each for each in sums]


@repeatable(300)
@given(
    drawn=st.lists(tables(), min_size=1, max_size=5),
    batch=st.sampled_from([1, 2, 7, 1 << 16]),
    data=st.data(),
)
def test_merged_tables_are_the_table_of_the_images_left(
    drawn: list[list[Row]], batch: int, data: st.DataObject
) -> None:
    """Images are counted through the tables, without those that are gone."""
    everything = [
        (*row[:2], number.to_bytes(15) + row[2][:1]) for number, row in enumerate(itertools.chain(*drawn))
    ]
    source = iter(everything)
    parts = [[next(source) for _ in rows] for rows in drawn]
    gone = [sorted(data.draw(st.sets(st.integers(0, len(rows) - 1)))) if rows else [] for rows in parts]
    left = [
        row for rows, away in zip(parts, gone, strict=True) for i, row in enumerate(rows) if i not in away
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval_index, "_BATCH", batch)
        found = list(merged([rows_of(rows) for rows in parts], [np.array(each, dtype=int) for each in gone]))
    assert max((len(each) for each in found), default=0) <= batch * len(parts)
    due = rows_of(left)
    assert [i for each in found for i in each.images.tolist()] == due.images.tolist()
    assert b"".join(each.keys.tobytes() for each in found) == due.keys.tobytes()


def test_ids_are_found_among_others_and_nothing_among_none() -> None:
    ids = ids_of([b"a", b"b", b"c"])
    assert among(ids, np.sort(ids_of([b"c", b"x", b"a"]))).tolist() == [True, False, True]
    assert among(ids, ids[:0]).tolist() == [False] * 3
    assert among(ids[:0], ids).tolist() == []


@pytest.mark.parametrize(
    ("sum1", "sum2", "starts"),
    [
        ([1, 2], [1], [0, 1, 2]),
        ([1, 2], [1, 4], [0, 1]),
        ([1, 2], [1, 4], [1, 2, 3]),
        ([1, 2], [1, 4], [0, 2, 2]),
        ([1, 2], [1, 4], [0, 2, 1]),
        ([], [], []),
    ],
)
def test_a_table_that_does_not_fit_itself_is_refused(
    sum1: list[int], sum2: list[int], starts: list[int]
) -> None:
    with pytest.raises(MalformedError):
        PairTable(*(np.array(column, dtype=np.uint64) for column in (sum1, sum2, starts)))


def numerator(row: Row, query: tuple[int, int], dimension: int) -> int:
    """Eq. 9 squared and times l."""
    return dimension * (row[1] + query[1]) - 2 * row[0] * query[0]


@repeatable(500)
@given(
    rows=tables(),
    query=st.tuples(st.integers(0, 40), st.integers(0, 60)),
    dimension=st.integers(3, 9),
    count=st.integers(1, 60),
)
def test_image_retrieval_finds_what_a_search_of_all_rows_finds(
    rows: list[Row], query: tuple[int, int], dimension: int, count: int
) -> None:
    """Ties are broken by id; ``count`` may be more than there are rows."""
    table, ordered = construct(rows)
    chosen, numerators = nearest_pairs(table, *query, dimension, count)
    candidates = [
        (near, row[2])
        for pair, near in zip(chosen.tolist(), numerators.tolist(), strict=True)
        for row in ordered[int(table.starts[pair]) : int(table.starts[pair + 1])]
    ]
    every_row = sorted((numerator(row, query, dimension), row[2]) for row in rows)
    assert sorted(candidates)[:count] == every_row[:count]
    assert [near for near, _ in candidates] == sorted(near for near, _ in candidates)


@repeatable(500)
@given(
    rows=tables().filter(bool),
    query=st.tuples(st.integers(0, 40), st.integers(0, 60)),
    dimension=st.integers(3, 9),
    count=st.integers(1, 60),
)
def test_image_retrieval_returns_exactly_the_nearest_pairs(
    rows: list[Row], query: tuple[int, int], dimension: int, count: int
) -> None:
    table, _ = construct(rows)
    chosen, _ = nearest_pairs(table, *query, dimension, count)
    last_needed = sorted(numerator(row, query, dimension) for row in rows)[:count][-1]
    assert len(set(chosen.tolist())) == len(chosen)
    assert {(int(table.sum1[i]), int(table.sum2[i])) for i in chosen} == {
        row[:2] for row in rows if numerator(row, query, dimension) <= last_needed
    }


def test_image_retrieval_from_an_empty_table_finds_nothing() -> None:
    table, _ = construct([])
    chosen, numerators = nearest_pairs(table, 3, 5, 4, 100)
    assert (len(chosen), len(numerators)) == (0, 0)


@repeatable(25)
@given(drawn=features(most_rows=6))
def test_image_retrieval_ranks_encrypted_features_by_eq_8(
    cipher: FeatureCipher, drawn: tuple[Features, int]
) -> None:
    rows = drawn[0].tolist()
    dimension = len(rows[0])
    ef, eff = encrypt_features(cipher, drawn[0])
    sums = zip(cipher.sums(ef), cipher.sums(eff), strict=True)
    table, ordered = construct([(*pair, bytes(15) + bytes([i])) for i, pair in enumerate(sums)])
    query = (sum(rows[-1]), sum(y * y for y in rows[-1]))
    chosen, _ = nearest_pairs(table, *query, dimension, len(rows))
    found = [
        row[2][-1]
        for pair in chosen
        for row in ordered[int(table.starts[pair]) : int(table.starts[pair + 1])]
    ]
    squared = [numerator((sum(row), sum(x * x for x in row), b""), query, dimension) for row in rows]
    assert sorted(found) == list(range(len(rows)))
    assert [squared[i] for i in found] == sorted(squared)


@repeatable(300)
@given(drawn=features(most_levels=64))
def test_the_sums_of_every_feature_pass(drawn: tuple[Features, int]) -> None:
    plain, levels = drawn
    for row in plain.tolist():
        check_sums(sum(row), sum(x * x for x in row), len(row), levels)


@pytest.mark.parametrize(("dimension", "levels"), [(3, 2), (3, 4), (4, 3), (5, 2)])
def test_the_sums_check_passes_all_real_sums_and_little_else(dimension: int, levels: int) -> None:
    """Every feature there is; what passes beyond their sums still keeps the three bounds of the design."""
    real = {(sum(x), sum(a * a for a in x)) for x in itertools.product(range(levels), repeat=dimension)}
    span = range(-3, dimension * (levels - 1) ** 2 + 4)
    passed = {pair for pair in itertools.product(span, span) if _passes(*pair, dimension, levels)}
    assert real <= passed
    for sum1, sum2 in passed:
        assert 0 <= sum1 <= dimension * (levels - 1)
        assert sum1 <= sum2 <= (levels - 1) * sum1
        assert sum1**2 <= dimension * sum2
        assert (sum2 - sum1) % 2 == 0
    if levels == 2:
        assert passed == real


def _passes(sum1: int, sum2: int, dimension: int, levels: int) -> bool:
    try:
        check_sums(sum1, sum2, dimension, levels)
    except MalformedError:
        return False
    return True


@pytest.mark.parametrize(
    ("sum1", "sum2"),
    [
        (-1, 1),
        (0, 2),
        (2, 0),
        (561, 3921),  # Σx above 80·7
        (10, 8),  # Σx² below Σx
        (10, 72),  # Σx² above 7·Σx
        (200, 400),  # (Σx)² above 80·Σx²
        (10, 11),  # of different parity, as no x and x² are
        (10**700, 10**700),
        (10, 10**700),
    ],
)
def test_sums_that_no_feature_has_are_refused(sum1: int, sum2: int) -> None:
    with pytest.raises(MalformedError) as refused:
        check_sums(sum1, sum2, 80, 8)
    assert len(str(refused.value)) < 120


@pytest.mark.parametrize(("sum1", "sum2"), [(0, 0), (560, 3920), (10, 10), (10, 70), (80, 80), (200, 500)])
def test_sums_at_the_bounds_pass(sum1: int, sum2: int) -> None:
    check_sums(sum1, sum2, 80, 8)


@pytest.mark.parametrize("swap", [lambda ef, eff: (eff, ef), lambda ef, _: (ef, ef)])
def test_sums_of_features_and_squares_mixed_up_are_refused(
    cipher: FeatureCipher, swap: Callable[..., tuple[Octets, Octets]]
) -> None:
    ef, eff = swap(*encrypt_features(cipher, np.full((1, 80), 5, dtype=np.uint8)))
    with pytest.raises(MalformedError):
        check_sums(cipher.sums(ef)[0], cipher.sums(eff)[0], 80, 8)
