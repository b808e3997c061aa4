"""The feature from an image model: pinned once by the KMC, the same for everybody who describes pictures."""

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

_NO_FEATURE_HINT: Final = "a model of 16-bit floats may overflow: try its export of 32 bits"


def pin_model(path: Path, *, output: str | None = None, pooling: str | None = None) -> Descriptor:
    """Return the descriptor that the model at ``path`` makes: its digests, its preprocessing, its dimension.

    The model is run on two made-up pictures. Raises what :func:`read_model` and :class:`OnnxSession` raise,
    and InvalidRequestError if what comes out is no feature: not finite, all zeros, or of an impossible
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
        except MalformedError as error:  # the model is sound, and its output cannot be a feature
            raise InvalidRequestError(error.message, hint=error.hint) from None
        if not descriptor.quantisable(vectors).all():
            raise InvalidRequestError(
                f"gives {session.output} that is not finite, or all zeros, for a made-up picture",
                hint=f"name another output with --model-output; {_NO_FEATURE_HINT}",
            )
    return descriptor


def _made_up(preprocessing: Preprocessing) -> list[Pixels]:
    """Return two pictures, of a ramp of colours and its negative, in the size that a model takes."""
    height, width = preprocessing.input_size or (1, 1)
    ramp = np.resize(np.arange(256, dtype=np.uint8), (height, width, 3))
    return [ramp, 255 - ramp]


class ImageModel:
    """Describes pictures by the model of a deployment, whose copy is at ``source``, a path or what was read.

    It can be sent to another process. The model is read and opened where it is used first; ``source`` a
    path is read there, and must be on that machine.
    """

    def __init__(self, source: Path | ModelFiles, descriptor: Descriptor, *, device: str = "cpu"):
        if descriptor.model is None:
            raise ValueError("the descriptor is no model's")
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
        """Whether workers are to be threads of one process, which owns the device."""
        return self._device != "cpu"

    def check(self) -> None:
        """Read and open the model; raises WrongDeploymentError if it is not the deployment's."""
        self._session()

    def travelling(self) -> ImageModel:
        """Return the same with the model itself inside, for workers on other machines."""
        return ImageModel(self._files(), self.descriptor, device=self._device)

    def prepare(self, picture: Image.Image) -> Pixels:
        """Return the pixels of a picture that the model is to see; raises UnreadableImageError."""
        return preprocessed(picture, self._pinned.preprocessing)

    def vectors(self, prepared: Sequence[Pixels]) -> Vectors:
        """Return what the model gives for prepared pictures, shape (n, l), before it is quantised."""
        with errors_at(self._where):
            vectors = self._session().run(prepared)
            if vectors.shape[1] != self.descriptor.l:
                raise MalformedError(
                    f"gives {vectors.shape[1]} numbers for a picture, and once gave {self.descriptor.l}",
                    hint="take a model whose output has one length",
                )
        return vectors

    def codes(self, prepared: Sequence[Pixels]) -> list[Codes | UnreadableImageError]:
        """Return the feature of each prepared picture: codes, shape (l,), or why there are none."""
        return self.codes_of_vectors(self.vectors(prepared))

    def codes_of_vectors(self, vectors: Vectors) -> list[Codes | UnreadableImageError]:
        """Quantise what :meth:`vectors` gave, shape (n, l): codes of each picture, or why there are none."""
        good = self.descriptor.quantisable(vectors)
        codes, _ = self.descriptor.quantised(vectors[good])
        found = iter(codes)
        return [
            next(found)
            if each
            else UnreadableImageError(
                "what the model gives for it is not finite, or all zeros", hint=_NO_FEATURE_HINT
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
