"""`earlier`: the numbers of earlier messages that still decide an image, ascending, below the own one."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mipp_cli.containers.base.container import Schema, open_container
from mipp_cli.containers.base.writer import write_container
from mipp_cli.containers.messages import earlier as module
from mipp_cli.containers.messages.earlier import EARLIER, listed, read_earlier
from mipp_cli.errors import MalformedError
from tests.containers.conftest import ALICE, forge

LISTED = Schema("delete", EARLIER)
LARGEST = 2**63 - 1


def written(path: Path, numbers: list[int], own: int) -> Path:
    with write_container(path, LISTED, ALICE, own, force=True) as writer:
        writer.add(earlier=listed(numbers))
    return path


def forged(path: Path, numbers: list[int], own: int) -> Path:
    """Write a list in the order given, and of whatever numbers."""

    def fill(file: h5py.File) -> None:
        file["earlier"] = np.array(numbers, dtype="<u8")

    return forge(path, fill, kind="delete", number=str(own))


def read(path: Path) -> tuple[int, ...]:
    with open_container(path, LISTED) as container:
        return read_earlier(container)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.sets(st.integers(0, LARGEST - 1), max_size=20), st.integers(1, 2**40))
@example(set(), 1)
@example({0}, 1)
@example({LARGEST - 1}, 1)
def test_a_list_comes_back_ascending(place: Path, numbers: set[int], more: int) -> None:
    own = min(LARGEST, max(numbers, default=0) + more)
    assert read(written(place, list(numbers)[::-1], own)) == tuple(sorted(numbers))


def test_a_message_that_nothing_came_before_lists_nothing(tmp_path: Path) -> None:
    assert read(written(tmp_path / "a", [], 0)) == ()


@pytest.mark.parametrize(
    "numbers",
    [[3, 2], [2, 2], [1, 5, 4], [5, 1], [9], [10], [1, 9], [1, 10], [2**63], [2**64 - 1], [1, 2**64 - 1]],
    ids=str,
)
def test_a_list_that_cannot_be_is_malformed(tmp_path: Path, numbers: list[int]) -> None:
    with pytest.raises(MalformedError, match="out of order"):
        read(forged(tmp_path / "a", numbers, 9))


def test_a_message_of_the_number_0_can_list_nothing(tmp_path: Path) -> None:
    with pytest.raises(MalformedError, match="out of order"):
        read(forged(tmp_path / "a", [0], 0))


def test_the_longest_list_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT", 3)
    assert read(forged(tmp_path / "a", [1, 2, 3], 9)) == (1, 2, 3)


def test_a_longer_list_than_the_longest_is_malformed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT", 3)
    with pytest.raises(MalformedError, match="too many"):
        read(forged(tmp_path / "a", [1, 2, 3, 4], 9))


def test_a_list_that_is_too_long_is_not_taken_into_memory(tmp_path: Path) -> None:
    path = forged(tmp_path / "a", [*range(1 << 20), 1 << 20], LARGEST)
    with open_container(path, LISTED) as container:
        tracemalloc.start()
        with pytest.raises(MalformedError, match="too many"):
            read_earlier(container)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("dtype", ["<i8", "<u4", ">u8", "<f8"])
def test_a_list_of_another_type_is_malformed(tmp_path: Path, dtype: str) -> None:
    def fill(file: h5py.File) -> None:
        file["earlier"] = np.array([1, 2], dtype=dtype)

    with pytest.raises(MalformedError):
        read(forge(tmp_path / "a", fill, kind="delete", number="9"))


def test_a_list_of_pairs_is_malformed(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        file["earlier"] = np.array([[1, 2]], dtype="<u8")

    with pytest.raises(MalformedError):
        read(forge(tmp_path / "a", fill, kind="delete", number="9"))
