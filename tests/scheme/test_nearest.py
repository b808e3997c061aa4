"""Eq. 7 squared against whole numbers, both ways to compute it, and the nearest rows against sorting all."""

from __future__ import annotations

import hashlib
import itertools
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mipp_cli.scheme import nearest
from mipp_cli.scheme.nearest import Nearest, squared_distances
from mipp_cli.scheme.similarity import euclidean_distances
from tests.support.examples import Features, features, repeatable

Measure = Callable[[Features, Features], NDArray[np.uint32]]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget before and after each test whether numkong computes right; ask it for a few codes, too."""
    monkeypatch.setattr(nearest, "_LEAST_CODES", 0)
    nearest._numkong.cache_clear()
    yield
    nearest._numkong.cache_clear()


def without_numkong(query: Features, rows: Features) -> NDArray[np.uint32]:
    """Measure as if numkong were not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "numkong", None)
        nearest._numkong.cache_clear()
        distances = squared_distances(query, rows)
        assert nearest._numkong() is None
    nearest._numkong.cache_clear()
    return distances


def with_numkong(query: Features, rows: Features) -> NDArray[np.uint32]:
    """Measure with numkong, which must be installed and compute right."""
    pytest.importorskip("numkong")
    assert nearest._numkong() is not None
    return squared_distances(query, rows)


both_ways = pytest.mark.parametrize("measure", [without_numkong, with_numkong])


def in_whole_numbers(query: Features, rows: Features) -> list[int]:
    return [sum((x - y) ** 2 for x, y in zip(row, query.tolist(), strict=True)) for row in rows.tolist()]


@both_ways
@repeatable(100)
@given(drawn=features(most_rows=6, most_levels=256))
def test_eq_7_squared_is_exact(measure: Measure, drawn: tuple[Features, int]) -> None:
    rows = drawn[0]
    distances = measure(rows[-1], rows)
    assert distances.dtype == np.uint32
    assert distances.tolist() == in_whole_numbers(rows[-1], rows)
    assert np.sqrt(distances).tolist() == euclidean_distances(rows, rows[-1]).tolist()


@both_ways
@pytest.mark.parametrize("dimension", [3, 4, 257, 65533, 65535])
def test_eq_7_squared_has_room_for_the_largest_sums(measure: Measure, dimension: int) -> None:
    rows = np.array([[0], [255]], dtype=np.uint8).repeat(dimension, axis=1)
    assert measure(rows[0], rows).tolist() == [0, dimension * 255**2]
    assert measure(rows[1], rows).tolist() == [dimension * 255**2, 0]


@both_ways
@pytest.mark.parametrize(("n", "dimension"), [(10_001, 80), (7001, 81), (999, 1282), (9, 65535)])
def test_eq_7_squared_is_exact_over_many_slices(measure: Measure, n: int, dimension: int) -> None:
    random = np.random.default_rng(dimension)
    rows = random.integers(0, 256, (n, dimension), dtype=np.uint8)
    query = random.integers(0, 256, dimension, dtype=np.uint8)
    difference = rows.astype(np.int32) - query
    expected = (difference * difference).sum(axis=1, dtype=np.int64)
    assert measure(query, rows).tolist() == expected.tolist()


@both_ways
def test_measures_take_read_only_and_unaligned_data(measure: Measure) -> None:
    codes = bytes(range(250)) * 8
    rows = np.frombuffer(codes, dtype=np.uint8, offset=1)[:1600].reshape(20, 80)
    query = np.frombuffer(codes, dtype=np.uint8, offset=7)[:80]
    assert measure(query, rows).tolist() == in_whole_numbers(query, rows)


@both_ways
def test_no_rows_have_no_distances(measure: Measure) -> None:
    distances = measure(np.zeros(80, dtype=np.uint8), np.zeros((0, 80), dtype=np.uint8))
    assert (distances.dtype, distances.shape) == (np.uint32, (0,))


def rounds_to_float32(query: Features, rows: Features, *, out: NDArray[np.float64]) -> None:
    out[:] = nearest._by_numpy(query, rows).astype(np.float32)


def wraps_at_31_bits(query: Features, rows: Features, *, out: NDArray[np.float64]) -> None:
    out[:] = nearest._by_numpy(query, rows).view(np.int32).clip(0)


def forgets_what_does_not_fill_a_vector(query: Features, rows: Features, *, out: NDArray[np.float64]) -> None:
    whole = len(query) // 2 * 2
    out[:] = nearest._by_numpy(query[:whole], rows[:, :whole])


def takes_no_buffer(query: Features, rows: Features) -> None:
    raise AssertionError


def refuses(query: Features, rows: Features, *, out: NDArray[np.float64]) -> None:
    raise ValueError("no such type")


@pytest.mark.parametrize(
    "wrong",
    [rounds_to_float32, wraps_at_31_bits, forgets_what_does_not_fill_a_vector, takes_no_buffer, refuses],
)
def test_a_numkong_that_does_not_compute_right_is_not_used(
    monkeypatch: pytest.MonkeyPatch, wrong: Any
) -> None:
    monkeypatch.setitem(sys.modules, "numkong", SimpleNamespace(sqeuclidean=wrong))
    rows = np.array([[0], [255]], dtype=np.uint8).repeat(65533, axis=1)
    assert squared_distances(rows[0], rows).tolist() == [0, 65533 * 255**2]
    assert nearest._numkong() is None


def test_a_numkong_of_another_interface_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numkong", SimpleNamespace())
    assert squared_distances(np.zeros(3, np.uint8), np.ones((1, 3), np.uint8)).tolist() == [3]
    assert nearest._numkong() is None


def test_numkong_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def right(query: Features, rows: Features, *, out: NDArray[np.float64]) -> None:
        calls.append(len(query))
        out[:] = nearest._by_numpy(query, rows)

    monkeypatch.setitem(sys.modules, "numkong", SimpleNamespace(sqeuclidean=right))
    rows = np.ones((2, 4), dtype=np.uint8)
    assert squared_distances(rows[0], rows).tolist() == [0, 0]
    checked = len(calls)
    squared_distances(rows[0], rows)
    assert len(calls) == checked + 1
    assert {3, 65535} <= set(calls)


def test_numkong_is_not_asked_for_a_few_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "numkong", None)
    rows = np.eye(4, dtype=np.uint8)
    assert squared_distances(rows[0], rows).tolist() == [0, 2, 2, 2]
    assert nearest._numkong.cache_info().currsize == 0


KEY = b"a query"
_WORDS = [int.from_bytes(hashlib.sha256(KEY).digest()[n : n + 8], "little") for n in (0, 8)]


def hash_of(row: int) -> int:
    """Return by what rows at one distance are ordered, in Python's whole numbers."""
    for word in _WORDS:
        row = (row + word) % 2**64
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            row = (row ^ row >> shift) * factor % 2**64
        row ^= row >> 31
    return row


def by_sorting(rows: list[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    return sorted(rows, key=lambda row: (row[0], hash_of(row[1])))[:count]


def fill(pool: Nearest, batches: list[list[tuple[int, int]]]) -> None:
    for batch in batches:
        pool.add(np.array([row[0] for row in batch], dtype=np.uint32), batch[0][1])


@st.composite
def batches_of_rows(draw: st.DrawFn) -> list[list[tuple[int, int]]]:
    """Draw batches of (distance, id), few distances on many rows, with gaps between the batches."""
    far = draw(st.sampled_from([3, 20, 2**32 - 1]))
    batches, first = [], draw(st.sampled_from([0, 2**40]))
    for distances in draw(st.lists(st.lists(st.integers(0, far), min_size=1, max_size=12), max_size=8)):
        batches.append([(distance, first + i) for i, distance in enumerate(distances)])
        first += len(distances) + draw(st.integers(0, 2))
    return batches


@repeatable(400)
@given(batches=batches_of_rows(), count=st.integers(1, 30), spare=st.integers(-100, 20))
def test_the_nearest_are_those_of_sorting_everything(
    batches: list[list[tuple[int, int]]], count: int, spare: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "_SPARE_ROWS", spare)
        pool = Nearest(count, KEY)
        fill(pool, batches)
        rows = [row for batch in batches for row in batch]
        assert pool.nearest() == by_sorting(rows, count)


@repeatable(100)
@given(
    distances=st.lists(st.integers(0, 9), min_size=1, max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=8),
    count=st.integers(1, 12),
)
def test_the_nearest_do_not_depend_on_the_batches(distances: list[int], cuts: list[int], count: int) -> None:
    rows = [(distance, row) for row, distance in enumerate(distances)]
    places = [0, *sorted(cuts), len(rows)]
    whole, cut = Nearest(count, KEY), Nearest(count, KEY)
    fill(whole, [rows])
    fill(cut, [rows[a:b] for a, b in itertools.pairwise(places) if rows[a:b]])
    assert whole.nearest() == cut.nearest() == by_sorting(rows, count)


@pytest.mark.parametrize("count", [1, 10, 2999, 3000, 5000])
def test_the_pool_stays_small_and_loses_no_wanted_row(count: int) -> None:
    """A quarter of a million rows come nearer and nearer, so every batch passes the limit."""
    distances = np.arange(250_000, 0, -1, dtype=np.uint32) // 7
    pool = Nearest(count, KEY)
    for first in range(0, len(distances), 10_000):
        pool.add(distances[first : first + 10_000], first)
        assert pool._held <= 4 * count + 4096
    rows = list(zip(distances.tolist(), range(len(distances)), strict=True))
    assert pool.nearest() == by_sorting(rows, count)


def test_rows_that_all_tie_take_no_more_memory_than_others() -> None:
    pool = Nearest(3, KEY)
    for first in range(0, 300_000, 50_000):
        pool.add(np.full(50_000, 5, dtype=np.uint32), first)
        assert pool._held <= 4 * 3 + 4096
    assert pool.nearest() == by_sorting([(5, row) for row in range(300_000)], 3)


def test_another_key_takes_others_of_the_rows_that_tie() -> None:
    """Of 40 rows 4 are taken: over 400 keys each row about 40 times."""
    taken = np.zeros(40, dtype=int)
    for number in range(400):
        pool = Nearest(4, f"query {number}".encode())
        pool.add(np.full(40, 7, dtype=np.uint32), 0)
        taken[[row for _, row in pool.nearest()]] += 1
    assert taken.sum() == 1600
    assert 15 < taken.min() <= taken.max() < 70


def test_batches_of_single_rows_are_put_together() -> None:
    pool = Nearest(4000, KEY)
    for row in range(3000):
        pool.add(np.array([row], dtype=np.uint32), row)
    assert len(pool._parts) <= 1025
    assert pool.nearest() == [(row, row) for row in range(3000)]


def test_asking_is_repeatable_and_allows_more_rows_between() -> None:
    pool = Nearest(2, KEY)
    pool.add(np.array([7, 9, 8], dtype=np.uint32), 0)
    assert pool.nearest() == pool.nearest() == [(7, 0), (8, 2)]
    pool.add(np.array([1, 8], dtype=np.uint32), 10)
    assert pool.nearest() == [(1, 10), (7, 0)]


def test_of_no_rows_none_is_nearest() -> None:
    assert Nearest(3, KEY).nearest() == []


def test_wanting_none_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Nearest(0)
