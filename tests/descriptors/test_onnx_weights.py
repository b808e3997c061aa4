"""Which files an ONNX model keeps weights in: as onnx itself sees it, and of what is no model at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from onnx import external_data_helper

from mipp_cli.descriptors.onnx_weights import external_files
from mipp_cli.errors import MalformedError
from tests.support.tiny_model import nested_model, tiny_model

TWO = {"image_embeds": "vector", "other": "vector"}


def as_onnx_sees(model: bytes) -> list[str]:
    """Return the files that a model keeps weights in, by onnx's own account."""
    tensors = external_data_helper._get_all_tensors(onnx.ModelProto.FromString(model))
    outside = filter(external_data_helper.uses_external_data, tensors)
    return sorted({external_data_helper.ExternalDataInfo(each).location for each in outside})


def located(location: str) -> bytes:
    """Return a model with one tensor, whose content is in a file of this name."""
    model = onnx.ModelProto()
    tensor = model.graph.initializer.add(data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return model.SerializeToString()


@pytest.mark.parametrize(
    "weights",
    [None, "one.bin", "in/a folder/ä.bin", {"other": "one.bin"}, {"image_embeds": "a.bin", "other": "b.bin"}],
    ids=str,
)
def test_the_files_are_those_that_onnx_sees(tmp_path: Path, weights: str | dict[str, str] | None) -> None:
    model = tiny_model(tmp_path, outputs=TWO, weights=weights).read_bytes()
    assert external_files(model) == as_onnx_sees(model)
    assert len(external_files(model)) == (
        2 if isinstance(weights, dict) and len(weights) == 2 else bool(weights)
    )


@pytest.mark.parametrize("one_file", [True, False])
def test_files_that_onnx_itself_writes_are_found(tmp_path: Path, one_file: bool) -> None:
    model = onnx.load(tiny_model(tmp_path / "inside", outputs=TWO))
    path = tmp_path / "model.onnx"
    onnx.save(
        model, path, save_as_external_data=True, all_tensors_to_one_file=one_file, size_threshold=0,
        location="weights.bin" if one_file else None,
    )  # fmt: skip
    found = external_files(path.read_bytes())
    assert found == as_onnx_sees(path.read_bytes())
    assert {each.name for each in tmp_path.iterdir() if each.is_file()} == {"model.onnx", *found}


@pytest.mark.parametrize("where", ["constant", "if", "loop"])
def test_a_model_with_graphs_inside_may_have_its_weights_inside(tmp_path: Path, where: str) -> None:
    assert external_files(nested_model(tmp_path, where, location=None).read_bytes()) == []


@pytest.mark.parametrize("where", ["constant", "if", "loop"])
def test_weights_of_graphs_inside_are_not_kept_outside(tmp_path: Path, where: str) -> None:
    model = nested_model(tmp_path, where).read_bytes()
    with pytest.raises(
        MalformedError, match=r"weights in 'weights\.bin' that do not belong to its main graph"
    ) as error:
        external_files(model)
    assert "with weights inside" in str(error.value.hint)


def ways_to_tensors(
    kind: Descriptor, above: tuple[FieldDescriptor, ...] = ()
) -> Iterator[tuple[FieldDescriptor, ...]]:
    """Yield every way from a kind of message to a tensor, with no kind twice but graphs in graphs."""
    for field in kind.fields:
        inner = field.message_type
        if inner is None or [each.message_type for each in above].count(inner) > (inner.name == "GraphProto"):
            continue
        if inner is onnx.TensorProto.DESCRIPTOR:
            yield (*above, field)
        else:
            yield from ways_to_tensors(inner, (*above, field))


WAYS = {".".join(each.name for each in way): way for way in ways_to_tensors(onnx.ModelProto.DESCRIPTOR)}
MAIN = "graph.initializer"


def at(way: tuple[FieldDescriptor, ...]) -> bytes:
    """Return a model with one external tensor, which these fields lead to."""
    model = onnx.ModelProto()
    message: Message = model
    for field in way:
        inner = getattr(message, field.name)
        message = inner.add() if field.is_repeated else inner
    assert isinstance(message, onnx.TensorProto)
    message.data_location = onnx.TensorProto.EXTERNAL
    message.external_data.add(key="location", value="w.bin")
    return model.SerializeToString()


def test_onnx_has_the_kinds_of_tensors_that_were_thought_of() -> None:
    ways = {
        each.replace("graph.node.attribute.g.", "").replace("graph.node.attribute.graphs.", "")
        for each in WAYS
    }
    assert {
        MAIN,
        "graph.sparse_initializer.values",
        "graph.node.attribute.t",
        "graph.node.attribute.sparse_tensors.indices",
        "training_info.algorithm.initializer",
        "functions.node.attribute.tensors",
        "functions.attribute_proto.t",
    } <= ways


@pytest.mark.parametrize("way", WAYS)
def test_every_tensor_is_found_and_only_the_main_graphs_kept(way: str) -> None:
    if way == MAIN:
        assert external_files(at(WAYS[way])) == ["w.bin"]
        return
    with pytest.raises(MalformedError, match="do not belong to its main graph"):
        external_files(at(WAYS[way]))


@pytest.mark.parametrize(
    "name", ["w.bin", "./w.bin", "sub/w.bin", "ä b.bin", "..w", "a..b/c", "-", "x" * 255]
)
def test_a_file_beside_the_model_is_admitted(name: str) -> None:
    assert external_files(located(name)) == [name.removeprefix("./")]


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "./", "/etc/passwd", "//w", "../w.bin", "sub/../../w.bin", "sub/..", "a/../w.bin"),
        *("a\\w.bin", "..\\w.bin", "C:\\w.bin", "w\0.bin", "x" * 256, "ä" * 200),
    ],
    ids=repr,
)
def test_a_file_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(MalformedError, match="which is not in its folder") as error:
        external_files(located(name))
    assert "in its folder" in str(error.value.hint)


def test_two_spellings_of_a_file_are_one() -> None:
    assert external_files(located("./w.bin") + located("w.bin")) == ["w.bin"]


def test_a_location_that_is_no_text_is_refused() -> None:
    model = located("wwwwwwww").replace(b"wwwwwwww", b"\xff\xfe\xfd\xfc\xff\xfe\xfd\xfc")
    with pytest.raises(MalformedError, match="not an ONNX model"):
        external_files(model)


def field(number: int, content: bytes) -> bytes:
    """Return a field of bytes on the wire."""
    length, size = len(content), b""
    while length >= 0x80:
        size, length = size + bytes([length & 0x7F | 0x80]), length >> 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + content


BROKEN = {
    "a number without an end": b"\x80" * 1000,
    "a number too large": b"\x08" + b"\xff" * 9 + b"\x7f" * 2,
    "a length beyond the file": field(7, b"")[:1] + b"\x7f" + b"\0" * 100,
    "a length beyond any memory": field(7, b"")[:1] + b"\xff" * 8 + b"\x7f",
    "a length cut off": field(7, b"")[:1] + b"\xff",
    "eight bytes cut off": b"\x09" + b"\0" * 7,
    "four bytes cut off": b"\x0d\0\0\0",
    "a group": b"\x0b\x0c",
    "an unknown kind of field": b"\x0f",
    "text": b"version https://git-lfs.github.com/spec/v1\n",
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_no_model_is_refused(what: str) -> None:
    with pytest.raises(MalformedError, match="not an ONNX model, or is damaged"):
        external_files(BROKEN[what])


def graphs_in_graphs(count: int) -> bytes:
    """Return a model with graphs inside attributes of nodes inside graphs."""
    content = b""
    for _ in range(count):
        content = field(1, field(5, field(6, content)))
    return field(7, content)


def test_graphs_inside_graphs_are_followed() -> None:
    assert external_files(graphs_in_graphs(10)) == []


@pytest.mark.parametrize("count", [22, 1000])
def test_graphs_nested_too_deeply_are_refused(count: int) -> None:
    with pytest.raises(MalformedError, match="not an ONNX model, or is damaged"):
        external_files(graphs_in_graphs(count))


def sound(folder: Path) -> bytes:
    """Return a model with weights in two files, to be damaged."""
    weights = {"image_embeds": "a.bin", "other": "sub/b.bin"}
    return tiny_model(folder, outputs=TWO, weights=weights).read_bytes()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return sound(tmp_path_factory.mktemp("model"))


def names_or_malformed(content: bytes) -> list[str] | None:
    """Return the files of what may be a model, or None if it is refused as it should be."""
    try:
        names = external_files(content)
    except MalformedError as error:
        assert error.hint
        return None
    for name in names:
        assert not name.startswith("/")
        assert ".." not in name.split("/")
    return names


def test_a_model_cut_anywhere_is_read_or_refused(model: bytes) -> None:
    for end in range(len(model)):
        found = names_or_malformed(model[:end])
        assert found is None or set(found) <= {"a.bin", "sub/b.bin"}


@given(flips=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(1, 255)), min_size=1, max_size=8))
def test_a_model_with_flipped_bytes_is_read_or_refused(model: bytes, flips: list[tuple[int, int]]) -> None:
    damaged = bytearray(model)
    for place, change in flips:
        damaged[place % len(damaged)] ^= change
    names_or_malformed(bytes(damaged))


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    names_or_malformed(content)


@given(st.recursive(st.binary(max_size=20), lambda inner: st.lists(inner, max_size=4)), st.data())
def test_messages_of_any_shape_are_read_or_refused(shape: object, data: st.DataObject) -> None:
    numbers = st.sampled_from([1, 2, 5, 6, 7, 10, 11, 13])

    def built(shape: object) -> bytes:
        if isinstance(shape, bytes):
            return shape
        assert isinstance(shape, list)
        return b"".join(field(data.draw(numbers), built(each)) for each in shape)

    names_or_malformed(built(shape))


def short(number: int, content: bytes) -> bytes:
    """Return a field of bytes, shorter than 128, as protobuf writes it."""
    return bytes([number << 3 | 2, len(content)]) + content


def with_entry(entry: bytes, tag: bytes = b"\x6a", more: bytes = b"\x70\x01") -> bytes:
    """Return a model of one external tensor, whose external data is this entry."""
    tensor = tag + bytes([len(entry)]) + entry + more
    return short(7, short(5, tensor))


KEY, VALUE = short(1, b"location"), short(2, b"w.bin")


def test_a_model_written_by_hand_is_read() -> None:
    assert external_files(with_entry(KEY + VALUE)) == ["w.bin"]


@pytest.mark.parametrize(
    "model",
    [
        with_entry(KEY + VALUE + b"\x08\x00"),
        with_entry(KEY + VALUE + VALUE),
        with_entry(KEY + KEY + VALUE),
        with_entry(KEY + VALUE + short(3, b"")),
        with_entry(KEY + VALUE, tag=b"\xea\x80\x80\x80\x10"),
        with_entry(KEY + VALUE, tag=b"\xea\x80\x00"),
        with_entry(KEY),
        with_entry(VALUE),
        with_entry(b""),
        with_entry(short(1, b"offset") + VALUE),
        with_entry(short(1, b"offset") + VALUE, more=b"\x70\x81\x80\x80\x80\x10"),
        with_entry(KEY + VALUE, more=b"\x70\x01" + b"\x6a\x11" + KEY + VALUE),
        short(7, short(5, b"\x68\x01")),
        short(7, short(5, b"\x72\x01\x01")),
        short(7, b"\x28\x01"),
        b"\x02\x00",
    ],
    ids=bytes.hex,
)
def test_what_may_be_read_otherwise_is_refused(model: bytes) -> None:
    """Each of these hid weights from one reader that another might find."""
    with pytest.raises(MalformedError):
        external_files(model)


@pytest.mark.parametrize("location", ["a//w.bin", "a/./w.bin", "././w.bin", "w.bin/"])
def test_a_file_has_one_name(location: str) -> None:
    with pytest.raises(MalformedError, match="not in its folder"):
        external_files(located(location))
