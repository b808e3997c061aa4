"""The contents of a container or public file for `mipp inspect`, without secrets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mipp_cli.containers.base.container import header_of
from mipp_cli.containers.base.header import FORMAT_LINE, FORMAT_VERSION, NUMBERED_KINDS, Header
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
from mipp_cli.inspection.containers import READERS, Row
from mipp_cli.inspection.fields import Field, Fields, numbered, plain
from mipp_cli.scheme.image_model import PinnedModel


@dataclass(frozen=True)
class Table:
    """The main table of an inspection: column names, and rows generated on demand."""

    columns: tuple[str, ...]
    rows: Callable[[], Iterable[Row]]


@dataclass(frozen=True)
class Inspection:
    """The result of an inspection: a title, fields, the main table if any, and warnings.

    ``kind`` is the kind of a container; `kmc.pub`, `cloud.pub`, `user.pub` or `sealing.pub`; or `directory`.
    """

    title: str
    kind: str
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
    scheme, bits = parameters.scheme, parameters.modulus_bits
    size, descriptor = parameters.group_size, parameters.descriptor
    described = {key: each for key, each in descriptor.to_fields().items() if key != "model"}
    return [
        plain("deployment", deployment.fingerprint),
        plain("scheme", scheme, text=f"{scheme}, modulus of {bits} bits" if bits else scheme),
        Field("modulus_bits", bits or None),
        plain("descriptor", described, text=str(descriptor)),
        _model_field(descriptor.model),
        plain("group_size", size, text="no groups" if size is None else str(size)),
        plain("signing_key", deployment.signing_key.hex()),
    ]


def _model_field(model: PinnedModel | None) -> Field:
    """Describe the image model of a deployment; without one there is no text."""
    if model is None:
        return Field("model", None)
    seen = model.preprocessing
    size = f"resized to {seen.resize} ({seen.resample}), cut to {seen.crop}"
    lines = (
        ("model", f"SHA-256 {model.sha256}"),
        ("model's weights", model.weights_sha256 or "inside"),
        ("model's output", model.output + (f", {model.pooling} of its tokens" if model.pooling else "")),
        ("model's input", f"{size}, scale {seen.scale}, mean {seen.mean}, std {seen.std}"),
    )
    return Field("model", model.to_fields(), lines)


def _inspect_public(path: Path) -> Inspection:
    data = read_public_file(path)
    kind = public_kind(data)
    if kind == "kmc":
        deployment = parse_kmc(data)
        title, warnings = f"{path}: public file of a KMC (a deployment)", deployment.parameters.warnings
        return Inspection(title, "kmc.pub", parameter_fields(deployment), warnings=tuple(warnings))
    if kind == "sealing":
        return _inspect_renewal(path, data)
    party = parse_party(data, kind, None)
    fields = [
        plain("id", party.name),
        plain("deployment", party_deployment(data)),
        plain("signing_key", party.key.hex()),
        plain("fingerprint", party.fingerprint),
        _signature("verified"),
    ]
    return Inspection(f"{path}: public file of a {kind}", f"{kind}.pub", fields)


def _inspect_renewal(path: Path, data: bytes) -> Inspection:
    renewal = parse_renewal(data, None)
    fields = [
        plain("deployment", party_deployment(data)),
        *numbered(renewal.number),
        plain("sealing_key", renewal.sealing_key.short_name),
        plain("signing_key", renewal.signing_key.hex()),
        plain("fingerprint", renewal.fingerprint),
        _signature("verified with the key above; compare that key with kmc.pub"),
    ]
    return Inspection(f"{path}: rotated sealing key of a KMC", "sealing.pub", fields)


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
        return Inspection(f"{path}: {header.kind} of {header.sender}", header.kind, fields, table)


def _header_fields(header: Header) -> Fields:
    if header.kind not in NUMBERED_KINDS:
        # a selection id reveals nothing about the query
        name = "selection_id" if header.kind in ("selection", "groups") else "query_id"
        identity = [plain(name, header.number)]
    elif header.kind in ("index", "part"):
        identity = [plain("number", header.sequence_number)]  # a counter, not a time
    else:
        identity = numbered(header.sequence_number)
    return [
        plain("format_version", FORMAT_VERSION, "format", FORMAT_LINE),
        plain("kind", header.kind),
        plain("sender", header.sender),
        *identity,
        plain("deployment", header.deployment),
        plain("sender_key", header.key, "sender's key"),
        plain("digest", header.digest, text=f"{header.digest} (verified)"),
        Field("digest_fits", True),
        _signature("verified with the sender's key; the fingerprint tells whose key it is"),
    ]


def _signature(text: str) -> Field:
    """Return the field of a valid signature; files with an invalid one are refused before."""
    return plain("signature_fits", True, "signature", text)
