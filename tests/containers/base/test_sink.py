"""What HDF5 writes reaches the file whole, or the reason why not is told at the end."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import h5py
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mipp_cli.containers.base.sink import Sink
from mipp_cli.errors import MalformedError
from tests.containers.conftest import fill_toy, open_descriptors


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An empty file."""
    (tmp_path / "a").touch()
    return tmp_path / "a"


def fail_to_write(*_arguments: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(["write", "truncate"]), st.integers(0, 40), st.binary(max_size=9))))
def test_a_sink_does_what_a_file_does(place: Path, steps: list[tuple[str, int, bytes]]) -> None:
    place.write_bytes(b"")
    expected = io.BytesIO()
    with Sink(place) as sink:
        for step, position, data in steps:
            if step == "write":
                assert sink.seek(position) == expected.seek(position)
                assert sink.write(data) == expected.write(data)
            elif position <= len(expected.getvalue()):  # memory does not lengthen as a file does
                assert sink.truncate(position) == expected.truncate(position)
            assert sink.seek(0, io.SEEK_END) == expected.seek(0, io.SEEK_END)
            assert sink.seek(0) == expected.seek(0)
            assert sink.read() == expected.read()
            assert sink.tell() == expected.tell()
    assert place.read_bytes() == expected.getvalue()


def test_writes_in_pieces_are_put_together(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, bytes(data)[:7], offset))
    with Sink(path) as sink:
        sink.seek(3)
        sink.write(bytes(range(100)))
    assert path.read_bytes() == bytes(3) + bytes(range(100))


def test_a_write_that_fails_is_told_when_asked_and_at_the_end(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OSError, match="No space left"), Sink(path) as sink:
        sink.write(b"before")
        sink.check()
        monkeypatch.setattr(os, "pwrite", fail_to_write)
        assert sink.write(b"lost") == 4
        monkeypatch.undo()
        assert sink.write(b"after") == 5
        assert sink.truncate(100) == 100
        assert sink.seek(0, io.SEEK_END) == 100
        with pytest.raises(OSError, match="No space left"):
            sink.check()
    assert path.read_bytes() == b"before"


def test_a_truncation_that_fails_is_told_at_the_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="No space left"), Sink(path) as sink:
        monkeypatch.setattr(os, "truncate", fail_to_write)
        sink.truncate(9)


def test_hdf5_closes_a_file_that_could_not_be_written(
    path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "pwrite", fail_to_write)
    with pytest.raises(OSError, match="No space left"), Sink(path) as sink:
        with h5py.File(sink, "w", userblock_size=1024) as file:
            fill_toy(file)
        assert not file.id.valid
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("error", [MalformedError("no"), KeyboardInterrupt()])
def test_an_error_of_the_block_comes_through(path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), Sink(path):
        raise error


def test_the_failed_write_is_told_rather_than_what_came_of_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pwrite", fail_to_write)
    with pytest.raises(OSError, match="No space left"), Sink(path) as sink:
        sink.write(b"lost")
        raise RuntimeError("HDF5 is upset")


def test_an_interruption_is_told_rather_than_a_failed_write(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pwrite", fail_to_write)
    with pytest.raises(KeyboardInterrupt), Sink(path) as sink:
        sink.write(b"lost")
        raise KeyboardInterrupt


def test_a_sink_is_closed_at_its_end(path: Path) -> None:
    before = open_descriptors()
    with Sink(path) as sink:
        assert (sink.readable(), sink.writable(), sink.seekable()) == (True, True, True)
    assert sink.closed
    assert open_descriptors() == before
