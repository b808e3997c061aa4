"""Features files of made-up owners, and what a KMC holds of them, read as whoever has its keys could."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mipp_cli.containers.base.writer import Sender
from mipp_cli.containers.messages.delete import write_delete
from mipp_cli.containers.messages.features import write_features
from mipp_cli.kmc.enroll import enroll_at_kmc
from mipp_cli.kmc.init import init_kmc
from mipp_cli.kmc.kmc import EnrolledOwner, Kmc
from mipp_cli.kmc.status import received
from mipp_cli.kmc.store import FeatureStore
from mipp_cli.owner.init import init_owner
from mipp_cli.owner.owner import Owner

L, LEVELS = 4, 8


def digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def codes_of(number: int, name: str) -> bytes:
    """Return the codes that an upload has for a name."""
    return bytes(each % LEVELS for each in hashlib.sha256(f"{number} {name}".encode()).digest()[:L])


def image_digest(number: int, name: str) -> bytes:
    return hashlib.sha256(f"image {number} {name}".encode()).digest()


@dataclass(frozen=True)
class Row:
    """A live row: codes (None if they were taken without), image digest, group, length of the group."""

    codes: bytes | None
    image: bytes
    group: int
    length: int


@dataclass
class State:
    """What a KMC holds of an owner, however it came there."""

    rows: dict[bytes, tuple[int, Row]] = field(default_factory=dict)
    deleted: dict[int, frozenset[bytes]] = field(default_factory=dict)
    applied: set[int] = field(default_factory=set)
    complete: int = 0
    missing: tuple[int, ...] = ()


@dataclass
class World:
    """A KMC of scheme `exact` and its owners, in whose name messages are made."""

    root: Path
    group_size: int = 2

    @property
    def kmc(self) -> Path:
        return self.root / "kmc"

    def owner(self, name: str = "north") -> Owner:
        return Owner.open(self.root / name)

    def enrolled(self, name: str = "north") -> EnrolledOwner:
        found = Kmc.open(self.kmc).owner(name)
        assert found is not None
        return found

    def store(self, name: str = "north") -> FeatureStore:
        return FeatureStore.of(Kmc.open(self.kmc), self.enrolled(name))

    def folder(self, name: str = "north") -> Path:
        return self.kmc / "features" / name

    def groups(self, names: Sequence[str]) -> list[Sequence[str]]:
        cuts = range(0, len(names), self.group_size)
        return [names[begin : begin + self.group_size] for begin in cuts]

    def features(
        self,
        number: int,
        names: Sequence[str],
        *,
        owner: str = "north",
        earlier: Sequence[int] = (),
        image_key: bytes | None = None,
        sender: Sender | None = None,
        groups: Sequence[Sequence[str]] | None = None,
        codes: Callable[[int, str], bytes] = codes_of,
        length: Callable[[int], int] = lambda group: 1000 + group,
        path: Path | None = None,
    ) -> Path:
        """Write a features file of an upload."""
        path = path or self.root / f"{owner}-{number}.features.h5"
        role = self.owner(owner)
        key = image_key or role.image_key
        used = sender or role.directory.sender
        with write_features(path, L, used, number, key, earlier=earlier, force=True) as writer:
            for place, group in enumerate(self.groups(names) if groups is None else groups):
                for name in group:
                    row = np.frombuffer(codes(number, name), dtype=np.uint8)
                    writer.append(name, image_digest(number, name), row)
                writer.end_group(length(place))
        return path

    def deletion(
        self, number: int, names: Sequence[str], *, owner: str = "north", earlier: Sequence[int] = ()
    ) -> Path:
        """Write a deletion."""
        path = self.root / f"{owner}-{number}.delete.h5"
        write_delete(path, self.owner(owner).directory.sender, number, names, earlier=earlier, force=True)
        return path

    def state(self, owner: str = "north") -> State:
        """Read what the KMC holds of an owner."""
        kmc, store = Kmc.open(self.kmc), self.store(owner)
        index = store.index()
        state = State(applied={each.number for each in index.messages})
        for block in index.blocks:
            codes: NDArray[np.uint8] | None = store.codes(block) if block.coded else None
            for place, row in enumerate(store.table(block)):
                name = row["name"].tobytes()
                assert name not in state.rows
                held = None if codes is None else codes[place].tobytes()
                what = Row(held, row["image"].tobytes(), int(row["group"]), int(row["length"]))
                state.rows[name] = (block.upload, what)
        for message in index.messages:
            if message.deleted:
                state.deleted[message.number] = frozenset(map(bytes, store.deleted(message)))
        found = received(kmc, owner, index)
        state.complete, state.missing = found.up_to, found.gaps
        assert not store.unlisted(index)
        return state

    def copy(self, to: Path) -> World:
        """Return a copy whose KMC changes by itself."""
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(self.root, to)
        return replace(self, root=to)


def make_world(root: Path, owners: Sequence[str] = ("north",), *, group_size: int = 2) -> World:
    """Make a KMC and enrol owners."""
    root.mkdir(parents=True, exist_ok=True)
    init_kmc(root / "kmc", scheme="exact", descriptor=f"tiny:{L}:{LEVELS}", group_size=group_size)
    for name in owners:
        init_owner(root / name, name, root / "kmc" / "kmc.pub")
    enroll_at_kmc(root / "kmc", [root / name / "enrolment.h5" for name in owners])
    return World(root, group_size)
