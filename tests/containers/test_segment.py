"""`segment` keeps of an upload all rows but those that left, and whose it was."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mipp_cli.containers import segment as module
from mipp_cli.containers.container import open_container, write_container
from mipp_cli.containers.segment import Origin, origin_of, segment_schema, write_segment
from mipp_cli.containers.upload import UploadReader, upload_schema, write_upload
from mipp_cli.errors import MalformedError
from tests.containers.conftest import ALICE, DEPLOYMENT, MASK

ORIGIN = Origin("north", bytes(32), 7, bytes(range(32)))
WIDTH = 320
Image = tuple[str, bytes, bytes, bytes]


def images(count: int, *, largest: int = 300) -> list[Image]:
    random = np.random.default_rng(count)
    return [
        (
            f"image {'x' * (row % 7)}{row:04d}",
            random.bytes(28 + int(random.integers(largest))),
            random.bytes(WIDTH),
            random.bytes(WIDTH),
        )
        for row in range(count)
    ]


def write_images(path: Path, rows: list[Image]) -> UploadReader:
    with write_upload(path, MASK, ALICE, 7, 5, replace=True, force=True) as writer:
        for row in rows:
            writer.append(*row)
    return UploadReader(open_container(path, upload_schema(MASK), deployment=DEPLOYMENT), MASK)


def read_images(path: Path) -> tuple[Origin, int, bool, list[Image]]:
    with open_container(path, segment_schema(MASK), deployment=DEPLOYMENT) as container:
        reader = UploadReader(container, MASK)
        ef, eff = reader.encrypted_features(0, len(reader))
        rows = [
            (name, reader.encrypted_image(row), ef[row].tobytes(), eff[row].tobytes())
            for row, name in enumerate(reader.names())
        ]
        return origin_of(container), reader.key_id, reader.replaces, rows


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(1, 40), st.sets(st.integers(0, 39)), st.sampled_from([1, 3, 4096]))
def test_a_segment_holds_what_did_not_leave_its_upload(
    tmp_path_factory: pytest.TempPathFactory, count: int, gone: set[int], batch: int
) -> None:
    folder, rows = tmp_path_factory.mktemp("segment"), images(count)
    dropped = np.array(sorted(row for row in gone if row < count), dtype=np.int64)
    upload = write_images(folder / "upload", rows)
    with upload.container, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BATCH_ROWS", batch)
        write_segment(folder / "segment", MASK, ALICE, ORIGIN, upload, dropped)
    left = [row for number, row in enumerate(rows) if number not in gone]
    assert read_images(folder / "segment") == (ORIGIN, 5, True, left)


def test_a_segment_of_a_segment_loses_more(tmp_path: Path) -> None:
    rows = images(9)
    upload = write_images(tmp_path / "upload", rows)
    with upload.container:
        write_segment(tmp_path / "one", MASK, ALICE, ORIGIN, upload, np.array([0, 4]))
    with open_container(tmp_path / "one", segment_schema(MASK)) as container:
        write_segment(tmp_path / "two", MASK, ALICE, ORIGIN, UploadReader(container, MASK), np.array([0, 6]))
    assert read_images(tmp_path / "two")[3] == [rows[2], rows[3], rows[5], rows[6], rows[7]]


def test_a_segment_may_have_no_rows(tmp_path: Path) -> None:
    write_segment(tmp_path / "a", MASK, ALICE, ORIGIN)
    assert read_images(tmp_path / "a") == (ORIGIN, 0, False, [])


def test_the_bytes_of_what_left_are_nowhere_in_a_segment(tmp_path: Path) -> None:
    rows = images(50)
    upload = write_images(tmp_path / "upload", rows)
    with upload.container:
        write_segment(tmp_path / "a", MASK, ALICE, ORIGIN, upload, np.array([7, 20]))
    content = (tmp_path / "a").read_bytes()
    for number, (name, *ciphertexts) in enumerate(rows):
        parts = [name.encode(), *(each[:40] for each in ciphertexts)]
        assert [part in content for part in parts] == 4 * [number not in (7, 20)]


def test_memory_does_not_grow_with_a_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH_BYTES", 1 << 20)
    upload = write_images(tmp_path / "upload", images(400, largest=200_000))
    with upload.container:
        tracemalloc.start()
        write_segment(tmp_path / "a", MASK, ALICE, ORIGIN, upload, np.array([200]))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (tmp_path / "a").stat().st_size > 30 << 20
    assert peak < 16 << 20


@pytest.mark.parametrize(
    ("owner", "digest"),
    [(b"", bytes(32)), (b"../x", bytes(32)), (b"n\xff", bytes(32)), (b"x" * 65, bytes(32)), (b"x", b"")],
)
def test_a_segment_of_nobody_is_malformed_though_signed(tmp_path: Path, owner: bytes, digest: bytes) -> None:
    with write_container(tmp_path / "a", segment_schema(MASK), ALICE, 7) as writer:
        writer.number("key_id", 0)
        writer.number("replace", 0)
        for name, octets in (("owner", owner), ("digest", digest)):
            writer.matrix(name).append(np.frombuffer(octets, np.uint8))
    with open_container(tmp_path / "a", segment_schema(MASK)) as container, pytest.raises(MalformedError):
        origin_of(container)
