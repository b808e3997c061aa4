"""An image model in `owner encrypt`, beside the library that runs it; how well it ranks; what its features
take.

They need a model and photographs, a folder for each category, which the project does not ship:
`--model PATH --photographs DIR`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from mipp_cli.cloud.index import index_containers
from mipp_cli.cloud.search import search
from mipp_cli.descriptors.image_model import ImageModel, pin_model
from mipp_cli.descriptors.preprocessing import sample_values
from mipp_cli.images.collection import ImageFile
from mipp_cli.images.pictures import open_picture
from mipp_cli.kmc.index import index_at_kmc
from mipp_cli.kmc.rank import rank
from mipp_cli.kmc.reencrypt import reencrypt
from mipp_cli.user.decrypt import decrypt_answer
from mipp_cli.user.user import make_query
from tests.benchmark.materials import Roles, Setting, make_roles
from tests.benchmark.measure import Result, Target, in_turn, median_ratio, program, run, seconds, timed

_JOBS = 2
_BATCHES = (1, 4, 16)
_FIRST = 10  # precision at
_MATCHES_LIMIT = 10_000  # of a query
_BYTES_LIMIT = 1 << 40


def encrypt(setting: Setting) -> Iterator[Result]:
    """`mipp owner encrypt` under `exact`, whole process, beside onnxruntime alone on the same pixels.

    Alone means: pictures that are decoded, resized and normalised already, in one session with as many
    threads, in the fastest of a few batch sizes. The command reads, decodes, describes, encrypts and
    writes.
    """
    if (given := setting.given()) is None:
        return
    model, images = given
    roles = make_roles(setting.folder("model-encrypt"), "exact", model=model)
    listed = setting.scratch / "model-encrypt.txt"
    images = images[: setting.size(1_000, 40)]
    listed.write_text("".join(f"{image.path}\n" for image in images))
    command = (program("mipp"), "owner", "encrypt", roles.owner(roles.owners[0]), "--files-from", listed)
    root = ("--root", setting.photographs, "--again", "--jobs", str(_JOBS))
    output = ("-o", setting.scratch / "model.h5", "--force")
    command = (*command, *root, *output)
    inputs = _inputs(model, images)
    alone = {batch: partial(_run_alone, _session(model), inputs, batch) for batch in _BATCHES}
    sides = (timed(partial(run, command)), *(timed(each) for each in alone.values()))
    ours, *theirs = in_turn(setting.size(5, 1), *sides)
    best = [min(each) for each in zip(*theirs, strict=True)]
    yield Result(
        f"`owner encrypt` with a model, {len(images):,} photographs, {_JOBS} jobs, whole process",
        f"onnxruntime alone on the same pixels, {_JOBS} threads, the fastest batch of {_BATCHES}",
        median_ratio(ours, best),
        f"{seconds(ours)}, {seconds(best)}",
        Target("at most 1.15 × the time", 1.15),
    )


def _inputs(model: Path, images: Sequence[ImageFile]) -> NDArray[np.float32]:
    descriptor = pin_model(model)
    describer = ImageModel(model, descriptor)
    assert descriptor.model is not None
    values = sample_values(descriptor.model.preprocessing)
    pixels = (describer.prepare(open_picture(image.read(), path=None).eight_bits()) for image in images)
    return np.stack([np.stack([values[c][each[:, :, c]] for c in range(3)]) for each in pixels])


def _session(model: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _JOBS
    file = model if model.is_file() else next(model.rglob("*.onnx"))
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def _run_alone(session: onnxruntime.InferenceSession, inputs: NDArray[np.float32], batch: int) -> None:
    name = session.get_inputs()[0].name
    for begin in range(0, len(inputs), batch):
        session.run(None, {name: inputs[begin : begin + batch]})


def accuracy(setting: Setting) -> Iterator[Result]:
    """Precision at 10 of what users decrypt under `exact`, every photograph a query, beside cosine on floats.

    All roles' own steps are run. A query finds itself, which is left out of its answer.
    """
    if (given := setting.given()) is None:
        return
    model, images = given
    folder = setting.folder("model-accuracy")
    roles = make_roles(folder, "exact", model=model)
    output = folder / "upload.h5"
    run(
        (program("mipp"), "owner", "encrypt", roles.owner(roles.owners[0]), setting.photographs, "-o", output)
    )
    index_containers(roles.cloud, [output])
    index_at_kmc(roles.kmc, [folder / "upload.features.h5"])
    stored = sum(path.stat().st_size for path in (roles.kmc / "features").rglob("*") if path.is_file())
    descriptor = pin_model(model)
    yield Result(
        f"features of {len(images):,} images at the KMC, {descriptor.l:,} numbers each",
        "images",
        stored / len(images),
        f"{stored:,} bytes",
        Target("at most 1,360 bytes an image", 1_360.0),
        unit="bytes an image",
    )
    found = _precision(_answers(roles, images[: setting.size(len(images), 50)]))
    plain = _plain_precision(ImageModel(model, descriptor), images, setting.size(len(images), 50))
    yield Result(
        f"precision at {_FIRST}, end to end under `exact`, {setting.size(len(images), 50):,} queries",
        "cosine on the model's float vectors",
        abs(found - plain),
        f"{found:.4f}, {plain:.4f}",
        Target("within 0.005", 0.005),
        unit="apart",
    )


def _answers(roles: Roles, asked: Sequence[ImageFile]) -> Iterator[tuple[str, list[str]]]:
    """Yield each query's name, and what the user gets for it, nearest first; both below the photographs."""
    at_once = _MATCHES_LIMIT // (_FIRST + 1)
    work = {name: roles.folder / name for name in ("q.h5", "s.h5", "r.h5", "a.h5")}
    for begin in range(0, len(asked), at_once):
        some = asked[begin : begin + at_once]
        make_query(roles.user, some, work["q.h5"], candidates=_FIRST + 1, force=True)
        rank(roles.kmc, work["q.h5"], work["s.h5"], limit=_BYTES_LIMIT, force=True)
        search(roles.cloud, work["s.h5"], work["r.h5"], force=True)
        reencrypt(roles.kmc, work["r.h5"], work["a.h5"], force=True)
        _, matches = decrypt_answer(roles.user, work["a.h5"], roles.folder / f"m{begin}", top=_FIRST + 1)
        by_query: dict[str, list[str]] = {}
        for match in sorted(matches, key=lambda each: each.rank):
            by_query.setdefault(match.query, []).append(match.name)
        yield from by_query.items()


def _precision(answers: Iterator[tuple[str, list[str]]]) -> float:
    shares = []
    for query, names in answers:
        others = [name for name in names if name != query][:_FIRST]
        shares.append(sum(name.split("/")[0] == query.split("/")[0] for name in others) / _FIRST)
    return float(np.mean(shares))


def _plain_precision(model: ImageModel, images: Sequence[ImageFile], queries: int) -> float:
    batches = (images[begin : begin + 8] for begin in range(0, len(images), 8))
    prepared = (
        [model.prepare(open_picture(each.read(), path=None).eight_bits()) for each in some]
        for some in batches
    )
    vectors = np.concatenate([model.vectors(each) for each in prepared]).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -np.inf)
    labels = np.array([image.name.split("/")[0] for image in images])
    nearest = np.argsort(-likeness[:queries], axis=1, kind="stable")[:, :_FIRST]
    return float((labels[nearest] == labels[:queries, None]).mean())
