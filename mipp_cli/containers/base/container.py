"""Containers as a whole: written under a signed header, and opened only after header and digest fit."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np

from mipp_cli.containers.base.column_readers import MatrixReader, RaggedReader
from mipp_cli.containers.base.column_writers import MatrixWriter, RaggedWriter
from mipp_cli.containers.base.columns import Matrix, Ragged, hdf5_errors
from mipp_cli.containers.base.form import check_form
from mipp_cli.containers.base.header import BLOCK_BYTES, Header, parse
from mipp_cli.containers.base.sink import Sink
from mipp_cli.containers.base.source import (
    BLOCK_BYTES as VERIFIED_BLOCK_BYTES,
)
from mipp_cli.containers.base.source import (
    BlockDigests,
    BlockTags,
    BlockVerifiedSource,
    BodyView,
    BytesSource,
    FileSource,
    Source,
    chunks,
)
from mipp_cli.errors import MalformedError, TamperedError, WrongDeploymentError, errors_at
from mipp_cli.files.atomic import new_file, sweep
from mipp_cli.scheme.keys import SigningKey

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_LARGEST_ATTRIBUTE = 2**64


@dataclass(frozen=True)
class Schema:
    """What a container of a kind holds: its numbers and its columns, all of them and nothing else."""

    kind: str
    columns: Mapping[str, Matrix | Ragged]
    numbers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sender:
    """Who writes containers for a deployment: identifier, signing key, fingerprint of kmc.pub."""

    name: str
    signing_key: SigningKey
    deployment: str


@dataclass
class ContainerWriter:
    """Collects the numbers and rows of one container; ``header`` is there once it is written."""

    _columns: dict[str, MatrixWriter | RaggedWriter]
    _sink: Sink
    _numbers: dict[str, int] = field(default_factory=dict)
    header: Header | None = None

    def number(self, name: str, value: int) -> None:
        """Set a number, 0 … 2^64 − 1."""
        if not 0 <= value < _LARGEST_ATTRIBUTE:
            raise ValueError(f"{name} is out of range")
        self._numbers[name] = value

    def matrix(self, name: str) -> MatrixWriter:
        """Return the writer of a matrix; raises OSError if the disk is full."""
        self._sink.check()
        writer = self._columns[name]
        if not isinstance(writer, MatrixWriter):
            raise KeyError(name)
        return writer

    def ragged(self, name: str) -> RaggedWriter:
        """Return the writer of a ragged column; raises OSError if the disk is full."""
        self._sink.check()
        writer = self._columns[name]
        if not isinstance(writer, RaggedWriter):
            raise KeyError(name)
        return writer


@contextmanager
def write_container(
    path: Path,
    schema: Schema,
    sender: Sender,
    number: int | str,
    *,
    force: bool = False,
) -> Iterator[ContainerWriter]:
    """Write a container to ``path``: the block fills the writer; header and place come when it succeeds.

    Raises OutputError if ``path`` exists (without ``force``) or cannot be written; nothing is left then.
    """
    sweep(path.parent, path.name)
    with new_file(path, force=force) as temporary:
        with Sink(temporary) as sink, h5py.File(sink, "w", userblock_size=BLOCK_BYTES) as file:
            columns = {name: _writer(file, name, column) for name, column in schema.columns.items()}
            writer = ContainerWriter(columns, sink)
            yield writer
            for column in writer._columns.values():
                column.finish()
            for name in schema.numbers:
                file.attrs.create(name, np.uint64(writer._numbers[name]), dtype="<u8")
        digest = _body_digest(temporary)
        writer.header = Header(
            schema.kind, sender.name, str(number), sender.deployment, digest, sender.signing_key.public.hex()
        )
        with temporary.open("r+b") as raw:
            raw.write(writer.header.render(sender.signing_key))


def _writer(file: h5py.File, name: str, column: Matrix | Ragged) -> MatrixWriter | RaggedWriter:
    if isinstance(column, Matrix):
        return MatrixWriter(file, name, column)
    return RaggedWriter(file.create_group(name))


def _body_digest(path: Path) -> str:
    source = FileSource(path)
    try:
        return digest_of(source)
    finally:
        source.close()


def digest_of(source: Source) -> str:
    """SHA-256 of byte 1024 to the end, in hex."""
    digest = hashlib.sha256()
    for chunk in chunks(source, BLOCK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def read_header(source: Source, *, kind: str | None = None, deployment: str | None = None) -> Header:
    """Read and verify the header alone: form, signature, and that it is what the caller asked for.

    Raises MalformedError or TamperedError, and WrongDeploymentError if it is for another deployment.
    """
    header = parse(source.read_at(0, BLOCK_BYTES))
    if kind is not None and header.kind != kind:
        raise MalformedError(
            f"is of kind {header.kind}, not {kind}", hint=f"give the {kind} file to this command"
        )
    if deployment is not None and not hmac.compare_digest(header.deployment, deployment):
        raise WrongDeploymentError(
            f"belongs to the deployment {header.deployment[:16]}…, not to {deployment[:16]}…",
            hint="the file was made with another kmc.pub; ask its sender to use this deployment's",
        )
    return header


def header_of(path: Path, deployment: str | None = None) -> Header:
    """Return the header of a file, whose signature fits its key; whose key it is, the caller must check.

    Raises what :func:`read_header` does.
    """
    with errors_at(path):
        source = FileSource(path)
        try:
            return read_header(source, deployment=deployment)
        finally:
            source.close()


class Container:
    """An open container whose header, digest and every column were checked; a context manager."""

    def __init__(self, source: Source, header: Header, schema: Schema):
        self.header = header
        self._source = source
        with hdf5_errors("HDF5 content"):
            if source.read_at(BLOCK_BYTES, len(_HDF5_SIGNATURE)) != _HDF5_SIGNATURE:
                raise MalformedError("holds no HDF5 where its content begins")
            check_form(source, BLOCK_BYTES)
            self._file = h5py.File(BodyView(source, BLOCK_BYTES), "r")
        try:
            self._numbers = _read_numbers(self._file, schema)
            self._columns = {
                name: _reader(self._file, name, column, source) for name, column in schema.columns.items()
            }
        except BaseException:
            self._file.close()
            raise

    def number(self, name: str) -> int:
        """Return a number."""
        return self._numbers[name]

    def matrix(self, name: str) -> MatrixReader:
        """Return the reader of a matrix."""
        reader = self._columns[name]
        if not isinstance(reader, MatrixReader):
            raise KeyError(name)
        return reader

    def ragged(self, name: str) -> RaggedReader:
        """Return the reader of a ragged column."""
        reader = self._columns[name]
        if not isinstance(reader, RaggedReader):
            raise KeyError(name)
        return reader

    def data(self, name: str, limit: int) -> bytes:
        """Return a plain column of bytes as a whole; MalformedError if it is longer than ``limit``."""
        column = self.matrix(name)
        if len(column) > limit:
            raise MalformedError(f"{name} is too long")
        return column.all().tobytes()

    def same_length(self, *names: str) -> int:
        """Return the common number of rows of columns; raises MalformedError if they differ."""
        lengths = {len(self._columns[name]) for name in names}
        if len(lengths) != 1:
            raise MalformedError(f"the columns {', '.join(names)} have different lengths")
        return lengths.pop()

    def __enter__(self) -> Container:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._source.close()


def open_source(
    source: Source,
    schema: Schema,
    *,
    deployment: str | None = None,
    check: Callable[[Header], object] | None = None,
) -> Container:
    """Verify header, then ``check`` (may its key speak for the sender?), then digest; then open HDF5.

    Raises the errors of :func:`read_header`, those of ``check``, and TamperedError for the digest.
    """
    header = read_header(source, kind=schema.kind, deployment=deployment)
    if check is not None:
        check(header)
    return Container(check_digest(source, header), header, schema)


def check_digest(source: Source, header: Header) -> Source:
    """Check the content against the digest in its header; raises TamperedError.

    Returns the source to read from now on: HDF5 reads the file a second time, and must get the bytes
    that were checked, or none, if somebody writes into the file meanwhile.
    """
    tags = BlockTags()
    blocks = content_blocks(source, header, tags)
    # bytes in memory are this process's own: nobody else writes into them
    return source if isinstance(source, BytesSource) else BlockVerifiedSource(source, blocks, tags)


def content_blocks(source: Source, header: Header, kind: BlockDigests | BlockTags) -> bytes:
    """Check the content as :func:`check_digest`; return what ``kind`` makes of the blocks of 64 KiB."""
    body, blocks = hashlib.sha256(), bytearray()
    numbers = count()
    for place, chunk in enumerate(chunks(source)):
        body.update(memoryview(chunk)[0 if place else BLOCK_BYTES :])
        for start in range(0, len(chunk), VERIFIED_BLOCK_BYTES):
            blocks += kind.of(next(numbers), chunk[start : start + VERIFIED_BLOCK_BYTES])
    if not hmac.compare_digest(body.hexdigest(), header.digest):
        raise TamperedError(
            "the content does not fit the digest that its sender signed",
            hint="the file was cut short or changed on its way: fetch it again",
        )
    return bytes(blocks)


def open_container(
    path: Path,
    schema: Schema,
    *,
    deployment: str | None = None,
    check: Callable[[Header], object] | None = None,
) -> Container:
    """Open the container at ``path``; see :func:`open_source`. Errors name the path."""
    with errors_at(path):
        source = FileSource(path)
        try:
            return open_source(source, schema, deployment=deployment, check=check)
        except BaseException:
            source.close()
            raise


def open_one_of(path: Path, schemas: Sequence[Schema]) -> tuple[Container, Schema]:
    """Open a container of a kind that has several schemas, whichever it fits; errors name the path."""
    with errors_at(path):
        source = FileSource(path)
        try:
            header = read_header(source, kind=schemas[0].kind)
            checked = check_digest(source, header)
            for schema in schemas[:-1]:
                with suppress(MalformedError):
                    return Container(checked, header, schema), schema
            return Container(checked, header, schemas[-1]), schemas[-1]
        except BaseException:
            source.close()
            raise


def _read_numbers(file: h5py.File, schema: Schema) -> dict[str, int]:
    with hdf5_errors("numbers"):
        expected = {name.encode() for name in schema.columns}
        if set(file.id) != expected or h5py.h5a.get_num_attrs(file.id) != len(schema.numbers):
            raise MalformedError(f"holds other parts than a container of kind {schema.kind}")
        numbers = {}
        for name in schema.numbers:
            attribute = h5py.h5a.open(file.id, name.encode())
            if attribute.shape != () or not attribute.get_type().equal(h5py.h5t.STD_U64LE):
                raise MalformedError(f"the number {name} has another type than its kind asks for")
            value = np.zeros((), dtype="<u8")
            attribute.read(value)
            numbers[name] = int(value)
        return numbers


def _reader(
    file: h5py.File, name: str, column: Matrix | Ragged, source: Source
) -> MatrixReader | RaggedReader:
    if isinstance(column, Matrix):
        return MatrixReader(file, name, column, source)
    return RaggedReader(file, name, column, source)
