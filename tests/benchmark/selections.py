"""Scheme `exact` around the ranking: `kmc index`, the cloud's answer to a selection, small commands."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from mipp_cli.cloud.index import index_containers
from mipp_cli.cloud.search import search
from mipp_cli.containers.messages.selection import GroupRef, Selection, write_selection
from mipp_cli.containers.messages.upload import write_upload
from mipp_cli.kmc.index import index_at_kmc
from mipp_cli.owner.owner import Owner
from mipp_cli.scheme.groups import GROUP_SIZE
from mipp_cli.scheme.secret_keys import key_id
from mipp_cli.workdir.directory import RoleDirectory
from tests.benchmark.materials import (
    SAMPLES,
    Roles,
    Setting,
    make_roles,
    write_synthetic_features,
)
from tests.benchmark.measure import (
    MEGABYTE,
    Command,
    Result,
    Target,
    in_turn,
    median_ratio,
    one_core,
    program,
    run,
    seconds,
    timed,
)

_PICTURES = 80
_SMALL_ROW = 1_000
_UPLOAD = 1


def kmc_index(setting: Setting) -> Iterator[Result]:
    """`kmc index` of 1,000,000 × 80 by a KMC that holds nothing yet, in process, on one core."""
    images = setting.size(1_000_000, 50_000)
    folder = setting.folder("kmc-index")
    roles = make_roles(folder, "exact")
    codes = np.random.default_rng(1).integers(0, 8, (images, 80), dtype=np.uint8)
    file = write_synthetic_features(roles, roles.owners[0], codes, folder / "features.h5")
    empty = folder / "empty"
    shutil.copytree(roles.kmc, empty)

    def from_empty() -> float:
        shutil.rmtree(roles.kmc)
        shutil.copytree(empty, roles.kmc)
        return timed(partial(index_at_kmc, roles.kmc, [file]))()

    from_empty()
    stored = sum(path.stat().st_size for path in (roles.kmc / "features").rglob("*") if path.is_file())
    content = os.urandom(MEGABYTE)

    def write() -> None:
        with (folder / "bytes").open("wb", buffering=0) as out:
            for _ in range(stored // MEGABYTE):
                out.write(content)
            os.fsync(out.fileno())

    with one_core():
        ours, theirs = in_turn(setting.size(7, 2), from_empty, timed(write))
    yield Result(
        f"`kmc index` of {images:,} × 80, {stored / MEGABYTE:.0f} MB stored",
        "writing as many bytes and syncing",
        median_ratio(ours, theirs),
        f"{seconds(ours)}, {seconds(theirs)}",
        Target("at most 3 × the time", 3.0),
    )


def selection(setting: Setting) -> Iterator[Result]:
    """`cloud search` of a selection of ten groups of 8 pictures of 1 MB, in a cloud of 100,000 images.

    In process, on one core. The other pictures are of 1 kB each. The bytes are read from the segment and
    written to a file that is synced, which the command does with its output.
    """
    images = setting.size(100_000, 2_000)
    folder = setting.folder("selection")
    roles = make_roles(folder, "exact")
    upload = _write_upload(roles, images, folder / "upload.h5")
    index_containers(roles.cloud, [upload])
    request, output = folder / "selection.h5", folder / "results.h5"
    kmc, cloud = RoleDirectory.open(roles.kmc, "kmc"), RoleDirectory.open(roles.cloud, "cloud")
    first = images // 2 // GROUP_SIZE
    refs = tuple(GroupRef(roles.owners[0], _UPLOAD, first + n) for n in range(_PICTURES // GROUP_SIZE))
    lengths = (MEGABYTE,) * len(refs)
    asked = Selection("0" * 32, cloud.sender.signing_key.public, refs, lengths)
    write_selection(request, kmc.sender, asked, force=True)
    segment = next((roles.cloud / "segments").glob("*.h5"))
    offset, size = segment.stat().st_size // 2, _PICTURES * MEGABYTE

    def read_and_write() -> None:
        with segment.open("rb", buffering=0) as source, (folder / "copy").open("wb", buffering=0) as copy:
            source.seek(min(offset, segment.stat().st_size - size))
            for _ in range(_PICTURES):
                copy.write(source.read(MEGABYTE))
            os.fsync(copy.fileno())

    ask = partial(search, roles.cloud, request, output, force=True)
    with one_core():
        ours, theirs = in_turn(setting.size(11, 2), timed(ask), timed(read_and_write))
    yield Result(
        f"`cloud search` of a selection, {_PICTURES} pictures of 1 MB in a cloud of {images:,}",
        "reading these bytes and writing them once, synced",
        median_ratio(ours, theirs),
        f"{seconds(ours)}, {seconds(theirs)}",
        Target("at most 2 × the time", 2.0),
    )


def _write_upload(roles: Roles, images: int, output: Path) -> Path:
    """Write an upload of rows of random bytes, 80 in the middle of 1 MB, the others of 1 kB."""
    owner = Owner.open(roles.owner(roles.owners[0]))
    parameters, sender = owner.directory.deployment.parameters, owner.directory.sender
    begin = images // 2 // GROUP_SIZE * GROUP_SIZE
    large = range(begin, begin + _PICTURES)
    content = os.urandom(MEGABYTE)
    names = [f"{row:032x}" for row in range(images)]
    with write_upload(output, parameters, sender, _UPLOAD, key_id(owner.image_key)) as upload:
        for row, name in enumerate(names):
            upload.append(name, content if row in large else content[:_SMALL_ROW])
            if row % GROUP_SIZE == GROUP_SIZE - 1 or row == images - 1:
                upload.end_group()
    return output


def small_commands(setting: Setting) -> Iterator[Result]:
    """Each role's command on a small input, whole processes, beside the imports that it needs, one core."""
    folder = setting.folder("small")
    roles = make_roles(folder, "exact")
    owner, mipp = roles.owner(roles.owners[0]), program("mipp")
    pictures = SAMPLES / "owners" / "clinic-lake"
    example = next((SAMPLES / "queries").iterdir())
    imports: Command = (
        sys.executable,
        "-c",
        "import h5py, numpy, PIL.Image, click, cryptography.hazmat.primitives.ciphers.aead",
    )
    upload, features = folder / "upload.h5", folder / "upload.features.h5"
    query, selected, results = (folder / f"{name}.h5" for name in ("query", "selection", "results"))
    steps: list[Command] = [
        (mipp, "owner", "encrypt", owner, pictures, "--again", "--jobs", "1", "-o", upload, "--force"),
        (mipp, "cloud", "index", roles.cloud, upload),
        (mipp, "kmc", "index", roles.kmc, features),
        (mipp, "user", "query", roles.user, example, "-o", query, "--force"),
        (mipp, "kmc", "rank", roles.kmc, query, "-o", selected, "--force"),
        (mipp, "cloud", "search", roles.cloud, selected, "-o", results, "--force"),
        (mipp, "kmc", "reencrypt", roles.kmc, results, "-o", folder / "answer.h5", "--force"),
        (mipp, "user", "decrypt", roles.user, folder / "answer.h5", "-o", folder / "matches", "--force"),
    ]
    for step in steps:
        run(step)
    measured = [step for step in steps if step[2] != "index"]
    sides: list[Callable[[], float]] = [timed(partial(run, step)) for step in (*measured, imports)]
    with one_core():
        *ours, theirs = in_turn(setting.size(11, 2), *sides)
    for step, column in zip(measured, ours, strict=True):
        yield Result(
            f"`mipp {step[1]} {step[2]}` on 16 small pictures, whole process",
            "importing h5py, numpy, Pillow, click and cryptography alone",
            median_ratio(column, theirs),
            f"{seconds(column)}, {seconds(theirs)}",
            Target("at most 1.3 × the time", 1.3),
        )
