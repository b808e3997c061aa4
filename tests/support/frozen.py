"""Frozen containers: one of every kind, what it says, and its siblings with one defect each.

``tests/vectors/containers/NAME.h5`` is a container of ``tests/fuzz/seeds.py``; ``NAME.json`` holds the answer
that reading it must give, and its siblings: which bytes differ. ``ERRORS`` says what each defect must raise.
``python -m tests.support.frozen`` writes all of them anew, which nothing but a change of the format demands.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mipp_cli.containers.base.container import open_container
from mipp_cli.containers.base.header import HEAD_BYTES, KINDS, QUERY_KINDS, Header
from mipp_cli.containers.base.source import BytesSource, block_digests, digest_of
from mipp_cli.containers.messages.delete import DELETE, deleted_names
from mipp_cli.containers.messages.earlier import read_earlier
from mipp_cli.containers.messages.features import open_features
from mipp_cli.containers.messages.membership import parse_members, read_enrolment
from mipp_cli.containers.messages.query import features_place, parse_query
from mipp_cli.containers.messages.reencrypted import open_answer, open_reencrypted
from mipp_cli.containers.messages.results import open_results
from mipp_cli.containers.messages.selection import open_groups, read_selection
from mipp_cli.containers.messages.upload import UploadCipher, UploadReader, upload_schema
from mipp_cli.containers.store.index import read_index
from mipp_cli.containers.store.part import PART, read_part
from mipp_cli.containers.store.segment import deleted_in, origin_of, segment_schema
from mipp_cli.errors import MalformedError, MippError, TamperedError, WrongDeploymentError
from mipp_cli.scheme.parameters import Parameters
from mipp_cli.scheme.protocol import ExactProtocol
from tests.containers.conftest import (
    ALICE,
    DEPLOYMENT,
    EXACT,
    KEY,
    KMC,
    MASK,
    OTHER_DEPLOYMENT,
    OTHER_KEY,
    QUERY_ID,
)
from tests.fuzz import seeds

FOLDER = Path(__file__).parents[1] / "vectors" / "containers"
Patches = list[tuple[int, str]]


def _hex(rows: np.ndarray[Any, Any]) -> list[str]:
    return [row.tobytes().hex() for row in rows]


def _users(users: object) -> list[list[str]]:
    return sorted([name, key.hex()] for name, key in users)


def _members(path: Path) -> object:
    read = parse_members(path.read_bytes(), DEPLOYMENT)
    return {"number": read.number, "users": _users(read.users)}


def _enrolment(path: Path) -> object:
    read = read_enrolment(path, DEPLOYMENT, KMC)
    keys = {f"{key_id:016x}": key.hex() for key_id, key in read.image_keys.items()}
    return {"users": _users(read.membership.users), "image keys": keys}


def _upload(path: Path, parameters: Parameters = MASK) -> object:
    with open_container(path, upload_schema(parameters), deployment=DEPLOYMENT) as container:
        upload = UploadReader(container, parameters)
        upload.check_images()
        cipher = UploadCipher(seeds.IMAGE_KEY, DEPLOYMENT, ALICE.name, seeds.NUMBER)
        names = upload.names()
        images = {
            name: cipher.decrypt(upload.encrypted_image(row), name).hex() for row, name in enumerate(names)
        }
        return {"images": images, "earlier": list(upload.earlier())} | _beside(upload)


def _beside(upload: UploadReader) -> dict[str, object]:
    """What lies beside the images: the ends of the groups, or the features."""
    if upload.parameters.protocol.grouped:
        return {"group ends": upload.group_ends().tolist()}
    ef, eff = upload.encrypted_features(0, len(upload))
    return {"sums": [MASK.cipher.sums(ef), MASK.cipher.sums(eff)]}


def _features(path: Path) -> object:
    reader = open_features(path, EXACT, DEPLOYMENT)
    with reader.container:
        names, images, codes = [], [], []
        for begin, end, opened in reader.chunks(seeds.FEATURE_CIPHER):
            names += _hex(reader.name_digests[begin:end])
            images += _hex(reader.image_digests(begin, end))
            codes += [] if opened is None else opened.tolist()
        return {"names": names, "images": images, "codes": codes, "earlier": list(reader.earlier())}


def _delete(path: Path) -> object:
    with open_container(path, DELETE, deployment=DEPLOYMENT) as container:
        return {
            "names": [name.decode() for name in deleted_names(container)],
            "earlier": list(read_earlier(container)),
        }


def _query(path: Path, parameters: Parameters = MASK) -> object:
    query = parse_query(path.read_bytes(), parameters, DEPLOYMENT)
    usk = query.open_usk(KMC)
    answer: dict[str, object] = {"candidates": query.candidates, "images": query.images, "usk": usk.hex()}
    if isinstance(parameters.protocol, ExactProtocol):
        place = features_place(DEPLOYMENT, query.header.sender, query.query_id)
        return answer | {"codes": parameters.protocol.open_query(query.features[0], usk, place).tolist()}
    shape = (query.images, MASK.l, MASK.cipher.number_bytes)
    return answer | {"sums": [MASK.cipher.sums(column.reshape(shape)) for column in query.features]}


def _selection(path: Path) -> object:
    read = read_selection(path, DEPLOYMENT)
    return {
        "groups": [list(ref) for ref in read.groups],
        "lengths": list(read.lengths),
        "cloud": read.cloud.hex(),
    }


def _groups(path: Path) -> object:
    reader = open_groups(path, DEPLOYMENT)
    with reader.container:
        return {
            str(place): [
                [name, reader.encrypted_image(row).hex()]
                for row, name in zip(reader.rows_at(place), reader.names(reader.rows_at(place)), strict=True)
            ]
            for place in range(3)
            if len(reader.rows_at(place))
        }


def _results(path: Path) -> object:
    reader = open_results(path, DEPLOYMENT)
    with reader.container:
        images = [
            [ref.owner, ref.name, ref.upload, f"{ref.key_id:016x}", reader.encrypted_image(number).hex()]
            for number, ref in enumerate(reader.images)
        ]
        matches = [[match.query, match.image, match.sim] for match in reader.matches]
        return {"images": images, "matches": matches, "searched": reader.searched}


def _reencrypted(path: Path) -> object:
    with open_reencrypted(path, DEPLOYMENT) as container:
        answer = open_answer(container, seeds.ANSWER_CIPHER, hashlib.sha256(b"").digest())
        images = [answer.envelope(number).hex() for number in range(answer.manifest.images)]
        matches = [[each.query, each.image, each.owner, each.distance] for each in answer.manifest.matches]
        owners = [[each.name, each.images] for each in answer.manifest.owners]
        return {"images": images, "matches": matches, "owners": owners}


def _index(path: Path) -> object:
    index = read_index(path, DEPLOYMENT)
    segments = [
        [each.owner, each.number, each.rows, each.digest.hex(), list(each.earlier)] for each in index.segments
    ]
    return {"segments": segments, "parts": [[part.number, list(part.segments)] for part in index.parts]}


def _part(path: Path) -> object:
    with open_container(path, PART, deployment=DEPLOYMENT) as container:
        part = read_part(container)
        pairs = [part.pairs.sum1.tolist(), part.pairs.sum2.tolist(), part.pairs.starts.tolist()]
        return {
            "pairs": pairs,
            "ids": _hex(part.ids(0, len(part))),
            "images": part.images(0, len(part)).tolist(),
        }


def _segment(path: Path, parameters: Parameters = MASK) -> object:
    with open_container(path, segment_schema(parameters), deployment=DEPLOYMENT) as container:
        upload, origin = UploadReader(container, parameters), origin_of(container)
        return {
            "of": [origin.owner, origin.number, origin.digest.hex(), list(origin.earlier)],
            "images": [
                [name, upload.encrypted_image(row).hex()[:8]] for row, name in enumerate(upload.names())
            ],
            "deleted": _hex(deleted_in(container)),
        } | {"rows": len(upload)}


READERS: dict[str, Callable[[Path], object]] = {
    "members": _members,
    "enrolment": _enrolment,
    "upload": _upload,
    "upload-exact": partial(_upload, parameters=EXACT),
    "features": _features,
    "delete": _delete,
    "query": _query,
    "query-exact": partial(_query, parameters=EXACT),
    "selection": _selection,
    "results": _results,
    "groups": _groups,
    "reencrypted": _reencrypted,
    "index": _index,
    "part": _part,
    "segment": _segment,
    "segment-exact": partial(_segment, parameters=EXACT),
}


def read(name: str, path: Path) -> Any:
    """Return what a container says, as JSON has it."""
    return json.loads(json.dumps(READERS[name](path)))


# Siblings


def _signed(name: str, body: bytes, **changes: str) -> bytes:
    kind = seeds.kind_of(name)
    number = QUERY_ID if kind in QUERY_KINDS else str(seeds.NUMBER)
    fields = {"kind": kind, "sender": ALICE.name, "number": number, "deployment": DEPLOYMENT}
    digest = digest_of(block_digests(BytesSource(bytes(HEAD_BYTES) + body)))
    fields |= {"digest": digest, "key": KEY.public.hex()}
    return Header(**fields | changes).render(KEY) + body


def _impossible_value(data: bytes) -> bytes:
    """Let a ragged column begin behind its first byte; where there is none, spoil the first number."""
    with h5py.File(io.BytesIO(data), "r") as file:
        found: list[h5py.Dataset] = []
        file.visititems(lambda _name, node: found.append(node) if isinstance(node, h5py.Dataset) else None)
        offsets = [each for each in found if each.name.endswith("/offsets")]
        spoiled = (offsets or [each for each in found if each.ndim == 1])[0]
        at, size = spoiled.id.get_offset(), spoiled.dtype.itemsize
    changed = bytearray(data)
    changed[at : at + size] = b"\1".ljust(size, b"\0") if offsets else b"\xff" * size
    return bytes(changed[HEAD_BYTES:])


def _renamed_column(data: bytes) -> bytes:
    with h5py.File(io.BytesIO(data), "r") as file:
        name = sorted(file)[0].encode()
    # one letter less, so that the names stay in their order
    return data[HEAD_BYTES:].replace(name + b"\0", name[:-1] + bytes([name[-1] - 1]) + b"\0", 1)


def _other_kind(kind: str) -> str:
    """Return another kind whose numbers are of the same form."""
    return next(each for each in KINDS if each != kind and (each in QUERY_KINDS) == (kind in QUERY_KINDS))


ERRORS = {
    "another version of the format": MalformedError,
    "a changed signature": TamperedError,
    "another sender's key": TamperedError,
    "a key under which anybody can sign": MalformedError,
    "a changed byte of the content": TamperedError,
    "cut short": TamperedError,
    "a byte too many": TamperedError,
    "another kind": MalformedError,
    "another deployment": WrongDeploymentError,
    "a column of another name": MalformedError,
    "a value that cannot be": MalformedError,
    "earlier messages out of order": MalformedError,
    "groups that are no partition": MalformedError,
}


def siblings(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield a container's siblings, each with one defect; where content changes, digest and signature fit."""
    body, key = data[HEAD_BYTES:], KEY.public.hex().encode()
    line = data.index(b"\n")
    signature = data.index(b"signature ") + len(b"signature ")
    digit = b"1" if data[signature : signature + 1] == b"0" else b"0"
    yield "another version of the format", (b"mipp 9" + data[line:]).ljust(len(data), b"\0")
    yield "a changed signature", data[:signature] + digit + data[signature + 1 :]
    yield "another sender's key", data.replace(key, OTHER_KEY.public.hex().encode(), 1)
    yield "a key under which anybody can sign", data.replace(key, b"01" + b"00" * 31, 1)
    yield "a changed byte of the content", data[:-1] + bytes([data[-1] ^ 1])
    yield "cut short", data[:-1]
    yield "a byte too many", data + b"\0"
    yield "another kind", _signed(name, body, kind=_other_kind(seeds.kind_of(name)))
    yield "another deployment", _signed(name, body, deployment=OTHER_DEPLOYMENT)
    yield "a column of another name", _signed(name, _renamed_column(data))
    yield "a value that cannot be", _signed(name, _impossible_value(data))
    places = _places(data)
    if "earlier" in places:
        begin, end = places["earlier"]
        turned = np.frombuffer(data[begin:end], "<u8")[::-1].tobytes()
        yield (
            "earlier messages out of order",
            _signed(name, (data[:begin] + turned + data[end:])[HEAD_BYTES:]),
        )
    if "group_ends" in places:
        begin, end = places["group_ends"]
        ends = data[:begin] + bytes(end - begin) + data[end:]
        yield "groups that are no partition", _signed(name, ends[HEAD_BYTES:])


def _places(data: bytes) -> dict[str, tuple[int, int]]:
    """Return where the rows of the plain columns lie."""
    with h5py.File(io.BytesIO(data), "r") as file:
        found = {name: node for name, node in file.items() if isinstance(node, h5py.Dataset) and node.size}
        return {
            name: (node.id.get_offset(), node.id.get_offset() + node.size * node.dtype.itemsize)
            for name, node in found.items()
        }


def patches(before: bytes, after: bytes) -> dict[str, object]:
    """Return how to make ``after`` of ``before``: its length, and the stretches of bytes that differ."""
    found: Patches = []
    padded = before.ljust(len(after), b"\0")
    for at in range(0, len(after), 16):
        if padded[at : at + 16] != after[at : at + 16]:
            found.append((at, after[at : at + 16].hex()))
    return {"length": len(after), "bytes": found}


def patched(before: bytes, change: dict[str, Any]) -> bytes:
    """Return the sibling that :func:`patches` describes."""
    out = bytearray(before.ljust(change["length"], b"\0")[: change["length"]])
    for at, data in change["bytes"]:
        out[at : at + len(data) // 2] = bytes.fromhex(data)
    return bytes(out)


def refusal(name: str, path: Path) -> MippError | None:
    """Return the error that reading a container raises, None if it raises none."""
    try:
        read(name, path)
    except MippError as error:
        return error
    return None


def freeze(name: str, scratch: Path) -> None:
    """Write a container, what it says, and its siblings."""
    data = seeds.containers(name, scratch)[0]
    path, found = scratch / "read.h5", {}
    path.write_bytes(data)
    answer = read(name, path)
    for defect, sibling in siblings(name, data):
        path.write_bytes(sibling)
        error = refusal(name, path)
        if type(error) is not ERRORS[defect]:
            raise AssertionError(f"{name}: {defect}: {error!r}")
        found[defect] = patches(data, sibling)
    (FOLDER / f"{name}.h5").write_bytes(data)
    text = json.dumps({"answer": answer, "siblings": found}, indent=1, ensure_ascii=False)
    (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Freeze a container of every kind."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for name in READERS:
            freeze(name, Path(scratch))
            sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    main()
