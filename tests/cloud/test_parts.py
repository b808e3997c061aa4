"""Parts of the index: what a merge keeps, and when parts are merged."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mipp_cli.cloud.store.part_filter import without
from mipp_cli.cloud.store.parts import merged, part_of_sums, parts_to_merge
from mipp_cli.containers.base.container import Sender
from mipp_cli.containers.base.source import FileSource
from mipp_cli.containers.store.part import PartContent, PartReader, PartRows, open_part, write_part
from mipp_cli.scheme.keys import SigningKey

SENDER = Sender("cloud", SigningKey(bytes(32)), "ab" * 32)

Row = tuple[bytes, int, int]


def write(path: Path, content: PartContent) -> PartReader:
    write_part(path, SENDER, 1, content)
    return open_part(FileSource(path), SENDER.deployment)


def random_rows(random_numbers: random.Random, count: int, prefix: str) -> list[Row]:
    """Rows with many equal sums, under names in no order."""
    names = [f"{random_numbers.getrandbits(40):x}{prefix}{number}".encode() for number in range(count)]
    return [(name, random_numbers.randrange(4), random_numbers.randrange(6)) for name in names]


def part_of(path: Path, rows: list[Row]) -> PartReader:
    names, sum1, sum2 = (list(column) for column in zip(*rows, strict=True))
    return write(path, part_of_sums(sum1, sum2, names))


def table_order(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row[1], row[2], row[0]))


@settings(derandomize=True, max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), sizes=st.lists(st.integers(1, 60), min_size=1, max_size=5))
def test_a_merge_holds_the_rows_of_all_its_parts_in_table_order(
    tmp_path_factory: pytest.TempPathFactory, seed: int, sizes: list[int]
) -> None:
    folder, numbers = tmp_path_factory.mktemp("parts"), random.Random(seed)
    tables = [random_rows(numbers, size, chr(97 + part)) for part, size in enumerate(sizes)]
    readers = [part_of(folder / f"{part}.h5", rows) for part, rows in enumerate(tables)]
    whole = write(folder / "whole.h5", merged(readers, folder, lambda _: None))
    every_row = [row for rows in tables for row in rows]
    assert list(whole.table()) == table_order(every_row)
    # the row of each image counts through the parts in their order
    found = {
        name: row for names, rows in whole.names() for name, row in zip(names, rows.tolist(), strict=True)
    }
    assert found == {name: row for row, (name, _, _) in enumerate(every_row)}
    assert sorted(found) == [name for names, _ in whole.names() for name in names]


def test_a_merge_leaves_no_scratch_file(tmp_path: Path) -> None:
    numbers = random.Random(1)
    readers = [part_of(tmp_path / f"{n}.h5", random_rows(numbers, 9, str(n))) for n in range(3)]
    write(tmp_path / "whole.h5", merged(readers, tmp_path, lambda _: None))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["0.h5", "1.h5", "2.h5", "whole.h5"]


def test_names_are_found_by_bisection_and_in_one_pass_alike(tmp_path: Path) -> None:
    rows = random_rows(random.Random(5), 900, "x")
    reader = part_of(tmp_path / "part.h5", rows)
    there = [rows[3][0], rows[700][0], min(rows)[0], max(rows)[0]]
    absent = [b"", b"zzzz", there[0] + b"0"]
    few = [name for name in (*there, *absent) if reader.known([name])]
    many = reader.known([*there, *absent, *(f"absent {n}".encode() for n in range(100))])
    assert few == there
    assert sorted(many) == sorted(there)


def test_an_index_of_many_small_uploads_has_few_parts_and_leaves_the_large_ones_alone() -> None:
    sizes: list[int] = []
    rewritten_with_large = 0
    for _ in range(1000):
        sizes.append(10)
        count = parts_to_merge(sizes)
        rewritten_with_large += sum(sizes[-count:]) >= 5000
        sizes[-count:] = [sum(sizes[-count:])]
    assert sum(sizes) == 10_000
    assert len(sizes) <= 8
    assert rewritten_with_large <= 4


def test_a_thousand_images_do_not_rewrite_ten_million() -> None:
    assert parts_to_merge([10_000_000, 1000]) == 1


def test_parts_that_would_outgrow_the_row_numbers_are_not_merged() -> None:
    assert parts_to_merge([2**31, 2**31 + 5]) == 1


def test_a_part_that_lost_most_of_its_images_is_merged_with_all_after_it() -> None:
    assert parts_to_merge([1000, 200, 40, 8]) == 1
    assert parts_to_merge([100, 200, 40, 8]) == 4
    assert parts_to_merge([1000, 20, 40, 8]) == 3


def find(reader: PartReader, names: list[bytes]) -> PartRows:
    """Find names, and demand that bisection and one pass find the same."""
    found = reader.find(names)
    padded = reader.find([*names, *(f"absent {n}".encode() for n in range(1 + len(reader)))])
    assert found.places.tolist() == padded.places.tolist()
    assert found.rows.tolist() == padded.rows.tolist()
    assert found.names_bytes == padded.names_bytes
    return found


@settings(derandomize=True, max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(1, 200), dropped=st.integers(0, 199))
def test_a_filtered_part_is_the_part_of_the_images_that_are_left(
    tmp_path_factory: pytest.TempPathFactory, seed: int, size: int, dropped: int
) -> None:
    folder, numbers = tmp_path_factory.mktemp("parts"), random.Random(seed)
    rows = random_rows(numbers, size, "x")
    gone = set(numbers.sample([name for name, _, _ in rows], min(dropped, size - 1)))
    reader = part_of(folder / "before.h5", rows)
    found = find(reader, sorted(gone))
    assert [reader.name(place) for place in found.places.tolist()] == sorted(gone)
    assert [rows[row][0] for row in found.rows.tolist()] == sorted(gone)
    write(folder / "after.h5", without(reader, found, lambda _: None))
    part_of(folder / "anew.h5", [row for row in rows if row[0] not in gone])
    assert (folder / "after.h5").read_bytes() == (folder / "anew.h5").read_bytes()


def test_a_name_is_found_far_inside_a_large_part(tmp_path: Path) -> None:
    names = [f"{number:06d}".encode() for number in range(70_000)]
    reader = part_of(tmp_path / "a.h5", [(name, 1, 1) for name in names])
    found = reader.find([names[69_999], names[5], names[65_536]])
    assert found.places.tolist() == found.rows.tolist() == [5, 65_536, 69_999]
    assert len(reader.find([b"absent"])) == 0
