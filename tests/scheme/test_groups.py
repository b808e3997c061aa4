"""Groups are a partition: of like lengths, none small or large, and the same whatever the order of rows."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipp_cli.scheme.groups import Row, cut, in_order, size_class
from tests.support.examples import repeatable

keys = st.binary(min_size=4, max_size=4)
lengths = st.integers(28, 2**31)


def row(path: str, length: int, key: bytes) -> Row:
    return Row(path, length, key, size_class(length))


row_lists = st.lists(st.tuples(lengths, keys), max_size=60, unique_by=lambda each: each[1]).map(
    lambda drawn: [row(f"{number}.png", *each) for number, each in enumerate(drawn)]
)
sizes = st.integers(1, 17)


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (1, 0),
        (15, 0),
        (16, 1),
        (255, 1),
        (256, 2),
        (4095, 2),
        (4096, 3),
        (65_535, 3),
        (65_536, 4),
        (2**31, 7),
    ],
)
def test_the_size_class_is_a_quarter_of_the_logarithm(length: int, expected: int) -> None:
    assert size_class(length) == expected


@repeatable(200)
@given(length=st.integers(1, 2**40))
def test_lengths_of_a_class_differ_by_sixteen_times_at_most(length: int) -> None:
    number = size_class(length)
    assert 16**number <= length < 16 ** (number + 1)


@repeatable(200)
@given(rows=row_lists, group_size=sizes)
def test_groups_hold_each_row_once(rows: list[Row], group_size: int) -> None:
    groups = cut(rows, group_size)
    assert Counter(each for group in groups for each in group) == Counter(rows)
    assert all(groups)


@repeatable(200)
@given(rows=row_lists, group_size=sizes)
def test_no_group_is_smaller_than_asked_nor_twice_as_large(rows: list[Row], group_size: int) -> None:
    found = [len(group) for group in cut(rows, group_size)]
    if len(rows) >= group_size:
        assert len(found) == len(rows) // group_size
        assert found[:-1] == [group_size] * (len(found) - 1)
        assert group_size <= found[-1] <= 2 * group_size - 1


@repeatable(100)
@given(rows=row_lists, more=st.integers(1, 20))
def test_fewer_rows_than_a_group_has_are_one_group(rows: list[Row], more: int) -> None:
    groups = cut(rows, len(rows) + more)
    assert [len(group) for group in groups] == ([len(rows)] if rows else [])


def test_no_rows_make_no_group() -> None:
    assert cut([], 8) == []


@repeatable(200)
@given(rows=row_lists, group_size=sizes)
def test_rows_are_cut_by_size_class_first_and_then_by_digest(rows: list[Row], group_size: int) -> None:
    order = [(each.size_class, each.key) for group in cut(rows, group_size) for each in group]
    assert order == sorted(order)


@repeatable(200)
@given(rows=row_lists, group_size=sizes, seed=st.integers(0, 1000))
def test_groups_do_not_depend_on_the_order_of_rows(rows: list[Row], group_size: int, seed: int) -> None:
    shuffled = random.Random(seed).sample(rows, len(rows))
    assert cut(shuffled, group_size) == cut(rows, group_size)
    assert cut(iter(shuffled), group_size) == cut(rows, group_size)


@repeatable(100)
@given(rows=row_lists, group_size=sizes)
def test_without_size_classes_rows_are_cut_by_digest_alone(rows: list[Row], group_size: int) -> None:
    plain = [each._replace(size_class=0) for each in rows]
    assert [each.key for group in cut(plain, group_size) for each in group] == sorted(
        each.key for each in rows
    )


def test_small_pictures_are_not_grouped_with_large_ones() -> None:
    small, large = ([row(f"{n}", n, bytes([n % 251, i])) for i in range(16)] for n in (5_000, 50_000_000))
    for group in cut([*small, *large], 8):
        assert max(each.length for each in group) < 16 * min(each.length for each in group)


# The order in an upload


@repeatable(200)
@given(rows=row_lists, group_size=sizes, seed=st.integers(0, 1000))
def test_groups_in_order_are_the_same_groups(rows: list[Row], group_size: int, seed: int) -> None:
    groups = cut(rows, group_size)
    shuffled = random.Random(seed).sample(groups, len(groups))
    assert {frozenset(group) for group in in_order(shuffled)} == {frozenset(group) for group in groups}


@repeatable(200)
@given(rows=row_lists, group_size=sizes, seed=st.integers(0, 1000))
def test_the_order_of_an_upload_tells_nothing_of_that_given(
    rows: list[Row], group_size: int, seed: int
) -> None:
    source = random.Random(seed)
    groups = cut(rows, group_size)
    shuffled = [source.sample(group, len(group)) for group in source.sample(groups, len(groups))]
    assert in_order(shuffled) == in_order(groups)


@repeatable(200)
@given(rows=row_lists, group_size=sizes)
def test_rows_of_a_group_stand_in_the_order_of_their_digests(rows: list[Row], group_size: int) -> None:
    for group in in_order(cut(rows, group_size)):
        assert [each.key for each in group] == sorted(each.key for each in group)


def test_groups_stand_by_the_class_of_their_largest_row() -> None:
    mixed = [row("a", 100, b"9"), row("b", 2**20, b"1")]
    small = [row("c", 120, b"8"), row("d", 130, b"7")]
    later = [row("e", 2**20, b"3"), row("f", 2**20, b"2")]
    groups = in_order([later, mixed, small])
    assert [[each.path for each in group] for group in groups] == [["d", "c"], ["b", "a"], ["f", "e"]]
