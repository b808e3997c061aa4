"""Bytes by position: never more than there are, never past what was checked."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mipp_cli.containers.base.source import (
    BLOCK_BYTES,
    BlockVerifiedSource,
    BodyView,
    BytesSource,
    FileSource,
    content_blocks,
    read_file,
)
from mipp_cli.errors import InvalidRequestError, MalformedError, TamperedError
from tests.containers.conftest import open_descriptors


def digests_of(data: bytes) -> bytes:
    return b"".join(
        hashlib.sha256(data[start : start + BLOCK_BYTES]).digest()
        for start in range(0, len(data), BLOCK_BYTES)
    )


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as endpoint:
        endpoint.bind(str(path))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.binary(max_size=50), st.integers(0, 60), st.integers(0, 2**63))
def test_a_file_and_memory_give_the_same_bytes(place: Path, data: bytes, offset: int, size: int) -> None:
    place.write_bytes(data)
    on_disk = FileSource(place)
    assert on_disk.read_at(offset, size) == data[offset : offset + size]
    assert BytesSource(data).read_at(offset, size) == data[offset : offset + size]
    assert on_disk.size == BytesSource(data).size == len(data)
    on_disk.close()


def test_what_is_appended_after_the_opening_is_not_seen(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"signed")
    source = FileSource(path)
    with path.open("ab") as file:
        file.write(b" and more")
    assert source.read_at(0, 100) == b"signed"
    source.close()


def test_a_file_replaced_after_opening_is_not_read_instead(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"signed")
    source = FileSource(path)
    (tmp_path / "b").write_bytes(b"forged")
    (tmp_path / "b").replace(path)
    assert source.read_at(0, 6) == b"signed"
    source.close()


def test_a_file_cut_after_the_opening_is_malformed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"signed")
    source = FileSource(path)
    os.truncate(path, 3)
    with pytest.raises(MalformedError, match="shortened"):
        source.read_at(0, 6)
    source.close()


def test_a_disk_that_fails_is_malformed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    (tmp_path / "a").write_bytes(b"signed")
    source = FileSource(tmp_path / "a")
    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(MalformedError, match="Input/output error"):
        source.read_at(0, 6)
    source.close()


def test_bytes_that_come_in_pieces_are_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pread = os.pread
    (tmp_path / "a").write_bytes(bytes(range(100)))
    source = FileSource(tmp_path / "a")
    monkeypatch.setattr(os, "pread", lambda descriptor, size, offset: pread(descriptor, min(size, 7), offset))
    assert source.read_at(3, 50) == bytes(range(3, 53))
    source.close()


@pytest.mark.parametrize("make", [make_fifo, make_socket, Path.mkdir, lambda _path: None])
@pytest.mark.timeout(60)  # far above what it takes
def test_what_is_no_regular_file_is_an_invalid_request(make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "a"
    make(path)
    before = open_descriptors()
    with pytest.raises(InvalidRequestError) as caught:
        FileSource(path)
    assert caught.value.path == str(path)
    assert open_descriptors() == before


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero"])
def test_a_device_is_an_invalid_request(device: str) -> None:
    with pytest.raises(InvalidRequestError, match="not a regular file"):
        FileSource(Path(device))


def test_a_link_in_a_circle_is_an_invalid_request(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "a")
    with pytest.raises(InvalidRequestError, match="symbolic links"):
        FileSource(tmp_path / "a")


def test_a_file_may_be_as_large_as_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_file(path, 5) == b"12345"
    with pytest.raises(MalformedError, match="larger than the limit of 4 bytes"):
        read_file(path, 4)


def test_blocks_are_all_that_follows_the_head() -> None:
    data = os.urandom(1024 + 2 * BLOCK_BYTES + 5)
    blocks = list(content_blocks(BytesSource(data)))
    assert b"".join(blocks) == data[1024:]
    assert [len(block) for block in blocks] == [BLOCK_BYTES, BLOCK_BYTES, 5]
    assert list(content_blocks(BytesSource(data[:1024]))) == []


HEAD = bytes(range(256)) * 4


def verified(content: bytes, digests: bytes) -> BlockVerifiedSource:
    """Return a container with this content, whose head is known from elsewhere."""
    return BlockVerifiedSource(BytesSource(bytes(1024) + content), HEAD, digests)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data(), st.sampled_from([0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 5]))
def test_verified_blocks_give_the_bytes_of_the_source(data: st.DataObject, size: int) -> None:
    content = bytes(range(251)) * (size // 251 + 1)
    content = content[:size]
    source, whole = verified(content, digests_of(content)), HEAD + content
    begin = data.draw(st.integers(0, len(whole) + 3))
    length = data.draw(st.integers(0, len(whole) + 3))
    assert source.read_at(begin, length) == whole[begin : begin + length]


def test_a_changed_block_is_noticed_only_when_it_is_read() -> None:
    content = bytes(4 * BLOCK_BYTES + 10)
    for position in (0, BLOCK_BYTES - 1, 2 * BLOCK_BYTES, 4 * BLOCK_BYTES + 9):
        changed = bytearray(content)
        changed[position] ^= 1
        source = verified(bytes(changed), digests_of(content))
        bad = position // BLOCK_BYTES
        for block in range(5):
            if block != bad:
                assert source.read_at(1024 + block * BLOCK_BYTES, 10) == bytes(10)
        with pytest.raises(TamperedError, match=f"block {bad} "):
            source.read_at(1024 + bad * BLOCK_BYTES + 1, 1)
        with pytest.raises(TamperedError):
            source.read_at(1024, len(content))


def test_swapped_blocks_are_tampering() -> None:
    content = bytes(BLOCK_BYTES) + b"\1" * BLOCK_BYTES
    source = verified(content[BLOCK_BYTES:] + content[:BLOCK_BYTES], digests_of(content))
    with pytest.raises(TamperedError):
        source.read_at(1024, 1)


@pytest.mark.parametrize("blocks", [0, 2, 4, 400])
def test_a_list_of_digests_of_another_length_is_tampering(blocks: int) -> None:
    with pytest.raises(TamperedError):
        verified(bytes(2 * BLOCK_BYTES + 1), bytes(32 * blocks))


def test_a_block_is_hashed_once_for_reads_near_each_other() -> None:
    reads = []

    class Counted(BytesSource):
        def read_at(self, offset: int, size: int) -> bytes:
            reads.append(offset)
            return super().read_at(offset, size)

    content = bytes(2 * BLOCK_BYTES)
    source = BlockVerifiedSource(Counted(HEAD + content), HEAD, digests_of(content))
    for offset in range(0, 2000, 10):
        source.read_at(offset, 10)
    assert reads == [1024]


def test_kept_blocks_do_not_grow_with_what_is_read() -> None:
    content = bytes(300 * BLOCK_BYTES)
    source = verified(content, digests_of(content))
    for offset in range(0, len(content), BLOCK_BYTES):
        source.read_at(offset, 1)
    assert source._kept_block.cache_info().currsize <= 64


def test_a_body_view_begins_where_it_is_told() -> None:
    view = BodyView(BytesSource(b"headbody"), 4)
    assert view.read() == b"body"
    assert view.seek(0, io.SEEK_END) == 4
    assert view.seek(-3, io.SEEK_CUR) == 1
    assert view.read(2) == b"od"
    assert view.tell() == 3
    assert view.seek(9) == 9
    assert view.read(1) == b""
