"""What one run of `mipp kmc index` does to the store of one owner."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mipp_cli.containers.base.container import open_container
from mipp_cli.containers.base.header import Header
from mipp_cli.containers.messages.delete import DELETE, deleted_names
from mipp_cli.containers.messages.earlier import read_earlier
from mipp_cli.containers.messages.features import FEATURES, FeatureCipher, FeaturesReader, open_features
from mipp_cli.errors import AlreadyAppliedError, MalformedError, MippError, MissingKeyError, errors_at
from mipp_cli.kmc.kmc import EnrolledOwner, Kmc
from mipp_cli.kmc.store.changes import StoreChange
from mipp_cli.kmc.store.index import DELETE as DELETION
from mipp_cli.kmc.store.index import UPLOAD, StoredMessage
from mipp_cli.kmc.store.names import NameSet
from mipp_cli.kmc.store.store import DIGEST_BYTES, Digests, FeatureStore
from mipp_cli.kmc.store_check import check_block
from mipp_cli.progress import Progress
from mipp_cli.workdir.floors import check_floor, floor_in_force
from mipp_cli.workdir.replay import check_clock, check_message, check_pinned_key

_ALIKE = 8  # digests of one message that may begin with the same 64 bits


@dataclass(frozen=True)
class Done:
    """What a message did: images that came, images that left, and what it says too late of others."""

    upload: bool = False
    deletion: bool = False
    repaired: bool = False
    images: int = 0
    removed: int = 0
    late: int = 0


@dataclass(frozen=True)
class Task:
    """A file to apply, or to repair from; ``damaged`` are the blocks of an upload that it is to fill."""

    file: Path
    header: Header
    repairs: StoredMessage | None = None
    damaged: frozenset[int] = frozenset()


class OwnersMessages:
    """The files of one owner in one run: checked, put in order, and applied without making that count."""

    def __init__(self, kmc: Kmc, owner: EnrolledOwner, progress: Progress):
        self.store = FeatureStore.of(kmc, owner)
        self._before = self.store.index()
        self.change = StoreChange(self.store, self._before, progress)
        self.tasks: list[Task] = []
        self.done: list[Done] = []
        self.warnings: list[str] = []
        self._kmc, self._owner = kmc, owner
        self._floor = floor_in_force(kmc.directory, owner.name, owner.key)
        self._known = self._before.digests()
        self._last = max(owner.number, self._before.newest)

    def add(self, file: Path, header: Header) -> None:
        """Check a file's header, and take down what there is to do; AlreadyAppliedError if nothing."""
        check_pinned_key(header, self._owner.key)
        try:
            check_message(header, self._known)
        except AlreadyAppliedError:
            task = self._repair(file, header)
            if task is None:
                raise
            self.tasks.append(task)
            return
        check_floor(self._floor, header)
        check_clock(header, self._last)
        self._known[header.sequence_number] = header.digest
        self._last = max(self._last, header.sequence_number)
        self.tasks.append(Task(file, header))

    def _repair(self, file: Path, header: Header) -> Task | None:
        """Return what a file that was applied before has to repair, if anything."""
        message = self._before.message(header.sequence_number)
        if message is None or any(task.header.sequence_number == message.number for task in self.tasks):
            return None
        damaged = frozenset(n for n in range(len(message.blocks)) if not self._is_sound(message, n))
        if not damaged and not (message.deleted and self._fails(lambda: self.store.deleted(message))):
            return None
        return Task(file, header, message, damaged)

    def _is_sound(self, message: StoredMessage, block_number: int) -> bool:
        return not self._fails(lambda: check_block(self.store, message, block_number))

    @staticmethod
    def _fails(read: Callable[[], object]) -> bool:
        try:
            read()
        except MippError:
            return True
        return False

    def apply(self) -> None:
        """Do all that there is to do, without making it count.

        Repairs come first, since what is new has to read what is there. Both go from the newest message to
        the oldest: what a newer one decides is then known, and never stored.
        """
        if not self.tasks:
            return
        self._prepare()
        order = sorted(self.tasks, key=lambda each: (each.repairs is None, -each.header.sequence_number))
        for task in order:
            with errors_at(task.file):
                is_upload = task.header.kind == FEATURES.kind
                self.done.append(self._upload(task) if is_upload else self._delete(task))
        self.change.finish()

    def _prepare(self) -> None:
        """Make the folder, with an index, before the first block: blocks without one would mean damage."""
        self.store.remove_unlisted(self._before)
        self._kmc.directory.folder(self.store.folder.parent.name)
        self._kmc.directory.folder(f"{self.store.folder.parent.name}/{self.store.folder.name}")
        if not self.store.index_file.exists():
            self.store.write_index(self._before)

    def _upload(self, task: Task) -> Done:
        with self._opened(task) as reader:
            cipher, names = self._cipher(reader), NameSet(reader.name_digests)
            if names.most_alike > _ALIKE:
                # whoever chooses digests, and not names, would make every later look-up a long one
                raise MalformedError("names images by digests that names do not have")
            if names.has_twins():
                raise MalformedError("names two images alike")
            earlier = reader.earlier()
            if task.repairs is not None:
                self.change.repair_upload(task.repairs, task.damaged, reader, cipher)
                return Done(repaired=True)
            late, removed = self.change.decide(reader.number, names)
            message = StoredMessage(reader.number, UPLOAD, task.header.digest, reader.key_id)
            self.change.add_upload(message, reader, cipher, earlier, late)
            images = len(reader) - int(np.count_nonzero(late))
            if cipher is None and images:
                self.warnings.append(
                    f"{task.file} is under the key {reader.key_id:016x}, which {self._owner.name} forgot: "
                    f"its {images} images were taken without codes, and are in no ranking"
                )
        return Done(upload=True, images=images, removed=removed, late=len(late) - images)

    @contextmanager
    def _opened(self, task: Task) -> Iterator[FeaturesReader]:
        directory = self._kmc.directory
        parameters, deployment = directory.deployment.parameters, directory.deployment.fingerprint
        reader = open_features(task.file, parameters, deployment, _same_as(task.header))
        with reader.container:
            yield reader

    def _cipher(self, reader: FeaturesReader) -> FeatureCipher | None:
        """Return what opens the codes; None if their key was forgotten. Raises MissingKeyError."""
        owner, key = self._owner, reader.key_id
        if key in owner.forgotten:
            return None
        if key not in owner.image_keys:
            raise MissingKeyError(
                f"holds features under the key {key:016x} of {owner.name!r}, which was never enrolled",
                hint="bring the owner's newer enrolment.h5 first: mipp kmc enroll KMC enrolment.h5",
            )
        deployment = self._kmc.directory.deployment.fingerprint
        return FeatureCipher(owner.image_keys[key], deployment, owner.name, reader.number)

    def _delete(self, task: Task) -> Done:
        deployment = self._kmc.directory.deployment.fingerprint
        with open_container(task.file, DELETE, deployment=deployment, check=_same_as(task.header)) as opened:
            names, earlier = _digests(deleted_names(opened)), read_earlier(opened)
        if task.repairs is not None:
            self.store.write_deleted(task.repairs, names)
            return Done(repaired=True)
        number = task.header.sequence_number
        late, removed = self.change.decide(number, NameSet(names))
        message = StoredMessage(number, DELETION, task.header.digest, deleted=len(names))
        self.change.add_deletion(message, names, earlier)
        return Done(deletion=True, removed=removed, late=int(np.count_nonzero(late)))

    def remove_unlisted(self) -> list[str]:
        """Remove what the index does not list any more; return a warning if that fails."""
        try:
            # by what the index says now, not by how far we came: an interrupt may fall after it was replaced
            self.store.remove_unlisted(self.store.index())
        except MippError as error:
            stays = "is not in the index any more, but stays until the next change"
            return [f"{error.path} {stays}: {error.message}"]
        return []


def _same_as(known: Header) -> Callable[[Header], None]:
    def check(header: Header) -> None:
        if header != known:
            raise MalformedError("changed while it was read", hint="try again when nobody writes it")

    return check


def _digests(names: Sequence[bytes]) -> Digests:
    joined = b"".join(sorted(hashlib.sha256(name).digest() for name in names))
    return np.frombuffer(joined, dtype=np.uint8).reshape(-1, DIGEST_BYTES)
