"""Exact squared distances and the nearest rows, against Python's integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mipp_cli.scheme.nearest import Nearest, squared_distances
from tests.scheme.examples import Features, features, repeatable

Drawn = tuple[Features, int]


def squared(row: list[int], query: list[int]) -> int:
    return sum((x - y) ** 2 for x, y in zip(row, query, strict=True))


def code_type(levels: int) -> type[np.unsignedinteger]:
    return np.uint8 if levels <= 256 else np.uint16


@st.composite
def deep_features(draw: st.DrawFn) -> Drawn:
    """Draw features of every depth and of odd and even dimensions, often with the extreme codes."""
    levels = draw(st.sampled_from([2, 3, 8, 12, 16, 17, 256, 257, 4096, 65536]))
    dimension, n = draw(st.integers(1, 40)), draw(st.integers(1, 5))
    code = st.one_of(st.integers(0, levels - 1), st.sampled_from([0, levels - 1]))
    codes = draw(st.lists(code, min_size=n * dimension, max_size=n * dimension))
    return np.array(codes, dtype=np.uint16).reshape(n, dimension), levels


def columns(rows: Features, levels: int) -> NDArray[np.unsignedinteger]:
    return np.ascontiguousarray(rows.T, dtype=code_type(levels))


@repeatable(300)
@given(drawn=deep_features())
def test_squared_distances_are_exact_for_every_depth(drawn: Drawn) -> None:
    rows, levels = drawn
    query = rows[0].astype(code_type(levels))
    assert squared_distances(columns(rows, levels), query, levels).tolist() == [
        squared(row, rows[0].tolist()) for row in rows.tolist()
    ]


@pytest.mark.parametrize(("dimension", "levels"), [(80, 8), (512, 256), (1536, 65536), (3, 65536)])
def test_the_largest_distance_there_can_be_has_room(dimension: int, levels: int) -> None:
    rows = np.array([[0] * dimension, [levels - 1] * dimension], dtype=np.uint16)
    distances = squared_distances(columns(rows, levels), columns(rows, levels)[:, 0], levels)
    assert distances.tolist() == [0, dimension * (levels - 1) ** 2]


@repeatable(100)
@given(
    drawn=features(most_rows=40, most_levels=3), count=st.integers(1, 45), cut=st.integers(1, 12)
)  # few levels: many ties
def test_the_nearest_rows_are_those_of_a_sort_whatever_the_chunks(drawn: Drawn, count: int, cut: int) -> None:
    rows, levels = drawn
    nearest = Nearest(rows[:2].astype(np.uint8), count, levels)
    for begin in range(0, len(rows), cut):
        nearest.add(columns(rows[begin : begin + cut], levels), begin)
    for query, distances, places in zip(
        rows[:2].tolist(), nearest.distances(), nearest.places(), strict=True
    ):
        ranked = sorted((squared(row, query), place) for place, row in enumerate(rows.tolist()))[:count]
        assert list(zip(distances.tolist(), places.tolist(), strict=True)) == ranked


def test_the_nearest_of_many_chunks_are_found_though_most_rows_are_passed_over() -> None:
    random = np.random.default_rng(4)
    rows = random.integers(0, 8, (60_000, 16), dtype=np.uint8)
    query = random.integers(0, 8, 16, dtype=np.uint8)
    nearest = Nearest(query[np.newaxis], 7, 8)
    for begin in range(0, len(rows), 4096):
        nearest.add(columns(rows[begin : begin + 4096].astype(np.uint16), 8), begin)
    distances = ((rows.astype(np.int64) - query) ** 2).sum(axis=1)
    assert nearest.places()[0].tolist() == np.argsort(distances, kind="stable")[:7].tolist()


def test_of_no_rows_none_is_near() -> None:
    nearest = Nearest(np.zeros((1, 4), dtype=np.uint8), 3, 8)
    assert nearest.places()[0].tolist() == []
    assert nearest.distances()[0].tolist() == []
