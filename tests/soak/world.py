"""A deployment and the model of it, and all that is compared after each operation."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from mipp_cli.cloud.cloud import Cloud
from mipp_cli.cloud.completeness import completeness
from mipp_cli.containers.base.container import read_header
from mipp_cli.containers.base.source import FileSource
from mipp_cli.containers.messages.upload import UploadCipher
from mipp_cli.containers.store.index import Index, Segment
from mipp_cli.descriptors.edge_histogram import edge_histogram
from mipp_cli.images.pictures import open_picture
from mipp_cli.kmc.kmc import Kmc
from mipp_cli.owner.owner import Owner
from mipp_cli.scheme.envelope import Envelope
from mipp_cli.workdir.directory import RoleDirectory
from mipp_cli.workdir.floors import floor_of
from tests.soak.clock import Clock
from tests.soak.model import CloudModel, KmcModel, OwnerModel, Stored
from tests.support.deployment import Outcome, run

OWNERS = ("north", "south", "lake")
USERS = ("alice", "bob")
Table = dict[tuple[str, str], tuple[int, int]]


class World:
    """The directories of all roles, and what the models say of them."""

    def __init__(self, root: Path, seed: int):
        self.root, self.random, self.clock = root, random.Random(seed), Clock()
        self.cloud, self.kmc = CloudModel(), KmcModel()
        self.owners = {name: OwnerModel() for name in OWNERS}
        self.figures: Counter[str] = Counter()
        self.keys: dict[str, bytes] = {}  # image keys by their id, forgotten ones too
        self.reported: dict[str, list[int]] = {name: [0] for name in OWNERS}
        self._serial = 0
        self._table: tuple[Index | None, Table] = None, {}
        self._looked_at: set[tuple[str, int, int, bytes]] = set()

    def run(self, *words: object) -> Outcome:
        """Run a command by the clock of the machine that it runs on."""
        machine = Path(str(words[2])).name if words[0] == "owner" else ""
        with self.clock.at(machine):
            return run(*words)

    def expect(self, code: int, *words: object) -> Outcome:
        """Run a command and demand the exit code that the model says."""
        outcome = self.run(*words)
        if outcome.code != code:
            said = f"{outcome.err}{outcome.out}"
            raise AssertionError(f"exit {outcome.code}, not {code}: {' '.join(map(str, words))}\n{said}")
        return outcome

    def path(self, name: str) -> Path:
        """Return a new path for a file that is handed over."""
        self._serial += 1
        return self.root / f"{self._serial}-{name}.h5"

    def compare(self) -> None:
        """Compare the cloud's store and the KMC's keys with the model."""
        cloud = Cloud.open(self.root / "cloud")
        index = cloud.index()
        assert cloud.store.unlisted(index) == []
        self._compare_table(cloud, index)
        for owner in OWNERS:
            self._compare_owner(cloud, index, owner)
        self._compare_kmc()

    def _compare_table(self, cloud: Cloud, index: Index) -> None:
        """Compare which images there are, and their sums."""
        if self._table[0] != index:  # which names its parts by their content
            self._table = index, self.table_of(cloud, index)
        due = self.table_due({owner: self.cloud.images(owner) for owner in OWNERS})
        assert self._table[1] == due

    def table_due(self, live: Mapping[str, Mapping[str, Stored]]) -> Table:
        """Return what an index of the ``live`` images of each owner says."""
        roles = {owner: Owner.open(self.root / owner) for owner in live}
        return {
            (owner, roles[owner].name_on_the_wire(path)): self.sums(stored.content)
            for owner, images in live.items()
            for path, stored in images.items()
        }

    def table_of(self, cloud: Cloud, index: Index) -> Table:
        """Return Σx and Σx² of every image in the index, by owner and name on the wire."""
        table: Table = {}
        for part in index.parts:
            owner = index.owner_of(part)
            for name, sum1, sum2 in cloud.store.table(index, part):
                assert (owner, name) not in table
                table[owner, name] = (sum1, sum2)
        return table

    def sums(self, content: bytes) -> tuple[int, int]:
        """Return Σx and Σx² of a picture's plain codes."""
        return sums_of(content)

    def _compare_owner(self, cloud: Cloud, index: Index, owner: str) -> None:
        """Compare the messages of an owner that came, what is left of each, and what is missing."""
        model, applied = self.owners[owner], self.cloud.applied.get(owner, {})
        segments = index.of_owner(owner)
        assert sorted(segment.number for segment in segments) == sorted(applied)
        for segment in segments:
            self._compare_segment(cloud, segment)
        found = completeness(cloud.store, index, owner)
        gaps, complete = self.cloud.gaps(owner), self.cloud.complete(owner)
        assert (found.up_to, list(found.gaps)) == (complete, gaps)
        self.reported[owner].append(self.complete_everywhere(owner))
        self.figures["most gaps of an owner"] = max(len(gaps), self.figures["most gaps of an owner"])
        self.compare_promises(cloud.directory, self.cloud, owner)
        assert not {stored.key for stored in self.cloud.images(owner).values()} & model.forgotten

    def complete_everywhere(self, owner: str) -> int:
        """Return up to which number all has come that an owner sent."""
        return self.cloud.complete(owner)

    def compare_promises(self, directory: RoleDirectory, model: CloudModel, owner: str) -> None:
        """Compare what a place refuses; nothing that decides is missing, and nothing deleted came back."""
        floor, removed = floor_of(directory, owner), model.removed.get(owner, 0)
        assert (floor.refused, floor.removed) == (model.refused.get(owner, 0), removed)
        # what completeness promises: nothing that decides an image by the owner's record is missing
        standing = self.owners[owner].standing(model.complete(owner)).values()
        deciding = {message.number for message in standing}
        assert {number for number in deciding if number > removed} <= {*model.applied.get(owner, {})}
        for path, number in model.rows.get(owner, {}).items():
            assert number > model.deleted.get((owner, path), 0), "a deleted picture came back"

    def _compare_segment(self, cloud: Cloud, segment: Segment) -> None:
        """Compare what a segment holds, name by name and byte by byte, when it was written anew."""
        version = segment.owner, segment.number, segment.revision, segment.root
        message = self.cloud.applied[segment.owner][segment.number]
        rows = self.cloud.rows[segment.owner]
        paths = {path for path in message.images if rows.get(path) == segment.number}
        deleted = len(message.images) if message.is_deletion else 0
        assert (segment.rows, segment.deleted) == (len(paths), deleted)
        if version in self._looked_at:
            return
        self._looked_at.add(version)
        role, deployment = Owner.open(self.root / segment.owner), cloud.directory.sender.deployment
        names = {role.name_on_the_wire(path): path for path in paths}
        with cloud.store.segment(segment) as upload:
            assert {*upload.names()} == {*names}
            for row, name in enumerate(upload.names()):
                stored = message.images[names[name]]
                assert stored is not None
                cipher = UploadCipher(self.keys[stored.key], deployment, segment.owner, segment.number)
                envelope = Envelope.unpack(cipher.decrypt(upload.encrypted_image(row), name))
                assert (envelope.path, envelope.content) == (names[name], stored.content)

    def _compare_kmc(self) -> None:
        kmc = Kmc.open(self.root / "kmc")
        held = {name: owner for name in kmc.owner_names() if (owner := kmc.owner(name)) is not None}
        keys = {name: {f"{key:016x}" for key in owner.image_keys} for name, owner in held.items()}
        assert keys == {name: set(found) for name, found in self.kmc.keys.items()}
        forgotten = {name: {f"{key:016x}" for key in owner.forgotten} for name, owner in held.items()}
        assert forgotten == {name: set(self.kmc.forgotten[name]) for name in self.kmc.enrolled}
        users = {name: {user for user, _ in owner.membership.users} for name, owner in held.items()}
        assert users == {name: set(each.users) for name, each in self.kmc.enrolled.items()}

    def compare_with_record(self, owner: str, cloud: CloudModel) -> None:
        """Demand that a place has what the owner's record says, but for what cannot be made again."""
        model = self.owners[owner]
        applied, removed = cloud.applied.get(owner, {}), cloud.removed.get(owner, 0)  # all may be lost
        due: dict[str, Stored] = {}
        for path, message in model.standing().items():
            stored = message.images[path]
            if message.number in applied and stored is not None:
                due[path] = stored
            elif message.number not in applied and message.number > removed:
                newest = message.number > max(applied, default=0)
                assert (
                    newest or stored is None or path not in model.files or message.number in cloud.gaps(owner)
                )
        assert cloud.images(owner) == due


@lru_cache(maxsize=4096)
def sums_of(content: bytes) -> tuple[int, int]:
    """Return Σx and Σx² of a picture's plain codes."""
    codes = edge_histogram(open_picture(content, path=None).eight_bits()).astype(int)
    return int(codes.sum()), int((codes**2).sum())


def number_of(path: Path) -> int:
    """Return the sequence number of a container."""
    source = FileSource(path)
    try:
        return read_header(source).sequence_number
    finally:
        source.close()
