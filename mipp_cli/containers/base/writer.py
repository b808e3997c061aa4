"""Write containers: the columns as a stream, then the header, then the rename to the final path."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, cast

from numpy.typing import ArrayLike

from mipp_cli.containers.base.columns import (
    MatrixWriter,
    Ragged,
    RaggedWriter,
    of_shape,
)
from mipp_cli.containers.base.container import Schema
from mipp_cli.containers.base.hdf5 import lay_out
from mipp_cli.containers.base.header import Header, sealing_info
from mipp_cli.containers.base.source import (
    FileSource,
    block_digests,
    digest_of,
)
from mipp_cli.files.atomic import new_file, sweep
from mipp_cli.scheme.keys import SealingPublicKey, SigningKey

_log = logging.getLogger(__name__)
_LARGEST_U64 = 2**64 - 1
_MEMORY_BYTES = 1 << 16  # of a spooled column; longer ones are spooled to disk
_COPY_BYTES = 1 << 18


@dataclass(frozen=True)
class Sender:
    """The sender of containers in a deployment: identifier, signing key, fingerprint of kmc.pub."""

    name: str
    signing_key: SigningKey
    deployment: str

    def seal(self, plaintext: bytes, to: SealingPublicKey, kind: str, number: str) -> bytes:
        """Seal ``plaintext`` by HPKE, bound to one container (the paper's secure channel)."""
        info = sealing_info(kind, self.deployment, self.name, self.signing_key.public, number)
        return to.seal(plaintext, info)


@dataclass
class ContainerWriter:
    """Collects the numbers and rows of one container; ``header`` is set once it is written."""

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
        return of_shape(MatrixWriter, self._columns, name)

    def ragged(self, name: str) -> RaggedWriter:
        """Return the writer of a ragged column."""
        return of_shape(RaggedWriter, self._columns, name)

    def flush(self) -> None:
        """Write the pending data of ragged columns."""
        for column in self._columns.values():
            if isinstance(column, RaggedWriter):
                column.flush()

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
    """Write a container to ``path``; the block fills the writer, and the file appears when it succeeds.

    ``before_it_is_out`` is called with the finished file before it is renamed to ``path``.

    Raises OutputError, and leaves no file, if ``path`` exists (without ``force``) or cannot be written.
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
            writer.flush()
            numbers = {name: writer._numbers[name] for name in schema.numbers}
            metadata, places = lay_out([matrix.dataset for matrix in matrices.values()], numbers)
            for spooled, place in zip(files[1:], places[1:], strict=False):
                spooled.seek(0)
                file.seek(place)
                shutil.copyfileobj(spooled, file, _COPY_BYTES)
                spooled.close()  # frees its disk space
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
        _log.info("writing %s: %s, %d bytes", path, schema.kind, temporary.stat().st_size)
        before_it_is_out(temporary)


def write_whole(
    path: Path, schema: Schema, sender: Sender, number: int | str, *, force: bool = False, **values: ArrayLike
) -> None:
    """Write a container from complete ``values``; see :func:`write_container` and ContainerWriter.add."""
    with write_container(path, schema, sender, number, force=force) as writer:
        writer.add(**values)
