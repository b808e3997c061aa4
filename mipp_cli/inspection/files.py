"""What a file holds, for whoever looks: every kind of container and public file, never a secret."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mipp_cli.containers.base.container import Schema, header_of, open_container, open_one_of
from mipp_cli.containers.base.header import FORMAT_LINE, NUMBERED_KINDS, Header
from mipp_cli.containers.messages.delete import DELETE
from mipp_cli.containers.messages.earlier import read_earlier
from mipp_cli.containers.messages.features import FEATURES
from mipp_cli.containers.messages.membership import ENROLMENT, MEMBERS
from mipp_cli.containers.messages.public_files import (
    Deployment,
    is_public_file,
    parse_kmc,
    parse_party,
    parse_renewal,
    party_deployment,
    public_kind,
    read_public_file,
)
from mipp_cli.containers.messages.query import any_query_schemas
from mipp_cli.containers.messages.reencrypted import REENCRYPTED
from mipp_cli.containers.messages.results import open_results
from mipp_cli.containers.messages.selection import open_groups, read_selection
from mipp_cli.containers.messages.upload import GROUP_ENDS, any_upload_schemas
from mipp_cli.containers.store.segment import any_segment_schemas, origin_of
from mipp_cli.errors import MalformedError, errors_at
from mipp_cli.inspection.findings import Fields, Found, Row, Table
from mipp_cli.inspection.index import inspect_index
from mipp_cli.sanitize import printable
from mipp_cli.workdir.completeness import listed
from mipp_cli.workdir.replay import moment


@dataclass(frozen=True)
class Inspection:
    """What was found: a title, named values, the main table if there is one, and what to be warned of."""

    title: str
    fields: Fields
    table: Table | None = None
    warnings: tuple[str, ...] = ()


def inspect_file(path: Path) -> Inspection:
    """Inspect a container or public file; raises MalformedError if it is neither."""
    with errors_at(path):
        if is_public_file(path):
            return _inspect_public(path)
        return _inspect_container(path)


def parameter_fields(deployment: Deployment) -> Fields:
    """Describe a deployment."""
    parameters = deployment.parameters
    bits = parameters.modulus_bits
    return [
        ("deployment", deployment.fingerprint),
        ("scheme", parameters.scheme + (f", modulus of {bits} bits" if bits else "")),
        ("descriptor", f"{parameters.descriptor}, {parameters.l} codes of {parameters.levels} levels"),
        ("grey bits", str(parameters.grey_bits)),
        ("group size", "no groups" if parameters.group_size is None else str(parameters.group_size)),
        ("signing key", deployment.signing_key.hex()),
    ]


def _inspect_public(path: Path) -> Inspection:
    data = read_public_file(path)
    kind = public_kind(data)
    if kind == "kmc":
        deployment = parse_kmc(data)
        title, warnings = f"{path}: public file of a KMC (a deployment)", deployment.parameters.warnings
        return Inspection(title, parameter_fields(deployment), warnings=tuple(warnings))
    if kind == "sealing":
        return _inspect_renewal(path, data)
    party = parse_party(data, kind, None)
    fields = [
        ("id", party.name),
        ("deployment", party_deployment(data)),
        ("signing key", party.key.hex()),
        ("fingerprint", party.fingerprint),
        ("signature", "fits the key"),
    ]
    return Inspection(f"{path}: public file of a {kind}", fields)


def _inspect_renewal(path: Path, data: bytes) -> Inspection:
    renewal = parse_renewal(data, None)
    fields = [
        ("deployment", party_deployment(data)),
        ("number", f"{renewal.number} ({moment(renewal.number)})"),
        ("sealing key", renewal.sealing_key.short_name),
        ("signing key", renewal.signing_key.hex()),
        ("fingerprint", renewal.fingerprint),
        ("signature", "fits the key; whether it is the KMC's, those know who hold kmc.pub"),
    ]
    return Inspection(f"{path}: renewed sealing key of a KMC", fields)


def _inspect_container(path: Path) -> Inspection:
    header = header_of(path)
    describe: dict[str, Callable[[], Found]] = {
        "enrolment": lambda: _members(path, ENROLMENT),
        "members": lambda: _members(path, MEMBERS),
        "upload": lambda: _upload(path, any_upload_schemas()),
        "segment": lambda: _upload(path, any_segment_schemas()),
        "features": lambda: _features(path),
        "delete": lambda: _delete(path),
        "query": lambda: _query(path),
        "selection": lambda: _selection(path, header),
        "results": lambda: _results(path, header),
        "groups": lambda: _groups(path, header),
        "reencrypted": lambda: _reencrypted(path),
        "index": lambda: inspect_index(path, header),
        "part": lambda: _part(path),
    }
    fields, table = describe[header.kind]()
    return Inspection(f"{path}: {header.kind} of {header.sender}", [*_header_fields(header), *fields], table)


def _header_fields(header: Header) -> Fields:
    number, name = header.number, "query id"
    if header.kind in NUMBERED_KINDS:
        name = "number"
        if header.kind not in ("index", "part"):
            number = f"{number} ({moment(header.sequence_number)})"
    elif header.kind in ("selection", "groups"):
        name = "selection id"  # which tells nothing of the query
    return [
        ("format", FORMAT_LINE),
        ("kind", header.kind),
        ("sender", header.sender),
        (name, number),
        ("deployment", header.deployment),
        ("sender's key", header.key),
        ("digest", f"{header.digest} (fits)"),
        ("signature", "fits the key; whose key it is, those know who enrolled it"),
    ]


def _members(path: Path, schema: Schema) -> Found:
    with open_container(path, schema) as container:
        container.same_length("user_ids", "user_keys")
        names = container.identifiers("user_ids", "a user")
        keys = [row.tobytes().hex() for row in container.matrix("user_keys").all()]
    fields: Fields = [("users", str(len(names)))]
    fields += [(f"user {name}", key) for name, key in zip(names, keys, strict=True)]
    if schema is ENROLMENT:
        fields.append(("image keys", "sealed to the KMC"))
    return fields, Table(("user", "key"), lambda: list(zip(names, keys, strict=True)))


def _upload(path: Path, schemas: Sequence[Schema]) -> Found:
    opened, schema = open_one_of(path, schemas)
    with opened as container:
        ew = container.ragged("EW")
        fields: Fields = [
            ("images", str(len(ew))),
            ("image key", f"{container.number('key_id'):016x}"),
            ("bytes of EW", str(sum(sum(ew.sizes(*span)) for span in _spans(len(ew))))),
        ]
        if GROUP_ENDS in schema.columns:
            fields.append(("groups", str(len(container.matrix(GROUP_ENDS)))))
        else:
            fields.append(("bytes of EF", f"{container.matrix('EF').row_bytes} an image, EFF the same"))
        fields.append(("earlier messages", listed(read_earlier(container)) or "none"))
        if schema.kind == "segment":
            origin = origin_of(container)
            fields.append(("names deleted", str(len(container.matrix("deleted")))))
            fields = [
                ("owner", origin.owner),
                ("owner's key", origin.key.hex()),
                ("of the digest", origin.digest.hex()),
                *fields,
            ]

    def rows() -> Iterator[Row]:
        with open_container(path, schema) as again:
            for begin, end in _spans(len(again.ragged("EW"))):
                names = again.ragged("image_names").rows(begin, end)
                sizes = again.ragged("EW").sizes(begin, end)
                yield from zip((name.decode(errors="replace") for name in names), sizes, strict=True)

    return fields, Table(("image_id", "encrypted_bytes"), rows)


def _delete(path: Path) -> Found:
    with open_container(path, DELETE) as container:
        fields: Fields = [
            ("images", str(len(container.ragged("image_names")))),
            ("earlier messages", listed(read_earlier(container)) or "none"),
        ]

    def rows() -> Iterator[Row]:
        with open_container(path, DELETE) as again:
            for batch in again.ragged("image_names").batches():
                yield from ((name.decode(errors="replace"),) for name in batch)

    return fields, Table(("image_id",), rows)


def _spans(rows: int, size: int = 4096) -> Iterator[tuple[int, int]]:
    return ((begin, min(begin + size, rows)) for begin in range(0, rows, size))


def _features(path: Path) -> Found:
    with open_container(path, FEATURES) as container:
        container.same_length(GROUP_ENDS, "group_lengths")
        ends = container.matrix(GROUP_ENDS).all().astype(np.int64)
        lengths = container.matrix("group_lengths").all().tolist()
        fields: Fields = [
            ("images", str(len(container.matrix("name_digests")))),
            ("image key", f"{container.number('key_id'):016x}"),
            ("groups", str(len(ends))),
            ("codes", "under a key of the owner's, for the KMC"),
            ("earlier messages", listed(read_earlier(container)) or "none"),
        ]
    sizes = np.diff(ends, prepend=0).tolist()
    rows = [(group, *each) for group, each in enumerate(zip(sizes, lengths, strict=True))]
    return fields, Table(("group", "images", "encrypted_bytes"), lambda: rows)


def _query(path: Path) -> Found:
    opened, schema = open_one_of(path, any_query_schemas())
    with opened as container:
        features = next(name for name in schema.columns if name in ("EQ", "codes"))
        others = ", EQQ the same" if features == "EQ" else ""
        owners = container.identifiers("owners", "an owner")
        fields: Fields = [
            ("query images", str(len(container.matrix(features)))),
            ("candidates", f"{container.number('candidates')} for each"),
            ("owners", ", ".join(map(printable, owners)) or "all who authorised the user"),
            (f"bytes of {features}", f"{container.matrix(features).row_bytes} an image{others}"),
            ("USK", "sealed to the KMC"),
        ]
    return fields, None


def _selection(path: Path, header: Header) -> Found:
    selection = read_selection(path, header.deployment)
    owners = sorted({ref.owner for ref in selection.groups})
    fields: Fields = [
        ("for the cloud", selection.cloud.hex()),
        ("groups", str(len(selection.groups))),
        ("owners", ", ".join(owners) or "none"),
    ]
    return fields, Table(("owner", "upload", "group"), lambda: list(selection.groups))


def _groups(path: Path, header: Header) -> Found:
    reader = open_groups(path, header.deployment)
    with reader.container:
        ew = reader.container.ragged("ER")
        fields: Fields = [
            ("images", str(len(ew))),
            ("groups with images", str(len(np.unique(reader.places)))),
            ("bytes of ER", str(sum(sum(ew.sizes(*span)) for span in _spans(len(ew))))),
        ]

    def rows() -> Iterator[Row]:
        again = open_groups(path, header.deployment)
        with again.container:
            for begin, end in _spans(len(again.places)):
                names = again.container.ragged("image_names").rows(begin, end)
                sizes = again.container.ragged("ER").sizes(begin, end)
                places = again.places[begin:end].tolist()
                texts = (name.decode(errors="replace") for name in names)
                yield from zip(places, texts, sizes, strict=True)

    return fields, Table(("place", "image_id", "encrypted_bytes"), rows)


def _results(path: Path, header: Header) -> Found:
    reader = open_results(path, header.deployment)
    with reader.container:
        images, matches = reader.images, reader.matches
        owners = sorted({image.owner for image in images})
        fields: Fields = [
            ("query", f"{len(reader.query_octets)} bytes, as the user sent it"),
            ("query images", str(len({match.query for match in matches}))),
            ("matches", str(len(matches))),
            ("images", str(len(images))),
            ("owners", ", ".join(owners) or "none"),
            ("searched", ", ".join(f"{o} ({n} images)" for o, n in reader.searched.items()) or "none"),
        ]

    def rows() -> Iterator[Row]:
        for match in matches:
            image = images[match.image]
            yield match.query, image.owner, image.name, f"{match.sim:.6f}"

    return fields, Table(("query", "owner", "image_id", "sim"), rows)


def _reencrypted(path: Path) -> Found:
    with open_container(path, REENCRYPTED) as container:
        ner = container.ragged("NER")
        fields: Fields = [
            ("images", str(len(ner))),
            ("bytes of NER", str(sum(sum(ner.sizes(*span)) for span in _spans(len(ner))))),
            ("manifest", "under USK: what matches, and who was searched"),
        ]
    return fields, None


def _part(path: Path) -> Found:
    raise MalformedError(
        "is a part of an index", hint=f"inspect the index: {path.parent.parent / 'index.h5'}"
    )
