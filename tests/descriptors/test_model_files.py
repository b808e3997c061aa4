"""A model on disk: which file it is, what belongs to it, and what is said where something is amiss."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from mipp_cli.descriptors.image_model import ImageModel, pin_model
from mipp_cli.descriptors.model_files import read_model
from mipp_cli.errors import InvalidRequestError, MalformedError, MippError, WrongDeploymentError
from tests.support.tiny_model import (
    PREPROCESSING,
    nested_model,
    random_pixels,
    tiny_model,
    write_preprocessing,
)

PINNED_HINT = "get a copy of the KMC's model"
OTHER = PREPROCESSING | {"resample": 3}


def refused(path: Path, kind: type[MippError]) -> MippError:
    """Return the error with which a model is refused when it is read."""
    with pytest.raises(kind) as error:
        read_model(path)
    assert type(error.value) is kind
    assert error.value.hint
    return error.value


@pytest.mark.parametrize(
    "file",
    ["model.onnx", "onnx/model.onnx", "onnx/vision_model.onnx", "vit-b-16.onnx", "onnx/model_fp16.onnx"],
)
def test_the_one_model_of_a_folder_is_found(tmp_path: Path, file: str) -> None:
    path = tiny_model(tmp_path, file=file)
    assert read_model(tmp_path).onnx == read_model(path).onnx == path.read_bytes()


def test_a_file_named_onnx_beside_the_model_is_ignored(tmp_path: Path) -> None:
    path = tiny_model(tmp_path)
    (tmp_path / "onnx").touch()
    assert read_model(tmp_path).onnx == path.read_bytes()


def test_a_model_that_is_a_link_is_followed(tmp_path: Path) -> None:
    blob = tiny_model(tmp_path / "blobs", preprocessing=None)
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "model.onnx").symlink_to(blob)
    write_preprocessing(snapshot, PREPROCESSING)
    assert read_model(snapshot).onnx == blob.read_bytes()


def test_several_models_are_listed_to_choose_from(tmp_path: Path) -> None:
    files = ["model.onnx", "onnx/model_quantized.onnx", "onnx/text_model.onnx"]
    for file in files:
        tiny_model(tmp_path, file=file)
    error = refused(tmp_path, InvalidRequestError)
    assert error.message == f"contains 3 models: {', '.join(files)}"
    assert f"--model {tmp_path / 'model.onnx'}" in str(error.hint)
    assert read_model(tmp_path / files[1]).onnx


@pytest.mark.parametrize(
    ("file", "message", "hint"),
    [
        ("open_clip_config.json", "in open_clip format, but none in ONNX format", "export its image tower"),
        ("model.safetensors", "in PyTorch format, but none in ONNX format", "optimum-cli export onnx"),
        ("pytorch_model.bin", "in PyTorch format, but none in ONNX format", "onnx_export.py"),
        (
            "readme.txt",
            "contains no .onnx file",
            "give a folder with model.onnx and preprocessor_config.json",
        ),
    ],
)
def test_a_folder_of_another_form_says_how_to_export(
    tmp_path: Path, file: str, message: str, hint: str
) -> None:
    (tmp_path / file).touch()
    error = refused(tmp_path, InvalidRequestError)
    assert message in error.message
    assert hint in str(error.hint)
    assert error.path == str(tmp_path)


@pytest.mark.parametrize(("name", "message"), [("x.pt", "is not an .onnx file"), (None, "does not exist")])
def test_what_is_no_model_is_refused(tmp_path: Path, name: str | None, message: str) -> None:
    path = tmp_path / (name or "missing")
    if name:
        path.touch()
    error = refused(path, InvalidRequestError)
    assert error.message == message
    assert "the .onnx file in it" in str(error.hint)


def test_a_model_without_preprocessing_is_refused(tmp_path: Path) -> None:
    error = refused(tiny_model(tmp_path / "a" / "b", preprocessing=None), InvalidRequestError)
    assert error.message == "has no preprocessor_config.json"
    assert "beside it, or one folder up; for timm" in str(error.hint)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("file", ["preprocessor_config.json", "processor_config.json"])
def test_preprocessing_lies_beside_a_model_or_one_up(tmp_path: Path, file: str, up: bool) -> None:
    model = tiny_model(tmp_path, file="onnx/model.onnx", preprocessing=None)
    fields = {"image_processor": PREPROCESSING} if file == "processor_config.json" else PREPROCESSING
    ((tmp_path if up else model.parent) / file).write_text(json.dumps(fields))
    assert read_model(model).preprocessing.resample == "bilinear"


def test_preprocessing_two_folders_up_is_not_a_models(tmp_path: Path) -> None:
    tiny_model(tmp_path, file="a/b/model.onnx")
    refused(tmp_path / "a" / "b", InvalidRequestError)


def test_preprocessing_beside_a_model_counts_over_one_up(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, file="onnx/model.onnx", preprocessing=OTHER)
    write_preprocessing(model.parent, PREPROCESSING)
    assert read_model(tmp_path).preprocessing.resample == "bilinear"


def test_the_processor_counts_over_the_preprocessor(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": OTHER}))
    assert read_model(model).preprocessing.resample == "bicubic"


@pytest.mark.parametrize(
    "fields", [{}, {"processor_class": "CLIPProcessor"}, {"image_processor": None}], ids=str
)
def test_a_processor_without_pictures_is_passed_over(tmp_path: Path, fields: dict[str, object]) -> None:
    model = tiny_model(tmp_path, file="onnx/model.onnx")
    for folder in (tmp_path, model.parent):
        (folder / "processor_config.json").write_text(json.dumps(fields))
    assert read_model(model).preprocessing.resample == "bilinear"


@pytest.mark.parametrize("path", ["model.onnx", ".", "../onnx", "../onnx/../onnx/model.onnx"])
def test_a_model_may_be_named_from_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(tiny_model(tmp_path, file="onnx/model.onnx").parent)
    assert read_model(Path(path)).preprocessing.resample == "bilinear"


@pytest.mark.parametrize("location", ["w.bin", "./w.bin", "sub/w.bin"])
def test_weights_beside_a_model_are_read(tmp_path: Path, location: str) -> None:
    model = tiny_model(tmp_path, weights=location)
    files = read_model(model)
    content = (tmp_path / location).read_bytes()
    name = location.removeprefix("./")
    assert files.weights == {name: content}
    listed = f"{hashlib.sha256(content).hexdigest()}  {name}\n"
    assert files.weights_sha256 == hashlib.sha256(listed.encode()).hexdigest()


def test_a_model_without_weights_outside_has_no_digest_of_them(tmp_path: Path) -> None:
    files = read_model(tiny_model(tmp_path))
    assert files.weights_sha256 is None
    assert files.sha256 == hashlib.sha256((tmp_path / "model.onnx").read_bytes()).hexdigest()


def test_missing_weights_are_named(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, weights="sub/w.bin")
    (tmp_path / "sub" / "w.bin").unlink()
    error = refused(model, MalformedError)
    assert error.message == "is missing: it contains weights of the model"
    assert error.path == str(tmp_path / "sub" / "w.bin")


@pytest.mark.parametrize("linked", ["sub/w.bin", "sub"])
def test_linked_weights_are_refused(tmp_path: Path, linked: str) -> None:
    model = tiny_model(tmp_path / "model", weights="sub/w.bin")
    link = model.parent / linked
    link.rename(tmp_path / "elsewhere")
    link.symlink_to(tmp_path / "elsewhere")
    error = refused(model, MalformedError)
    assert error.message == "is a link, and links to weights are not followed"
    assert "cp -rL" in str(error.hint)


def test_a_linked_folder_with_a_model_and_its_weights_is_read(tmp_path: Path) -> None:
    tiny_model(tmp_path / "v1", weights="sub/w.bin")
    (tmp_path / "current").symlink_to(tmp_path / "v1")
    assert read_model(tmp_path / "current").weights


def test_weights_of_inner_graphs_are_not_read_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nested_model(tmp_path / "model", "if")
    (tmp_path / "weights.bin").write_bytes(bytes(1 << 16))  # where the library would look
    monkeypatch.chdir(tmp_path)
    error = refused(tmp_path / "model", MalformedError)
    assert error.message == "stores weights in 'weights.bin' that do not belong to its main graph"
    assert error.path == str(tmp_path / "model" / "model.onnx")


def test_weights_of_the_main_graph_come_from_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = pin_model(tiny_model(tmp_path / "inside"))
    model = tiny_model(tmp_path / "model", weights="w.bin")
    (tmp_path / "w.bin").write_bytes(bytes(1 << 16))
    monkeypatch.chdir(tmp_path)
    pixels = random_pixels(3)
    found = ImageModel(model, pin_model(model)).vectors(pixels)
    assert (found == ImageModel(tmp_path / "inside", inside).vectors(pixels)).all()


CHANGES = {
    "model": ("is another model than the deployment's: its SHA-256 is ", PINNED_HINT),
    "weights": ("has other weights in sub/w.bin than the deployment's model", PINNED_HINT),
    "preprocessing": (
        "has other preprocessing than the deployment's model: resample is bicubic, not bilinear",
        "get the preprocessing file of the KMC's copy",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_another_model_than_the_deployments_is_refused(tmp_path: Path, what: str) -> None:
    descriptor = pin_model(tiny_model(tmp_path / "kmc", weights="sub/w.bin"))
    seed = 2 if what == "model" else 1
    model = tiny_model(tmp_path / "own", weights=None if what == "model" else "sub/w.bin", seed=seed)
    if what == "weights":
        content = bytearray((tmp_path / "own" / "sub" / "w.bin").read_bytes())
        content[-1] ^= 1
        (tmp_path / "own" / "sub" / "w.bin").write_bytes(content)
    if what == "preprocessing":
        write_preprocessing(tmp_path / "own", OTHER)
    message, hint = CHANGES[what]
    with pytest.raises(WrongDeploymentError) as error:
        ImageModel(model, descriptor).check()
    assert error.value.message.startswith(message)
    assert hint in str(error.value.hint)
    assert (error.value.path, error.value.exit_code) == (str(model), 8)


def test_the_same_model_elsewhere_is_the_deployments(tmp_path: Path) -> None:
    descriptor = pin_model(tiny_model(tmp_path / "kmc", weights="w.bin"))
    tiny_model(tmp_path / "own", file="onnx/vision_model.onnx", weights="w.bin")
    ImageModel(tmp_path / "own", descriptor).check()


def test_preprocessing_that_is_written_otherwise_is_the_same(tmp_path: Path) -> None:
    descriptor = pin_model(tiny_model(tmp_path))
    (tmp_path / "preprocessor_config.json").unlink()
    more = PREPROCESSING | {"do_resize": True, "do_pad": None, "rescale_factor": 1 / 255}
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": more}))
    ImageModel(tmp_path, descriptor).check()
