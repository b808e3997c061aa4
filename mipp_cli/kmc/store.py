"""The KMC's feature store: per owner, KMC/features/OID/, sealed under the owner's storage key.

`index` lists the valid files. `UPLOAD-GROUP.GENERATION` is a block of rows of one upload, from its first
group on: the codes, row-major, one byte per code, then a table of names, images and groups in pages of 1,024
rows. Codes and pages are sealed separately: ranking reads all codes, but only the pages with matches.
`NUMBER.deleted` has the digests of the names that a deletion deletes; it is kept, so that an older upload
that arrives later does not restore them. Files are never modified in place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mipp_cli.containers.base.header import LARGEST_NUMBER
from mipp_cli.containers.base.source import FileSource
from mipp_cli.errors import InvalidRequestError, MalformedError, MippError
from mipp_cli.files.atomic import remove, remove_all, sweep, write_bytes
from mipp_cli.files.folders import is_there, paths_in
from mipp_cli.kmc.kmc import EnrolledOwner, Kmc
from mipp_cli.kmc.store_index import StoredBlock, StoredMessage, StoreIndex
from mipp_cli.scheme.aead import OVERHEAD_BYTES, seal, unseal, unseal_into
from mipp_cli.scheme.encoding import length_prefixed

INDEX_FILE = "index"
STORED_FILE = re.compile(r"([0-9]{1,20})(-[0-9]+\.[0-9]+|\.deleted)")
DIGEST_BYTES = 32
TABLE = np.dtype(
    [("name", "u1", (DIGEST_BYTES,)), ("image", "u1", (DIGEST_BYTES,)), ("group", "<u4"), ("length", "<u8")]
)
PAGE_ROWS = 1024  # rows of a table sealed together
_PAGE_BYTES = PAGE_ROWS * TABLE.itemsize

Codes = NDArray[np.uint8]
Digests = NDArray[np.uint8]
Table = NDArray[np.void]


@dataclass(frozen=True, repr=False)
class FeatureStore:
    """The store of one owner; errors name the file, and how to repair it."""

    folder: Path
    key: bytes
    deployment: str
    owner: str
    l: int
    group_rows: int  # the most rows of a group

    @classmethod
    def of(cls, kmc: Kmc, owner: EnrolledOwner) -> FeatureStore:
        """Return the store of an enrolled owner."""
        deployment, folder = kmc.directory.deployment, kmc.features_folder(owner.name)
        parameters = deployment.parameters
        rows = 2 * parameters.protocol.group_size - 1
        return cls(folder, owner.storage_key, deployment.fingerprint, owner.name, parameters.l, rows)

    def _bound(self, *place: str | int) -> bytes:
        """Return the associated data of a part: its purpose and its place."""
        return length_prefixed("mipp/1 features at the KMC", self.deployment, self.owner, *place)

    @property
    def index_file(self) -> Path:
        """The path of the index."""
        return self.folder / INDEX_FILE

    def index(self) -> StoreIndex:
        """Return the index; raises MalformedError if it is damaged, or missing while other files exist."""
        if not is_there(self.index_file) and not any(self._files()):
            return StoreIndex()
        hint = (
            f"restore {self.folder} from a backup; without one, move it away and apply all features files "
            f"and deletions of {self.owner} again (mipp owner features writes the features files)"
        )
        with _read(self.index_file, hint) as file:
            sealed = file.read_at(0, file.size)
            return StoreIndex.from_bytes(unseal(self.key, sealed, self._bound("index")))

    def write_index(self, index: StoreIndex) -> None:
        """Write the index, which commits the change; raises OutputError."""
        self._write(self.index_file, seal(self.key, index.to_bytes(), self._bound("index")))

    @staticmethod
    def _write(path: Path, data: bytes) -> None:
        write_bytes(path, data, force=True, private=True)

    def path(self, block: StoredBlock) -> Path:
        """Return the path of a block."""
        return self.folder / f"{block.upload}-{block.first_group}.{block.generation}"

    def _block(self, block: StoredBlock) -> AbstractContextManager[FileSource]:
        """Open the file of a block: its codes, if any, and the pages of its table."""
        size = block.rows * TABLE.itemsize + _pages(block) * OVERHEAD_BYTES
        hint = (
            f"apply the owner's features file of the upload {block.upload} again: mipp kmc index KMC "
            "upload.features.h5 (mipp owner features writes it)"
        )
        return _read(self.path(block), hint, size + self._codes_size(block))

    def _codes_size(self, block: StoredBlock) -> int:
        return block.coded * (block.rows * self.l + OVERHEAD_BYTES)

    def codes(self, block: StoredBlock) -> Codes:
        """Return the codes of a block, shape (rows, l).

        Raises MalformedError or TamperedError if the block is damaged or missing, also because a newer index
        has replaced it.
        """
        codes = np.empty((block.rows, self.l), dtype=np.uint8)
        with self._block(block) as content:
            sealed = memoryview(content.read_at(0, self._codes_size(block)))
            unseal_into(self.key, sealed, self._bound(*block, "codes"), codes.reshape(-1).data)
        return codes

    def table(self, block: StoredBlock, pages: range | None = None) -> Table:
        """Return name, image, group and length of every row of a block, or of the rows in ``pages``.

        Raises what :meth:`codes` does.
        """
        size, opened = _PAGE_BYTES + OVERHEAD_BYTES, []
        with self._block(block) as content:
            for page in pages or range(_pages(block)):
                begin = self._codes_size(block) + page * size
                opened.append(unseal(self.key, content.read_at(begin, size), self._bound(*block, page)))
        return np.frombuffer(b"".join(opened), dtype=TABLE)

    def check(self, block: StoredBlock) -> None:
        """Read and verify all of a block; raises what :meth:`codes` does."""
        if block.coded:
            self.codes(block)
        self.table(block)

    @cached_property
    def _cached_table(self) -> Callable[[StoredBlock, range | None], Table]:
        return lru_cache(maxsize=1)(self.table)

    def group(self, index: StoreIndex, upload: int, group: int) -> Table:
        """Return the live rows of one group of an upload; none if there is no such group."""
        message = index.message(upload)
        block = message.block_of(group) if message else None
        if block is None:
            return np.empty(0, dtype=TABLE)
        table = self._cached_table(block, None)
        first, last = np.searchsorted(table["group"], (group, group + 1))
        return table[first:last]

    def group_of_row(self, block: StoredBlock, row: int) -> tuple[Table, int]:
        """Return the live rows of a row's group, and its place there; raises what :meth:`codes` does."""
        first, last = max(0, row - self.group_rows), min(row + self.group_rows, block.rows - 1)
        pages = range(first // PAGE_ROWS, last // PAGE_ROWS + 1)
        table, row = self._cached_table(block, pages), row - pages.start * PAGE_ROWS
        group = table["group"][row]
        first, last = np.searchsorted(table["group"], (group, group + 1))
        return table[first:last], row - int(first)

    def write_block(self, upload: int, generation: int, codes: Codes | None, table: Table) -> StoredBlock:
        """Write a block, which has no effect until the index lists it; raises OutputError."""
        block = StoredBlock(upload, int(table["group"][0]), generation, len(table), codes is not None)
        parts = [] if codes is None else [seal(self.key, codes.tobytes(), self._bound(*block, "codes"))]
        for page in range(_pages(block)):
            rows = table[page * PAGE_ROWS : (page + 1) * PAGE_ROWS]
            parts.append(seal(self.key, rows.tobytes(), self._bound(*block, page)))
        self._write(self.path(block), b"".join(parts))
        return block

    def deleted_path(self, message: StoredMessage) -> Path:
        """Return the path of the digests of the names that a deletion deletes."""
        return self.folder / f"{message.number}.deleted"

    def deleted(self, message: StoredMessage) -> Digests:
        """Return the digests of the names that a deletion deletes, shape (n, 32).

        Raises MalformedError or TamperedError if they are damaged or missing.
        """
        hint = (
            f"apply the deletion {message.number} again: mipp kmc index KMC delete.h5; without it, restore "
            "this file from a backup"
        )
        with _read(self.deleted_path(message), hint) as file:
            place = self._bound("deleted", message.number, message.deleted)
            opened = unseal(self.key, file.read_at(0, file.size), place)
        return np.frombuffer(opened, dtype=np.uint8).reshape(-1, DIGEST_BYTES)

    def write_deleted(self, message: StoredMessage, names: Digests) -> None:
        """Write the digests of the names that a deletion deletes; raises OutputError."""
        place = self._bound("deleted", message.number, message.deleted)
        self._write(self.deleted_path(message), seal(self.key, names.tobytes(), place))

    def files(self, index: StoreIndex) -> set[Path]:
        """Return the files that the index lists, and the index itself."""
        blocks = {self.path(block) for block in index.blocks}
        deleted = {self.deleted_path(message) for message in index.messages if message.deleted}
        return {self.index_file} | blocks | deleted

    def _files(self) -> Iterator[Path]:
        return (each for each in paths_in(self.folder) if STORED_FILE.fullmatch(each.name))

    def unlisted(self, index: StoreIndex) -> list[Path]:
        """Return the files of the store that the index does not list."""
        listed = self.files(index)
        return [path for path in self._files() if path not in listed]

    def remove_unlisted(self, index: StoreIndex) -> None:
        """Remove files that the index does not list: replaced, deleted or left by an interruption.

        Raises OutputError if one cannot be removed, which does no harm; the others are removed.
        """
        sweep(self.folder)
        remove_all(self.unlisted(index))
        if not index.messages and is_there(self.folder):
            remove(self.index_file)
            for folder in (self.folder, self.folder.parent):
                with suppress(OSError):  # not empty
                    folder.rmdir()


def _pages(block: StoredBlock) -> int:
    return -(-block.rows // PAGE_ROWS)


@contextmanager
def _read(path: Path, hint: str, size: int | None = None) -> Iterator[FileSource]:
    """Open a file, of ``size`` if that is known; errors raised in the block name this file.

    The file is read, not mapped: an I/O error on a mapped file would kill the process (SIGBUS).
    """
    try:
        with closing(FileSource(path)) as file:
            if not file.size or size not in (None, file.size):
                raise MalformedError(f"has {file.size} bytes" + (f", not {size}" if size else ""))
            yield file
    except InvalidRequestError as error:
        is_missing = isinstance(error.__cause__, FileNotFoundError)
        raise MalformedError("is missing" if is_missing else error.message, path=path, hint=hint) from None
    except MippError as error:
        error.path, error.hint = str(path), hint
        raise


def is_stored(path: Path) -> bool:
    """Return whether a file in an owner's folder has a name like the files of the store."""
    return path.name == INDEX_FILE or STORED_FILE.fullmatch(path.name) is not None


def newest_in(folder: Path) -> int:
    """Return the highest message number in the names of an owner's files, whatever the index says."""
    names = [STORED_FILE.fullmatch(path.name) for path in paths_in(folder)]
    return max((min(int(found[1]), LARGEST_NUMBER) for found in names if found), default=0)
