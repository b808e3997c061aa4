"""Containers as a hostile party would make them: any content, under a header and signature that fit."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest

from mipp_cli.containers.base.columns import Matrix, Ragged
from mipp_cli.containers.base.container import Container, Schema, open_container
from mipp_cli.containers.base.header import HEAD_BYTES, Header
from mipp_cli.containers.base.writer import Sender, write_container
from mipp_cli.scheme.keys import SealingKey, SigningKey
from mipp_cli.scheme.parameters import Parameters
from tests.support.hdf5 import body_digest

DEPLOYMENT = "5a" * 32
OTHER_DEPLOYMENT = "a5" * 32
KEY = SigningKey(bytes(range(32)))
OTHER_KEY = SigningKey(bytes(range(1, 33)))
ALICE = Sender("alice", KEY, DEPLOYMENT)
MALLORY = Sender("mallory", OTHER_KEY, DEPLOYMENT)
KMC = SealingKey(bytes(range(96)))
OTHER_KMC = SealingKey(bytes(range(1, 97)))
MASK = Parameters("mask", None)
EXACT = Parameters("exact", None, group_size=2)
QUERY_ID = "0123456789abcdef" * 2

Fill = Callable[[h5py.File], object]

TOY = Schema(
    "members",
    {"words": Ragged(limit=64), "rows": Matrix("u1", 32), "plain": Matrix("<u8")},
    numbers=("count",),
)
TOY_WORDS = [b"an", b"", b"owner", b"of images"]


@dataclass(frozen=True)
class Reading:
    """All that a toy container holds."""

    count: int
    words: list[bytes]
    rows: bytes
    plain: list[int]


TOY_READING = Reading(3, TOY_WORDS, bytes(range(96)), [0, 2**64 - 1])


def fill_toy(file: h5py.File) -> None:
    """Fill a toy container as the package does; each hostile test then spoils one thing."""
    words = file.create_group("words")
    ends = np.cumsum([0, *map(len, TOY_WORDS)])
    words.create_dataset("offsets", data=ends, dtype="<u8")
    words.create_dataset("bytes", data=np.frombuffer(b"".join(TOY_WORDS), np.uint8))
    file.create_dataset("rows", data=np.frombuffer(TOY_READING.rows, np.uint8).reshape(3, 32))
    file.create_dataset("plain", data=np.array(TOY_READING.plain, dtype="<u8"))
    file.attrs.create("count", np.uint64(3), dtype="<u8")


def write_toy(path: Path, *, force: bool = False) -> Path:
    """Write the toy container through the package."""
    with write_container(path, TOY, ALICE, 7, force=force) as writer:
        writer.number("count", TOY_READING.count)
        for word in TOY_WORDS:
            writer.ragged("words").append(word)
        writer.matrix("rows").append(np.frombuffer(TOY_READING.rows, np.uint8).reshape(3, 32))
        writer.matrix("plain").append(np.array(TOY_READING.plain, dtype=np.uint64))
    return path


def read_all(container: Container) -> Reading:
    """Read every row of a toy container."""
    return Reading(
        container.number("count"),
        [word for batch in container.ragged("words").batches(3) for word in batch],
        container.matrix("rows").all().tobytes(),
        container.matrix("plain").all().tolist(),
    )


def read_toy(path: Path, schema: Schema = TOY) -> Reading:
    """Open a toy container and read every row."""
    with open_container(path, schema, deployment=DEPLOYMENT) as container:
        return read_all(container)


def sign_body(
    path: Path, body: bytes, *, kind: str = "members", number: str = "7", sender: Sender = ALICE
) -> Path:
    """Put ``body`` behind a header whose digest and signature fit it."""
    digest = body_digest(body)
    header = Header(kind, sender.name, number, sender.deployment, digest, sender.signing_key.public.hex())
    path.write_bytes(header.render(sender.signing_key) + body)
    return path


def forge(
    path: Path, fill: Fill, *, kind: str = "members", number: str = "7", sender: Sender = ALICE
) -> Path:
    """Let ``fill`` make any HDF5 file, and sign whatever comes out."""
    with h5py.File(path, "w", userblock_size=HEAD_BYTES) as file:
        fill(file)
    return sign_body(path, path.read_bytes()[HEAD_BYTES:], kind=kind, number=number, sender=sender)


def forge_toy(path: Path, spoil: Fill) -> Path:
    """Make a toy container, spoil it, and sign it."""

    def fill(file: h5py.File) -> None:
        fill_toy(file)
        spoil(file)

    return forge(path, fill)


def replaced(name: str, make: Callable[[h5py.Group, str], object]) -> Fill:
    """Return a spoiler that takes the member ``name`` away and lets ``make(group, name)`` make another."""

    def spoil(file: h5py.File) -> None:
        group, _, leaf = name.rpartition("/")
        parent = file[group] if group else file
        del parent[leaf]
        make(parent, leaf)

    return spoil


def open_descriptors() -> list[str]:
    """Return what this process has open, once what nobody holds any more is gone."""
    gc.collect()
    return sorted(
        f"{path.name} {path.readlink()}" for path in Path("/proc/self/fd").iterdir() if path.exists()
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A path to write to again and again, for property tests."""
    return tmp_path_factory.mktemp("place") / "container.h5"


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A toy container, written by the package."""
    return write_toy(tmp_path / "toy.h5")
