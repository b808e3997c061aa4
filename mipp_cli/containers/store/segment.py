"""`segment`, CLOUD/segments/OID-NUMBER.REVISION.h5: what remains of an upload, or the ids of a deletion.

An upload is stored as received while all its images count. When images are removed from it, the cloud
rewrites the rest under its own signature, with the owner and the digest of the original message, so that the
message is recognised if it arrives again, even if nothing of it remains. A deletion is stored as the ids of
its images, so that an older upload that arrives later does not bring them back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np

from mipp_cli.containers.base.columns import Matrix
from mipp_cli.containers.base.container import Container, Schema
from mipp_cli.containers.base.header import IDENTIFIER
from mipp_cli.containers.base.source import DIGEST_BYTES
from mipp_cli.containers.base.writer import ContainerWriter, Sender, write_container
from mipp_cli.containers.messages.earlier import listed, read_earlier
from mipp_cli.containers.messages.upload import GROUP_ENDS, UploadReader, any_upload_schemas, upload_schema
from mipp_cli.errors import MalformedError
from mipp_cli.scheme.parameters import Parameters
from mipp_cli.scheme.retrieval_index import ID, ID_BYTES, Ids, Places

_BATCH_ROWS = 4096
_BATCH_BYTES = 1 << 23
_OWNER_LIMIT = 64
_KEY_BYTES = 32  # Ed25519


@dataclass(frozen=True)
class Origin:
    """The original message of a segment: its owner, the owner's key, its sequence number and its digest.

    The key distinguishes owners who successively had the same name. ``earlier`` are the numbers of earlier
    messages that the message lists.
    """

    owner: str
    key: bytes
    number: int
    digest: bytes
    earlier: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        sizes = (len(self.key), len(self.digest))
        if not IDENTIFIER.fullmatch(self.owner) or sizes != (_KEY_BYTES, DIGEST_BYTES):
            raise MalformedError("has an invalid owner, key or digest")


def segment_schema(parameters: Parameters) -> Schema:
    """Return the schema of `segment` for a scheme: an upload's, its origin, and the ids deleted."""
    return _segment_of(upload_schema(parameters))


def any_segment_schemas() -> list[Schema]:
    """Return all schemas of `segment`, for readers that do not know the deployment."""
    return [_segment_of(schema) for schema in any_upload_schemas()]


def _segment_of(upload: Schema) -> Schema:
    own = {"owner": Matrix("u1"), "owner_key": Matrix("u1"), "digest": Matrix("u1")}
    columns = {**upload.columns, **own, "deleted": Matrix("u1", ID_BYTES)}
    return Schema("segment", columns, upload.numbers)


def origin_of(container: Container) -> Origin:
    """Return the origin of a segment; raises MalformedError."""
    owner = container.data("owner", _OWNER_LIMIT).decode("ascii", "replace")
    key, digest = container.data("owner_key", _KEY_BYTES), container.data("digest", DIGEST_BYTES)
    return Origin(owner, key, container.header.sequence_number, digest, read_earlier(container))


def deleted_in(container: Container) -> Ids:
    """Return the ids of the images deleted by the deletion that a segment stores."""
    return container.matrix("deleted").all().view(ID).reshape(-1)


def write_deletion_segment(
    path: Path, parameters: Parameters, sender: Sender, origin: Origin, deleted: Ids
) -> None:
    """Write the `segment` of a deletion: the ids ``deleted``, and no rows."""
    with write_container(path, segment_schema(parameters), sender, origin.number, force=True) as writer:
        _write_origin(writer, origin, key_id=0)
        writer.matrix("deleted").append(np.sort(deleted).view(np.uint8).reshape(-1, ID_BYTES))


def write_upload_segment(
    path: Path,
    parameters: Parameters,
    sender: Sender,
    origin: Origin,
    upload: UploadReader,
    dropped: Places,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Write the `segment` of an ``upload`` without its rows ``dropped``, ascending.

    The rows are streamed; ``advance`` is called with the number of rows done.
    """
    with write_container(path, segment_schema(parameters), sender, origin.number, force=True) as writer:
        _write_origin(writer, origin, key_id=upload.key_id)
        _copy_rows(upload, dropped, writer, advance)


def _write_origin(writer: ContainerWriter, origin: Origin, *, key_id: int) -> None:
    writer.number("key_id", key_id)
    writer.add(earlier=listed(origin.earlier))
    writer.matrix("owner").append(np.frombuffer(origin.owner.encode("ascii"), dtype=np.uint8))
    writer.matrix("owner_key").append(np.frombuffer(origin.key, dtype=np.uint8))
    writer.matrix("digest").append(np.frombuffer(origin.digest, dtype=np.uint8))


def _copy_rows(
    upload: UploadReader, dropped: Places, writer: ContainerWriter, advance: Callable[[int], None]
) -> None:
    source, protocol = upload.container, upload.parameters.protocol
    keep = np.ones(len(upload), dtype=bool)
    keep[dropped] = False
    sizes = {name: np.array(source.ragged(name).sizes(0, len(upload))) for name in ("image_names", "EW")}
    if protocol.grouped:
        ends = upload.group_ends()
        writer.matrix(GROUP_ENDS).append(ends - np.searchsorted(dropped, ends))
    for begin, end in _spans((sizes["EW"] + sum(protocol.upload_columns.values())).tolist()):
        stays = keep[begin:end]
        for name in sizes:
            writer.ragged(name).extend(list(compress(source.ragged(name).rows(begin, end), stays)))
        for name in protocol.upload_columns:
            writer.matrix(name).append(source.matrix(name).rows(begin, end)[stays])
        advance(end - begin)


def _spans(sizes: list[int]) -> Iterator[tuple[int, int]]:
    """Yield ranges of rows that fit in memory, of at least one row."""
    begin = held = 0
    for row, size in enumerate(sizes):
        if row > begin and (row - begin == _BATCH_ROWS or held + size > _BATCH_BYTES):
            yield begin, row
            begin, held = row, 0
        held += size
    if sizes:
        yield begin, len(sizes)
