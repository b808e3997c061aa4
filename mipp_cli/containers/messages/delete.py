"""`delete` (owner → cloud): the names of images that the cloud must remove."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from mipp_cli.containers.base.columns import Ragged
from mipp_cli.containers.base.container import Container, Schema
from mipp_cli.containers.base.writer import Sender, write_whole
from mipp_cli.containers.messages.earlier import EARLIER, listed
from mipp_cli.containers.messages.upload import NAME_LIMIT, check_names
from mipp_cli.errors import MalformedError

DELETE = Schema("delete", {"image_names": Ragged(limit=NAME_LIMIT), **EARLIER})
_ROWS_LIMIT = 2**32 - 1


def write_delete(
    path: Path,
    sender: Sender,
    number: int,
    names: Iterable[str],
    *,
    earlier: Collection[int] = (),
    force: bool = False,
) -> None:
    """Write a `delete` of the images with the wire names ``names``, at least one and each once.

    ``earlier`` are the numbers of the earlier messages that still decide an image after this one. Raises
    OutputError if ``path`` exists (without ``force``) or cannot be written.
    """
    rows = list(names)
    write_whole(path, DELETE, sender, number, force=force, image_names=rows, earlier=listed(earlier))


def deleted_names(container: Container) -> list[bytes]:
    """Return the names that a `delete` lists; raises MalformedError if there are none or one is invalid."""
    column = container.ragged("image_names")
    if not len(column):
        raise MalformedError("names no image to delete")
    if len(column) > _ROWS_LIMIT:
        raise MalformedError("names too many images")
    names = column.all()
    check_names(names)
    return names
