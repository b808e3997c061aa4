"""What a file holds, for whoever looks: every kind of container and public file, never a secret."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mipp_cli.containers.base.container import header_of
from mipp_cli.containers.base.header import FORMAT_LINE, NUMBERED_KINDS, Header
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
from mipp_cli.errors import errors_at
from mipp_cli.inspection.containers import READERS, Fields, Row
from mipp_cli.scheme.image_model import PinnedModel
from mipp_cli.workdir.replay import moment


@dataclass(frozen=True)
class Table:
    """The main table of what was inspected: column names, and rows made when asked for."""

    columns: tuple[str, ...]
    rows: Callable[[], Iterable[Row]]


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
        ("descriptor", str(parameters.descriptor)),
        *_model_fields(parameters.descriptor.model),
        ("grey bits", str(parameters.grey_bits)),
        ("group size", "no groups" if parameters.group_size is None else str(parameters.group_size)),
        ("signing key", deployment.signing_key.hex()),
    ]


def _model_fields(model: PinnedModel | None) -> Fields:
    """Describe the image model of a deployment, if it has one."""
    if model is None:
        return []
    seen = model.preprocessing
    size = f"resized to {seen.resize} ({seen.resample}), cut to {seen.crop}"
    return [
        ("model", f"SHA-256 {model.sha256}"),
        ("model's weights", model.weights_sha256 or "inside"),
        ("model's output", model.output + (f", {model.pooling} of its tokens" if model.pooling else "")),
        ("model's input", f"{size}, scale {seen.scale}, mean {seen.mean}, std {seen.std}"),
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
    read = READERS[header.kind]

    def rows() -> Iterator[Row]:
        with ExitStack() as stack:
            yield from read(path, header, stack).rows

    with ExitStack() as stack:
        found = read(path, header, stack)
        fields = [*_header_fields(header), *found.fields]
        table = Table(found.columns, rows) if found.columns else None
        return Inspection(f"{path}: {header.kind} of {header.sender}", fields, table)


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
