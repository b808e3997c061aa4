"""What kmc.pub may say of an image model: which is accepted, and that it survives as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mipp_cli.errors import MalformedError
from mipp_cli.scheme.descriptor import Descriptor
from mipp_cli.scheme.image_model import RESAMPLING, PinnedModel, Preprocessing

PREPROCESSING = Preprocessing((224, 224), "bicubic", None, 1 / 255, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
MODEL = PinnedModel("a" * 64, None, PREPROCESSING, "pooler_output", None)
DESCRIPTOR = Descriptor("model", 1280, 256, "l2", MODEL)

side = st.integers(1, 4096)
number = st.floats(-1e6, 1e6, allow_nan=False)
divisor = number.filter(lambda each: abs(each) >= 1e-6)
preprocessings = st.builds(
    Preprocessing,
    st.one_of(st.none(), side, st.tuples(side, side)),
    st.sampled_from(RESAMPLING),
    st.tuples(side, side),
    divisor,
    st.tuples(number, number, number),
    st.tuples(divisor, divisor, divisor),
)
digest = st.text("0123456789abcdef", min_size=64, max_size=64)
models = st.builds(
    PinnedModel,
    digest,
    st.none() | digest,
    preprocessings,
    st.text(min_size=1, max_size=200),
    st.sampled_from([None, "cls", "mean"]),
)


@settings(deadline=None)
@given(models, st.integers(3, 65535))
def test_a_models_descriptor_survives_as_json(model: PinnedModel, dimension: int) -> None:
    descriptor = Descriptor("model", dimension, 256, "l2", model)
    fields = json.loads(json.dumps(descriptor.to_fields()))
    assert Descriptor.from_fields(fields) == descriptor
    assert Descriptor.from_fields(fields).to_fields() == descriptor.to_fields()


@pytest.mark.parametrize(
    "change",
    [
        {"resize": (224,)},
        {"resize": (224, 0)},
        {"resize": (224, 224.0)},
        {"resize": (224, True)},
        {"resize": 4097},
        {"resize": "224"},
        {"resize": 224},
        {"resize": None},
        {"crop": 224},
        {"crop": (224, 4097)},
        {"crop": (-1, 1)},
        {"resample": "cubic"},
        {"resample": 3},
        {"scale": 0},
        {"scale": float("nan")},
        {"scale": 9e-7},
        {"scale": 1.1e6},
        {"scale": 10**400},
        {"scale": None},
        {"scale": "1"},
        {"mean": (0.5, 0.5)},
        {"mean": 0.5},
        {"mean": (0.5, 0.5, float("inf"))},
        {"mean": (0.5, 10**400, 0.5)},
        {"mean": (0.5, 0.5, -1.1e6)},
        {"std": (0.5, 0.0, 0.5)},
        {"std": (0.5, 0.5, 1e-46)},
        {"std": (0.5, 0.5, "1")},
    ],
    ids=str,
)
def test_preprocessing_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        replace(PREPROCESSING, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "a" * 63},
        {"sha256": "A" * 64},
        {"sha256": None},
        {"weights_sha256": ""},
        {"output": ""},
        {"output": "o" * 201},
        {"output": None},
        {"pooling": "max"},
    ],
    ids=str,
)
def test_a_model_that_cannot_be_pinned_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        replace(MODEL, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "mine"},
        {"levels": 255},
        {"quantisation": None},
        {"quantisation": (-1.0, 1.0)},
        {"model": None},
    ],
    ids=str,
)
def test_a_models_descriptor_has_one_form(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        replace(DESCRIPTOR, **change)


@pytest.mark.parametrize("name", ["edge-histogram", "colour-edge"])
def test_a_formula_is_no_model(name: str) -> None:
    with pytest.raises(MalformedError):
        replace(DESCRIPTOR, name=name)


def code_of(value: float, norm: float, dimension: int) -> int:
    """Quantise one number by the words of docs/pictures.md, in plain floats."""
    reach = 8 / dimension**0.5
    share = (min(max(value / norm, -reach), reach) + reach) / (2 * reach)
    return min(int(share * 256), 255)


@settings(deadline=None)
@given(
    arrays(
        np.float32, st.tuples(st.integers(1, 4), st.integers(3, 40)), elements=st.floats(-100, 100, width=32)
    )
)
def test_vectors_are_quantised_by_their_direction(vectors: np.ndarray) -> None:
    dimension = vectors.shape[1]
    descriptor = Descriptor("v", dimension, 256, "l2")
    good = descriptor.quantisable(vectors)
    assert good.tolist() == [any(row) for row in vectors.tolist()]
    codes, clipped = descriptor.quantised(vectors[good])
    for row, found, over in zip(
        vectors[good].astype(float).tolist(), codes.tolist(), clipped.tolist(), strict=True
    ):
        norm = sum(x * x for x in row) ** 0.5
        assert all(abs(code - code_of(x, norm, dimension)) <= 1 for x, code in zip(row, found, strict=True))
        reach = 8 / dimension**0.5
        assert abs(over - sum(abs(x / norm) > reach for x in row)) <= sum(
            abs(abs(x / norm) - reach) < 1e-9 for x in row
        )
