"""What is fuzzed: for each target its seeds, and what reads an input to the end.

An input for a container begins with a byte that says what the rest is: the HDF5 content itself, or a recipe
(recipes.py) by which a valid content is changed. Either way it is signed and its digest fits, so that
nothing but the reader is between it and whoever relies on it.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from mipp_cli.cloud.completeness import completeness, gap_warnings
from mipp_cli.containers.base.container import Container, open_container, read_header
from mipp_cli.containers.base.header import HEAD_BYTES, QUERY_KINDS, Header, parse
from mipp_cli.containers.base.source import BytesSource
from mipp_cli.containers.messages.delete import DELETE, deleted_names
from mipp_cli.containers.messages.earlier import read_earlier
from mipp_cli.containers.messages.features import open_features
from mipp_cli.containers.messages.manifest import Manifest
from mipp_cli.containers.messages.membership import parse_members, read_enrolment
from mipp_cli.containers.messages.public_files import (
    parse_kmc,
    parse_party,
    parse_renewal,
    party_deployment,
    public_kind,
    render_kmc,
    render_party,
    render_renewal,
)
from mipp_cli.containers.messages.query import features_place, parse_query
from mipp_cli.containers.messages.reencrypted import open_answer, open_reencrypted
from mipp_cli.containers.messages.results import open_results
from mipp_cli.containers.messages.selection import open_groups, read_selection
from mipp_cli.containers.messages.upload import UploadReader, upload_schema
from mipp_cli.containers.store.index import read_index
from mipp_cli.containers.store.part import PART, read_part
from mipp_cli.containers.store.segment import deleted_in, origin_of, segment_schema
from mipp_cli.errors import MippError
from mipp_cli.images.pictures import extension
from mipp_cli.inspection.files import inspect_file
from mipp_cli.kmc.applying import NameSet
from mipp_cli.sanitize import safe_file_name, table_cell
from mipp_cli.scheme.envelope import Envelope
from mipp_cli.scheme.parameters import Parameters, generate_parameters
from mipp_cli.scheme.protocol import ExactProtocol
from mipp_cli.scheme.retrieval_index import check_sums, ids_of, merged, nearest_pairs
from mipp_cli.scheme.sum_groups import CompositeGroup
from tests.containers.conftest import ALICE, DEPLOYMENT, EXACT, KEY, KMC, MASK, QUERY_ID
from tests.fuzz import hand_offs, own_files, seeds
from tests.fuzz.recipes import cook
from tests.support.hdf5 import body_digest

BODY, RECIPE = b"\0", b"\1"
_NO_MEMORY = re.compile(
    "(memory|resource) allocation|malloc|(can't|unable to) allocate|out of memory", re.IGNORECASE
)
N_1024 = "e3a1" + "5b" * 124 + "000f"  # composite, of 1024 bits, without small factors


@dataclass(frozen=True)
class Target:
    """A reader to fuzz. ``run`` reads an input, with a folder to write in; MippError alone may come out.

    ``mode`` is where the byte stands that tells a recipe from HDF5 content, if inputs have one.
    """

    run: Callable[[bytes, Path], object]
    seeds: Callable[[Path], list[bytes]]
    mode: int | None = None


def signed(name: str, body: bytes) -> bytes:
    """Put ``body`` behind a user block for a target, whose digest and signature fit."""
    kind = seeds.kind_of(name)
    number = QUERY_ID if kind in QUERY_KINDS else str(seeds.NUMBER)
    digest = body_digest(body)
    return Header(kind, ALICE.name, number, DEPLOYMENT, digest, KEY.public.hex()).render(KEY) + body


@cache
def _bodies(name: str, scratch: Path) -> list[bytes]:
    return seeds.bodies(name, scratch)


def body_of(known: list[bytes], data: bytes) -> bytes:
    """Return the HDF5 content that an input stands for, made of one of the ``known``."""
    if data[:1] == BODY:
        return _ended(data[1:])
    return cook(known[data[1] % len(known)], data[2:]) if len(data) > 1 else known[0]


def _ended(body: bytes) -> bytes:
    """Let a superblock say where the file ends, without which no reader would look at the rest."""
    if len(body) < 48:
        return body
    return body[:40] + (HEAD_BYTES + len(body)).to_bytes(8, "little") + body[48:]


def _seeds_of_container(name: str, scratch: Path) -> list[bytes]:
    return _inputs(name, _bodies(name, scratch))


def _inputs(name: str, known: list[bytes]) -> list[bytes]:
    recipes = random.Random(name)
    cooked = [RECIPE + recipes.randbytes(size) for size in (1, 8, 16, 24, 32, 48, 64, 96) * 3]
    return [*(BODY + body for body in known if len(body) < 1 << 16), *cooked]


def _container(name: str, read: Callable[[Path], object]) -> Target:
    def run(data: bytes, scratch: Path) -> None:
        path = scratch / "input.h5"
        path.write_bytes(signed(name, body_of(_bodies(name, scratch), data)))
        read(path)

    return Target(run, partial(_seeds_of_container, name), mode=0)


def _hand_off(step: str) -> Target:
    """Return a target that is a role's whole step."""

    def run(data: bytes, scratch: Path) -> None:
        made = hand_offs.world(scratch)
        handed, path = made.hand_off(step), made / "input.h5"
        path.write_bytes(handed.signed(body_of([handed.body], data)))
        hand_offs.STEPS[step](made, path)

    def begin(scratch: Path) -> list[bytes]:
        return _inputs(step, [hand_offs.world(scratch).hand_off(step).body])

    return Target(run, begin, mode=0)


def _read_members(path: Path) -> None:
    parse_members(path.read_bytes(), DEPLOYMENT)


def _read_enrolment(path: Path) -> None:
    read_enrolment(path, DEPLOYMENT, KMC)


def _read_upload(path: Path, parameters: Parameters = MASK) -> None:
    with open_container(path, upload_schema(parameters), deployment=DEPLOYMENT) as container:
        upload = UploadReader(container, parameters)
        _read_images(upload)
        upload.earlier()


def _read_segment(path: Path, parameters: Parameters = MASK) -> None:
    with open_container(path, segment_schema(parameters), deployment=DEPLOYMENT) as container:
        _read_images(UploadReader(container, parameters))
        deleted_in(container)
        origin_of(container)


def _read_images(upload: UploadReader) -> None:
    with suppress(MippError):  # what follows reads single rows of what is not checked as a whole
        upload.check_images()
        upload.names()
    for row in _some(len(upload)):
        with suppress(MippError):
            upload.name(row)
            upload.encrypted_image(row)
    if upload.parameters.protocol.grouped:
        _read_group_rows(upload)
        return
    ef, eff = upload.encrypted_features(0, min(len(upload), 64))
    for sums in zip(MASK.cipher.sums(ef), MASK.cipher.sums(eff), strict=True):
        check_sums(*sums, MASK.l, MASK.levels)


def _read_group_rows(upload: UploadReader) -> None:
    """Read the rows of some groups, and of groups that cannot be, as the cloud brings them."""
    for group in (*_some(len(upload.group_ends())), 2**32 - 1):
        for row in list(upload.group_rows(group))[:4]:
            with suppress(MippError):
                upload.name(row)


def _read_features(path: Path) -> None:
    reader = open_features(path, EXACT, DEPLOYMENT)
    with reader.container:
        reader.earlier()
        NameSet(reader.name_digests).has_twins()
        for begin, end, _ in reader.chunks(None):
            reader.image_digests(begin, end)
        for begin, end, codes in reader.chunks(seeds.FEATURE_CIPHER):
            if codes is None or codes.shape != (end - begin, EXACT.l):
                raise AssertionError("codes of another shape were read")


def _read_delete(path: Path) -> None:
    with open_container(path, DELETE, deployment=DEPLOYMENT) as container:
        with suppress(MippError):
            deleted_names(container)
        read_earlier(container)


def _some(rows: int) -> list[int]:
    return sorted({*range(min(rows, 4)), *range(max(0, rows - 4), rows)})


def _read_query(path: Path) -> None:
    query = parse_query(path.read_bytes(), MASK, DEPLOYMENT)
    shape = (query.images, MASK.l, MASK.cipher.number_bytes)
    eq, eqq = (MASK.cipher.sums(column.reshape(shape)) for column in query.features)
    query.open_usk(KMC)
    for pair in zip(eq, eqq, strict=True):
        check_sums(*pair, MASK.l, MASK.levels)


def _read_query_to_rank(path: Path) -> None:
    query = parse_query(path.read_bytes(), EXACT, DEPLOYMENT)
    protocol = EXACT.protocol
    protocol.check_matches(query.images * query.candidates)
    usk = query.open_usk(KMC)
    place = features_place(DEPLOYMENT, query.header.sender, query.query_id)
    if not isinstance(protocol, ExactProtocol):
        raise AssertionError("the KMC does not rank")
    if protocol.open_query(query.features[0], usk, place).shape != (query.images, EXACT.l):
        raise AssertionError("codes of another shape were read")
    query.names_owner("north")


def _read_selection(path: Path) -> None:
    selection = read_selection(path, DEPLOYMENT)
    if list(selection.groups) != sorted(set(selection.groups)):
        raise AssertionError("groups were read out of order")


def _read_groups(path: Path) -> None:
    reader = open_groups(path, DEPLOYMENT)
    with reader.container:
        for place in (*_some(64), 2**32 - 1):
            rows = reader.rows_at(place)
            with suppress(MippError):
                reader.names(rows)
            for row in list(rows)[:4]:
                with suppress(MippError):
                    reader.encrypted_image(row)


def _read_results(path: Path) -> None:
    reader = open_results(path, DEPLOYMENT)
    with reader.container:
        for number in _some(len(reader.images)):
            with suppress(MippError):
                reader.encrypted_image(number)
        parse_query(reader.query_data, MASK, DEPLOYMENT)


def _read_reencrypted(path: Path) -> None:
    with open_reencrypted(path, DEPLOYMENT) as container:
        answer = open_answer(container, seeds.ANSWER_CIPHER, hashlib.sha256(b"").digest())
        for number in range(answer.manifest.images):
            answer.envelope(number)


def _read_index(path: Path) -> None:
    index = read_index(path, DEPLOYMENT)
    for part in index.parts:
        index.rows_of(part)
    for segment in index.segments:
        index.of_owner(segment.owner)
        index.parts_of(segment.owner)
        index.without_owner(segment.owner)
    gap_warnings(index)
    for owner in index.owners():
        completeness(None, index, owner)


def _read_part(path: Path) -> None:
    source = BytesSource(path.read_bytes())
    with Container(source, read_header(source, kind="part", deployment=DEPLOYMENT), PART) as container:
        reader = read_part(container)
        with suppress(MippError):
            reader.find(np.sort(ids_of(name.encode() for name in seeds.NAMES)))
        pairs, _ = nearest_pairs(reader.pairs, 5, 7, MASK.l, 2)
        for pair in pairs[:4]:
            begin, end = (int(start) for start in reader.pairs.starts[pair : pair + 2])
            reader.ids(begin, min(end, begin + 4))
        for _ in zip(merged([reader], [np.array([1])]), range(64), strict=False):
            pass


def _inspected(path: Path) -> None:
    found = inspect_file(path)
    json.dumps({field.key: field.value for field in found.fields})
    "".join(f"{label}: {text}" for field in found.fields for label, text in field.lines).encode()
    if found.table is not None:
        for row in found.table.rows():
            "".join(table_cell(str(cell)) for cell in row).encode()


def _run_inspect(data: bytes, scratch: Path) -> None:
    kinds = sorted(seeds.WRITERS)
    kind = kinds[data[0] % len(kinds)] if data else kinds[0]
    path = scratch / "input.h5"
    path.write_bytes(signed(kind, body_of(_bodies(kind, scratch), data[1:])))
    _inspected(path)


def _seeds_of_inspect(scratch: Path) -> list[bytes]:
    kinds = sorted(seeds.WRITERS)
    inputs = [
        (number, each) for number, kind in enumerate(kinds) for each in _seeds_of_container(kind, scratch)
    ]
    return [bytes([number]) + each for number, each in inputs]


def _run_header(data: bytes, _scratch: Path) -> None:
    if data[:1] == RECIPE:  # the text before the signature, to be signed
        text = data[1:]
        block = text + b"signature " + KEY.sign(text).hex().encode() + b"\n"
        data = b"\0" + block.ljust(HEAD_BYTES, b"\0")
    header = parse(data[1:])
    if header.render(KEY)[:60] != data[1:61]:
        raise AssertionError("a block was read that would have been written otherwise")


def _seeds_of_header(scratch: Path) -> list[bytes]:
    blocks = [seeds.containers(kind, scratch)[0][:HEAD_BYTES] for kind in seeds.WRITERS]
    return [BODY + block for block in blocks] + [
        RECIPE + block.partition(b"signature")[0] for block in blocks
    ]


def _run_public(data: bytes, _scratch: Path) -> None:
    text = _signed_json(data[1:]) if data[:1] == RECIPE else data[1:]
    readers: Iterable[Callable[[], object]] = (
        lambda: public_kind(text),
        lambda: party_deployment(text),
        lambda: parse_kmc(text),
        lambda: parse_party(text, "user", None),
        lambda: parse_party(text, "cloud", DEPLOYMENT),
        lambda: parse_renewal(text, None),
    )
    for read in readers:
        with suppress(MippError):
            read()


def _signed_json(text: bytes) -> bytes:
    """Return a JSON object in canonical form and signed, whatever its fields say; other text as it is."""
    try:
        fields = json.loads(text)
        fields = {**fields, "signing_key": KEY.public.hex()}
        fields.pop("signature", None)
        body = (json.dumps(fields, indent=1) + "\n").encode("ascii")
        return (json.dumps({**fields, "signature": KEY.sign(body).hex()}, indent=1) + "\n").encode("ascii")
    except (ValueError, TypeError, RecursionError):
        return text


def _seeds_of_public(_scratch: Path) -> list[bytes]:
    dcr = Parameters("dcr", CompositeGroup(int(N_1024, 16)))
    paper = generate_parameters("paper", modulus_bits=768, allow_insecure=True)
    texts = [render_kmc(parameters, KMC.public, KEY) for parameters in (EXACT, MASK, dcr, paper)]
    texts += [render_party(kind, "alice", DEPLOYMENT, KEY) for kind in ("user", "cloud")]
    texts.append(render_renewal(seeds.NUMBER, KMC.public, DEPLOYMENT, KEY))
    return [mark + text for mark in (BODY, RECIPE) for text in texts]


def _run_envelope(data: bytes, _scratch: Path) -> None:
    envelope = Envelope.unpack(data)
    if envelope.pack(len(data)) != data:
        raise AssertionError("an envelope was read that would have been written otherwise")
    name = safe_file_name(envelope.path) + extension(envelope.media_type)
    if "/" in name or "\0" in name or len(name.encode()) > 255 or name.startswith("."):
        raise AssertionError("an image's path became a file name that is none")
    table_cell(envelope.path).encode()


def _run_answer_manifest(data: bytes, _scratch: Path) -> None:
    Manifest.unpack(data)


def _run_npy_features(data: bytes, scratch: Path) -> None:
    path = scratch / "features.npy"
    path.write_bytes(b"\x93NUMPY" + data)
    own_files.run_features(path)


def _run_hdf5_features(data: bytes, scratch: Path) -> None:
    path = scratch / "features.h5"
    path.write_bytes(bytes(HEAD_BYTES) + body_of(own_files.hdf5_features(), data))
    own_files.run_features(path)


TARGETS: dict[str, Target] = {
    "header": Target(_run_header, _seeds_of_header),
    "public": Target(_run_public, _seeds_of_public),
    "members": _container("members", _read_members),
    "enrolment": _container("enrolment", _read_enrolment),
    "upload": _container("upload", _read_upload),
    "upload-exact": _container("upload-exact", partial(_read_upload, parameters=EXACT)),
    "features": _container("features", _read_features),
    "delete": _container("delete", _read_delete),
    "query": _container("query", _read_query),
    "query-exact": _container("query-exact", _read_query_to_rank),
    "selection": _container("selection", _read_selection),
    "results": _container("results", _read_results),
    "groups": _container("groups", _read_groups),
    "reencrypted": _container("reencrypted", _read_reencrypted),
    "index": _container("index", _read_index),
    "part": _container("part", _read_part),
    "segment": _container("segment", _read_segment),
    "segment-exact": _container("segment-exact", partial(_read_segment, parameters=EXACT)),
    **{step: _hand_off(step) for step in hand_offs.STEPS},
    "inspect": Target(_run_inspect, _seeds_of_inspect, mode=1),
    "envelope": Target(_run_envelope, lambda _scratch: seeds.envelopes()),
    "answer-manifest": Target(_run_answer_manifest, lambda _scratch: seeds.answer_manifests()),
    **{kind: Target(*each) for kind, each in own_files.picture_targets().items()},
    **{name: Target(*each) for name, each in own_files.OTHERS.items()},
    "npy-features": Target(_run_npy_features, lambda _scratch: seeds.feature_files()),
    "hdf5-features": Target(
        _run_hdf5_features,
        lambda _scratch: _inputs("hdf5-features", own_files.hdf5_features()),
        mode=0,
    ),
}


def memory_was_asked_for(error: BaseException | None) -> bool:
    """Say whether an error, or one that it came from, tells that memory could not be had."""
    while error is not None:
        text = str(error)
        # libheif calls it so where it refuses by a limit of its own, before it takes any
        if isinstance(error, MemoryError) or (_NO_MEMORY.search(text) and "Security limit" not in text):
            return True
        error = error.__cause__ or error.__context__
    return False


def attempt(target: Target, data: bytes, scratch: Path) -> MippError | None:
    """Read one input and return the error that refused it; raise whatever is a finding.

    That is any error but MippError, and memory without measure.
    """
    try:
        target.run(data, scratch)
    except MippError as error:
        if memory_was_asked_for(error):
            raise AssertionError("memory was taken before it was known to be needed") from error
        return error
    return None
