"""Parts of the index: what is read is what was written, of one table or several."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mipp_cli.containers.base.container import open_container
from mipp_cli.containers.base.writer import write_container
from mipp_cli.containers.store import part as module
from mipp_cli.containers.store.part import PART, PartReader, read_part, write_part
from mipp_cli.errors import MalformedError
from mipp_cli.scheme.retrieval_index import ID_BYTES, Ids, Rows, ids_of, index_construct
from tests.containers.conftest import ALICE, DEPLOYMENT


def random_rows(seed: int, count: int) -> Rows:
    """Rows with many equal sums, under ids in no order."""
    numbers = random.Random(seed)
    sums = [[numbers.randrange(limit) for _ in range(count)] for limit in (4, 6)]
    return index_construct(*sums, ids_of(f"{seed} {row}".encode() for row in range(count)))


def opened(path: Path) -> PartReader:
    return read_part(open_container(path, PART, deployment=DEPLOYMENT))


def same(found: Rows, due: Rows) -> bool:
    return np.array_equal(found.keys, due.keys) and np.array_equal(found.images, due.images)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=4).filter(any),
    st.sampled_from([1, 3, 1 << 16]),
    st.data(),
)
def test_a_part_without_some_images_is_that_of_the_others(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], batch: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    tables = [random_rows(seed, size) for seed, size in enumerate(sizes)]
    gone = [sorted(data.draw(st.sets(st.integers(0, max(0, size - 1)), max_size=size))) for size in sizes]
    keys = [table.keys[np.argsort(table.images)] for table in tables]
    left = np.concatenate([np.delete(each, away) for each, away in zip(keys, gone, strict=True)])
    order = np.argsort(left)
    readers = []
    for number, table in enumerate(tables):
        write_part(folder / str(number), ALICE, 1, [table])
        readers.append(opened(folder / str(number)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mipp_cli.scheme.retrieval_index._BATCH", batch)
        # the last as the new rows of an upload, which lie in memory
        write_part(
            folder / "one",
            ALICE,
            1,
            [*readers[:-1], tables[-1]],
            [np.array(each, dtype=np.int64) for each in gone],
        )
    write_part(folder / "anew", ALICE, 1, [Rows(left[order], order)])
    assert (folder / "one").read_bytes() == (folder / "anew").read_bytes()
    reader = opened(folder / "one")
    assert same(reader.read(0, len(reader)), Rows(left[order], order))


def test_the_pairs_of_a_part_are_counted(tmp_path: Path) -> None:
    write_part(
        tmp_path / "a",
        ALICE,
        1,
        [index_construct([7, 3, 7, 3], [9, 5, 9, 7], ids_of(b"abcd"[i : i + 1] for i in range(4)))],
    )
    pairs = opened(tmp_path / "a").pairs
    assert (pairs.sum1.tolist(), pairs.sum2.tolist()) == ([3, 3, 7], [5, 7, 9])
    assert pairs.starts.tolist() == [0, 1, 2, 4]


def test_images_are_found_by_their_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH", 100)
    names = [f"{number}".encode() for number in range(950)]
    write_part(tmp_path / "a", ALICE, 1, [index_construct([1] * 950, [1] * 950, ids_of(names))])
    reader = opened(tmp_path / "a")

    def find(*wanted: bytes) -> tuple[Ids, list[int]]:
        ids, images = reader.find(np.sort(ids_of(wanted)))
        return ids, images.tolist()

    ids, images = find(names[700], names[3], names[949], b"absent", b"")
    assert sorted(images) == [3, 700, 949]
    assert (ids == ids_of(names[image] for image in images)).all()
    assert find(b"absent")[1] == find()[1] == []


@pytest.mark.parametrize("change", ["pair_counts", "rows", "ids", "pair_sum1"])
def test_a_part_whose_columns_do_not_fit_is_malformed(tmp_path: Path, change: str) -> None:
    columns = {
        "pair_sum1": [1, 2],
        "pair_sum2": [1, 2],
        "pair_counts": [1, 2],
        "rows": [0, 1, 2],
        "ids": [[0] * ID_BYTES] * 3,
    }
    columns[change] = columns[change][:-1]
    with write_container(tmp_path / "a", PART, ALICE, 1) as writer:
        for name, values in columns.items():
            writer.matrix(name).append(np.array(values))
    with pytest.raises(MalformedError):
        opened(tmp_path / "a")
