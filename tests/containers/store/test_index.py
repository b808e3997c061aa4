"""The cloud's own lists come back as they were written, and are refused when they cannot be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mipp_cli.containers.base.columns import Ragged
from mipp_cli.containers.base.writer import write_container
from mipp_cli.containers.store.index import INDEX, Index, Part, Segment, read_index, write_index
from mipp_cli.errors import MalformedError, TamperedError, WrongDeploymentError
from tests.containers.conftest import ALICE, DEPLOYMENT, OTHER_DEPLOYMENT

numbers = st.integers(0, 2**63 - 1)
roots = st.binary(min_size=32, max_size=32)
owners = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}", fullmatch=True)
gaps = st.lists(numbers, max_size=3).map(tuple)
segments = st.builds(Segment, owners, numbers, numbers, numbers, roots, roots, numbers, numbers, gaps)
NORTH = Segment("north", 7, 8, 9, b"\1" * 32, b"\2" * 32)
SOUTH = Segment("south", 5, 6, 2, b"\3" * 32, b"\4" * 32)


def _some_of(places: list[int]) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.sampled_from(places), min_size=1, max_size=4).map(tuple)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(numbers, st.lists(segments, max_size=5), st.data())
def test_an_index_comes_back_as_it_was_written(
    place: Path, number: int, listed: list[Segment], data: st.DataObject
) -> None:
    of_owners = [[n for n, each in enumerate(listed) if each.owner == one.owner] for one in listed]
    parts = []
    if listed:
        members = st.sampled_from(of_owners).flatmap(_some_of)
        parts = data.draw(st.lists(st.builds(Part, numbers, roots, members), max_size=4))
    index = Index(number, tuple(listed), tuple(parts))
    write_index(place, ALICE, index)
    assert read_index(place, DEPLOYMENT) == index


def test_an_older_index_is_replaced(tmp_path: Path) -> None:
    write_index(tmp_path / "a", ALICE, Index(1))
    write_index(tmp_path / "a", ALICE, Index(2, (NORTH,)))
    assert read_index(tmp_path / "a", DEPLOYMENT) == Index(2, (NORTH,))


def test_an_index_knows_what_belongs_to_an_owner() -> None:
    parts = (Part(1, bytes(32), (0, 2)), Part(2, bytes(32), (1,)))
    index = Index(3, (NORTH, SOUTH, NORTH), parts)
    assert index.of_owner("north") == [NORTH, NORTH]
    assert index.parts_of("south") == [parts[1]]
    assert index.rows_of(parts[0]) == 18


def test_an_index_goes_on_without_an_owner() -> None:
    parts = (Part(1, bytes(32), (0, 2)), Part(2, bytes(32), (1,)), Part(5, bytes(32), (3,)))
    index = Index(3, (NORTH, SOUTH, NORTH, SOUTH), parts)
    left = index.without_owner("north")
    assert left == Index(4, (SOUTH, SOUTH), (Part(2, bytes(32), (0,)), Part(5, bytes(32), (1,))))
    assert index.without_owner("stranger") == Index(4, index.segments, index.parts)


def test_owners_of_whom_there_is_a_segment_are_listed_sorted() -> None:
    assert Index(3, (SOUTH, NORTH, SOUTH)).owners() == ["north", "south"]
    assert Index(3).owners() == []


def test_a_segment_that_was_written_anew_has_another_file() -> None:
    assert NORTH.file_name == "north-7.h5"
    assert replace(NORTH, revision=12).file_name == "north-7.12.h5"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda data: data[:-30] + bytes([data[-30] ^ 1]) + data[-29:], TamperedError),
        (lambda data: data[:2000], TamperedError),
        (lambda data: data[:100], MalformedError),
        (lambda _data: b"", MalformedError),
    ],
)
def test_a_damaged_index_is_refused(
    tmp_path: Path, change: Callable[[bytes], bytes], error: type[MalformedError]
) -> None:
    path = tmp_path / "a"
    write_index(path, ALICE, Index(2, (NORTH, SOUTH)))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(error) as caught:
        read_index(path, DEPLOYMENT)
    assert caught.value.path == str(path)


def test_the_index_of_another_deployment_is_refused_as_such(tmp_path: Path) -> None:
    write_index(tmp_path / "a", ALICE, Index(1))
    with pytest.raises(WrongDeploymentError):
        read_index(tmp_path / "a", OTHER_DEPLOYMENT)


@pytest.mark.parametrize(
    ("owner", "part", "earlier"),
    [
        (b"../north", b"\0\0\0\0", b""),
        (b"", b"\0\0\0\0", b""),
        (b"n\xffrth", b"\0\0\0\0", b""),
        (b"north", b"", b""),
        (b"north", b"\0\0\0", b""),
        (b"north", b"\0\0\0\0\0", b""),
        (b"north", b"\1\0\0\0", b""),
        (b"north", b"\0\0\0\0\xff\xff\xff\xff", b""),
        (b"north", b"\0\0\0\0", b"\1"),
        (b"north", b"\0\0\0\0", bytes(7)),
        (b"north", b"\0\0\0\0", bytes(9)),
    ],
)
def test_an_index_that_cannot_be_is_malformed_though_signed(
    tmp_path: Path, owner: bytes, part: bytes, earlier: bytes
) -> None:
    path = tmp_path / "a"
    write_by_hand(path, owner, part, earlier)
    with pytest.raises(MalformedError) as caught:
        read_index(path, DEPLOYMENT)
    assert caught.value.path == str(path)


def test_an_index_with_a_part_of_two_owners_is_refused(tmp_path: Path) -> None:
    write_index(tmp_path / "a", ALICE, Index(1, (NORTH, SOUTH), (Part(1, bytes(32), (0, 1)),)))
    with pytest.raises(MalformedError, match="a part of several owners"):
        read_index(tmp_path / "a", DEPLOYMENT)


def test_an_index_that_can_be_is_read_as_it_is_written_by_hand(tmp_path: Path) -> None:
    write_by_hand(tmp_path / "a", b"north", bytes(4), (5).to_bytes(8, "little") + bytes(8))
    index = read_index(tmp_path / "a", DEPLOYMENT)
    assert index.segments == (Segment("north", 1, 1, 1, bytes(32), bytes(32), 1, 1, (5, 0)),)


@pytest.mark.parametrize("name", [name for name in INDEX.columns if name.startswith("segment_")])
def test_a_segment_without_one_of_its_columns_is_malformed(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a"
    with write_container(path, INDEX, ALICE, 1) as writer:
        for column, shape in INDEX.columns.items():
            if not column.startswith("segment_") or column == name:
                continue
            if isinstance(shape, Ragged):
                writer.ragged(column).append(b"north" if column == "segment_owners" else b"")
            else:
                data = column in ("segment_digests", "segment_roots")
                row = np.zeros((1, 32), np.uint8) if data else np.ones((1, 5), np.uint64)
                writer.matrix(column).append(row)
    with pytest.raises(MalformedError, match="different lengths"):
        read_index(path, DEPLOYMENT)


def write_by_hand(path: Path, owner: bytes, part: bytes, earlier: bytes) -> None:
    """Write an index of one segment and one part, whatever they say."""
    with write_container(path, INDEX, ALICE, 1) as writer:
        writer.ragged("segment_owners").append(owner)
        writer.ragged("part_segments").append(part)
        writer.ragged("segment_earlier").append(earlier)
        writer.matrix("segment_numbers").append(np.ones((1, 5), np.uint64))
        writer.matrix("part_numbers").append(np.ones(1, np.uint64))
        for name in ("segment_digests", "segment_roots", "part_roots"):
            writer.matrix(name).append(np.zeros((1, 32), np.uint8))
