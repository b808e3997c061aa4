"""Features from an image model, which the KMC pins for the whole deployment."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from mipp_cli.descriptors.model_files import ModelFiles, read_model
from mipp_cli.descriptors.onnx_session import OnnxSession, Vectors
from mipp_cli.descriptors.preprocessing import Pixels, preprocessed
from mipp_cli.errors import InvalidRequestError, MalformedError, UnreadableImageError, errors_at
from mipp_cli.scheme.descriptor import L2, MODEL, MODEL_LEVELS, Codes, Descriptor
from mipp_cli.scheme.image_model import PinnedModel, Preprocessing

_NO_FEATURE_HINT: Final = "a model with 16-bit floats may overflow: try its 32-bit export"


def pin_model(path: Path, *, output: str | None = None, pooling: str | None = None) -> Descriptor:
    """Return the descriptor of the model at ``path``: its digests, preprocessing and dimension.

    The model is run on two synthetic pictures. Raises what :func:`read_model` and :class:`OnnxSession` raise,
    and InvalidRequestError if its output is not a feature: not finite, all zeros, or of an unsupported
    dimension.
    """
    files = read_model(path)
    with errors_at(path):
        session = OnnxSession(files, output, pooling, "cpu")
        vectors = session.run(_made_up(files.preprocessing))
        try:
            pinned = PinnedModel(
                files.sha256, files.weights_sha256, files.preprocessing, session.output, session.pooling
            )
            descriptor = Descriptor(MODEL, vectors.shape[1], MODEL_LEVELS, L2, pinned)
        except MalformedError as error:  # the model is valid, but its output cannot be a feature
            raise InvalidRequestError(error.message, hint=error.hint) from None
        if not descriptor.quantisable(vectors).all():
            raise InvalidRequestError(
                f"gives an output {session.output} that is not finite or all zeros for a test picture",
                hint=f"name another output with --model-output; {_NO_FEATURE_HINT}",
            )
    return descriptor


def _made_up(preprocessing: Preprocessing) -> list[Pixels]:
    """Return two pictures of the model's input size: a colour ramp and its negative."""
    height, width = preprocessing.input_size or (1, 1)
    ramp = np.resize(np.arange(256, dtype=np.uint8), (height, width, 3))
    return [ramp, 255 - ramp]


class ImageModel:
    """Describes pictures by the model of a deployment; ``source`` is the path of a copy, or its contents.

    It can be sent to another process, and reads and opens the model on first use; a path must then exist on
    that machine.
    """

    def __init__(self, source: Path | ModelFiles, descriptor: Descriptor, *, device: str = "cpu"):
        if descriptor.model is None:
            raise ValueError("the descriptor has no model")
        self.descriptor = descriptor
        self._pinned = descriptor.model
        self._source, self._device = source, device
        self._opened: OnnxSession | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_opened": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())

    @property
    def in_threads(self) -> bool:
        """Whether workers must be threads of one process, which owns the device."""
        return self._device != "cpu"

    def check(self) -> None:
        """Read and open the model; raises WrongDeploymentError if it is not the deployment's."""
        self._session()

    def travelling(self) -> ImageModel:
        """Return a copy that contains the model, for workers on other machines."""
        return ImageModel(self._files(), self.descriptor, device=self._device)

    def prepare(self, picture: Image.Image) -> Pixels:
        """Return the model's input pixels for a picture; raises UnreadableImageError."""
        return preprocessed(picture, self._pinned.preprocessing)

    def vectors(self, prepared: Sequence[Pixels]) -> Vectors:
        """Return the model's output for prepared pictures, shape (n, l), before quantisation."""
        with errors_at(self._where):
            vectors = self._session().run(prepared)
            if vectors.shape[1] != self.descriptor.l:
                raise MalformedError(
                    f"gives {vectors.shape[1]} numbers for a picture, but gave {self.descriptor.l} before",
                    hint="use a model with an output of fixed length",
                )
        return vectors

    def codes(self, prepared: Sequence[Pixels]) -> list[Codes | UnreadableImageError]:
        """Return the feature of each prepared picture: codes, shape (l,), or why there are none."""
        return self.codes_of_vectors(self.vectors(prepared))

    def codes_of_vectors(self, vectors: Vectors) -> list[Codes | UnreadableImageError]:
        """Quantise the output of :meth:`vectors`, (n, l): codes of each picture, or why there are none."""
        good = self.descriptor.quantisable(vectors)
        codes, _ = self.descriptor.quantised(vectors[good])
        found = iter(codes)
        return [
            next(found)
            if each
            else UnreadableImageError(
                "the model's output for it is not finite or all zeros", hint=_NO_FEATURE_HINT
            )
            for each in good
        ]

    @property
    def _where(self) -> Path:
        return self._source if isinstance(self._source, Path) else Path("model.onnx")

    def _files(self) -> ModelFiles:
        if isinstance(self._source, ModelFiles):
            return self._source
        files = read_model(self._source)
        with errors_at(self._source):
            files.check(self._pinned)
        return files

    def _session(self) -> OnnxSession:
        with self._lock:
            if self._opened is None:
                files, pinned = self._files(), self._pinned
                with errors_at(self._where):
                    self._opened = OnnxSession(files, pinned.output, pinned.pooling, self._device)
        return self._opened
