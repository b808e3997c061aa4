"""Image models of a few kilobytes, with the faults of large ones, from a seed; and the same in numpy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIDE = 16
"""Height and width of the pictures that a tiny model takes."""
DIMENSION = 24
EMBEDS = {"image_embeds": "vector"}
PREPROCESSING: dict[str, Any] = {
    "size": {"height": SIDE, "width": SIDE},
    "resample": 2,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.25, 0.5, 0.2],
}
UNCHANGED = PREPROCESSING | {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}
"""Preprocessing that leaves black at 0, of which a tiny model makes a vector of zeros."""
_TYPES = {
    "float": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "double": TensorProto.DOUBLE,
    "uint8": TensorProto.UINT8,
    "int64": TensorProto.INT64,
}
_POOLED = 3 * 4 * 4


def tiny_weights(name: str, dimension: int, *, seed: int = 1) -> NDArray[np.float32]:
    """Return the weights that make an output of a tiny model, shape (48, l), or (3, l) of tokens."""
    random = np.random.default_rng([seed, *name.encode()])
    return random.normal(0, 1, (_POOLED, dimension)).astype(np.float32)


def tiny_vectors(
    pixels: NDArray[np.uint8],
    *,
    preprocessing: Mapping[str, Any] = PREPROCESSING,
    name: str = "image_embeds",
    dimension: int = DIMENSION,
    seed: int = 1,
) -> NDArray[np.float64]:
    """Return in numpy what a tiny model gives for pixels of shape (n, 16, 16, 3): vectors, shape (n, l)."""
    pooled = _pooled(pixels, preprocessing)
    return pooled.reshape(len(pixels), -1) @ tiny_weights(name, dimension, seed=seed).astype(np.float64)


def tiny_tokens(
    pixels: NDArray[np.uint8], *, preprocessing: Mapping[str, Any] = PREPROCESSING, dimension: int = DIMENSION
) -> NDArray[np.float64]:
    """Return in numpy the `last_hidden_state` of a tiny model, shape (n, 16, l)."""
    tokens = _pooled(pixels, preprocessing).reshape(len(pixels), 3, -1).transpose(0, 2, 1)
    return tokens @ tiny_weights("last_hidden_state", dimension)[:3].astype(np.float64)


def random_pixels(count: int, *, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Return pixels of pictures as a tiny model takes them, each of shape (16, 16, 3)."""
    return [*np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)]


def _pooled(pixels: NDArray[np.uint8], preprocessing: Mapping[str, Any]) -> NDArray[np.float64]:
    mean, std = (np.array(preprocessing[name]) for name in ("image_mean", "image_std"))
    planes = ((pixels / 255 - mean) / std).transpose(0, 3, 1, 2)
    return planes.reshape(len(pixels), 3, 4, 4, 4, 4).mean(axis=(3, 5))


def tiny_model(
    folder: Path,
    *,
    file: str = "model.onnx",
    outputs: Mapping[str, str] = EMBEDS,
    dimension: int = DIMENSION,
    batch: int | str = "n",
    input_type: str = "float",
    output_type: str = "float",
    shape: Sequence[int | str] = (3, SIDE, SIDE),
    more_inputs: Sequence[str] = (),
    fault: str | None = None,
    seed: int = 1,
    weights: str | Mapping[str, str] | None = None,
    preprocessing: Mapping[str, Any] | None = PREPROCESSING,
) -> Path:
    """Write a tiny model and its preprocessor_config.json into ``folder``, and return the .onnx file.

    ``outputs`` are names and kinds: `vector` (n, l); `tokens` (n, 16, l), or `none` of them; `map`
    (n, l, 1, 1); `wide`, which has 2·n numbers a picture; `whole`, of whole numbers. ``fault`` is `zeros`; or
    `brightest`: the vector is divided by the largest sample, which black has not; or `huge`: it is beyond
    32-bit floats. ``weights`` are kept in one file of this name, or in the file that each output's name is
    given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    nodes = [
        helper.make_node("Cast", ["pixels"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node(
            "Transpose", ["cast"], ["samples"], perm=[0, 3, 1, 2] if shape[-1] == 3 else [0, 1, 2, 3]
        ),
        helper.make_node("AveragePool", ["samples"], ["pooled"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
    ]
    constants, found = [], []
    for name, kind in outputs.items():
        made, own, described = _output(name, kind, dimension, batch, output_type, fault, seed)
        nodes += made
        constants += own
        found.append(described)
    takes = [helper.make_tensor_value_info("pixels", _TYPES[input_type], [batch, *shape])]
    takes += [
        helper.make_tensor_value_info(each, TensorProto.INT64, [batch, "words"]) for each in more_inputs
    ]
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    files = dict.fromkeys(outputs, weights) if isinstance(weights, str) else dict(weights or {})
    for name, beside in files.items():
        for constant in constants:
            if constant.name == f"{name}:weights":
                keep_outside(constant, path.parent, beside)
    save(path, helper.make_graph(nodes, "tiny", takes, found, constants))
    if preprocessing is not None:
        write_preprocessing(folder, preprocessing)
    return path


def _output(
    name: str, kind: str, dimension: int, batch: int | str, type_name: str, fault: str | None, seed: int
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], onnx.ValueInfoProto]:
    """Return the nodes and constants that make an output of this kind, and its description."""
    weights = tiny_weights(name, dimension, seed=seed)
    if fault == "zeros":
        weights *= 0
    size: list[int | str] = [batch, dimension]
    source, nodes = "flat", []
    constants = []

    def constant(what: str, value: NDArray[Any]) -> str:
        constants.append(numpy_helper.from_array(value, f"{name}:{what}"))
        return f"{name}:{what}"

    def node(operator: str, inputs: list[str], **attributes: Any) -> str:
        made = f"{name}/{len(nodes)}"
        nodes.append(helper.make_node(operator, inputs, [made], **attributes))
        return made

    if kind in ("tokens", "none"):
        grid = node("Reshape", ["pooled", constant("grid", np.array([0, 3, 16]))])
        source, weights = node("Transpose", [grid], perm=[0, 2, 1]), weights[:3]
        size = [batch, 16, dimension]
    last = node("MatMul", [source, constant("weights", weights)])
    if kind == "none":
        bounds = [constant(each, np.array([0])) for each in ("from", "to")]
        last = node("Slice", [last, *bounds, constant("axis", np.array([1]))])
        size = [batch, 0, dimension]
    if kind == "map":
        last = node("Reshape", [last, constant("map", np.array([0, dimension, 1, 1]))])
        size = [batch, dimension, 1, 1]
    if kind == "wide":
        shape = node("Shape", [last])
        count = node("Slice", [shape, constant("from", np.array([0])), constant("to", np.array([1]))])
        times = node("Concat", [constant("one", np.array([1])), count], axis=0)
        few = node("Slice", [last, constant("0", np.array([0])), constant("2", np.array([2])),
                             constant("axis", np.array([1]))])  # fmt: skip
        last = node("Tile", [few, times])
        size = [batch, "twice"]
    if fault == "brightest":
        brightest = node("ReduceMax", ["samples"], axes=[1, 2, 3], keepdims=1)
        last = node("Div", [last, node("Flatten", [brightest])])
    kept = TensorProto.INT64 if kind == "whole" else _TYPES[type_name]
    if fault == "huge":
        last = node("Cast", [last], to=TensorProto.DOUBLE)
        last = node("Mul", [last, constant("huge", np.array([1e300]))])
    nodes.append(helper.make_node("Cast", [last], [name], to=kept))
    return nodes, constants, helper.make_tensor_value_info(name, kept, size)


def save(path: Path, graph: onnx.GraphProto) -> None:
    """Write a graph as a model."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())


def keep_outside(tensor: onnx.TensorProto, folder: Path, location: str) -> None:
    """Move the content of a tensor to the end of a file of weights."""
    file = folder / location
    file.parent.mkdir(parents=True, exist_ok=True)
    begin, content = file.stat().st_size if file.exists() else 0, tensor.raw_data
    with file.open("ab") as beside:
        beside.write(content)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(begin)), ("length", str(len(content)))):
        tensor.external_data.add(key=key, value=value)


def nested_model(folder: Path, where: str, *, location: str | None = "weights.bin") -> Path:
    """Write a tiny model whose weights lie in a `constant`, or a graph inside an `if` or a `loop`."""
    folder.mkdir(parents=True, exist_ok=True)
    tensor = numpy_helper.from_array(tiny_weights("image_embeds", DIMENSION), "inner")
    if location is not None:
        keep_outside(tensor, folder, location)
    size = ["n", DIMENSION]
    result = helper.make_tensor_value_info("result", TensorProto.FLOAT, size)
    product = helper.make_node("MatMul", ["flat", "inner"], ["result"])
    true = numpy_helper.from_array(np.array(True), "true")
    once = numpy_helper.from_array(np.array(1), "once")
    if where == "constant":
        nodes = [
            helper.make_node("Constant", [], ["inner"], value=tensor),
            helper.make_node("MatMul", ["flat", "inner"], ["image_embeds"]),
        ]
    elif where == "if":
        inner = helper.make_graph([product], "inner", [], [result], [tensor])
        nodes = [helper.make_node("If", ["true"], ["image_embeds"], then_branch=inner, else_branch=inner)]
    else:
        begin = [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, size),
        ]
        on = helper.make_tensor_value_info("on", TensorProto.BOOL, [])
        goes_on = helper.make_node("Identity", ["going"], ["on"])
        inner = helper.make_graph([goes_on, product], "inner", begin, [on, result], [tensor])
        first = numpy_helper.from_array(np.zeros((_POOLED, DIMENSION), np.float32), "first")
        nodes = [
            helper.make_node("MatMul", ["flat", "first"], ["started"]),
            helper.make_node("Loop", ["once", "true", "started"], ["image_embeds"], body=inner),
        ]
    constants = [true, once] + ([first] if where == "loop" else [])
    pool = [
        helper.make_node("AveragePool", ["pixels"], ["pooled"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
    ]
    takes = [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])]
    gives = [helper.make_tensor_value_info("image_embeds", TensorProto.FLOAT, size)]
    path = folder / "model.onnx"
    save(path, helper.make_graph(pool + nodes, "tiny", takes, gives, constants))
    write_preprocessing(folder, PREPROCESSING)
    return path


def write_preprocessing(folder: Path, fields: Mapping[str, Any]) -> Path:
    """Write a preprocessor_config.json."""
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(fields))
    return path
