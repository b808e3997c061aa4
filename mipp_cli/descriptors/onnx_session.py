"""Runs a model in ONNX format: its input, the output used as feature, and batches of pictures.

onnxruntime is an optional extra, imported when a model is run.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mipp_cli.compute.cores import cores_of_this_worker
from mipp_cli.compute.signals import signals_held
from mipp_cli.descriptors.model_files import ModelFiles
from mipp_cli.descriptors.preprocessing import Pixels, sample_values
from mipp_cli.errors import InvalidRequestError, MalformedError
from mipp_cli.log import timed

Vectors = NDArray[np.float32]

DEVICES: Final = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_VECTOR_OUTPUTS: Final = ("image_embeds", "pooler_output", "sentence_embedding")
_TOKENS: Final = "last_hidden_state"
_FLOATS: Final[Mapping[str, type[np.floating[Any]]]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}
_INPUTS: Final = ("tensor(float)", "tensor(float16)")
_AT_A_TIME: Final = 4  # fastest on a CPU; larger batches only take more memory
_ON_GPU_AT_A_TIME: Final = 32
_PIXELS_AT_A_TIME: Final = 1 << 24  # total of a batch: 200 MB as floats
_FATAL: Final = 4  # errors are raised, so onnxruntime need not log them


class OnnxSession:
    """An open model: ``run`` computes vectors, shape (n, l), from the pixels of prepared pictures.

    ``output`` and ``pooling`` select the feature; without ``output`` it is the first output that is a vector
    by its name or rank. Raises InvalidRequestError if onnxruntime or the device is missing, or the model is
    unsuitable (several inputs, no vector among its outputs); MalformedError if it cannot be opened.
    """

    @timed("opening the image model on {device}")
    def __init__(self, files: ModelFiles, output: str | None, pooling: str | None, device: str):
        runtime = _runtime()
        self._session = _open(runtime, files, device)
        self._values = sample_values(files.preprocessing)
        self._input, self._type, self._batch = _image_input(self._session, files.preprocessing.input_size)
        height, width = files.preprocessing.input_size or (1, 1)
        fitting = max(1, _PIXELS_AT_A_TIME // (height * width))
        if self._batch > fitting:
            raise InvalidRequestError(
                f"takes {self._batch} pictures at a time, but memory suffices for {fitting}",
                hint="export it with a dynamic batch size",
            )
        self._at_a_time = self._batch or min(fitting, _AT_A_TIME if device == "cpu" else _ON_GPU_AT_A_TIME)
        outputs = {each.name: len(each.shape) for each in self._session.get_outputs() if each.type in _FLOATS}
        self.output = _chosen(outputs, output)
        self.pooling = _pooling(self.output, outputs[self.output], pooling)

    def run(self, pictures: Sequence[Pixels]) -> Vectors:
        """Return the vectors of pictures, each of shape (height, width, 3); raises MalformedError."""
        with np.errstate(all="ignore"):  # numbers that are not finite are detected during quantisation
            batches = [*self._batches(pictures)]
        if len({vectors.shape[1] for vectors in batches}) > 1:
            raise MalformedError("gives vectors of several lengths", hint=_TRY_HINT)
        return np.concatenate(batches)

    def _batches(self, pictures: Sequence[Pixels]) -> Iterator[Vectors]:
        for begin in range(0, len(pictures), self._at_a_time):
            some = pictures[begin : begin + self._at_a_time]
            # a fixed batch is filled up with copies of the last picture
            filled = [*some, *[some[-1]] * (self._batch - len(some))]
            yield self._vectors(self._normalised(filled))[: len(some)]

    def _normalised(self, pictures: Sequence[Pixels]) -> NDArray[Any]:
        """Return the normalised samples for the model, shape (n, 3, height, width)."""
        height, width, channels = pictures[0].shape
        batch = np.empty((len(pictures), channels, height, width), dtype=np.float32)
        for picture, planes in zip(pictures, batch, strict=True):
            for channel, values in enumerate(self._values):
                np.take(values, picture[:, :, channel], out=planes[channel], mode="clip")
        return batch.astype(self._type, copy=False)

    def _vectors(self, batch: NDArray[Any]) -> Vectors:
        try:
            (found,) = self._session.run([self.output], {self._input: batch})
        # the library's errors have no common base class but Exception
        except Exception as error:
            raise MalformedError(f"could not be run ({_reason(error)})", hint=_TRY_HINT) from error
        if found.ndim == 4 and found.shape[2:] == (1, 1):
            found = found[:, :, 0, 0]
        if found.ndim == 3 and found.shape[1] and self.pooling is not None:
            found = found[:, 0] if self.pooling == "cls" else found.mean(axis=1, dtype=np.float64)
        if found.ndim != 2 or len(found) != len(batch):
            raise InvalidRequestError(
                f"gives {self.output} of shape {found.shape} for {len(batch)} pictures, not one vector each",
                hint="name an output with one vector per picture: --model-output",
            )
        return np.asarray(found, dtype=np.float32)


_TRY_HINT: Final = "try another export of the model, or a newer onnxruntime"


def _runtime() -> Any:
    if importlib.util.find_spec("onnxruntime") is None:
        raise InvalidRequestError(
            "an image model needs onnxruntime, which is not installed", hint="pip install onnxruntime"
        )
    try:
        with signals_held():  # an interrupt during the import would look like a failed import
            return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise InvalidRequestError(
            f"onnxruntime is installed but could not be loaded ({_reason(error)})",
            hint="reinstall it: pip install --force-reinstall onnxruntime",
        ) from error


def _open(runtime: Any, files: ModelFiles, device: str) -> Any:
    provider = DEVICES[device]
    options = runtime.SessionOptions()
    options.intra_op_num_threads = cores_of_this_worker()
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    # otherwise onnxruntime might detect another format, whose external files were not checked
    options.add_session_config_entry("session.load_model_format", "ONNX")
    if files.weights:
        names, contents = [*files.weights], [*files.weights.values()]
        options.add_external_initializers_from_files_in_memory(names, contents, [*map(len, contents)])
    missing = InvalidRequestError(
        f"onnxruntime cannot use {device} on this machine",
        hint="pip uninstall onnxruntime, then pip install onnxruntime-gpu; or leave out --device",
    )
    if provider not in runtime.get_available_providers():
        raise missing
    try:
        # a fallback would print to stdout and silently use another device
        session = runtime.InferenceSession(files.onnx, options, providers=[provider], enable_fallback=0)
    # the library's errors have no common base class but Exception
    except Exception as error:
        raise MalformedError(f"could not be opened ({_reason(error)})", hint=_TRY_HINT) from error
    if provider not in session.get_providers():
        raise missing
    return session


def _reason(error: Exception) -> str:
    words = " ".join(str(error).split()) or type(error).__name__
    return "".join(letter if letter.isprintable() else "?" for letter in words[:200])


def _image_input(session: Any, size: tuple[int, int] | None) -> tuple[str, type[np.floating[Any]], int]:
    """Return name, type and batch size (0 if dynamic) of the only input; raises InvalidRequestError."""
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(each.name for each in inputs)
        raise InvalidRequestError(
            f"takes {len(inputs)} inputs ({names}), not only pictures",
            hint="use its image encoder alone, such as vision_model.onnx",
        )
    (image,) = inputs
    shape, (height, width) = image.shape, size or (0, 0)
    wanted = (None, 3, height, width)
    fits = len(shape) == 4 and all(
        not isinstance(found, int) or each in (None, found) for found, each in zip(shape, wanted, strict=True)
    )
    if image.type not in _INPUTS or not fits:
        raise InvalidRequestError(
            f"takes {image.type} of shape {shape}, but its preprocessing gives (…, 3, {height}, {width})",
            hint="use a model with a float input, channels first, of the size that its preprocessing gives",
        )
    return image.name, _FLOATS[image.type], shape[0] if isinstance(shape[0], int) else 0


def _chosen(outputs: Mapping[str, int], wanted: str | None) -> str:
    """Return the output to use as feature, from the outputs with their ranks; raises InvalidRequestError."""
    named = [name for name in (*_VECTOR_OUTPUTS, _TOKENS) if name in outputs]
    vectors = [name for name, rank in outputs.items() if rank == 2]
    if wanted is None and (named or len(vectors) == 1):
        return (named or vectors)[0]
    if wanted in outputs:
        return str(wanted)
    listed = ", ".join(outputs) or "no float output"
    if wanted is not None:
        raise InvalidRequestError(f"has no output {wanted!r}", hint=f"it has: {listed}")
    raise InvalidRequestError(
        "does not have exactly one output with a vector per picture",
        hint=f"name one with --model-output; it has: {listed}",
    )


def _pooling(output: str, rank: int, wanted: str | None) -> str | None:
    if rank == 3:
        return wanted or "cls"
    if wanted is not None:
        raise InvalidRequestError(
            f"gives {output} as one vector per picture, without tokens to pool",
            hint="leave out --model-pooling",
        )
    return None
