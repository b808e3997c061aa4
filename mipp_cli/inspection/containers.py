"""What each kind of container holds, for whoever looks; never a secret."""

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
from mipp_cli.sanitize import printable
from mipp_cli.workdir.completeness import listed
from mipp_cli.workdir.directory import KMC_FILE

Fields = list[tuple[str, str]]
Row = Sequence[str | int | float]


@dataclass(frozen=True)
class Found:
    """Named values, and the rows of the main table under its columns, read while the container is open."""

    fields: Fields
    columns: tuple[str, ...] = ()
    rows: Iterable[Row] = ()


Reader = Callable[[Path, Header, ExitStack], Found]


def _members(path: Path, header: Header, stack: ExitStack) -> Found:
    schema = {each.kind: each for each in (ENROLMENT, MEMBERS)}[header.kind]
    container = stack.enter_context(open_container(path, schema))
    container.same_length("user_ids", "user_keys")
    names = container.identifiers("user_ids", "a user")
    keys = [row.tobytes().hex() for row in container.matrix("user_keys").all()]
    users = [*zip(names, keys, strict=True)]
    fields = [("users", str(len(names))), *((f"user {name}", key) for name, key in users)]
    if schema is ENROLMENT:
        fields.append(("image keys", "sealed to the KMC"))
    return Found(fields, ("user", "key"), users)


def _upload(path: Path, header: Header, stack: ExitStack) -> Found:
    is_segment = header.kind == "segment"
    container, schema = open_one_of(path, any_segment_schemas() if is_segment else any_upload_schemas())
    stack.enter_context(container)
    fields: Fields = []
    if is_segment:
        origin = origin_of(container)
        fields += [
            ("owner", origin.owner),
            ("owner's key", origin.key.hex()),
            ("of the digest", origin.digest.hex()),
        ]
    fields += [
        ("images", str(len(container.ragged("EW")))),
        ("image key", f"{container.number('key_id'):016x}"),
        ("bytes of EW", str(container.ragged("EW").total_bytes)),
    ]
    if GROUP_ENDS in schema.columns:
        fields.append(("groups", str(len(container.matrix(GROUP_ENDS)))))
    else:
        fields.append(("bytes of EF", f"{container.matrix('EF').row_bytes} an image, EFF the same"))
    fields.append(_earlier(container))
    if is_segment:
        fields.append(("names deleted", str(len(container.matrix("deleted")))))
    return Found(fields, ("image_id", "encrypted_bytes"), _names_and_sizes(container, "EW"))


def _delete(path: Path, _header: Header, stack: ExitStack) -> Found:
    container = stack.enter_context(open_container(path, DELETE))
    names = container.ragged("image_names")
    fields = [("images", str(len(names))), _earlier(container)]
    rows = ((name.decode(errors="replace"),) for batch in names.batches() for name in batch)
    return Found(fields, ("image_id",), rows)


def _features(path: Path, _header: Header, stack: ExitStack) -> Found:
    container = stack.enter_context(open_container(path, FEATURES))
    container.same_length(GROUP_ENDS, "group_lengths")
    sizes = [end - begin for begin, end in pairwise([0, *container.matrix(GROUP_ENDS).all().tolist()])]
    fields = [
        ("images", str(len(container.matrix("name_digests")))),
        ("image key", f"{container.number('key_id'):016x}"),
        ("groups", str(len(sizes))),
        ("codes", "under a key of the owner's, for the KMC"),
        _earlier(container),
    ]
    lengths = container.matrix("group_lengths").all().tolist()
    rows = zip(range(len(sizes)), sizes, lengths, strict=True)
    return Found(fields, ("group", "images", "encrypted_bytes"), rows)


def _query(path: Path, _header: Header, stack: ExitStack) -> Found:
    container, schema = open_one_of(path, any_query_schemas())
    stack.enter_context(container)
    features = next(name for name in schema.columns if name in ("EQ", "codes"))
    others = ", EQQ the same" if features == "EQ" else ""
    owners = container.identifiers("owners", "an owner")
    return Found(
        [
            ("query images", str(len(container.matrix(features)))),
            ("candidates", f"{container.number('candidates')} for each"),
            ("owners", ", ".join(map(printable, owners)) or "all who authorised the user"),
            (f"bytes of {features}", f"{container.matrix(features).row_bytes} an image{others}"),
            ("USK", "sealed to the KMC"),
        ]
    )


def _selection(path: Path, header: Header, _stack: ExitStack) -> Found:
    selection = read_selection(path, header.deployment)
    fields = [
        ("for the cloud", selection.cloud.hex()),
        ("groups", str(len(selection.groups))),
        ("owners", ", ".join(sorted({ref.owner for ref in selection.groups})) or "none"),
    ]
    return Found(fields, ("owner", "upload", "group"), selection.groups)


def _groups(path: Path, header: Header, stack: ExitStack) -> Found:
    reader = open_groups(path, header.deployment)
    container = stack.enter_context(reader.container)
    fields = [
        ("images", str(len(reader.places))),
        ("groups with images", str(len(np.unique(reader.places)))),
        ("bytes of ER", str(container.ragged("ER").total_bytes)),
    ]
    names_and_sizes = _names_and_sizes(container, "ER")
    rows = ((place, *row) for place, row in zip(reader.places.tolist(), names_and_sizes, strict=True))
    return Found(fields, ("place", "image_id", "encrypted_bytes"), rows)


def _results(path: Path, header: Header, stack: ExitStack) -> Found:
    reader = open_results(path, header.deployment)
    stack.enter_context(reader.container)
    images, matches = reader.images, reader.matches
    fields = [
        ("query", f"{len(reader.query_data)} bytes, as the user sent it"),
        ("query images", str(len({match.query for match in matches}))),
        ("matches", str(len(matches))),
        ("images", str(len(images))),
        ("owners", ", ".join(sorted({image.owner for image in images})) or "none"),
        ("searched", ", ".join(f"{o} ({n} images)" for o, n in reader.searched.items()) or "none"),
    ]
    found = ((match, images[match.image]) for match in matches)
    rows = ((match.query, image.owner, image.name, f"{match.sim:.6f}") for match, image in found)
    return Found(fields, ("query", "owner", "image_id", "sim"), rows)


def _reencrypted(path: Path, _header: Header, stack: ExitStack) -> Found:
    container = stack.enter_context(open_container(path, REENCRYPTED))
    ner = container.ragged("NER")
    manifest = "under USK: what matches, and who was searched"
    return Found([("images", str(len(ner))), ("bytes of NER", str(ner.total_bytes)), ("manifest", manifest)])


def _index(path: Path, header: Header, _stack: ExitStack) -> Found:
    """Describe CLOUD/index.h5: all that the cloud knows of the features, where it knows any.

    What has not come, and the table, can be told where it lies in its cloud's directory alone.
    """
    index, kmc = read_index(path, header.deployment), path.absolute().parent / KMC_FILE
    store = None
    if kmc.exists():
        deployment = load_deployment(kmc)
        store = Store(kmc.parent, deployment.parameters, deployment.fingerprint)
    fields = [
        ("segments", str(len(index.segments))),
        ("parts", str(len(index.parts))),
        ("images", str(sum(segment.rows for segment in index.segments))),
    ]
    for owner in index.owners():
        segments = [segment for segment in index.of_owner(owner) if segment.rows]
        found = f"{sum(segment.rows for segment in segments)} images in {len(segments)} uploads"
        if store is not None:
            found += f"; {completeness(store, index, owner)}"
        elif gaps := completeness(None, index, owner).gaps:
            found += f"; missing: {listed(gaps)}"
        fields.append((f"sent by {owner}", found))
    columns: tuple[str, ...] = ("owner", "image_id", "sum1", "sum2")
    if store is not None and not store.parameters.protocol.upload_columns:
        columns = columns[:2]
    return Found(fields, columns, _rows_of_index(path, index, store, len(columns)))


def _rows_of_index(path: Path, index: Index, store: Store | None, columns: int) -> Iterator[Row]:
    if store is None:
        raise InvalidRequestError(
            "is not in its cloud's directory", path=path, hint="inspect it where it lies: CLOUD/index.h5"
        )
    for part in index.parts:
        for name, sum1, sum2 in store.table(index, part):
            yield (index.owner_of(part), name, sum1, sum2)[:columns]


def _part(path: Path, _header: Header, _stack: ExitStack) -> Found:
    raise MalformedError(
        "is a part of an index", hint=f"inspect the index: {path.parent.parent / 'index.h5'}"
    )


def _earlier(container: Container) -> tuple[str, str]:
    return "earlier messages", listed(read_earlier(container)) or "none"


def _names_and_sizes(container: Container, images: str, step: int = 4096) -> Iterator[tuple[str, int]]:
    """Yield the name of each image, and the length of its ciphertext in the column ``images``."""
    names, encrypted = container.ragged("image_names"), container.ragged(images)
    for begin in range(0, len(encrypted), step):
        end = min(begin + step, len(encrypted))
        sizes = encrypted.sizes(begin, end)
        yield from zip((name.decode(errors="replace") for name in names.rows(begin, end)), sizes, strict=True)


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
