"""The KMC's feature store: per owner, KMC/features/OID/, sealed under the owner's storage key.

`index` (kmc_store_index.py) lists the messages applied. `NUMBER-BLOCK.GENERATION` is a run of rows of one
upload: the codes, row-major, one byte a code, and behind them a table of names, images and groups in pages
of 1,024 rows, each sealed by itself: ranking reads codes alone, and then the pages that matches lie in.
`NUMBER.deleted` are the digests of the names that a deletion deletes, ascending; they stay, so that an older
upload that comes later brings nothing back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mipp_cli.containers.base.header import LARGEST_NUMBER
from mipp_cli.errors import MalformedError, MippError
from mipp_cli.files.atomic import remove, sweep, sync, write_bytes
from mipp_cli.files.json_state import damaged_unless_sound
from mipp_cli.kmc.kmc import EnrolledOwner, Kmc
from mipp_cli.kmc.store.blocks import Octets, StoreCipher, map_part, read_part, write_unlisted
from mipp_cli.kmc.store.index import StoredBlock, StoredMessage, StoreIndex
from mipp_cli.kmc.store.names import NameSet
from mipp_cli.scheme.aead import OVERHEAD_BYTES

INDEX_FILE = "index"
STORED_FILE = re.compile(r"[0-9]{1,20}(-[0-9]+\.[0-9]+|\.deleted)")
DIGEST_BYTES = 32
TABLE = np.dtype(
    [("name", "u1", (DIGEST_BYTES,)), ("image", "u1", (DIGEST_BYTES,)), ("group", "<u4"), ("length", "<u8")]
)
PAGE_ROWS = 1024  # of a table that are sealed together
_PAGE_BYTES = PAGE_ROWS * TABLE.itemsize
_MOST_INDEX_BYTES = 1 << 31

Codes = NDArray[np.uint8]
Digests = NDArray[np.uint8]
Table = NDArray[np.void]


@dataclass(frozen=True, repr=False)
class FeatureStore:
    """The store of one owner; errors name the file, and what to bring to make it whole."""

    folder: Path
    cipher: StoreCipher
    l: int
    levels: int

    @classmethod
    def of(cls, kmc: Kmc, owner: EnrolledOwner) -> FeatureStore:
        """Return the store of an enrolled owner."""
        deployment = kmc.directory.deployment
        cipher = StoreCipher(owner.storage_key, deployment.fingerprint, owner.name)
        parameters = deployment.parameters
        return cls(kmc.features_folder(owner.name), cipher, parameters.l, parameters.levels)

    @property
    def owner(self) -> str:
        """Whose store it is."""
        return self.cipher.owner

    @property
    def index_file(self) -> Path:
        """Where the index lies."""
        return self.folder / INDEX_FILE

    def index(self) -> StoreIndex:
        """Return what was applied; raises MalformedError if the index is damaged, or missing beside them."""
        if not self.index_file.exists():
            if not any(self._files()):
                return StoreIndex()
            error = MalformedError("is missing")
        else:
            try:
                return self._read_index()
            except MalformedError as damaged:
                error = damaged
        error.path = str(self.index_file)
        error.hint = (
            f"restore {self.folder} from a backup; without one, move it away and bring all features files "
            f"and deletions of {self.owner} again (mipp owner features hands the former out)"
        )
        raise error

    def _read_index(self) -> StoreIndex:
        try:
            size = self.index_file.stat().st_size
        except OSError:
            size = 0
        if size > _MOST_INDEX_BYTES:
            raise MalformedError("is damaged")
        sealed = read_part(self.index_file, 0, size, size)
        opened = self.cipher.open(sealed, self.cipher.bound("index"))
        with damaged_unless_sound(self.index_file):
            return StoreIndex.from_bytes(bytes(opened))

    def write_index(self, index: StoreIndex) -> None:
        """Put an index in force, once what it lists is on the disk; raises OutputError."""
        sync(self.folder)
        sealed = self.cipher.seal([(index.to_bytes(), self.cipher.bound("index"))])
        write_bytes(self.index_file, bytes(sealed), force=True, private=True)

    def buffer(self, index: StoreIndex) -> bytearray:
        """Return a buffer that the codes of every block fit into."""
        rows = (block.rows for message in index.messages if message.coded for block in message.blocks)
        return bytearray(max(rows, default=0) * self.l)

    def codes(self, message: StoredMessage, block_number: int, buffer: bytearray | None = None) -> Codes:
        """Return the codes of a block, shape (rows, l), in ``buffer`` if they fit: valid until it is reused.

        Raises MalformedError or TamperedError if the block is damaged or missing; also if a newer index took
        its place meanwhile.
        """
        block, size = self._sizes(message, block_number)
        if not message.coded:
            raise ValueError("this upload was applied without codes")
        if not block.rows:
            return np.empty((0, self.l), dtype=np.uint8)
        room = memoryview(buffer)[:size] if buffer is not None and len(buffer) >= size else None
        with self._of_block(message, block_number) as (path, whole):
            sealed = map_part(path, size + OVERHEAD_BYTES, whole)
            opened = self.cipher.open(sealed, self._bound(message, block_number, "codes"), room)
        return np.frombuffer(opened, dtype=np.uint8).reshape(block.rows, self.l)

    def table(self, message: StoredMessage, block_number: int) -> Table:
        """Return name, image, group and length of every row of a block; raises what :meth:`codes` does."""
        return self.pages(message, block_number, 0, pages_of(message.blocks[block_number].rows))

    def pages(self, message: StoredMessage, block_number: int, begin: int, end: int) -> Table:
        """Return the rows of the table of a block that pages ``begin`` to ``end`` hold, as :meth:`table`."""
        block, codes = self._sizes(message, block_number)
        rows = max(0, min(end * PAGE_ROWS, block.rows) - begin * PAGE_ROWS)
        opened = memoryview(bytearray(rows * TABLE.itemsize))
        if not rows:
            return np.empty(0, dtype=TABLE)
        offset = codes + OVERHEAD_BYTES if message.coded else 0
        with self._of_block(message, block_number) as (path, whole):
            size = len(opened) + (end - begin) * OVERHEAD_BYTES
            sealed = read_part(path, offset + begin * (_PAGE_BYTES + OVERHEAD_BYTES), size, whole)
            for place, page in enumerate(range(begin, end)):
                first = place * (_PAGE_BYTES + OVERHEAD_BYTES)
                self.cipher.open(
                    sealed[first : first + _PAGE_BYTES + OVERHEAD_BYTES],
                    self._bound(message, block_number, f"table {page}"),
                    opened[place * _PAGE_BYTES : (place + 1) * _PAGE_BYTES],
                )
        return np.frombuffer(opened, dtype=TABLE)

    def tables(self, index: StoreIndex) -> Iterator[tuple[StoredMessage, int, Table]]:
        """Yield message, number of block, and table of every block with rows, one after the other."""
        for message in index.uploads:
            for block_number, block in enumerate(message.blocks):
                if block.rows:
                    yield message, block_number, self.table(message, block_number)

    def _sizes(self, message: StoredMessage, block_number: int) -> tuple[StoredBlock, int]:
        block = message.blocks[block_number]
        return block, block.rows * self.l

    @contextmanager
    def _of_block(self, message: StoredMessage, block_number: int) -> Iterator[tuple[Path, int]]:
        """Give the path of a block and the size that it must have; errors name the file and what to bring."""
        path = self.block_path(message, block_number)
        try:
            yield path, self._block_size(message, block_number)
        except MippError as error:
            error.path = str(path)
            error.hint = (
                f"bring the owner's features file of the upload {message.number} again: mipp kmc index KMC "
                "upload.features.h5 (mipp owner features hands it out)"
            )
            raise

    def _block_size(self, message: StoredMessage, block_number: int) -> int:
        block, codes = self._sizes(message, block_number)
        table = block.rows * TABLE.itemsize + pages_of(block.rows) * OVERHEAD_BYTES
        return table + message.coded * (codes + OVERHEAD_BYTES)

    def _bound(self, message: StoredMessage, block_number: int, part: str) -> bytes:
        block = message.blocks[block_number]
        place = (message.number, block_number, block.generation, block.rows)
        return self.cipher.bound("block", *place, part)

    def write_block(
        self, message: StoredMessage, block_number: int, codes: Codes | None, table: Table
    ) -> None:
        """Write a block as ``message`` lists it, without making it count; raises OutputError."""
        parts: list[tuple[Octets, bytes]] = []
        if codes is not None:
            parts.append((_octets(codes), self._bound(message, block_number, "codes")))
        for page in range(pages_of(len(table))):
            rows = table[page * PAGE_ROWS : (page + 1) * PAGE_ROWS]
            parts.append((_octets(rows), self._bound(message, block_number, f"table {page}")))
        write_unlisted(self.block_path(message, block_number), self.cipher.seal(parts))

    def block_path(self, message: StoredMessage, block_number: int) -> Path:
        """Return where a block lies."""
        return self.folder / f"{message.number}-{block_number}.{message.blocks[block_number].generation}"

    def deleted_path(self, message: StoredMessage) -> Path:
        """Return where the digests of the names lie that a deletion deletes."""
        return self.folder / f"{message.number}.deleted"

    def deleted(self, message: StoredMessage) -> Digests:
        """Return the digests of the names that a deletion deletes, ascending, shape (n, 32).

        Raises MalformedError or TamperedError if they are damaged or missing.
        """
        path, size = self.deleted_path(message), message.deleted * DIGEST_BYTES + OVERHEAD_BYTES
        try:
            sealed = read_part(path, 0, size, size)
            opened = self.cipher.open(sealed, self._bound_deleted(message))
        except MippError as error:
            error.path = str(path)
            error.hint = (
                f"bring the file of the deletion {message.number} again: mipp kmc index KMC delete.h5; "
                "without it, restore this file from a backup"
            )
            raise
        return np.frombuffer(opened, dtype=np.uint8).reshape(-1, DIGEST_BYTES)

    def write_deleted(self, message: StoredMessage, names: Digests) -> None:
        """Write the digests of the names that a deletion deletes, ascending; raises OutputError."""
        sealed = self.cipher.seal([(_octets(names), self._bound_deleted(message))])
        write_bytes(self.deleted_path(message), bytes(sealed), force=True, private=True)

    def _bound_deleted(self, message: StoredMessage) -> bytes:
        return self.cipher.bound("deleted", message.number, message.deleted)

    def group(self, index: StoreIndex, upload: int, group: int) -> Table:
        """Return the live rows of one group of an upload; none if there is no such group."""
        message = index.message(upload)
        block_number = None if message is None else message.block_of(group)
        if message is None or block_number is None:
            return np.empty(0, dtype=TABLE)
        pages = pages_of(message.blocks[block_number].rows)
        begin, end = 0, pages
        while end - begin > 1:  # the group, if it is there, begins in one of pages begin to end
            middle = (begin + end) // 2
            if self.pages(message, block_number, middle, middle + 1)["group"][0] >= group:
                end = middle
            else:
                begin = middle
        end = begin + 1
        table = self.pages(message, block_number, begin, end)
        while end < pages and table["group"][-1] <= group:
            end += 1
            table = self.pages(message, block_number, begin, end)
        first, last = np.searchsorted(table["group"], (group, group + 1))
        return table[first:last]

    def live(self, index: StoreIndex, names: Digests) -> NDArray[np.bool_]:
        """Say which of ``names``, digests of shape (n, 32), are live."""
        once, place_of = np.unique(names, axis=0, return_inverse=True)
        sought, found = NameSet(once), np.zeros(len(once), dtype=bool)
        for _, _, table in self.tables(index):
            _, places = sought.find(table["name"])
            found[places] = True
        return found[place_of.reshape(-1)]

    def files(self, index: StoreIndex) -> set[Path]:
        """Return the files that the index lists, and its own."""
        listed = {self.index_file}
        for message in index.messages:
            listed |= {self.block_path(message, n) for n, block in enumerate(message.blocks) if block.rows}
            if message.deleted:
                listed.add(self.deleted_path(message))
        return listed

    def _files(self) -> Iterator[Path]:
        if self.folder.is_dir():
            yield from (each for each in self.folder.iterdir() if STORED_FILE.fullmatch(each.name))

    def unlisted(self, index: StoreIndex) -> list[Path]:
        """Return the files of the store that the index does not list."""
        listed = self.files(index)
        return [path for path in self._files() if path not in listed]

    def remove_unlisted(self, index: StoreIndex) -> None:
        """Remove what the index does not list: what was replaced, deleted or left by an interruption.

        Raises OutputError if something cannot be removed; it does no harm where it is.
        """
        sweep(self.folder)
        for path in self.unlisted(index):
            remove(path)
        if not index.messages and self.folder.is_dir():
            remove(self.index_file)
            for folder in (self.folder, self.folder.parent):
                with suppress(OSError):  # it is not empty
                    folder.rmdir()


def pages_of(rows: int) -> int:
    """Return how many pages the table of so many rows has."""
    return -(-rows // PAGE_ROWS)


def _octets(array: Codes | Table) -> memoryview:
    return np.ascontiguousarray(array).view(np.uint8).reshape(-1).data


def renewed(message: StoredMessage, block_number: int, rows: int, generation: int) -> StoredMessage:
    """Return ``message`` with another number of rows in one block, as the index ``generation`` writes it."""
    blocks = list(message.blocks)
    blocks[block_number] = replace(blocks[block_number], rows=rows, generation=generation)
    return replace(message, blocks=tuple(blocks))


def is_stored(path: Path) -> bool:
    """Say whether a file in an owner's folder has a name as the files of the store have."""
    return path.name == INDEX_FILE or STORED_FILE.fullmatch(path.name) is not None


def numbers_in(folder: Path) -> Iterator[int]:
    """Yield the numbers of messages that the names of an owner's files tell, whatever the index says."""
    if folder.is_dir():
        for path in folder.iterdir():
            if STORED_FILE.fullmatch(path.name):
                yield min(int(re.split(r"[-.]", path.name)[0]), LARGEST_NUMBER)
