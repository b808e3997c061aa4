"""Applies the messages of one owner in a run of `mipp kmc index` to the owner's feature store.

For each image name, the message with the highest number that mentions it decides: the row is live in that
upload, or deleted.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mipp_cli.containers.base.container import open_container
from mipp_cli.containers.base.header import Header
from mipp_cli.containers.messages.delete import DELETE, deleted_names
from mipp_cli.containers.messages.earlier import read_earlier
from mipp_cli.containers.messages.features import FEATURES, FeatureCipher, FeaturesReader, open_features
from mipp_cli.errors import AlreadyAppliedError, MalformedError, MippError, MissingKeyError, errors_at
from mipp_cli.files.folders import is_there
from mipp_cli.kmc.kmc import EnrolledOwner, Kmc, same_as
from mipp_cli.kmc.store import DIGEST_BYTES, TABLE, Codes, Digests, FeatureStore, Table
from mipp_cli.kmc.store_index import StoredBlock, StoredMessage
from mipp_cli.log import timed
from mipp_cli.progress import Progress
from mipp_cli.workdir.floors import check_floor, floor_in_force
from mipp_cli.workdir.replay import check_clock, check_message, check_pinned_key

_BLOCK_BYTES = 4 << 20
_BLOCK_ROWS = 1 << 16  # limit for short features, whose tables would be large

Mask = NDArray[np.bool_]
Places = NDArray[np.int64]


class NameSet:
    """SHA-256 digests of names, shape (n, 32), for fast lookup of many at once."""

    def __init__(self, digests: Digests):
        names = self._as_words(digests)
        self._order = np.argsort(names)
        self._sorted = names[self._order]

    @staticmethod
    def _as_words(digests: Digests) -> NDArray[np.bytes_]:
        return np.ascontiguousarray(digests).view(f"S{DIGEST_BYTES}").reshape(-1)

    def __len__(self) -> int:
        return len(self._sorted)

    def find(self, digests: Digests) -> tuple[Places, Places]:
        """Return the positions of those ``digests``, shape (m, 32), that are in the set, and their places in
        it.
        """
        sought = self._as_words(digests)
        places = np.searchsorted(self._sorted, sought).clip(max=len(self) - 1)
        which = np.flatnonzero(self._sorted[places] == sought)
        return which, self._order[places[which]]

    def has_twins(self) -> bool:
        """Return whether a digest occurs twice."""
        return bool((self._sorted[1:] == self._sorted[:-1]).any())


class _Task(NamedTuple):
    """A file to apply; if it was applied before, it repairs what the store lost of it."""

    file: Path
    header: Header
    mends: bool


class OwnersMessages:
    """The files of one owner in one run: verified, sorted and applied to ``index``, the store's next index.

    Files written for ``index`` have no effect until it is written. ``counts`` has the images added, removed,
    and superseded by a newer message.
    """

    def __init__(self, kmc: Kmc, owner: EnrolledOwner, progress: Progress):
        self.store = FeatureStore.of(kmc, owner)
        self._before = self.store.index()
        self.index = replace(self._before, number=self._before.number + 1)
        self.tasks: list[_Task] = []
        self.counts: Counter[str] = Counter()
        self.warnings: list[str] = []
        self._kmc, self._owner, self._progress = kmc, owner, progress
        self._floor = floor_in_force(kmc.directory, owner.name, owner.key)
        self._known = {message.number: message.digest for message in self._before.messages}
        self._last = max(owner.number, self._before.newest)
        self._stay: dict[StoredBlock, Mask] = {}  # the rows that stay, for blocks that lose rows

    def add(self, file: Path, header: Header) -> None:
        """Verify a file's header and add it as a task; AlreadyAppliedError if it has no effect."""
        check_pinned_key(header, self._owner.key)
        try:
            check_message(header, self._known)
        except AlreadyAppliedError:
            message = self._before.message(header.sequence_number)
            in_this_run = {task.header.sequence_number for task in self.tasks}
            if message is None or message.number in in_this_run or self._is_sound(message):
                raise
            self.tasks.append(_Task(file, header, mends=True))
            return
        check_floor(self._floor, header)
        check_clock(header, self._last)
        self._known[header.sequence_number] = header.digest
        self._last = max(self._last, header.sequence_number)
        self.tasks.append(_Task(file, header, mends=False))

    def _is_sound(self, message: StoredMessage) -> bool:
        try:
            for block in message.blocks:
                self.store.check(block)
            if message.deleted:
                self.store.deleted(message)
        except MippError:
            return False
        return True

    @timed("applying an owner's messages")
    def apply(self) -> None:
        """Apply all tasks to the next index.

        Repairs come first, since new messages read stored ones. Within both, the newest message comes first:
        rows that a newer message decides are then known, and never stored.
        """
        if not self.tasks:
            return
        self._prepare()
        for task in sorted(self.tasks, key=lambda each: (not each.mends, -each.header.sequence_number)):
            with errors_at(task.file):
                is_upload = task.header.kind == FEATURES.kind
                done = self._upload(task) if is_upload else self._delete(task)
            self.counts.update({"repaired": 1} if task.mends else done)
        self._rewrite()

    def _prepare(self) -> None:
        """Create the folder with an index before the first block: blocks without an index count as damage."""
        self.store.remove_unlisted(self._before)
        self._kmc.directory.folder(self.store.folder.parent.name)
        self._kmc.directory.folder(f"{self.store.folder.parent.name}/{self.store.folder.name}")
        if not is_there(self.store.index_file):
            self.store.write_index(self._before)

    def _upload(self, task: _Task) -> dict[str, int]:
        directory, number = self._kmc.directory, task.header.sequence_number
        parameters, deployment = directory.deployment.parameters, directory.deployment.fingerprint
        reader = open_features(task.file, parameters, deployment, same_as(task.header))
        with reader.container:
            cipher, names = self._cipher(reader), NameSet(reader.name_digests)
            if names.has_twins():
                raise MalformedError("contains two images with the same name")
            late, removed = self._decide(task, names)
            blocks = tuple(self._stored(reader, cipher, ~late))
            message = StoredMessage(number, task.header.digest, reader.key_id, blocks=blocks)
            self._list(task, message, reader.earlier())
        images = message.rows
        if cipher is None and images:
            self.warnings.append(
                f"{task.file} is encrypted under the key {reader.key_id:016x}, which {self._owner.name} "
                f"dropped: its {images} images are stored without features and cannot be ranked"
            )
        return {"uploads": 1, "images": images, "images replaced": removed, "superseded": len(late) - images}

    def _cipher(self, reader: FeaturesReader) -> FeatureCipher | None:
        """Return the cipher of the codes, or None if their key was forgotten. Raises MissingKeyError."""
        owner, key = self._owner, reader.key_id
        if key in owner.forgotten:
            return None
        if key not in owner.image_keys:
            raise MissingKeyError(
                f"has features under the key {key:016x} of {owner.name!r}, which was never enrolled",
                hint="enrol the owner's newer enrolment.h5 first: mipp kmc enroll KMC enrolment.h5",
            )
        deployment = self._kmc.directory.deployment.fingerprint
        return FeatureCipher(owner.image_keys[key], deployment, owner.name, reader.number)

    def _delete(self, task: _Task) -> dict[str, int]:
        deployment = self._kmc.directory.deployment.fingerprint
        with open_container(task.file, DELETE, deployment=deployment, check=same_as(task.header)) as opened:
            digests = b"".join(hashlib.sha256(name).digest() for name in deleted_names(opened))
            earlier = read_earlier(opened)
        names = np.frombuffer(digests, dtype=np.uint8).reshape(-1, DIGEST_BYTES)
        late, removed = self._decide(task, NameSet(names))
        message = StoredMessage(task.header.sequence_number, task.header.digest, deleted=len(names))
        self.store.write_deleted(message, names)
        self._list(task, message, earlier)
        return {"deletions": 1, "images deleted": removed, "superseded": int(np.count_nonzero(late))}

    def _decide(self, task: _Task, names: NameSet) -> tuple[Mask, int]:
        """Return which ``names`` of a message are decided by newer ones, and how many older rows it removes.

        If the message was applied before, its older rows are removed already and are not read again.
        """
        late, removed, number = np.zeros(len(names), dtype=bool), 0, task.header.sequence_number
        for message in self.index.messages:
            if message.number < number and not task.mends:
                for block in message.blocks:
                    which, _ = names.find(self.store.table(block)["name"])
                    if len(which):
                        stay = self._stay.setdefault(block, np.ones(block.rows, dtype=bool))
                        removed += int(np.count_nonzero(stay[which]))
                        stay[which] = False
            elif message.number > number:
                for block in message.blocks:
                    late[names.find(self.store.table(block)["name"])[1]] = True
                if message.deleted:
                    late[names.find(self.store.deleted(message))[1]] = True
        return late, removed

    def _stored(
        self, reader: FeaturesReader, cipher: FeatureCipher | None, stay: Mask
    ) -> Iterator[StoredBlock]:
        """Store the rows of an upload that ``stay``, and yield the blocks; all codes are verified."""
        bounds = _bounds(reader.group_ends, block_rows(self.store.l))
        with self._progress("storing features", len(reader), "image") as advance:
            for (begin, end), codes in zip(pairwise(bounds), _codes(reader, cipher, bounds), strict=True):
                if stay[begin:end].any():
                    table = _table(reader, begin, end)
                    yield self._write(reader.number, codes, table, stay[begin:end])
                advance(end - begin)

    def _write(self, upload: int, codes: Codes | None, table: Table, stay: Mask) -> StoredBlock:
        codes = None if codes is None else codes[stay]
        return self.store.write_block(upload, self.index.number, codes, table[stay])

    def _list(self, task: _Task, message: StoredMessage, earlier: Collection[int]) -> None:
        if task.mends:
            self.index = self.index.with_blocks(message.number, message.blocks)
        else:
            self.index = self.index.with_message(message, earlier)

    def _rewrite(self) -> None:
        """Rewrite the blocks that lost rows, once for all messages of the run."""
        for upload in {block.upload for block in self._stay}:
            blocks: list[StoredBlock] = []
            message = self.index.message(upload)
            for block in message.blocks if message else ():
                stay = self._stay.get(block)
                if stay is None:
                    blocks.append(block)
                elif stay.any():
                    codes = self.store.codes(block) if block.coded else None
                    blocks.append(self._write(upload, codes, self.store.table(block), stay))
            self.index = self.index.with_blocks(upload, blocks)

    def remove_unlisted(self) -> list[str]:
        """Remove files that the index no longer lists; return a warning if that fails."""
        try:
            # read the index again: an interrupt may have come after it was replaced
            self.store.remove_unlisted(self.store.index())
        except MippError as error:
            left = "files that the index no longer lists may be left; the next run tries again"
            return [f"{left}: {error.path}: {error.message}"]
        return []


def block_rows(l: int) -> int:
    """Return the target number of rows of a block; it may end later, at the end of a group."""
    return max(1, min(_BLOCK_BYTES // l, _BLOCK_ROWS))


def _bounds(group_ends: NDArray[np.int64], rows: int) -> list[int]:
    """Return the bounds of blocks of at least ``rows`` rows each; no group is split between two."""
    bounds = [0]
    while bounds[-1] < group_ends[-1]:
        place = min(int(np.searchsorted(group_ends, bounds[-1] + rows)), len(group_ends) - 1)
        bounds.append(int(group_ends[place]))
    return bounds


def _codes(reader: FeaturesReader, cipher: FeatureCipher | None, bounds: list[int]) -> Iterator[Codes | None]:
    """Yield the codes of each block of a features file, or None for each without a cipher."""
    chunks, upto = reader.chunks(cipher), 0
    held = np.empty((0, reader.parameters.l), dtype=np.uint8)
    for begin, end in pairwise(bounds):
        parts = [held]
        while cipher and upto < end:
            _, upto, codes = next(chunks)
            parts += [] if codes is None else [codes]
        joined = np.concatenate(parts)
        yield joined[: end - begin] if cipher else None
        held = joined[end - begin :]


def _table(reader: FeaturesReader, begin: int, end: int) -> Table:
    table = np.empty(end - begin, dtype=TABLE)
    table["name"] = reader.name_digests[begin:end]
    table["image"] = reader.image_digests(begin, end)
    groups = np.searchsorted(reader.group_ends, np.arange(begin, end), side="right")
    table["group"], table["length"] = groups, reader.group_lengths[groups]
    return table
