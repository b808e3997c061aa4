"""Read containers: a container is opened only after its header and digest are verified."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from mipp_cli.containers.base.columns import (
    Matrix,
    MatrixReader,
    Ragged,
    RaggedReader,
    of_shape,
)
from mipp_cli.containers.base.hdf5 import read_layout
from mipp_cli.containers.base.header import HEAD_BYTES, IDENTIFIER, Header, parse
from mipp_cli.containers.base.source import (
    FileSource,
    Source,
    check_digest,
)
from mipp_cli.errors import MalformedError, WrongDeploymentError, errors_at

Check = Callable[[Header], object]


@dataclass(frozen=True)
class Schema:
    """The columns and numbers of a kind of container, which must have exactly these.

    The first column should be the largest: it is written in place, the others go through spool files.
    """

    kind: str
    columns: Mapping[str, Matrix | Ragged]
    numbers: tuple[str, ...] = ()

    def matrices(self) -> dict[str, Matrix]:
        """Return the matrices in which the columns are stored."""
        stored: dict[str, Matrix] = {}
        for name, column in self.columns.items():
            if isinstance(column, Matrix):
                stored[name] = column
            else:
                stored |= {f"{name}/bytes": Matrix("u1"), f"{name}/offsets": Matrix("<u8")}
        return stored


def read_header(source: Source, *, kind: str | None = None, deployment: str | None = None) -> Header:
    """Read and verify only the header: its format, its signature, and the kind and deployment if given.

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
            hint="the file was made with another kmc.pub; ask the sender to use this deployment's",
        )
    return header


def header_of(path: Path, deployment: str | None = None) -> Header:
    """Return the header of a file after verifying its signature; the caller must check the owner of the key.

    Raises the errors of :func:`read_header`.
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
        return of_shape(MatrixReader, self._columns, name)

    def ragged(self, name: str) -> RaggedReader:
        """Return the reader of a ragged column."""
        return of_shape(RaggedReader, self._columns, name)

    def data(self, name: str, limit: int) -> bytes:
        """Return all bytes of a plain column; raises MalformedError if it is longer than ``limit``."""
        column = self.matrix(name)
        if len(column) > limit:
            raise MalformedError(f"{name} is too long")
        return column.all().tobytes()

    def whole_numbers(self, name: str) -> list[int]:
        """Return a plain column of integers that is always small."""
        numbers: list[int] = self.matrix(name).all().tolist()
        return numbers

    def identifiers(self, name: str, whose: str) -> list[str]:
        """Return a small ragged column of identifiers; raises MalformedError if one is invalid."""
        found = [row.decode("ascii", "replace") for row in self.ragged(name).all()]
        if not all(map(IDENTIFIER.fullmatch, found)):
            raise MalformedError(f"has an invalid identifier of {whose} in {name}")
        return found

    def same_length(self, *names: str) -> int:
        """Return the number of rows of several columns; raises MalformedError if they differ."""
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
    """Open a container after verifying its header, then ``check``, then its digest and layout.

    ``check`` decides whether the header's key may speak for the sender. Raises the errors of
    :func:`read_header` and of ``check``, and TamperedError for the digest.
    """
    header = read_header(source, kind=schema.kind, deployment=deployment)
    if check is not None:
        check(header)
    return Container(check_digest(source, header), header, schema)


def open_container(
    path: Path, schema: Schema, *, deployment: str | None = None, check: Check | None = None
) -> Container:
    """Open the container at ``path`` as :func:`open_source` does; errors name the path."""
    with _opened(path) as source:
        return open_source(source, schema, deployment=deployment, check=check)


def open_one_of(path: Path, schemas: Sequence[Schema]) -> tuple[Container, Schema]:
    """Open a container of a kind with several schemas by the one that it matches; errors name the path."""
    with _opened(path) as source:
        header = read_header(source, kind=schemas[0].kind)
        checked = check_digest(source, header)
        for schema in schemas[:-1]:
            with suppress(MalformedError):
                return Container(checked, header, schema), schema
        return Container(checked, header, schemas[-1]), schemas[-1]


@contextmanager
def _opened(path: Path) -> Iterator[FileSource]:
    """Open a file, and close it if the block fails; errors in the block name the path."""
    with errors_at(path):
        source = FileSource(path)
        with closed_on_failure(source):
            yield source


@contextmanager
def closed_on_failure(opened: Source | Container) -> Iterator[None]:
    """Close the source or container if the block fails."""
    try:
        yield
    except BaseException:
        opened.close()
        raise
