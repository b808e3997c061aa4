"""A container is opened after its header, signature, sender and digest fit, and not before."""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest

from mipp_cli.containers.base.columns import Matrix, Ragged
from mipp_cli.containers.base.container import Schema, open_container, open_source, read_header
from mipp_cli.containers.base.header import HEAD_BYTES, Header
from mipp_cli.containers.base.source import BytesSource, FileSource, block_digests, digest_of
from mipp_cli.containers.base.writer import Sender, write_container
from mipp_cli.errors import (
    InvalidRequestError,
    MalformedError,
    MippError,
    NotAuthorisedError,
    OutputError,
    TamperedError,
    WrongDeploymentError,
)
from tests.containers.conftest import (
    ALICE,
    DEPLOYMENT,
    KEY,
    OTHER_DEPLOYMENT,
    OTHER_KEY,
    QUERY_ID,
    TOY,
    TOY_READING,
    fill_toy,
    forge,
    open_descriptors,
    read_all,
    read_toy,
    sign_body,
    write_toy,
)
from tests.support.hdf5 import body_digest

Change = Callable[[bytes], bytes]


def set_header(data: bytes, *, signed_by: Sender = ALICE, **fields: str) -> bytes:
    """Put another header before the body, signed as it should be."""
    values = {
        "kind": "members",
        "sender": "alice",
        "number": "7",
        "deployment": DEPLOYMENT,
        "digest": body_digest(data[HEAD_BYTES:]),
        "key": signed_by.signing_key.public.hex(),
    }
    header = Header(**{**values, **fields})
    return header.render(signed_by.signing_key) + data[HEAD_BYTES:]


def flip(position: int, bit: int = 0) -> Change:
    return lambda data: data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]


def refused(path: Path, change: Change) -> MippError:
    """Return the error that reading a changed toy container ends in."""
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(MippError) as caught:
        read_toy(path)
    assert caught.value.path == str(path)
    return caught.value


def test_what_is_written_is_read(toy: Path) -> None:
    assert read_toy(toy) == TOY_READING


def test_a_hand_made_container_is_read_like_a_written_one(tmp_path: Path) -> None:
    assert read_toy(forge(tmp_path / "a", fill_toy)) == TOY_READING


def test_a_container_is_an_hdf5_file_with_a_user_block(toy: Path) -> None:
    with h5py.File(toy, "r") as file:
        assert file.userblock_size == HEAD_BYTES
        assert sorted(file) == ["plain", "rows", "words"]
        assert file["rows"][:].tobytes() == TOY_READING.rows
    assert toy.read_bytes()[HEAD_BYTES:].startswith(b"\x89HDF\r\n\x1a\n")


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    assert write_toy(tmp_path / "a").read_bytes() == write_toy(tmp_path / "b").read_bytes()


def test_the_header_says_what_was_asked_for(toy: Path) -> None:
    with open_container(toy, TOY, deployment=DEPLOYMENT) as container:
        assert container.header == Header(
            "members",
            "alice",
            "7",
            DEPLOYMENT,
            body_digest(toy.read_bytes()[HEAD_BYTES:]),
            KEY.public.hex(),
        )


def test_the_writer_gives_the_header_once_it_is_written(tmp_path: Path) -> None:
    schema = Schema("upload", {"plain": Matrix("<u8")})
    with write_container(tmp_path / "a", schema, ALICE, 12) as writer:
        assert writer.header is None
    with open_container(tmp_path / "a", schema) as container:
        assert writer.header == container.header


def test_a_container_in_memory_reads_as_one_on_the_disk(toy: Path) -> None:
    with open_source(BytesSource(toy.read_bytes()), TOY, deployment=DEPLOYMENT) as container:
        assert read_all(container) == TOY_READING


def test_an_empty_container_is_read(tmp_path: Path) -> None:
    with write_container(tmp_path / "a", TOY, ALICE, 0) as writer:
        writer.number("count", 0)
    with open_container(tmp_path / "a", TOY) as container:
        assert container.number("count") == 0
        assert container.ragged("words").rows(0, 0) == []
        assert container.matrix("rows").all().shape == (0, 32)


@pytest.mark.parametrize("value", [0, 1, 2**63, 2**64 - 1])
def test_a_number_comes_back(tmp_path: Path, value: int) -> None:
    schema = Schema("members", {}, numbers=("count",))
    with write_container(tmp_path / "a", schema, ALICE, 0) as writer:
        writer.number("count", value)
    with open_container(tmp_path / "a", schema) as container:
        assert container.number("count") == value


@pytest.mark.parametrize("value", [-1, 2**64])
def test_a_number_out_of_range_is_not_written(tmp_path: Path, value: int) -> None:
    with (
        pytest.raises(ValueError, match="out of range"),
        write_container(tmp_path / "a", TOY, ALICE, 0) as writer,
    ):
        writer.number("count", value)
    assert list(tmp_path.iterdir()) == []


def test_a_container_without_one_of_its_numbers_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="count"), write_container(tmp_path / "a", TOY, ALICE, 0):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_column_is_asked_for_by_its_shape(toy: Path) -> None:
    with open_container(toy, TOY) as container:
        for ask, name in ((container.matrix, "words"), (container.ragged, "rows"), (container.matrix, "x")):
            with pytest.raises(KeyError):
                ask(name)


def test_octets_are_a_plain_column_up_to_a_limit(tmp_path: Path) -> None:
    schema = Schema("members", {"blob": Matrix("u1")})
    with write_container(tmp_path / "a", schema, ALICE, 0) as writer:
        writer.matrix("blob").append(np.arange(10, dtype=np.uint8))
    with open_container(tmp_path / "a", schema) as container:
        assert container.data("blob", 10) == bytes(range(10))
        with pytest.raises(MalformedError, match="too long"):
            container.data("blob", 9)


def test_columns_that_belong_together_must_have_equal_lengths(toy: Path) -> None:
    with open_container(toy, TOY) as container:
        assert container.same_length("words") == 4
        with pytest.raises(MalformedError, match="different lengths"):
            container.same_length("words", "rows")


# One defect each: signature and digest fit no more.


@pytest.mark.parametrize("size", [0, 1, 6, 7, 100, 512, HEAD_BYTES - 1])
def test_a_file_shorter_than_its_user_block_is_malformed(toy: Path, size: int) -> None:
    error = refused(toy, lambda data: data[:size])
    assert type(error) is MalformedError
    assert "not a MIPP container" in error.message


@pytest.mark.parametrize("left", [0, 1, 8, 96, 1000, -100, -1])
def test_a_body_that_is_cut_is_tampering(toy: Path, left: int) -> None:
    assert type(refused(toy, lambda data: data[: HEAD_BYTES + left if left >= 0 else left])) is TamperedError


@pytest.mark.parametrize("tail", [b"\0", b"x", b"\n", bytes(5000)])
def test_bytes_after_the_file_are_tampering(toy: Path, tail: bytes) -> None:
    assert type(refused(toy, lambda data: data + tail)) is TamperedError


def test_a_flipped_bit_in_the_body_is_tampering(toy: Path) -> None:
    data, source = toy.read_bytes(), random.Random(5)
    positions = [HEAD_BYTES, len(data) - 1, *(source.randrange(HEAD_BYTES, len(data)) for _ in range(150))]
    for position in positions:
        toy.write_bytes(data)
        assert type(refused(toy, flip(position, source.randrange(8)))) is TamperedError


def test_a_flipped_bit_in_the_user_block_is_refused(toy: Path) -> None:
    data, source = toy.read_bytes(), random.Random(6)
    for position in source.sample(range(HEAD_BYTES), 150):
        toy.write_bytes(data)
        assert isinstance(refused(toy, flip(position, source.randrange(8))), MalformedError)


@pytest.mark.parametrize("after", [0, 1, 100])
def test_a_byte_taken_out_or_put_in_is_refused(toy: Path, after: int) -> None:
    data = toy.read_bytes()
    for change in (data[:after] + data[after + 1 :], data[:after] + b"\0" + data[after:]):
        toy.write_bytes(change)
        assert isinstance(refused(toy, lambda changed: changed), MalformedError)


def test_a_body_under_the_header_of_another_file_is_tampering(tmp_path: Path, toy: Path) -> None:
    other = forge(tmp_path / "other", lambda file: file.attrs.__setitem__("x", 1)).read_bytes()
    assert type(refused(toy, lambda data: data[:HEAD_BYTES] + other[HEAD_BYTES:])) is TamperedError


# One defect each, under a signature and a digest that fit.


def test_a_wrong_digest_under_a_valid_signature_is_tampering(toy: Path) -> None:
    assert type(refused(toy, lambda data: set_header(data, digest="00" * 32))) is TamperedError


def test_a_digest_of_the_whole_file_is_tampering(toy: Path) -> None:
    whole = hashlib.sha256(toy.read_bytes()).hexdigest()
    assert type(refused(toy, lambda data: set_header(data, digest=whole))) is TamperedError


def test_a_signature_by_another_key_is_tampering(toy: Path) -> None:
    def change(data: bytes) -> bytes:
        text, _, _ = data[:HEAD_BYTES].partition(b"signature ")
        block = text + b"signature " + OTHER_KEY.sign(text).hex().encode() + b"\n"
        return block.ljust(HEAD_BYTES, b"\0") + data[HEAD_BYTES:]

    assert type(refused(toy, change)) is TamperedError


@pytest.mark.parametrize("kind", ["upload", "enrolment", "index"])
def test_another_kind_is_malformed(toy: Path, kind: str) -> None:
    error = refused(toy, lambda data: set_header(data, kind=kind))
    assert type(error) is MalformedError
    assert f"is of kind {kind}, not members" in error.message


def test_another_deployment_is_refused_as_such(toy: Path) -> None:
    error = refused(toy, lambda data: set_header(data, deployment=OTHER_DEPLOYMENT))
    assert type(error) is WrongDeploymentError


@pytest.mark.parametrize("left", [0, 1, 8, 48, 96, 500, 1000, -200, -1])
def test_a_cut_body_that_is_signed_is_malformed(toy: Path, left: int) -> None:
    def change(data: bytes) -> bytes:
        return set_header(data[: HEAD_BYTES + left if left >= 0 else left])

    assert type(refused(toy, change)) is MalformedError


@pytest.mark.parametrize("distance", [1, 512, 1024, 2048, 3072])
@pytest.mark.parametrize("filler", [b"\0", b" "])
def test_an_hdf5_file_must_begin_where_the_body_begins(toy: Path, distance: int, filler: bytes) -> None:
    error = refused(toy, lambda data: set_header(data[:HEAD_BYTES] + filler * distance + data[HEAD_BYTES:]))
    assert "no HDF5 content after its header" in error.message


@pytest.mark.parametrize(
    "body", [b"", b"\0" * 2000, b"text\n" * 500, b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + b"\xff" * 999]
)
def test_a_body_that_is_no_hdf5_is_malformed(toy: Path, body: bytes) -> None:
    error = refused(toy, lambda data: set_header(data[:HEAD_BYTES] + body))
    assert type(error) is MalformedError


def test_an_hdf5_file_with_a_larger_user_block_is_malformed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a", "w", userblock_size=2048) as file:
        fill_toy(file)
    sign_body(tmp_path / "a", (tmp_path / "a").read_bytes()[HEAD_BYTES:])
    with pytest.raises(MalformedError, match="no HDF5 content after its header"):
        read_toy(tmp_path / "a")


def hdf5_bytes(fill: Callable[[h5py.File], None]) -> bytes:
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        fill(file)
    return memory.getvalue()


def test_a_second_hdf5_file_at_byte_512_is_malformed(toy: Path) -> None:
    def fill_other(file: h5py.File) -> None:
        fill_toy(file)
        file.attrs.modify("count", np.uint64(666))

    other = hdf5_bytes(fill_other)
    hidden = toy.read_bytes()[:512] + other
    visible = hidden[:HEAD_BYTES] + toy.read_bytes()[HEAD_BYTES:]
    for data in (hidden, visible):
        header = set_header(data)[:HEAD_BYTES]
        assert header[512:] == bytes(512)
        toy.write_bytes(header[:512] + data[512:])
        with pytest.raises(MalformedError, match="malformed header"):
            read_toy(toy)


def test_hdf5_would_have_shown_what_lies_at_byte_512(toy: Path) -> None:
    data = toy.read_bytes()
    toy.write_bytes(data[:512] + hdf5_bytes(lambda file: file.attrs.__setitem__("count", 666)))
    with h5py.File(toy, "r") as file:
        assert file.attrs["count"] == 666


def test_hdf5_sees_nothing_of_the_user_block(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = h5py.File

    def recorded(file: io.RawIOBase, mode: str) -> h5py.File:
        file.seek(0)
        seen.append((file.readall(), mode))
        return real(file, mode)

    monkeypatch.setattr(h5py, "File", recorded)
    read_toy(toy)
    assert seen == [(toy.read_bytes()[HEAD_BYTES:], "r")]


UNVERIFIED: dict[str, Change] = {
    "empty": lambda _data: b"",
    "bare HDF5": lambda _data: hdf5_bytes(fill_toy),
    "short": lambda data: data[:1000],
    "flipped in the header": flip(20),
    "flipped in the signature": flip(480),
    "in the padding": flip(900),
    "flipped in the body": flip(-50),
    "cut": lambda data: data[:-10],
    "longer": lambda data: data + b"\0",
    "wrong digest": lambda data: set_header(data, digest="00" * 32),
    "another kind": lambda data: set_header(data, kind="upload"),
    "another deployment": lambda data: set_header(data, deployment=OTHER_DEPLOYMENT),
    "no HDF5 at the first byte": lambda data: set_header(data[:HEAD_BYTES] + bytes(1024) + data[HEAD_BYTES:]),
}


@pytest.mark.parametrize("change", UNVERIFIED.values(), ids=UNVERIFIED)
def test_hdf5_is_not_given_what_was_not_verified(
    toy: Path, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    calls = []
    changed = change(toy.read_bytes())
    toy.write_bytes(changed)
    monkeypatch.setattr(h5py, "File", lambda *arguments, **_options: calls.append(arguments))
    with pytest.raises(MippError):
        read_toy(toy)
    assert calls == []


def test_the_sender_is_checked_before_hdf5_opens_the_file(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, asked = [], []

    def check(header: Header) -> None:
        asked.append(header.sender)
        raise NotAuthorisedError("who is that?")

    monkeypatch.setattr(h5py, "File", lambda *arguments, **_options: calls.append(arguments))
    with pytest.raises(NotAuthorisedError):
        open_container(toy, TOY, check=check)
    assert (asked, calls) == (["alice"], [])


@pytest.mark.parametrize("name", ["flipped in the header", "flipped in the signature", "another deployment"])
def test_nobody_is_asked_about_a_sender_whose_header_is_refused(toy: Path, name: str) -> None:
    asked: list[Header] = []
    toy.write_bytes(UNVERIFIED[name](toy.read_bytes()))
    with pytest.raises(MippError):
        open_container(toy, TOY, deployment=DEPLOYMENT, check=asked.append)
    assert asked == []


def test_a_sender_is_refused_before_the_content_is_hashed(toy: Path) -> None:
    toy.write_bytes(flip(-50)(toy.read_bytes()))

    def check(_header: Header) -> None:
        raise NotAuthorisedError("who is that?")

    with pytest.raises(NotAuthorisedError):
        open_container(toy, TOY, check=check)


@pytest.mark.parametrize("change", UNVERIFIED.values(), ids=UNVERIFIED)
def test_a_refused_file_is_closed(toy: Path, change: Change) -> None:
    toy.write_bytes(change(toy.read_bytes()))
    before = open_descriptors()
    with pytest.raises(MippError):
        read_toy(toy)
    assert open_descriptors() == before


def test_a_file_that_was_read_is_closed(toy: Path) -> None:
    before = open_descriptors()
    read_toy(toy)
    assert open_descriptors() == before


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda _path: None])
@pytest.mark.timeout(60)  # far above what it takes
def test_what_is_no_file_is_an_invalid_request(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "a")
    with pytest.raises(InvalidRequestError) as caught:
        read_toy(tmp_path / "a")
    assert caught.value.path == str(tmp_path / "a")


@pytest.mark.parametrize(
    "content", [b"", b"hello\n" * 1000, b"mipp 2\n" * 1000, b"\x89PNG\r\n\x1a\n" + bytes(5000), bytes(5000)]
)
def test_another_file_is_malformed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(MalformedError):
        read_toy(tmp_path / "a")


def test_a_header_is_read_without_its_body(toy: Path) -> None:
    toy.write_bytes(toy.read_bytes()[:HEAD_BYTES])
    source = FileSource(toy)
    assert read_header(source, kind="members", deployment=DEPLOYMENT).sender == "alice"
    source.close()


def test_the_digest_is_that_of_the_block_digests() -> None:
    data = random.Random(8).randbytes(300_000)
    blocks = (data[start : start + 65_536] for start in range(1024, len(data), 65_536))
    digests = b"".join(hashlib.sha256(block).digest() for block in blocks)
    assert block_digests(BytesSource(data)) == digests
    assert digest_of(digests) == hashlib.sha256(digests).hexdigest()


def test_a_file_cut_after_its_digest_check_is_never_misread(
    tmp_path: Path,
) -> None:
    path = write_toy(tmp_path / "a")
    with open_container(path, TOY) as container:
        os.truncate(path, 1200)
        with suppress(MalformedError):
            assert read_all(container) == TOY_READING


class RewrittenSource:
    """A file that somebody overwrites in place as soon as its last byte was read once."""

    def __init__(self, before: bytes, after: bytes):
        self._data, self._after = before, after
        self.size = len(before)

    def read_at(self, offset: int, size: int) -> bytes:
        """Return bytes by position, and change the file once it was read to its end."""
        data = self._data[offset : offset + size]
        if offset + size >= self.size:
            self._data = self._after
        return data

    def close(self) -> None:
        """Nothing to give back."""


def test_a_file_overwritten_after_its_check_is_never_parsed(tmp_path: Path) -> None:
    before = write_toy(tmp_path / "a").read_bytes()
    for after in (before.replace(b"images", b"dragon"), before[:HEAD_BYTES] + bytes(len(before) - 1024)):
        with pytest.raises(TamperedError, match="block 0"):
            open_source(RewrittenSource(before, after), TOY)
    with open_source(RewrittenSource(before, before), TOY) as container:
        assert read_all(container) == TOY_READING


def test_every_block_of_a_long_file_is_checked_again_on_reading(tmp_path: Path) -> None:
    schema = Schema("upload", {"plain": Matrix("<u8")})
    rows = np.arange(400_000, dtype=np.uint64)  # several chunks of a megabyte
    with write_container(tmp_path / "a", schema, ALICE, 1) as writer:
        writer.matrix("plain").append(rows)
    with open_container(tmp_path / "a", schema) as container:
        with (tmp_path / "a").open("r+b") as file:
            file.seek(2_000_000)
            file.write(b"dragon")
        with pytest.raises(TamperedError, match="block 30"):
            container.matrix("plain").all()


# Writing


def test_a_block_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(NotAuthorisedError),
        write_container(tmp_path / "a", TOY, ALICE, 1) as writer,
    ):
        writer.ragged("words").append(b"half")
        raise NotAuthorisedError("no")
    assert list(tmp_path.iterdir()) == []


def test_a_block_that_fails_leaves_what_was_there(toy: Path) -> None:
    before = toy.read_bytes()
    with pytest.raises(KeyboardInterrupt), write_container(toy, TOY, ALICE, 8, force=True):
        raise KeyboardInterrupt
    assert toy.read_bytes() == before
    assert list(toy.parent.iterdir()) == [toy]


def test_an_existing_container_is_replaced_with_force_alone(toy: Path) -> None:
    with pytest.raises(OutputError, match="exists"):
        write_toy(toy)
    write_toy(toy, force=True)
    assert read_toy(toy) == TOY_READING


@pytest.mark.parametrize(
    ("kind", "number"), [("members", QUERY_ID), ("members", 2**63), ("query", 7), ("none", 7)]
)
def test_a_container_with_an_unreadable_header_is_not_written(
    tmp_path: Path, kind: str, number: int | str
) -> None:
    with pytest.raises(MalformedError), write_container(tmp_path / "a", Schema(kind, {}), ALICE, number):
        pass
    assert list(tmp_path.iterdir()) == []


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from mipp_cli.containers.base.columns import Matrix, Ragged
from mipp_cli.containers.base.container import Schema
from mipp_cli.containers.base.writer import Sender, write_container
from mipp_cli.errors import OutputError
from mipp_cli.scheme.keys import SigningKey
path, limit, rows, row = Path(sys.argv[1]), *map(int, sys.argv[2:])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
schema = Schema("members", {"words": Ragged(), "plain": Matrix("<u8")}, numbers=("count",))
sender = Sender("alice", SigningKey(bytes(32)), "5a" * 32)
written = 0
try:
    with write_container(path, schema, sender, 1, force=True) as writer:
        writer.number("count", rows)
        for number in range(rows):
            writer.ragged("words").append(bytes(row))
            writer.matrix("plain").append(np.array([number], dtype=np.uint64))
            written += 1
except OutputError as error:
    print(f"{error}; {error.path == str(path)}")
print(written == rows)
"""


@pytest.mark.parametrize(
    ("limit", "rows", "row", "noticed_early"),
    [
        (100, 3, 10, False),
        (1500, 3, 10, False),
        (3000, 3, 10, False),
        (100_000, 3000, 64, True),
        (1 << 20, 300, 100_000, True),
    ],
)
def test_a_full_disk_is_an_output_error_and_keeps_the_old_file(
    toy: Path, limit: int, rows: int, row: int, noticed_early: bool
) -> None:
    before = toy.read_bytes()
    command = [sys.executable, "-c", FULL_DISK, str(toy), str(limit), str(rows), str(row)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["cannot be written: File too large; True", str(not noticed_early)]
    assert toy.read_bytes() == before
    assert list(toy.parent.iterdir()) == [toy]


def test_a_copy_of_a_container_is_as_good(tmp_path: Path, toy: Path) -> None:
    shutil.copy(toy, tmp_path / "copy")
    assert read_toy(tmp_path / "copy") == TOY_READING


def test_a_container_with_extra_columns_is_malformed(toy: Path) -> None:
    narrower = Schema("members", {"words": Ragged(limit=64), "rows": Matrix("u1", 32)}, ("count",))
    with pytest.raises(MalformedError, match="does not have the parts"):
        read_toy(toy, narrower)
