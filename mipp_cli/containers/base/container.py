"""Containers as a whole: written under a signed header, and opened only after header and digest fit."""

from __future__ import annotations

import hmac
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import IO, TypeVar, cast

from numpy.typing import ArrayLike

from mipp_cli.containers.base.columns import (
    Matrix,
    MatrixReader,
    MatrixWriter,
    Ragged,
    RaggedReader,
    RaggedWriter,
)
from mipp_cli.containers.base.hdf5 import lay_out, read_layout
from mipp_cli.containers.base.header import HEAD_BYTES, IDENTIFIER, Header, parse, sealing_info
from mipp_cli.containers.base.source import (
    FileSource,
    Source,
    block_digests,
    check_digest,
    digest_of,
)
from mipp_cli.errors import MalformedError, WrongDeploymentError, errors_at
from mipp_cli.files.atomic import new_file, sweep
from mipp_cli.scheme.keys import SealingPublicKey, SigningKey

Check = Callable[[Header], object]
Shape = TypeVar("Shape")
_LARGEST_U64 = 2**64 - 1
_MEMORY_BYTES = 1 << 18  # of a column that is spooled; what is longer lies on the disk meanwhile
_COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class Schema:
    """What a container of a kind holds: its columns and numbers, all of them and nothing else.

    The first column is written where it stays, the others in passing: it should be the largest.
    """

    kind: str
    columns: Mapping[str, Matrix | Ragged]
    numbers: tuple[str, ...] = ()

    def matrices(self) -> dict[str, Matrix]:
        """Return the datasets that the columns are stored as."""
        stored: dict[str, Matrix] = {}
        for name, column in self.columns.items():
            if isinstance(column, Matrix):
                stored[name] = column
            else:
                stored |= {f"{name}/bytes": Matrix("u1"), f"{name}/offsets": Matrix("<u8")}
        return stored


@dataclass(frozen=True)
class Sender:
    """Who writes containers for a deployment: identifier, signing key, fingerprint of kmc.pub."""

    name: str
    signing_key: SigningKey
    deployment: str

    def seal(self, plaintext: bytes, to: SealingPublicKey, kind: str, number: str) -> bytes:
        """Seal ``plaintext`` for one container (the paper's secure channel): it fits no other."""
        info = sealing_info(kind, self.deployment, self.name, self.signing_key.public, number)
        return to.seal(plaintext, info)


@dataclass
class ContainerWriter:
    """Collects the numbers and rows of one container; ``header`` is there once it is written."""

    _schema: Schema
    _columns: dict[str, MatrixWriter | RaggedWriter]
    _numbers: dict[str, int] = field(default_factory=dict)
    header: Header | None = None

    def number(self, name: str, value: int) -> None:
        """Set a number, 0 … 2^64 − 1."""
        if name not in self._schema.numbers:
            raise KeyError(name)
        if not 0 <= value <= _LARGEST_U64:
            raise ValueError(f"{name} is out of range")
        self._numbers[name] = value

    def matrix(self, name: str) -> MatrixWriter:
        """Return the writer of a matrix."""
        return _of_shape(MatrixWriter, self._columns, name)

    def ragged(self, name: str) -> RaggedWriter:
        """Return the writer of a ragged column."""
        return _of_shape(RaggedWriter, self._columns, name)

    def add(self, **values: ArrayLike) -> None:
        """Set numbers; append arrays, lists or bytes to matrices, and rows or texts to ragged columns."""
        for name, value in values.items():
            column = self._columns.get(name)
            if column is None:
                self.number(name, cast(int, value))
            elif isinstance(column, MatrixWriter):
                column.append(value)
            else:
                column.extend(cast(Iterable[bytes | str], value))


def _of_shape(shape: type[Shape], columns: Mapping[str, object], name: str) -> Shape:
    column = columns[name]
    if not isinstance(column, shape):
        raise KeyError(name)
    return column


@contextmanager
def write_container(
    path: Path,
    schema: Schema,
    sender: Sender,
    number: int | str,
    *,
    force: bool = False,
    before_it_is_out: Callable[[Path], object] = lambda _: None,
) -> Iterator[ContainerWriter]:
    """Write a container to ``path``: the block fills the writer; header and place come when it succeeds.

    ``before_it_is_out`` is called with the finished file, which is renamed to ``path`` next.

    Raises OutputError if ``path`` exists (without ``force``) or cannot be written; nothing is left then.
    """
    sweep(path.parent, path.name)
    with new_file(path, force=force) as temporary:
        with temporary.open("r+b") as file, ExitStack() as spools:
            shapes = schema.matrices()
            one_row_each = [shape.dataset(name, 1) for name, shape in shapes.items()]
            file.seek(lay_out(one_row_each, dict.fromkeys(schema.numbers, 0))[1][0])
            files: list[IO[bytes]] = [file]
            files += (
                spools.enter_context(SpooledTemporaryFile(_MEMORY_BYTES, dir=str(path.parent)))
                for _ in range(1, len(shapes))
            )
            matrices = {
                name: MatrixWriter(path, name, shape, into)
                for (name, shape), into in zip(shapes.items(), files, strict=False)
            }
            writer = ContainerWriter(
                schema,
                {
                    name: RaggedWriter(matrices[f"{name}/bytes"], matrices[f"{name}/offsets"])
                    if isinstance(column, Ragged)
                    else matrices[name]
                    for name, column in schema.columns.items()
                },
            )
            yield writer
            numbers = {name: writer._numbers[name] for name in schema.numbers}
            metadata, places = lay_out([matrix.dataset for matrix in matrices.values()], numbers)
            for spooled, place in zip(files[1:], places[1:], strict=False):
                spooled.seek(0)
                file.seek(place)
                shutil.copyfileobj(spooled, file, _COPY_BYTES)
                spooled.close()  # which gives its room on the disk back
            file.truncate(places[-1])
            file.seek(0)
            file.write(metadata)
        with closing(FileSource(temporary)) as source:
            digest = digest_of(block_digests(source))
        writer.header = Header(
            schema.kind, sender.name, str(number), sender.deployment, digest, sender.signing_key.public.hex()
        )
        with temporary.open("r+b") as file:
            file.write(writer.header.render(sender.signing_key))
        before_it_is_out(temporary)


def write_whole(
    path: Path, schema: Schema, sender: Sender, number: int | str, *, force: bool = False, **values: ArrayLike
) -> None:
    """Write a container whose content is all at hand; see :func:`write_container`, ContainerWriter.add."""
    with write_container(path, schema, sender, number, force=force) as writer:
        writer.add(**values)


def read_header(source: Source, *, kind: str | None = None, deployment: str | None = None) -> Header:
    """Read and verify the header alone: form, signature, and that it is what the caller asked for.

    Raises MalformedError or TamperedError, and WrongDeploymentError if it is for another deployment.
    """
    header = parse(source.read_at(0, HEAD_BYTES))
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
    with errors_at(path), closing(FileSource(path)) as source:
        return read_header(source, deployment=deployment)


class Container:
    """An open container whose header, digest and layout were checked; a context manager."""

    def __init__(self, source: Source, header: Header, schema: Schema):
        self.header = header
        self._source = source
        wanted = [shape.dataset(name) for name, shape in schema.matrices().items()]
        found, self._numbers = read_layout(source, wanted, schema.numbers)
        matrices = {each.name: MatrixReader(each, place, source) for each, place in found}
        self._columns = {
            name: RaggedReader(matrices[f"{name}/bytes"], matrices[f"{name}/offsets"], column.limit)
            if isinstance(column, Ragged)
            else matrices[name]
            for name, column in schema.columns.items()
        }

    def number(self, name: str) -> int:
        """Return a number."""
        return self._numbers[name]

    def matrix(self, name: str) -> MatrixReader:
        """Return the reader of a matrix."""
        return _of_shape(MatrixReader, self._columns, name)

    def ragged(self, name: str) -> RaggedReader:
        """Return the reader of a ragged column."""
        return _of_shape(RaggedReader, self._columns, name)

    def data(self, name: str, limit: int) -> bytes:
        """Return a plain column of bytes as a whole; MalformedError if it is longer than ``limit``."""
        column = self.matrix(name)
        if len(column) > limit:
            raise MalformedError(f"{name} is too long")
        return column.all().tobytes()

    def whole_numbers(self, name: str) -> list[int]:
        """Return a plain column of whole numbers, small by nature."""
        numbers: list[int] = self.matrix(name).all().tolist()
        return numbers

    def identifiers(self, name: str, whose: str) -> list[str]:
        """Return a ragged column, small by nature, of identifiers; MalformedError if one is none."""
        found = [row.decode("ascii", "replace") for row in self.ragged(name).all()]
        if not all(map(IDENTIFIER.fullmatch, found)):
            raise MalformedError(f"names {whose} by an identifier that is not one, in {name}")
        return found

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
        self._source.close()


def open_source(
    source: Source, schema: Schema, *, deployment: str | None = None, check: Check | None = None
) -> Container:
    """Verify header, then ``check`` (may its key speak for the sender?), then digest; then the layout.

    Raises the errors of :func:`read_header`, those of ``check``, and TamperedError for the digest.
    """
    header = read_header(source, kind=schema.kind, deployment=deployment)
    if check is not None:
        check(header)
    return Container(check_digest(source, header), header, schema)


def open_container(
    path: Path, schema: Schema, *, deployment: str | None = None, check: Check | None = None
) -> Container:
    """Open the container at ``path``; see :func:`open_source`. Errors name the path."""
    with _opened(path) as source:
        return open_source(source, schema, deployment=deployment, check=check)


def open_one_of(path: Path, schemas: Sequence[Schema]) -> tuple[Container, Schema]:
    """Open a container of a kind that has several schemas, whichever it fits; errors name the path."""
    with _opened(path) as source:
        header = read_header(source, kind=schemas[0].kind)
        checked = check_digest(source, header)
        for schema in schemas[:-1]:
            with suppress(MalformedError):
                return Container(checked, header, schema), schema
        return Container(checked, header, schemas[-1]), schemas[-1]


@contextmanager
def _opened(path: Path) -> Iterator[FileSource]:
    """Give a file to read from, which is closed if the block fails; its errors name the path."""
    with errors_at(path):
        source = FileSource(path)
        with closed_on_failure(source):
            yield source


@contextmanager
def closed_on_failure(opened: Source | Container) -> Iterator[None]:
    """Close what was opened if the block fails."""
    try:
        yield
    except BaseException:
        opened.close()
        raise
