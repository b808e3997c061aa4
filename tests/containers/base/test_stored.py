"""What the cloud keeps is checked a block at a time, and every block that is read."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mipp_cli.containers.base.columns import Matrix, Ragged
from mipp_cli.containers.base.container import Container, Schema, read_header
from mipp_cli.containers.base.header import HEAD_BYTES, Header
from mipp_cli.containers.base.source import BLOCK_BYTES, BytesSource, FileSource, Source
from mipp_cli.containers.base.stored import blocks_path, open_stored, store_copy, store_digests
from mipp_cli.containers.base.writer import write_container
from mipp_cli.errors import MalformedError, MippError, TamperedError
from mipp_cli.files.atomic import remove
from tests.containers.conftest import ALICE, DEPLOYMENT

LARGE = Schema("members", {"words": Ragged(), "rows": Matrix("u1", 32)})
ROWS = 12_000


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A container of several blocks."""
    path = tmp_path_factory.mktemp("original") / "a.h5"
    with write_container(path, LARGE, ALICE, 1) as writer:
        writer.ragged("words").extend([number.to_bytes(4, "big") for number in range(ROWS)])
        rows = np.random.default_rng(1).integers(0, 256, (ROWS, 32), dtype=np.uint8)
        writer.matrix("rows").append(rows)
    return path.read_bytes()


def store(source: Source, path: Path, header: Header) -> bytes:
    """Store a container; nobody watches how far it is."""
    return store_copy(source, path, header, lambda _bytes: None)


def header_in(data: bytes) -> Header:
    return read_header(BytesSource(data))


@pytest.fixture
def stored(tmp_path: Path, original: bytes) -> tuple[Path, bytes]:
    """The container in a store: path and root."""
    path = tmp_path / "a.h5"
    return path, store(BytesSource(original), path, header_in(original))


def blocks_of(path: Path) -> Path:
    return path.with_name(path.name + ".blocks")


def read_everything(path: Path, root: bytes) -> tuple[list[bytes], bytes]:
    source = open_stored(path, root)
    try:
        header = read_header(source, kind="members", deployment=DEPLOYMENT)
        container = Container(source, header, LARGE)
    except BaseException:
        source.close()
        raise
    with container:
        return container.ragged("words").rows(0, ROWS), container.matrix("rows").all().tobytes()


def test_a_copy_in_the_store_is_the_container_byte_for_byte(
    stored: tuple[Path, bytes], original: bytes
) -> None:
    path, root = stored
    assert path.read_bytes() == original
    assert len(root) == 32
    words, rows = read_everything(path, root)
    assert words[-1] == (ROWS - 1).to_bytes(4, "big")
    assert len(rows) == 32 * ROWS


def test_a_copy_from_a_file_and_from_memory_have_the_same_root(
    tmp_path: Path, stored: tuple[Path, bytes], original: bytes
) -> None:
    (tmp_path / "b").write_bytes(original)
    source = FileSource(tmp_path / "b")
    assert store(source, tmp_path / "c", header_in(original)) == stored[1]
    source.close()
    assert store_digests(tmp_path / "b") == stored[1]


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data[:70_000] + b"\0\1\2\3" + data[70_004:],
        lambda data: data[:1024] + b"\0" + data[1025:],
    ],
)
def test_content_that_does_not_fit_its_digest_is_not_stored(
    tmp_path: Path, original: bytes, change: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(TamperedError):
        store(BytesSource(change(original)), tmp_path / "a", header_in(original))
    assert list(tmp_path.iterdir()) == []


def test_a_flipped_bit_anywhere_is_found_on_reading(stored: tuple[Path, bytes], original: bytes) -> None:
    path, root = stored
    source = random.Random(3)
    starts = range(HEAD_BYTES, len(original), BLOCK_BYTES)
    positions = [source.randrange(start, min(start + BLOCK_BYTES, len(original))) for start in starts]
    for position in [1024, 1500, 5000, len(original) - 1, *positions]:
        changed = bytearray(original)
        changed[position] ^= 1 << source.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(TamperedError, match=f"block {(position - HEAD_BYTES) // BLOCK_BYTES} "):
            open_stored(path, root).read_at(position, 1)


@pytest.mark.parametrize("position", [0, 100, 500, 1023])
def test_a_changed_header_is_tampering(stored: tuple[Path, bytes], original: bytes, position: int) -> None:
    path, root = stored
    path.write_bytes(original[:position] + bytes([original[position] ^ 1]) + original[position + 1 :])
    with pytest.raises(TamperedError, match="header"):
        open_stored(path, root)


def test_a_flipped_bit_in_the_rows_ends_in_one_error(stored: tuple[Path, bytes], original: bytes) -> None:
    path, root = stored
    for position in random.Random(4).sample(range(HEAD_BYTES, len(original)), 25):
        changed = bytearray(original)
        changed[position] ^= 4
        path.write_bytes(changed)
        try:
            assert len(read_everything(path, root)[0]) == ROWS  # no row lies in that block's place
        except TamperedError as error:
            assert f"block {(position - HEAD_BYTES) // BLOCK_BYTES} " in error.message


def test_a_block_that_is_not_read_does_not_matter(stored: tuple[Path, bytes], original: bytes) -> None:
    path, root = stored
    changed = bytearray(original)
    begin = HEAD_BYTES + 3 * BLOCK_BYTES
    changed[begin + 5] ^= 1
    path.write_bytes(changed)
    source = open_stored(path, root)
    assert source.read_at(begin - BLOCK_BYTES, BLOCK_BYTES) == original[begin - BLOCK_BYTES : begin]
    after = begin + BLOCK_BYTES
    assert source.read_at(after, 10) == original[after : after + 10]
    with pytest.raises(TamperedError):
        source.read_at(begin - 1, 2)
    source.close()


def test_every_changed_byte_of_the_list_of_blocks_is_tampering(stored: tuple[Path, bytes]) -> None:
    path, root = stored
    digests = blocks_of(path).read_bytes()
    for position in range(len(digests)):
        changed = bytearray(digests)
        changed[position] ^= 0x10
        blocks_of(path).write_bytes(changed)
        with pytest.raises(TamperedError):
            open_stored(path, root)


@pytest.mark.parametrize(
    "change", [lambda d: d[:-32], lambda d: d + d[:32], lambda d: d[:-1], lambda _d: b""]
)
def test_a_list_of_blocks_of_another_length_is_tampering(
    stored: tuple[Path, bytes], change: Callable[[bytes], bytes]
) -> None:
    path, root = stored
    blocks_of(path).write_bytes(change(blocks_of(path).read_bytes()))
    with pytest.raises(TamperedError):
        open_stored(path, root)


def test_another_root_is_tampering(stored: tuple[Path, bytes]) -> None:
    with pytest.raises(TamperedError):
        open_stored(stored[0], bytes(32))


@pytest.mark.parametrize("size", [-BLOCK_BYTES, BLOCK_BYTES])
def test_a_stored_file_of_more_or_fewer_blocks_is_tampering(
    stored: tuple[Path, bytes], original: bytes, size: int
) -> None:
    path, root = stored
    path.write_bytes(original[:size] if size < 0 else original + bytes(size))
    with pytest.raises(TamperedError):
        open_stored(path, root)


def test_a_stored_file_cut_within_its_last_block_is_tampering(
    stored: tuple[Path, bytes], original: bytes
) -> None:
    path, root = stored
    path.write_bytes(original[:-1])
    with pytest.raises(TamperedError):
        open_stored(path, root).read_at(len(original) - 10, 5)


@pytest.mark.parametrize("suffix", ["", ".blocks"])
def test_a_missing_file_is_malformed_and_named(stored: tuple[Path, bytes], suffix: str) -> None:
    path, root = stored
    missing = path.with_name(path.name + suffix)
    missing.unlink()
    with pytest.raises(MalformedError, match="missing") as caught:
        open_stored(path, root)
    assert caught.value.path == str(missing)


def test_another_valid_container_in_its_place_is_tampering(
    tmp_path: Path, stored: tuple[Path, bytes], original: bytes
) -> None:
    path, root = stored
    with write_container(tmp_path / "other", LARGE, ALICE, 2) as writer:
        writer.ragged("words").append(b"other")
    store(FileSource(tmp_path / "other"), path, header_in((tmp_path / "other").read_bytes()))
    with pytest.raises(TamperedError):
        open_stored(path, root)


def test_what_is_removed_is_gone_and_may_be_removed_again(stored: tuple[Path, bytes]) -> None:
    path, root = stored
    for _ in range(2):
        remove(path)
        remove(blocks_path(path))
    assert list(path.parent.iterdir()) == []
    with pytest.raises(MippError):
        open_stored(path, root)


def test_a_header_that_changes_while_it_is_read_is_refused(tmp_path: Path, original: bytes) -> None:
    """Who writes into an upload while it is indexed would make a store that nobody can read."""
    before = header_in(original)
    with pytest.raises(TamperedError, match="changed while it was read"):
        store(BytesSource(original), tmp_path / "a.h5", Header(**{**vars(before), "number": "2"}))
    assert list(tmp_path.iterdir()) == []


def test_the_root_is_that_of_the_header_copied(tmp_path: Path, original: bytes) -> None:
    class Changing(BytesSource):
        """Gives a header of zeros to whoever reads it a second time."""

        reads = 0

        def read_at(self, offset: int, size: int) -> bytes:
            if not offset:
                self.reads += 1
            return bytes(size) if not offset and self.reads > 1 else super().read_at(offset, size)

    root = store(Changing(original), tmp_path / "a.h5", header_in(original))
    open_stored(tmp_path / "a.h5", root).close()
