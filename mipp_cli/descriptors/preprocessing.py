"""Reads a model's preprocessing file and applies it: resize, crop, scale, normalise.

The key ``image_processor_type`` names the image processor. Each supported type has its own defaults; other
types, and unknown keys that would change the result, are refused. Results agree with the published image
processors, as `tests/vectors/preprocessing.json` shows.

Source: the image processors of transformers (PIL backends), version 5.24.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mipp_cli.errors import MalformedError, UnreadableImageError
from mipp_cli.images.colours import upright_rgb
from mipp_cli.images.refusals import MAX_PIXELS
from mipp_cli.scheme.image_model import RESAMPLING, Preprocessing, Size

Pixels = NDArray[np.uint8]

_STANDARD: Final = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
_CLIP: Final = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
_SQUARE: Final = {"height": 224, "width": 224}
_EVERY_TYPE: Final = {
    "do_resize": True,
    "do_center_crop": False,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
}
_CLIP_LIKE: Final = {
    **_CLIP,
    "size": {"shortest_edge": 224},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": _SQUARE,
}
_DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "CLIP": _CLIP_LIKE,
    "Bit": _CLIP_LIKE,
    "Siglip": {**_STANDARD, "size": _SQUARE, "resample": 3},
    "ViT": {**_STANDARD, "size": _SQUARE, "resample": 2},
    "DeiT": {
        **_STANDARD,
        "size": {"height": 256, "width": 256},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": _SQUARE,
    },
    "ConvNext": {**_STANDARD, "size": {"shortest_edge": 384}, "resample": 3, "crop_pct": 224 / 256},
    "": {},
}
_INT_IS_SQUARE: Final = (
    "default_to_square"  # whether a single number is the size of both sides, or of the shorter one
)
_SQUARE_TYPES: Final = ("ViT", "DeiT")
_TYPE: Final = re.compile("(.*?)(ImageProcessor|FeatureExtractor)(Fast|Pil)?")
_WITHOUT_EFFECT: Final = {
    *("image_processor_type", "feature_extractor_type", "processor_class", "_valid_processor_keys", "device"),
    *("return_tensors", "input_data_format", "disable_grouping", "model_input_names", "do_convert_rgb"),
}
_MUST_BE: Final = {"data_format": "channels_first", "do_pad": False, "use_square_size": False}
_LEAST_CROP: Final = 0.01
_WARPED_FROM: Final = 384  # pixels: from this size on ConvNeXt resizes to a square instead of cropping


def read_preprocessing(text: bytes) -> Preprocessing:
    """Read a preprocessing file, or the `image_processor` of a processor_config.json.

    Raises MalformedError for anything else, for an unsupported type or key, and for a file without a type
    that lacks size, resample, image_mean or image_std.
    """
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise MalformedError("is not a preprocessing file, which is one JSON object", hint="copy it again")
    return _Reader(fields).read()


class _Reader:
    """The fields of a preprocessing file, on top of the defaults of its type."""

    def __init__(self, given: Mapping[str, Any]):
        given = {name: value for name, value in given.items() if value is not None}
        self._type = _known_type(given.get("image_processor_type", given.get("feature_extractor_type")))
        understood = {*_EVERY_TYPE, *_CLIP_LIKE, *_DEFAULTS[self._type], _INT_IS_SQUARE}
        _refuse_unknown({*given} - understood - _WITHOUT_EFFECT, given)
        square = {_INT_IS_SQUARE: self._type in _SQUARE_TYPES} if self._type else {}
        self._fields = {**_EVERY_TYPE, **square, **_DEFAULTS[self._type], **given}

    def read(self) -> Preprocessing:
        filter_number = self._get("resample") if self._get("do_resize") else 2
        if type(filter_number) is not int or not 0 <= filter_number < len(RESAMPLING):
            raise _wrong("resample", filter_number, f"a number from 0 to {len(RESAMPLING) - 1}")
        normalised = self._get("do_normalize")
        resize = self._resize()
        return Preprocessing(
            resize,
            RESAMPLING[filter_number],
            self._crop(),
            self._number("rescale_factor") if self._get("do_rescale") else 1.0,
            self._channels("image_mean") if normalised else (0.0, 0.0, 0.0),
            self._channels("image_std") if normalised else (1.0, 1.0, 1.0),
        )

    def _get(self, name: str) -> Any:
        if name not in self._fields:
            raise MalformedError(
                f"does not say {name}" if self._type else f"names no image processor and does not say {name}",
                hint="a file without a type needs size, resample, image_mean and image_std and, with "
                "do_center_crop, crop_size",
            )
        value = self._fields[name]
        if name.startswith(("do_", "default_")) and not isinstance(value, bool):
            raise _wrong(name, value, "true or false")
        return value

    def _number(self, name: str) -> float:
        value = self._get(name)
        if not _is_number(value):
            raise _wrong(name, value, "a number")
        return float(value)

    def _channels(self, name: str) -> tuple[float, ...]:
        value = self._get(name)
        values = [value] * 3 if _is_number(value) else value
        if not isinstance(values, list) or not all(map(_is_number, values)):
            raise _wrong(name, value, "three numbers")
        return tuple(map(float, values))

    def _resize(self) -> Size | int | None:
        if not self._get("do_resize"):
            return None
        size = self._get("size")
        if self._type == "ConvNext":
            edge = (
                size if type(size) is int else size.get("shortest_edge") if isinstance(size, dict) else None
            )
            if type(edge) is not int:
                raise _wrong("size", size, "a shortest_edge")
            percentage = self._number("crop_pct")
            if not _LEAST_CROP <= percentage <= 1:
                raise _wrong("crop_pct", percentage, f"{_LEAST_CROP} to 1")
            return (edge, edge) if edge >= _WARPED_FROM else int(edge / percentage)
        if type(size) is int:
            return (size, size) if self._get(_INT_IS_SQUARE) else size
        match size:
            case {"height": height, "width": width, **more} if not more:
                return height, width
            case {"shortest_edge": int(edge), **more} if not more:
                return edge
        raise _wrong("size", size, "a height and a width, or a shortest_edge")

    def _crop(self) -> Size | None:
        if self._type == "ConvNext" and self._get("do_resize"):
            if self._get("do_center_crop"):  # a second crop, of the cropped picture
                raise _wrong("do_center_crop", True, "false")
            size = self._fields["size"]
            edge: int = size if type(size) is int else size["shortest_edge"]
            return None if edge >= _WARPED_FROM else (edge, edge)
        if not self._get("do_center_crop"):
            return None
        size = self._get("crop_size")
        match size:
            case int(edge):
                return edge, edge
            case {"height": height, "width": width, **more} if not more:
                return height, width
        raise _wrong("crop_size", size, "a height and a width")


def _known_type(name: object) -> str:
    if name is None:
        return ""
    match = _TYPE.fullmatch(name) if isinstance(name, str) else None
    if match is None or match[1] not in _DEFAULTS or not match[1]:
        known = ", ".join(f"{each}ImageProcessor" for each in _DEFAULTS if each)
        raise MalformedError(
            f"has the type {name!r}, which is not supported",
            hint=f"supported are {known}; if this one only resizes, crops and normalises, remove the type "
            "and state size, resample, image_mean and image_std",
        )
    return match[1]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and type(value) is not bool and abs(value) <= sys.float_info.max


def _refuse_unknown(unknown: set[str], given: Mapping[str, Any]) -> None:
    for name in sorted(unknown):
        if name not in _MUST_BE:
            raise MalformedError(
                f"has the unknown key {name}, which may change the result",
                hint="remove it if it has no effect on pictures",
            )
    for name, value in _MUST_BE.items():
        if name in given and given[name] != value:
            raise _wrong(name, given[name], json.dumps(value))


def _wrong(name: str, value: object, wanted: str) -> MalformedError:
    return MalformedError(f"has {str(value)[:60]!r} for {name}", hint=f"use {wanted}")


def preprocessed(image: Image.Image, preprocessing: Preprocessing) -> Pixels:
    """Return a picture's pixels for a model, upright, resized and cropped; shape (height, width, 3).

    The samples are not normalised yet: see :func:`sample_values`. Raises UnreadableImageError if the
    picture's colours have no known range, or if it is so narrow that resizing would exceed the size limit of
    pictures.
    """
    rgb = upright_rgb(image)
    if preprocessing.resize is not None:
        height, width = _resized(rgb.size, preprocessing.resize)
        rgb = rgb.resize((width, height), Image.Resampling[preprocessing.resample.upper()])
    if preprocessing.crop is not None:
        height, width = preprocessing.crop
        left, top = (rgb.width - width) // 2, (rgb.height - height) // 2
        rgb = rgb.crop((left, top, left + width, top + height))
    return np.asarray(rgb)


def _resized(size: tuple[int, int], wanted: Size | int) -> Size:
    """Return (height, width) after resizing a picture of (width, height)."""
    if not isinstance(wanted, int):
        return wanted
    shorter, longer = sorted(size)
    longer = wanted * longer // shorter
    if wanted * longer > MAX_PIXELS:
        raise UnreadableImageError(
            "the picture is too narrow for its length for this model",
            hint="crop it, or leave it out",
        )
    return (wanted, longer) if size[1] <= size[0] else (longer, wanted)


def sample_values(preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Return the normalised value of each sample 0…255, per channel, shape (3, 256): (v · scale − mean) /
    std.
    """
    samples = (np.arange(256, dtype=np.float64) * preprocessing.scale).astype(np.float32)
    mean, std = (
        np.array(each, dtype=np.float32)[:, None] for each in (preprocessing.mean, preprocessing.std)
    )
    values: NDArray[np.float32] = (samples - mean) / std
    return values
