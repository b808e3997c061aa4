"""Finds and reads a model on disk: a folder as published, or a single .onnx file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from os.path import normpath
from pathlib import Path, PurePath
from typing import Final

from mipp_cli.descriptors.onnx_weights import external_files
from mipp_cli.descriptors.preprocessing import read_preprocessing
from mipp_cli.errors import InvalidRequestError, MalformedError, WrongDeploymentError, errors_at
from mipp_cli.files.folders import is_there, paths_in
from mipp_cli.log import timed
from mipp_cli.names import on_disk
from mipp_cli.scheme.image_model import PinnedModel, Preprocessing

_SUFFIX: Final = ".onnx"
_EXPORTED_IN: Final = ("", "onnx")
_PREPROCESSING_FILES: Final = ("processor_config.json", "preprocessor_config.json")
_LARGEST_JSON: Final = 1 << 20
_MODEL_HINT: Final = "give a folder with model.onnx and preprocessor_config.json, or the .onnx file in it"
_EXPORT: Final = {
    "open_clip_config.json": (
        "open_clip",
        "export its image tower with torch.onnx.export, and write a preprocessor_config.json with the size, "
        "resample, image_mean and image_std of open_clip_config.json",
    ),
    "model.safetensors": (
        "PyTorch",
        "export it: optimum-cli export onnx --model PATH --task feature-extraction FOLDER, or for timm its "
        "onnx_export.py; then put a preprocessor_config.json beside it",
    ),
}
_EXPORT["pytorch_model.bin"] = _EXPORT["model.safetensors"]


@dataclass(frozen=True, repr=False)
class ModelFiles:
    """A model in memory: the .onnx file, its external weights by name, and its preprocessing."""

    onnx: bytes
    weights: Mapping[str, bytes]
    preprocessing: Preprocessing

    @property
    def sha256(self) -> str:
        """The digest of the .onnx file, in hex."""
        return hashlib.sha256(self.onnx).hexdigest()

    @property
    def weights_sha256(self) -> str | None:
        """The digest of the list of external files as `sha256sum` writes it; None if there are none."""
        if not self.weights:
            return None
        lines = (
            f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(self.weights.items())
        )
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def check(self, pinned: PinnedModel) -> None:
        """Raise WrongDeploymentError if this is not the model of the deployment."""
        same = "its features could not be compared with the deployment's: get a copy of the KMC's model"
        if self.sha256 != pinned.sha256:
            raise WrongDeploymentError(
                f"is another model than the deployment's: its SHA-256 is {self.sha256[:16]}…, not "
                f"{pinned.sha256[:16]}…",
                hint=same,
            )
        if self.weights_sha256 != pinned.weights_sha256:
            raise WrongDeploymentError(
                f"has other weights in {', '.join(sorted(self.weights))} than the deployment's model",
                hint=same,
            )
        found, wanted = vars(self.preprocessing), vars(pinned.preprocessing)
        for name in (name for name in wanted if found[name] != wanted[name]):
            raise WrongDeploymentError(
                f"has other preprocessing than the deployment's model: {name} is {found[name]}, not "
                f"{wanted[name]}",
                hint="get the preprocessing file of the KMC's copy of the model",
            )


@timed("reading the image model {path}")
def read_model(path: Path) -> ModelFiles:
    """Read the model at ``path``, a folder or an .onnx file, with its external weights and preprocessing.

    Raises InvalidRequestError if there is no model, or more than one; MalformedError for a damaged model, for
    weights that are missing or are links, or for an unsupported preprocessing file.
    """
    file = _model_file(path)
    with errors_at(file):
        onnx = _read(file)
        weights = {name: _read_weights(file.parent, name) for name in external_files(onnx)}
    return ModelFiles(onnx, weights, _preprocessing(file))


def _model_file(path: Path) -> Path:
    if path.is_file():
        if path.suffix != _SUFFIX:
            raise InvalidRequestError("is not an .onnx file", path=path, hint=_MODEL_HINT)
        return path
    if not path.is_dir():
        raise InvalidRequestError("does not exist", path=path, hint=_MODEL_HINT)
    folders = [path / name for name in _EXPORTED_IN if (path / name).is_dir()]
    found = sorted(each for folder in folders for each in paths_in(folder, _SUFFIX) if each.is_file())
    if not found:
        for name, (kind, hint) in _EXPORT.items():
            if is_there(path / name):
                raise InvalidRequestError(
                    f"contains a model in {kind} format, but none in ONNX format", path=path, hint=hint
                )
        raise InvalidRequestError("contains no .onnx file", path=path, hint=_MODEL_HINT)
    if len(found) > 1:
        names = ", ".join(str(each.relative_to(path)) for each in found)
        raise InvalidRequestError(
            f"contains {len(found)} models: {names}",
            path=path,
            hint=f"name the one that describes pictures, e.g. --model {found[0]}",
        )
    return found[0]


def _read(file: Path, most: int = -1) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(most)
    except OSError as error:
        raise InvalidRequestError(
            f"cannot be read: {error.strerror}", hint="check the path and its permissions"
        ) from error


def _read_weights(folder: Path, name: str) -> bytes:
    place = PurePath(on_disk(name))
    file = folder / place
    if any((folder / each).is_symlink() for each in accumulate(place.parts, PurePath)):
        raise MalformedError(
            "is a link, and links to weights are not followed",
            path=file,
            hint="copy the model with cp -rL, which replaces links by files",
        )
    if not file.is_file():
        raise MalformedError(
            "is missing: it contains weights of the model",
            path=file,
            hint="put it beside the model, as it was published",
        )
    with errors_at(file):
        return _read(file)


def _preprocessing(model: Path) -> Preprocessing:
    """Read the preprocessing file beside a model, or one folder up."""
    for folder in (model.parent, Path(normpath(model.parent / ".."))):
        for name in _PREPROCESSING_FILES:
            file = folder / name
            if not file.is_file():
                continue
            with errors_at(file):
                text = _text_of(file)
                if text is not None:
                    return read_preprocessing(text)
    raise InvalidRequestError(
        "has no preprocessor_config.json",
        path=model,
        hint="put the one published with the model beside it, or one folder up; for timm, write one from "
        "pretrained_cfg: size, resample, image_mean and image_std",
    )


def _text_of(file: Path) -> bytes | None:
    """Return the text of a preprocessing file; None for a processor_config.json without image processor."""
    data = _read(file, _LARGEST_JSON + 1)
    if len(data) > _LARGEST_JSON:
        raise MalformedError("is too large to be a preprocessing file", hint="copy it again")
    if file.name != _PREPROCESSING_FILES[0]:
        return data
    try:
        inner = json.loads(data).get("image_processor")
    except (ValueError, RecursionError, AttributeError):
        raise MalformedError(
            "is not a preprocessing file, which is one JSON object", hint="copy it again"
        ) from None
    return None if inner is None else json.dumps(inner).encode()
