"""What reads files that a person gives: pictures of every kind, models, features, and rankings.

They come from anybody, and nobody signed them: an archive, a scanner, a page on the web.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, partial
from itertools import islice
from pathlib import Path

import h5py
import numpy as np
import onnx
import pydicom.pixels.decoders  # noqa: F401 -- loaded here, so that the fuzzer sees what it does

from mipp_cli.containers.base.header import HEAD_BYTES
from mipp_cli.containers.feature_file import open_feature_file
from mipp_cli.descriptors.edge_histogram import edge_histogram
from mipp_cli.descriptors.external import OwnFeatures
from mipp_cli.descriptors.image_model import pin_model
from mipp_cli.descriptors.model_files import read_model
from mipp_cli.descriptors.onnx_weights import external_files
from mipp_cli.descriptors.preprocessing import preprocessed, sample_values
from mipp_cli.errors import MippError, UnreadableImageError
from mipp_cli.experiments.accuracy.rankings import read_rankings
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.images import dicom_header, refusals
from mipp_cli.images.collection import ImageFile
from mipp_cli.images.dicom import series_of
from mipp_cli.images.kinds import DICOM, kind_of
from mipp_cli.images.pictures import open_picture
from mipp_cli.images.pixels import png_of_pixels
from mipp_cli.images.renditions import render
from mipp_cli.scheme.descriptor import Descriptor, parse_descriptor
from tests.fuzz.picture_seeds import FILES, dicom_files, picture_files
from tests.support.deployment import picture
from tests.support.tiny_model import PREPROCESSING, nested_model, tiny_model

PIXELS = 1 << 20  # of a picture: the limit is as good at a hundredth of its size
_BUDGET = 64 * PIXELS  # more than any kind takes for so many
_SIDE = 256  # of what a model sees; larger ones only take longer
_ROWS, _DIMENSION = 5, 7
_NAMES = [f"folder/{row}.png" for row in range(_ROWS)]
_IMAGES = [ImageFile(name, name) for name in _NAMES]
_MOST_NAMES = 10_000  # that are read of a file; beyond that it is more of the same

Seeds = Callable[[Path], list[bytes]]
Run = Callable[[bytes, Path], object]


# pictures


def run_picture(data: bytes, _scratch: Path) -> None:
    """Do with a picture what roles do: describe it, show it, keep its pixels, say what it belongs to."""
    refusals.MAX_PIXELS = PIXELS
    dicom_header._MAX_BYTES = 4 * PIXELS
    if kind_of(data) == DICOM:
        with suppress(UnreadableImageError):
            series_of(data)
    render(data, "image/jpeg", (184, 128))
    opened = open_picture(data, path=None, budget=_BUDGET)
    if opened.facts.width * opened.facts.height > PIXELS:
        raise AssertionError("a picture of too many pixels was decoded")
    with suppress(MippError):
        edge_histogram(opened.eight_bits())
    with suppress(MippError):
        again = open_picture(png_of_pixels(opened.stored()), path=None)
        if not again.facts.width:
            raise AssertionError("a picture lost its pixels")


# models


def _run_weights(data: bytes, _scratch: Path) -> None:
    """Ask which files a model keeps weights in; whoever else reads it must find no others."""
    names = set(external_files(data))
    try:
        model = onnx.ModelProto.FromString(data)
    except Exception:  # noqa: BLE001 -- of protobuf, whose errors differ with its version
        return
    if found := {*_locations(model)} - names:
        raise AssertionError(f"the model keeps weights in {found}, too")


def _locations(message: onnx.ModelProto) -> Iterator[str]:
    """Yield where the tensors of a message lie that are kept outside of it."""
    if isinstance(message, onnx.TensorProto):
        if message.data_location == onnx.TensorProto.EXTERNAL:
            names = [entry.value for entry in message.external_data if entry.key == "location"]
            yield str(Path(names[-1])) if names else "nowhere"
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in [value] if hasattr(value, "ListFields") else value:
                yield from _locations(each)


def _models(scratch: Path) -> Iterator[Path]:
    """Make a folder for each of some models, every one of them small."""
    yield tiny_model(scratch / "plain")
    yield tiny_model(scratch / "outside", weights="weights.bin", dimension=3)
    yield tiny_model(scratch / "tokens", outputs={"last_hidden_state": "tokens"}, dimension=3, batch=2)
    yield tiny_model(scratch / "half", input_type="float16", output_type="double", dimension=3)
    yield nested_model(scratch / "if", "if", location=None)
    yield nested_model(scratch / "loop", "loop", location=None)


def _seeds_of_weights(scratch: Path) -> list[bytes]:
    nested = [nested_model(scratch / f"{each} outside", each) for each in ("constant", "if", "loop")]
    return [path.read_bytes() for path in (*_models(scratch), *nested)]


def _run_model(data: bytes, scratch: Path) -> None:
    """Pin a model as the KMC does; its weights lie beside it."""
    folder = scratch / "outside"
    (folder / "model.onnx").write_bytes(data)
    pin_model(folder)


def _seeds_of_models(scratch: Path) -> list[bytes]:
    return [path.read_bytes() for path in [*_models(scratch)][::-1]]


def _run_preprocessing(data: bytes, scratch: Path) -> None:
    """Read the preprocessing of a model, by the name that the first byte says, and do it."""
    folder = scratch / "plain"
    for name in ("processor_config.json", "preprocessor_config.json"):
        (folder / name).unlink(missing_ok=True)
    name = ("preprocessor_config.json", "processor_config.json")[data[:1] == b"\1"]
    (folder / name).write_bytes(data[1:])
    preprocessing = read_model(folder).preprocessing
    if not np.isfinite(sample_values(preprocessing)).all():
        raise AssertionError("samples become numbers that are not finite")
    height, width = preprocessing.input_size or (1, 1)
    if max(height, width) <= _SIDE:
        for size in ((20, 17), (1, 300)):
            with suppress(UnreadableImageError):
                if preprocessed(picture(1, size), preprocessing).shape != (height, width, 3):
                    raise AssertionError("a picture became one of another size than a model is to see")


def _seeds_of_preprocessing(scratch: Path) -> list[bytes]:
    tiny_model(scratch / "plain")
    clip = {"image_processor_type": "CLIPImageProcessor", "size": 30, "crop_size": {"height": 28, "width": 9}}
    fields = [
        PREPROCESSING,
        clip,
        {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 30}, "crop_pct": 0.875},
        {"image_processor_type": "ViTImageProcessorFast", "size": 24, "do_rescale": False},
        {**PREPROCESSING, "do_center_crop": True, "crop_size": 8, "do_pad": False, "device": None},
    ]
    texts = [json.dumps(each).encode() for each in fields]
    return [*(b"\0" + each for each in texts), b"\1" + json.dumps({"image_processor": clip}).encode()]


# features and rankings


def run_features(path: Path) -> None:
    """Read a file of features as a whole and by its rows, with a descriptor of codes and two of numbers."""
    file = open_feature_file(path)
    try:
        rows = file.shape[0]
        for begin in (0, max(0, rows - 2)):
            file.rows(begin, min(begin + 2, rows))
        for _ in islice(file.names() or (), _MOST_NAMES):
            pass
        file.digest()
        for descriptor in _descriptors():
            with suppress(MippError):
                _read_own(OwnFeatures(path, file, _IMAGES, descriptor))
    finally:
        file.close()


def _read_own(features: OwnFeatures) -> None:
    for image in _IMAGES:
        if features.codes(image).shape != (_DIMENSION,):
            raise AssertionError("codes of another shape were read")
    features.vectors()


def _descriptors() -> list[Descriptor]:
    return [parse_descriptor(f"own:{_DIMENSION}:{how}") for how in ("8", "l2", "0..1")]


@cache
def hdf5_features() -> list[bytes]:
    """Return the HDF5 content of files of features."""
    codes = np.random.default_rng(5).integers(0, 8, (_ROWS, _DIMENSION), dtype=np.uint8)
    numbers = codes.astype("<f4") / 8 + 0.01
    text = h5py.string_dtype()
    bodies = []
    for rows, names, options in (
        (codes, np.array(_NAMES, "S12"), {}),
        (numbers, np.array(_NAMES, object), {"compression": "gzip", "shuffle": True}),
        (numbers.astype(">f8"), np.array(_NAMES, object), {"chunks": (2, 7), "fletcher32": True}),
        (numbers, np.array(_NAMES, object), {"compression": "lzf", "maxshape": (None, _DIMENSION)}),
    ):
        memory = io.BytesIO()
        with h5py.File(memory, "w", userblock_size=HEAD_BYTES) as file:
            file.create_dataset("features", data=rows, **options)
            file.create_dataset("names", data=names, dtype=None if names.dtype.kind == "S" else text)
        bodies.append(memory.getvalue()[HEAD_BYTES:])
    return bodies


def _run_rankings(data: bytes, scratch: Path) -> None:
    path = scratch / "rankings.csv"
    path.write_bytes(data)
    images = tuple(ImageFile(name, name) for name in (*_NAMES[:3], "=1+1.png"))
    labels = np.array([0, 0, 1, 1])
    dataset = DataSet(scratch, ("a", "b"), images, labels, np.zeros((4, 80), np.uint8), "00")
    method = read_rankings(path, dataset, np.array([0, 3]))
    for query in (0, 3):
        order = method.order(query).tolist()
        if query in order or not set(order) <= set(range(4)) or len(set(order)) < len(order):
            raise AssertionError("an order names an image that it may not name")


def _seeds_of_rankings(_scratch: Path) -> list[bytes]:
    first, second, third = _NAMES[:3]
    lines = [f"{first},1,{second}", f"{first},2,{third}", f"./=1+1.png,1,{first}", f"=1+1.png,2,{third}"]
    shuffled = [f"{rank},x,{image},{query}" for query, rank, image in (line.split(",") for line in lines)]
    return [
        "\n".join(["query,rank,image", *lines]).encode(),
        "\r\n".join(["\ufeffrank,more,image,query", *shuffled, ""]).encode(),
        "\n".join(['query,"rank",image', *(f'"{line}"'.replace(",", '","') for line in lines)]).encode(),
    ]


def picture_targets() -> dict[str, tuple[Run, Seeds]]:
    """Return what reads and what makes a picture of each kind."""
    made: dict[str, tuple[Run, Seeds]] = {
        kind: (run_picture, partial(_seeds_of_kind, kind)) for kind in FILES
    }
    return made | {"dicom": (run_picture, dicom_files)}


def _seeds_of_kind(kind: str, _scratch: Path) -> list[bytes]:
    return picture_files(kind)


OTHERS: dict[str, tuple[Run, Seeds]] = {
    "model-weights": (_run_weights, _seeds_of_weights),
    "model": (_run_model, _seeds_of_models),
    "preprocessing": (_run_preprocessing, _seeds_of_preprocessing),
    "rankings": (_run_rankings, _seeds_of_rankings),
}
