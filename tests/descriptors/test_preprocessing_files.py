"""Reading preprocessing files: what each type has for defaults, how older files spell it, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mipp_cli.descriptors.model_files import read_model
from mipp_cli.descriptors.preprocessing import read_preprocessing
from mipp_cli.errors import MalformedError
from mipp_cli.scheme.image_model import Preprocessing
from tests.support.tiny_model import PREPROCESSING, tiny_model

HALF = (0.5, 0.5, 0.5)
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
CLIP = Preprocessing(224, "bicubic", (224, 224), 1 / 255, OPENAI_MEAN, OPENAI_STD)
# as the classes of transformers 5.24 have it, in models/*/image_processing_pil_*.py
DEFAULTS = {
    "CLIP": CLIP,
    "Bit": CLIP,
    "Siglip": Preprocessing((224, 224), "bicubic", None, 1 / 255, HALF, HALF),
    "ViT": Preprocessing((224, 224), "bilinear", None, 1 / 255, HALF, HALF),
    "DeiT": Preprocessing((256, 256), "bicubic", (224, 224), 1 / 255, HALF, HALF),
    "ConvNext": Preprocessing((384, 384), "bicubic", None, 1 / 255, HALF, HALF),
}
SHORTER_SIDE = ("CLIP", "Bit")
STATED = {
    "size": {"height": 20, "width": 30},
    "resample": 0,
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": [0.4, 0.5, 0.6],
}
PLAIN = Preprocessing((20, 30), "nearest", None, 1 / 255, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
CONVNEXT = {"image_processor_type": "ConvNextImageProcessor"}


def read(fields: dict[str, Any]) -> Preprocessing:
    return read_preprocessing(json.dumps(fields).encode())


def of_type(name: str, **fields: Any) -> Preprocessing:
    return read({"image_processor_type": f"{name}ImageProcessor", **fields})


def refused(fields: dict[str, Any]) -> tuple[str, str]:
    """Return message and hint of the refusal of a preprocessing file."""
    with pytest.raises(MalformedError) as error:
        read(fields)
    return error.value.message, str(error.value.hint)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_that_an_editor_saved_again_is_read_as_before(encoding: str) -> None:
    text = json.dumps(STATED, indent=1).replace("\n", "\r\n")
    assert read_preprocessing(text.encode(encoding)) == PLAIN


@pytest.mark.parametrize("suffix", ["", "Fast", "Pil"])
@pytest.mark.parametrize("name", DEFAULTS)
def test_a_type_alone_has_its_defaults(name: str, suffix: str) -> None:
    assert read({"image_processor_type": f"{name}ImageProcessor{suffix}"}) == DEFAULTS[name]


@pytest.mark.parametrize("name", DEFAULTS)
def test_older_files_name_a_feature_extractor(name: str) -> None:
    assert read({"feature_extractor_type": f"{name}FeatureExtractor"}) == DEFAULTS[name]


def test_the_newer_name_of_the_type_counts() -> None:
    names = {"feature_extractor_type": "ViTFeatureExtractor", "image_processor_type": "CLIPImageProcessor"}
    assert read(names) == CLIP


@pytest.mark.parametrize("name", DEFAULTS)
def test_what_is_null_is_not_stated(name: str) -> None:
    nulls = dict.fromkeys(
        [
            "size",
            "resample",
            "image_mean",
            "image_std",
            "crop_size",
            "do_resize",
            "do_rescale",
            "do_normalize",
        ]
    )
    nulls |= dict.fromkeys(
        ["do_center_crop", "rescale_factor", "pad_size", "do_pad", "unheard_of", "data_format"]
    )
    assert of_type(name, **nulls) == DEFAULTS[name]


@pytest.mark.parametrize("name", ["CLIP", "Bit", "Siglip", "ViT", "DeiT"])
def test_a_size_of_one_number_is_a_side_or_the_shorter_side(name: str) -> None:
    found = of_type(name, size=100, do_center_crop=True, crop_size=90)
    assert found.resize == ((100, 100) if name in ("ViT", "DeiT") else 100)
    assert found.crop == (90, 90)


@pytest.mark.parametrize(("square", "resize"), [(True, (100, 100)), (False, 100)])
@pytest.mark.parametrize("name", ["CLIP", "ViT"])
def test_a_file_may_say_what_one_number_means(name: str, square: bool, resize: object) -> None:
    stated = {"default_to_square": square, "do_center_crop": True, "crop_size": 90}
    assert of_type(name, size=100, **stated).resize == resize
    assert of_type(name, size={"height": 100, "width": 100}, **stated).resize == (100, 100)


def test_without_a_type_one_number_is_not_guessed_at() -> None:
    cropped = STATED | {"size": 100, "do_center_crop": True, "crop_size": 90}
    assert refused(cropped)[0] == "names no image processor and does not say default_to_square"
    assert read(cropped | {"default_to_square": False}).resize == 100


def test_what_is_stated_counts_over_the_defaults() -> None:
    assert of_type("ViT", **STATED) == PLAIN


def test_what_an_older_file_does_not_say_is_done() -> None:
    old = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "crop_size": 224, "resample": 3}
    assert read(old | {"do_resize": True, "do_center_crop": True, "do_normalize": True}) == CLIP


def test_without_a_type_what_is_stated_is_done() -> None:
    assert read(STATED) == PLAIN


def test_one_number_is_the_mean_of_every_channel() -> None:
    found = read(STATED | {"image_mean": 0, "image_std": 0.5})
    assert (found.mean, found.std) == ((0.0, 0.0, 0.0), HALF)


def test_steps_that_are_switched_off_are_left_out() -> None:
    off = {"do_rescale": False, "do_normalize": False, "do_center_crop": False, "crop_size": 10}
    assert read(STATED | off) == Preprocessing((20, 30), "nearest", None, 1.0, (0, 0, 0), (1, 1, 1))


def test_without_resizing_a_picture_is_only_cropped() -> None:
    fields = {"do_resize": False, "do_center_crop": True, "crop_size": {"height": 8, "width": 9}}
    found = read({**fields, "image_mean": 0.5, "image_std": 0.5})
    assert (found.resize, found.crop) == (None, (8, 9))


@pytest.mark.parametrize(
    ("fields", "resize", "crop"),
    [
        ({"size": {"shortest_edge": 224}}, 256, (224, 224)),
        ({"size": 224}, 256, (224, 224)),
        ({"size": 224, "crop_pct": 0.875}, 256, (224, 224)),
        ({"size": 224, "crop_pct": 0.95}, 235, (224, 224)),
        ({"size": 224, "crop_pct": 1}, 224, (224, 224)),
        ({"size": 224, "crop_pct": None}, 256, (224, 224)),
        ({"size": {"shortest_edge": 383}, "crop_pct": 0.9}, 425, (383, 383)),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.9}, (384, 384), None),
        ({"size": 512}, (512, 512), None),
        ({"do_resize": False, "do_center_crop": True, "crop_size": 32}, None, (32, 32)),
    ],
    ids=str,
)
def test_convnext_crops_small_sizes_and_squeezes_large_ones(
    fields: dict[str, Any], resize: object, crop: object
) -> None:
    found = read({"feature_extractor_type": "ConvNextFeatureExtractor", **fields})
    assert (found.resize, found.crop) == (resize, crop)


@pytest.mark.parametrize(
    "fields",
    [
        {
            "do_convert_rgb": None,
            "device": "cpu",
            "input_data_format": "channels_first",
            "return_tensors": None,
        },
        {"do_convert_rgb": False, "processor_class": "CLIPProcessor", "model_input_names": ["pixel_values"]},
        {
            "data_format": "channels_first",
            "do_pad": False,
            "use_square_size": False,
            "disable_grouping": None,
        },
        {"_valid_processor_keys": ["images", "do_resize"], "default_to_square": False},
    ],
    ids=str,
)
def test_keys_without_effect_are_passed_over(fields: dict[str, Any]) -> None:
    assert of_type("CLIP", **fields) == CLIP


@pytest.mark.parametrize(
    "name",
    [
        *("Blip", "DPT", "EfficientNet", "DINOv3ViT", "Vit", "clip", "", "CLIPCLIP", "Siglip2"),
    ],
)
def test_an_unknown_type_is_refused(name: str) -> None:
    message, hint = refused({"image_processor_type": f"{name}ImageProcessorFast", **STATED})
    assert message == f"has the type '{name}ImageProcessorFast', which is not supported"
    assert "CLIPImageProcessor, BitImageProcessor, SiglipImageProcessor" in hint
    assert "remove the type and state size, resample, image_mean and image_std" in hint


@pytest.mark.parametrize(
    "name", ["", "CLIP", "CLIPImageProcessorFastPil", " CLIPImageProcessor", 3, [], {}, True]
)
def test_what_is_no_type_is_refused(name: object) -> None:
    assert (
        refused({"image_processor_type": name, **STATED})[0]
        == f"has the type {name!r}, which is not supported"
    )


@pytest.mark.parametrize(
    "name", ["crop_pct", "do_reduce_labels", "pad_size", "image_seq_length", "auto_map", "sise"]
)
def test_a_key_that_is_not_understood_is_refused(name: str) -> None:
    message, hint = refused({**STATED, name: 1})
    assert message == f"has the unknown key {name}, which may change the result"
    assert "remove it" in hint


@pytest.mark.parametrize("name", STATED)
def test_without_a_type_everything_must_be_stated(name: str) -> None:
    message, hint = refused({key: value for key, value in STATED.items() if key != name})
    assert message == f"names no image processor and does not say {name}"
    assert hint.startswith("a file without a type needs size, resample, image_mean and image_std")


@pytest.mark.parametrize(
    ("name", "starts"), [("ViT", "does not say"), (None, "names no image processor and")]
)
def test_a_crop_must_have_a_size(name: str | None, starts: str) -> None:
    typed = {} if name is None else {"image_processor_type": f"{name}ImageProcessor"}
    message, hint = refused({**STATED, **typed, "do_center_crop": True})
    assert message.startswith(starts)
    assert message.endswith("does not say crop_size")
    assert "with do_center_crop, crop_size" in hint


WRONG = [
    *(("size", value) for value in ("224", [224, 224], {}, {"height": 2}, {"longest_edge": 2}, 2.5, True)),
    *(("size", {"shortest_edge": 20, "longest_edge": 30}),),
    *(("resample", value) for value in (6, -1, 2.0, "bicubic", True, [3])),
    *(
        ("crop_size", value)
        for value in ("224", {}, {"shortest_edge": 20}, {"height": 2, "width": 2, "depth": 2})
    ),
    *(
        (name, value)
        for name in ("do_resize", "do_center_crop", "do_rescale")
        for value in (1, 0, "true", [])
    ),
    *(("do_normalize", "yes"), ("default_to_square", 1)),
    *(("rescale_factor", value) for value in ("1", True, [0.5], 10**400, float("nan"), float("inf"))),
    *(
        (name, value)
        for name in ("image_mean", "image_std")
        for value in ("0", [0.5, "a", 1], True, {}, 10**400)
    ),
    *(("do_pad", True), ("use_square_size", True), ("data_format", "channels_last")),
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=lambda each: str(each)[:20])
def test_a_wrong_value_is_refused_by_its_name(name: str, value: object) -> None:
    square = {"size": 20} if name == "default_to_square" else {}
    message, hint = refused({**STATED, "do_center_crop": True, "crop_size": 8, **square, name: value})
    assert message == f"has {str(value)[:60]!r} for {name}"
    assert hint.startswith("use ")


@pytest.mark.parametrize(
    "change",
    [
        *(
            {"size": size}
            for size in ({"height": 0, "width": 1}, {"height": 1, "width": 4097}, {"shortest_edge": 0})
        ),
        *({"size": size} for size in ({"height": "1", "width": 1}, {"height": 1.0, "width": 1})),
        *({"crop_size": size} for size in (0, 4097, -1, True, {"height": None, "width": 1}, 10**400)),
        *({"image_mean": mean} for mean in ([], [0.5], [0.5] * 4, 1e7, [0.5, 0.5, float("nan")])),
        *({"image_std": std} for std in ([], [0.5] * 2, 0, [0.5, 0.5, 0], 1e-46, float("inf"))),
        *({"rescale_factor": factor} for factor in (0, 1e-46, 1e300)),
    ],
    ids=lambda each: str(each)[:60],
)
def test_what_cannot_be_done_is_refused(change: dict[str, Any]) -> None:
    message, hint = refused({**STATED, "do_center_crop": True, "crop_size": 8, **change})
    assert message.startswith("has ")
    assert len(message) < 200
    assert hint != "None"


@pytest.mark.parametrize(
    "fields",
    [
        {"size": {"height": 224, "width": 224}},
        {"size": {"shortest_edge": "224"}},
        {"size": 224, "crop_pct": 0},
        {"size": 224, "crop_pct": 1.1},
        {"size": 224, "crop_pct": 5e-324},
        {"size": 224, "crop_pct": 10**400},
        {"size": 224, "do_center_crop": True, "crop_size": 192},
    ],
    ids=lambda each: str(each)[:60],
)
def test_what_convnext_cannot_do_is_refused(fields: dict[str, Any]) -> None:
    assert refused(CONVNEXT | fields)[0].startswith("has ")


@pytest.mark.parametrize("fields", [{"size": {"shortest_edge": 20}}, {"do_resize": False}], ids=str)
def test_a_size_that_depends_on_the_picture_is_refused(fields: dict[str, Any]) -> None:
    message, hint = refused(STATED | fields)
    assert message == "does not give pictures of one fixed size, which a model needs"
    assert hint == "resize to a height and a width, or crop"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"3",
        b"\xff",
        b'{"a":' * 5000,
        b"[" * 100_000,
        b'{"size":' + b"9" * 5000 + b"}",
    ],
    ids=lambda each: str(each[:10]),
)
@pytest.mark.parametrize("name", ["preprocessor_config.json", "processor_config.json"])
def test_what_is_no_preprocessing_file_is_refused(tmp_path: Path, name: str, text: bytes) -> None:
    model = tiny_model(tmp_path, preprocessing=None)
    (tmp_path / name).write_bytes(text)
    with pytest.raises(MalformedError, match="is not a preprocessing file") as error:
        read_model(model)
    assert error.value.path == str(tmp_path / name)


@pytest.mark.parametrize("inner", ["[" * 900 + "]" * 900, "3", '"ViT"', "[]"], ids=lambda each: each[:5])
def test_a_processor_of_no_object_is_refused(tmp_path: Path, inner: str) -> None:
    model = tiny_model(tmp_path, preprocessing=None)
    (tmp_path / "processor_config.json").write_text(f'{{"image_processor": {inner}}}')
    with pytest.raises(MalformedError, match="is not a preprocessing file"):
        read_model(model)


def test_a_preprocessing_file_has_a_size_limit(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, preprocessing=None)
    (tmp_path / "preprocessor_config.json").write_bytes(json.dumps(PREPROCESSING).encode() + b" " * (1 << 20))
    with pytest.raises(MalformedError, match="too large to be a preprocessing file"):
        read_model(model)
