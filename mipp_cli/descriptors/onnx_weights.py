"""Finds the files that an ONNX model stores weights in, by parsing the model.

A deployment pins these files, and passes their contents to onnxruntime. onnxruntime uses them only for
weights of the main graph: for weights of a graph inside a node, of a function or of an attribute it would
open a file of that name in the current directory. Such models are refused. An ONNX file is one protobuf
message; this module parses it only down to the tensors. Encodings that onnxruntime might parse differently,
such as an overlong tag, are refused.

Source: onnx.proto (ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto) and "External data" of the
ONNX specification; the wire format of Protocol Buffers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from mipp_cli.errors import MalformedError

_VARINT: Final = 0
_FIXED: Final = {1: 8, 5: 4}
_BYTES: Final = 2
_DEEPEST: Final = 64  # graphs are nested in attributes of nodes, hardly ever twice
_LARGEST_TAG: Final = (1 << 32) - 1
_LOCATION: Final = b"location"
_EXTERNAL_DATA: Final = "external data"
_DATA_LOCATION: Final = 14  # field of a tensor, a number
_EXTERNAL: Final = 1

_LONGEST_NAME: Final = 255  # bytes; the limit of common file systems
_PINNED: Final = ("model", "graph", "tensor")  # the path to the weights of the main graph

# By message, the fields that lead to tensors: their number and type.
_FIELDS: Final = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse tensor",
        23: "sparse tensor",
    },
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {13: _EXTERNAL_DATA},
}


def external_files(model: bytes) -> list[str]:
    """Return the names of the files that a model stores weights in, sorted; none for most models.

    Raises MalformedError if the bytes are not an ONNX model, if a file is not in the model's folder, or if it
    has weights of anything but the main graph.
    """
    try:
        names = {_checked(location) for location in _locations(memoryview(model), ("model",))}
    except (IndexError, UnicodeDecodeError):
        raise _not_onnx() from None
    return sorted(names)


def _checked(location: str) -> str:
    path = PurePosixPath(location)
    elsewhere = path.is_absolute() or ".." in path.parts or not path.parts or "\\" in location
    misspelled = str(path) != location.removeprefix("./") or "\0" in location
    if elsewhere or misspelled or len(location.encode()) > _LONGEST_NAME:
        raise MalformedError(
            f"stores weights in {location[:_LONGEST_NAME]!r}, which is not in its folder",
            hint="export it with all weights in its folder",
        )
    return str(path)


def _locations(message: memoryview, kinds: tuple[str, ...]) -> Iterator[str]:
    """Yield the location of each tensor with external data in a message of type ``kinds[-1]``."""
    if len(kinds) > _DEEPEST:
        raise _not_onnx()
    below = _FIELDS[kinds[-1]]
    is_external, names = False, []
    for number, value in _fields(message):
        if kinds[-1] == "tensor" and number == _DATA_LOCATION:
            if not isinstance(value, int):
                raise _not_onnx()
            is_external = value & _LARGEST_TAG == _EXTERNAL
        if (inner := below.get(number)) is None:
            continue
        if not isinstance(value, memoryview):
            raise _not_onnx()
        if inner != _EXTERNAL_DATA:
            yield from _locations(value, (*kinds, inner))
            continue
        key, text = _entry(value)
        if key == _LOCATION:
            names.append(text.decode())
    if (is_external and not names) or len(names) > 1:
        raise _not_onnx()
    for name in names:
        if kinds != _PINNED:
            raise MalformedError(
                f"stores weights in {name[:_LONGEST_NAME]!r} that do not belong to its main graph",
                hint="export it again with weights inside, or only those of the main graph in other files",
            )
        yield name


def _entry(message: memoryview) -> tuple[bytes, bytes]:
    """Return key and value of a StringStringEntryProto, which must have each exactly once."""
    fields = [*_fields(message)]
    if sorted(number for number, _ in fields) != [1, 2]:
        raise _not_onnx()
    texts = {number: bytes(text) for number, text in fields if isinstance(text, memoryview)}
    if len(texts) != len(fields):
        raise _not_onnx()
    return texts[1], texts[2]


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int | None]]:
    """Yield number and value of each field of a message; None for one of a fixed size."""
    place = 0
    while place < len(message):
        begin = place
        tag, place = _varint(message, place)
        wire = tag & 7
        if tag >> 3 == 0 or tag > _LARGEST_TAG or place - begin > -(-tag.bit_length() // 7):
            raise _not_onnx()
        if wire == _BYTES:
            length, place = _varint(message, place)
            end = place + length
            value: memoryview | int | None = message[place:end]
        elif wire == _VARINT:
            value, end = _varint(message, place)
        elif wire in _FIXED:
            end, value = place + _FIXED[wire], None
        else:
            raise _not_onnx()
        if end > len(message):
            raise _not_onnx()
        yield tag >> 3, value
        place = end


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """Decode a varint (groups of 7 bits, lowest first); return the number and where it ends."""
    number = shift = 0
    while True:
        byte = message[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place
        shift += 7
        if shift > 63:
            raise _not_onnx()


def _not_onnx() -> MalformedError:
    return MalformedError("is not an ONNX model, or is damaged", hint="export it again, or copy it again")
