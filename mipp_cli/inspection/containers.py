"""The contents of each kind of container for `mipp inspect`, without secrets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from mipp_cli.cloud.completeness import completeness
from mipp_cli.cloud.store import Store
from mipp_cli.containers.base.container import Container, open_container, open_one_of
from mipp_cli.containers.base.header import Header
from mipp_cli.containers.messages.delete import DELETE
from mipp_cli.containers.messages.earlier import read_earlier
from mipp_cli.containers.messages.features import FEATURES
from mipp_cli.containers.messages.membership import ENROLMENT, MEMBERS
from mipp_cli.containers.messages.public_files import load_deployment
from mipp_cli.containers.messages.query import any_query_schemas
from mipp_cli.containers.messages.reencrypted import REENCRYPTED
from mipp_cli.containers.messages.results import open_results
from mipp_cli.containers.messages.selection import open_groups, read_selection
from mipp_cli.containers.messages.upload import GROUP_ENDS, any_upload_schemas
from mipp_cli.containers.store.index import Index, read_index
from mipp_cli.containers.store.segment import any_segment_schemas, origin_of
from mipp_cli.errors import InvalidRequestError, MalformedError
from mipp_cli.files.folders import is_there
from mipp_cli.inspection.fields import (
    Field,
    Fields,
    completeness_of_owner,
    earlier_messages,
    names,
    plain,
    several,
)
from mipp_cli.sanitize import printable
from mipp_cli.workdir.completeness import listed
from mipp_cli.workdir.directory import KMC_FILE

Row = Sequence[str | int | float]


@dataclass(frozen=True)
class Found:
    """The fields, and the main table's columns and rows, read while the container is open."""

    fields: Fields
    columns: tuple[str, ...] = ()
    rows: Iterable[Row] = ()


Reader = Callable[[Path, Header, ExitStack], Found]


def _members(path: Path, header: Header, stack: ExitStack) -> Found:
    schema = {each.kind: each for each in (ENROLMENT, MEMBERS)}[header.kind]
    container = stack.enter_context(open_container(path, schema))
    container.same_length("user_ids", "user_keys")
    user_ids = container.identifiers("user_ids", "a user")
    keys = [row.tobytes().hex() for row in container.matrix("user_keys").all()]
    users = [*zip(user_ids, keys, strict=True)]
    values = [{"id": name, "key": key} for name, key in users]
    lines = [("users", str(len(users))), *((f"user {name}", key) for name, key in users)]
    fields = [several("users", values, lines)]
    if schema is ENROLMENT:
        fields.append(plain("image_keys_sealed", True, "image keys", "sealed to the KMC"))
    return Found(fields, ("user", "key"), users)


def _upload(path: Path, header: Header, stack: ExitStack) -> Found:
    is_segment = header.kind == "segment"
    container, schema = open_one_of(path, any_segment_schemas() if is_segment else any_upload_schemas())
    stack.enter_context(container)
    fields: Fields = []
    if is_segment:
        origin = origin_of(container)
        fields += [
            plain("owner", origin.owner),
            plain("owner_key", origin.key.hex(), "owner's key"),
            plain("sent_digest", origin.digest.hex(), "digest of the message"),
        ]
    fields += [
        plain("images", len(container.ragged("EW"))),
        plain("image_key", f"{container.number('key_id'):016x}"),
        plain("encrypted_bytes", container.ragged("EW").total_bytes, "bytes of EW"),
    ]
    if GROUP_ENDS in schema.columns:
        fields.append(plain("groups", len(container.matrix(GROUP_ENDS))))
    else:
        row_bytes = container.matrix("EF").row_bytes
        fields.append(
            plain("feature_bytes", row_bytes, "bytes of EF", f"{row_bytes} per image, same for EFF")
        )
    fields.append(earlier_messages(read_earlier(container)))
    if is_segment:
        fields.append(plain("names_deleted", len(container.matrix("deleted"))))
    return Found(fields, ("image_id", "encrypted_bytes"), _names_and_sizes(container, "EW"))


def _delete(path: Path, _header: Header, stack: ExitStack) -> Found:
    container = stack.enter_context(open_container(path, DELETE))
    images = container.ragged("image_names")
    fields = [plain("images", len(images)), earlier_messages(read_earlier(container))]
    rows = ((name.decode(errors="replace"),) for batch in images.batches() for name in batch)
    return Found(fields, ("image_id",), rows)


def _features(path: Path, _header: Header, stack: ExitStack) -> Found:
    container = stack.enter_context(open_container(path, FEATURES))
    container.same_length(GROUP_ENDS, "group_lengths")
    sizes = [end - begin for begin, end in pairwise([0, *container.matrix(GROUP_ENDS).all().tolist()])]
    fields = [
        plain("images", len(container.matrix("name_digests"))),
        plain("image_key", f"{container.number('key_id'):016x}"),
        plain("groups", len(sizes)),
        plain("codes_sealed", True, "codes", "encrypted under a key of the owner, for the KMC"),
        earlier_messages(read_earlier(container)),
    ]
    lengths = container.matrix("group_lengths").all().tolist()
    rows = zip(range(len(sizes)), sizes, lengths, strict=True)
    return Found(fields, ("group", "images", "encrypted_bytes"), rows)


def _query(path: Path, _header: Header, stack: ExitStack) -> Found:
    container, schema = open_one_of(path, any_query_schemas())
    stack.enter_context(container)
    features = next(name for name in schema.columns if name in ("EQ", "codes"))
    others = ", same for EQQ" if features == "EQ" else ""
    owners = container.identifiers("owners", "an owner")
    candidates, row_bytes = container.number("candidates"), container.matrix(features).row_bytes
    asked = ", ".join(map(printable, owners)) or "all who authorised the user"
    return Found(
        [
            plain("query_images", len(container.matrix(features))),
            plain("candidates", candidates, text=f"{candidates} per query image"),
            plain("owners", list(owners) or None, text=asked),
            plain("feature_bytes", row_bytes, f"bytes of {features}", f"{row_bytes} per image{others}"),
            plain("usk_sealed", True, "USK", "sealed to the KMC"),
        ]
    )


def _selection(path: Path, header: Header, _stack: ExitStack) -> Found:
    selection = read_selection(path, header.deployment)
    fields = [
        plain("cloud_key", selection.cloud.hex(), "for the cloud"),
        plain("groups", len(selection.groups)),
        names("owners", sorted({ref.owner for ref in selection.groups})),
    ]
    return Found(fields, ("owner", "upload", "group"), selection.groups)


def _groups(path: Path, header: Header, stack: ExitStack) -> Found:
    reader = open_groups(path, header.deployment)
    container = stack.enter_context(reader.container)
    fields = [
        plain("images", len(reader.places)),
        plain("groups_with_images", len(np.unique(reader.places))),
        plain("encrypted_bytes", container.ragged("ER").total_bytes, "bytes of ER"),
    ]
    names_and_sizes = _names_and_sizes(container, "ER")
    rows = ((place, *row) for place, row in zip(reader.places.tolist(), names_and_sizes, strict=True))
    return Found(fields, ("place", "image_id", "encrypted_bytes"), rows)


def _results(path: Path, header: Header, stack: ExitStack) -> Found:
    reader = open_results(path, header.deployment)
    stack.enter_context(reader.container)
    images, matches, query_bytes = reader.images, reader.matches, len(reader.query_data)
    searched = [{"owner": owner, "images": count} for owner, count in reader.searched.items()]
    told = ", ".join(f"{owner} ({count} images)" for owner, count in reader.searched.items())
    fields = [
        plain("query_bytes", query_bytes, "query", f"{query_bytes} bytes, unchanged"),
        plain("query_images", len({match.query for match in matches})),
        plain("matches", len(matches)),
        plain("images", len(images)),
        names("owners", sorted({image.owner for image in images})),
        plain("searched", searched, text=told or "none"),
    ]
    found = ((match, images[match.image]) for match in matches)
    rows = ((match.query, image.owner, image.name, f"{match.sim:.6f}") for match, image in found)
    return Found(fields, ("query", "owner", "image_id", "sim"), rows)


def _reencrypted(path: Path, _header: Header, stack: ExitStack) -> Found:
    container = stack.enter_context(open_container(path, REENCRYPTED))
    ner = container.ragged("NER")
    manifest = "encrypted under USK: the matches and the owners searched"
    return Found(
        [
            plain("images", len(ner)),
            plain("encrypted_bytes", ner.total_bytes, "bytes of NER"),
            plain("manifest_sealed", True, "manifest", manifest),
        ]
    )


def _index(path: Path, header: Header, _stack: ExitStack) -> Found:
    """Describe CLOUD/index.h5: all that the cloud knows about features, if it knows any.

    Missing messages and the table are available only if the index is in its cloud's directory.
    """
    index, kmc = read_index(path, header.deployment), path.absolute().parent / KMC_FILE
    store = None
    if is_there(kmc):
        deployment = load_deployment(kmc)
        store = Store(kmc.parent, deployment.parameters, deployment.fingerprint)
    fields = [
        plain("segments", len(index.segments)),
        plain("parts", len(index.parts)),
        plain("images", sum(segment.rows for segment in index.segments)),
        _sent(index, store),
    ]
    columns: tuple[str, ...] = ("owner", "image_id", "sum1", "sum2")
    if store is not None and not store.parameters.protocol.upload_columns:
        columns = columns[:2]
    return Found(fields, columns, _rows_of_index(path, index, store, len(columns)))


def _sent(index: Index, store: Store | None) -> Field:
    """Return what the cloud has of each owner and, as far as known, what it lacks."""
    values, lines = [], []
    for owner in index.owners():
        segments = [segment for segment in index.of_owner(owner) if segment.rows]
        images, found = sum(segment.rows for segment in segments), completeness(store, index, owner)
        known = completeness_of_owner(found)
        told = f"{images} images in {len(segments)} uploads"
        if store is not None:
            told += f"; {found}"
        else:
            known |= {"complete": None, "complete_time": None}  # unknown from the index alone
            told += f"; missing: {listed(found.gaps)}" if found.gaps else ""
        values.append({"owner": owner, "images": images, "uploads": len(segments), **known})
        lines.append((f"sent by {owner}", told))
    return several("sent", values, lines)


def _rows_of_index(path: Path, index: Index, store: Store | None, columns: int) -> Iterator[Row]:
    if store is None:
        raise InvalidRequestError(
            "is not in its cloud's directory", path=path, hint="inspect CLOUD/index.h5 in place"
        )
    for part in index.parts:
        for name, sum1, sum2 in store.table(index, part):
            yield (index.owner_of(part), name, sum1, sum2)[:columns]


def _part(path: Path, _header: Header, _stack: ExitStack) -> Found:
    raise MalformedError(
        "is a part of an index", hint=f"inspect the index: {path.parent.parent / 'index.h5'}"
    )


def _names_and_sizes(container: Container, images: str, step: int = 4096) -> Iterator[tuple[str, int]]:
    """Yield the name of each image and the length of its ciphertext in the column ``images``."""
    image_names, encrypted = container.ragged("image_names"), container.ragged(images)
    for begin in range(0, len(encrypted), step):
        end = min(begin + step, len(encrypted))
        sizes = encrypted.sizes(begin, end)
        batch = (name.decode(errors="replace") for name in image_names.rows(begin, end))
        yield from zip(batch, sizes, strict=True)


READERS: dict[str, Reader] = {
    "enrolment": _members,
    "members": _members,
    "upload": _upload,
    "segment": _upload,
    "features": _features,
    "delete": _delete,
    "query": _query,
    "selection": _selection,
    "results": _results,
    "groups": _groups,
    "reencrypted": _reencrypted,
    "index": _index,
    "part": _part,
}
