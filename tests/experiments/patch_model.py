"""An image model that is made in a moment, and whose numbers a test can work out."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
from onnx import TensorProto, helper

SIDE, PATCH = 16, 4
DIMENSION = 3 * (SIDE // PATCH) ** 2


def patch_model(folder: Path, *, mean: float = 0.5) -> Path:
    """Write a model into ``folder``: the means of 4 × 4 patches of 16 × 16 pixels, 48 numbers a picture."""
    folder.mkdir(parents=True)
    graph = helper.make_graph(
        [
            helper.make_node(
                "AveragePool", ["pixel_values"], ["means"], kernel_shape=[PATCH] * 2, strides=[PATCH] * 2
            ),
            helper.make_node("Flatten", ["means"], ["pooler_output"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("pooler_output", TensorProto.FLOAT, ["n", DIMENSION])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    preprocessing = {
        "size": {"height": SIDE, "width": SIDE},
        "resample": 2,
        "image_mean": [mean] * 3,
        "image_std": [0.5] * 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    return folder
