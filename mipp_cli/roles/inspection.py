"""What a file holds, for whoever looks: every kind of container and public file, never a secret."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mipp_cli.containers.container import Schema, header_of, open_container
from mipp_cli.containers.delete import DELETE
from mipp_cli.containers.earlier import read_earlier
from mipp_cli.containers.header import FORMAT_LINE, NUMBERED_KINDS, Header
from mipp_cli.containers.membership import ENROLMENT, MEMBERS
from mipp_cli.containers.public_files import (
    Deployment,
    is_public_file,
    parse_kmc,
    parse_party,
    parse_renewal,
    party_deployment,
    public_kind,
    read_public_file,
)
from mipp_cli.containers.query import query_schema
from mipp_cli.containers.reencrypted import REENCRYPTED
from mipp_cli.containers.results import open_results
from mipp_cli.containers.segment import origin_of, segment_schema
from mipp_cli.containers.upload import upload_schema
from mipp_cli.errors import MalformedError, at_path
from mipp_cli.roles.completeness import listed
from mipp_cli.roles.inspect_index import inspect_index
from mipp_cli.roles.inspected import Fields, Found, Row, Table
from mipp_cli.roles.sequence import moment


@dataclass(frozen=True)
class Inspection:
    """What was found: a title, named values, the main table if there is one, and what to be warned of."""

    title: str
    fields: Fields
    table: Table | None = None
    warnings: tuple[str, ...] = ()


def inspect_file(path: Path) -> Inspection:
    """Inspect a container or public file; raises MalformedError if it is neither."""
    with at_path(path):
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
        "upload": lambda: _upload(path, upload_schema(None)),
        "segment": lambda: _upload(path, segment_schema(None)),
        "delete": lambda: _delete(path),
        "query": lambda: _query(path),
        "results": lambda: _results(path, header),
        "reencrypted": lambda: _reencrypted(path),
        "index": lambda: inspect_index(path, header),
        "part": lambda: _part(path),
    }
    fields, table = describe[header.kind]()
    return Inspection(f"{path}: {header.kind} of {header.sender}", [*_header_fields(header), *fields], table)


def _header_fields(header: Header) -> Fields:
    number = header.number
    if header.kind in NUMBERED_KINDS and header.kind not in ("index", "part"):
        number = f"{number} ({moment(header.sequence_number)})"
    return [
        ("format", FORMAT_LINE),
        ("kind", header.kind),
        ("sender", header.sender),
        ("number" if header.kind in NUMBERED_KINDS else "query id", number),
        ("deployment", header.deployment),
        ("sender's key", header.key),
        ("digest", f"{header.digest} (fits)"),
        ("signature", "fits the key; whose key it is, those know who enrolled it"),
    ]


def _members(path: Path, schema: Schema) -> Found:
    with open_container(path, schema) as container:
        container.same_length("user_ids", "user_keys")
        names = container.ragged("user_ids").texts()
        keys = [row.tobytes().hex() for row in container.matrix("user_keys").all()]
    fields: Fields = [("users", str(len(names)))]
    fields += [(f"user {name}", key) for name, key in zip(names, keys, strict=True)]
    if schema is ENROLMENT:
        fields.append(("image keys", "sealed to the KMC"))
    return fields, Table(("user", "key"), lambda: list(zip(names, keys, strict=True)))


def _upload(path: Path, schema: Schema) -> Found:
    with open_container(path, schema) as container:
        ew = container.ragged("EW")
        fields: Fields = [
            ("images", str(len(ew))),
            ("image key", f"{container.number('key_id'):016x}"),
            ("bytes of EW", str(sum(sum(ew.sizes(*span)) for span in _spans(len(ew))))),
            ("bytes of EF", f"{container.matrix('EF').row_bytes} an image, EFF the same"),
        ]
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


def _query(path: Path) -> Found:
    with open_container(path, query_schema(None)) as container:
        fields: Fields = [
            ("query images", str(len(container.matrix("EQ")))),
            ("candidates", f"{container.number('candidates')} for each"),
            ("bytes of EQ", f"{container.matrix('EQ').row_bytes} an image, EQQ the same"),
            ("USK", "sealed to the KMC"),
        ]
    return fields, None


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
            ("manifest", "under USK: query, owners and names"),
        ]
    return fields, None


def _part(path: Path) -> Found:
    raise MalformedError(
        "is a part of an index", hint=f"inspect the index: {path.parent.parent / 'index.h5'}"
    )
