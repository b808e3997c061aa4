"""What an owner's ledger keeps beside each message in scheme `exact`, where features go out in chunks.

`uploads/NUMBER.manifest.h5` is the manifest that went with the message; `uploads/NUMBER.features`, of an
upload, the codes of its images, row by row, and behind them the SHA-256 of the rows of each chunk. From the
codes a chunk is encrypted anew when some of its images leave.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mipp_cli.containers.atomic import new_file
from mipp_cli.containers.container import Sender
from mipp_cli.containers.manifest import MANIFEST_BYTES_LIMIT, parse_manifest, write_manifest
from mipp_cli.containers.source import FileSource, read_file
from mipp_cli.errors import MalformedError, MippError, at_path
from mipp_cli.roles.ledger import Ledger
from mipp_cli.roles.sequence import check_pinned_key
from mipp_cli.scheme.feature_chunks import Codes, LiveChunk, chunk_rows, stored_type
from mipp_cli.scheme.image_cipher import sha256
from mipp_cli.scheme.parameters import Parameters

_DIGEST_BYTES = 32


@dataclass
class CodesWriter:
    """Appends the codes of images to the file of an upload."""

    _file: BinaryIO
    _chunk_rows: int
    rows: int = 0
    _waiting: list[bytes] = field(default_factory=list)
    _digests: list[bytes] = field(default_factory=list)

    def append(self, codes: bytes) -> None:
        """Append the codes of one image."""
        self._waiting.append(codes)
        self.rows += 1
        if len(self._waiting) == self._chunk_rows:
            self._flush()

    def _flush(self) -> None:
        octets = b"".join(self._waiting)
        self._file.write(octets)
        self._digests.append(sha256(octets))
        self._waiting = []

    def _finish(self) -> None:
        if self._waiting:
            self._flush()
        self._file.write(b"".join(self._digests))
        self._file.flush()


@dataclass(frozen=True)
class FeatureLedger:
    """The files of features beside an owner's ledger."""

    ledger: Ledger
    parameters: Parameters
    sender: Sender

    def codes_file(self, upload: int) -> Path:
        """Return where the codes of an upload are kept."""
        return self.ledger.folder / f"{upload}.features"

    def manifest_file(self, number: int) -> Path:
        """Return where the manifest of a message is kept."""
        return self.ledger.folder / f"{number}.manifest.h5"

    def remove(self, number: int) -> None:
        """Forget what was kept for a message that never got out."""
        with suppress(OSError):  # nothing can be written any more: the next message sweeps it away
            self.codes_file(number).unlink(missing_ok=True)
            self.manifest_file(number).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what a killed command left of messages that the ledger does not list."""
        for file in self.ledger.folder.iterdir():
            number = file.name.partition(".")[0]
            if not file.name.endswith((".features", ".manifest.h5")) or not number.isdecimal():
                continue
            if not self.ledger.file(int(number)).exists():
                with suppress(OSError):
                    file.unlink()

    @contextmanager
    def writing(self, upload: int) -> Iterator[CodesWriter]:
        """Write the codes of an upload, in place when the block succeeds; raises OutputError."""
        with new_file(self.codes_file(upload), force=True, private=True) as path, path.open("wb") as file:
            writer = CodesWriter(file, chunk_rows(self.parameters))
            yield writer
            writer._finish()

    def write_manifest(self, number: int, chunks: list[LiveChunk]) -> bytes:
        """Keep the manifest of a message that is about to go out, and return its bytes."""
        path = self.manifest_file(number)
        write_manifest(path, self.sender, number, chunks, force=True)
        return read_file(path, MANIFEST_BYTES_LIMIT)

    def live_chunks(self) -> list[LiveChunk]:
        """Return the chunks that are live after the last message in force; raises MalformedError."""
        messages = self.ledger.in_force()
        return self.chunks_after(messages[-1].number) if messages else []

    def chunks_after(self, number: int) -> list[LiveChunk]:
        """Return the chunks that the manifest of a message lists; raises MalformedError."""
        path = self.manifest_file(number)
        if not path.exists():
            raise MalformedError("is missing", path=path, hint="restore it from a backup")
        with at_path(path):
            octets = read_file(path, MANIFEST_BYTES_LIMIT)
            manifest = parse_manifest(
                octets,
                self.parameters,
                self.sender.deployment,
                lambda header: check_pinned_key(header, self.sender.signing_key.public),
            )
            return list(manifest.chunks)

    def codes(self, upload: int, chunk: int) -> Codes:
        """Return the codes of the images that a chunk first had, shape (n, l); raises MalformedError."""
        path, kind = self.codes_file(upload), stored_type(self.parameters)
        most, row_bytes = chunk_rows(self.parameters), self.parameters.l * kind.itemsize
        try:
            source = FileSource(path)
            try:
                rows = _rows(source.size, row_bytes, most)
                begin, end = chunk * most, min((chunk + 1) * most, rows)
                octets = source.read_at(begin * row_bytes, (end - begin) * row_bytes)
                digest = source.read_at(rows * row_bytes + chunk * _DIGEST_BYTES, _DIGEST_BYTES)
            finally:
                source.close()
        except MippError:
            octets, digest = b"", b""
        if sha256(octets) != digest or not octets:
            raise MalformedError("is missing or damaged", path=path, hint="restore it from a backup")
        return np.frombuffer(octets, dtype=kind).reshape(-1, self.parameters.l)


def _rows(size: int, row_bytes: int, chunk_rows: int) -> int:
    """Return how many rows a file of ``size`` bytes holds, with a digest behind them for each chunk."""
    full = chunk_rows * row_bytes + _DIGEST_BYTES
    chunks = -(-size // full)
    return (size - chunks * _DIGEST_BYTES) // row_bytes
