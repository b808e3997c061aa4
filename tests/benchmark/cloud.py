"""The cloud's index: making it beside bare multiplications, looking up beside a scan, and its size."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from mipp_cli.cloud.cloud import INDEX_FILE
from mipp_cli.cloud.index import index_containers
from mipp_cli.cloud.store import PARTS_FOLDER
from mipp_cli.compute.processes import Parallelism
from mipp_cli.containers.base.container import Container, read_header
from mipp_cli.containers.base.source import FileSource
from mipp_cli.containers.messages.upload import UploadReader, upload_schema
from mipp_cli.scheme.descriptor import DIMENSION
from mipp_cli.scheme.retrieval_index import PairTable, nearest_pairs
from mipp_cli.user.user import DEFAULT_CANDIDATES
from mipp_cli.workdir.directory import RoleDirectory
from tests.benchmark.big_index import synthetic_cloud
from tests.benchmark.materials import Setting, features, make_roles, synthetic_sums, write_synthetic_upload
from tests.benchmark.measure import Result, Target, in_turn, median_ratio, one_core, seconds, timed


def index(setting: Setting) -> Iterator[Result]:
    """`cloud index` of a `dcr` upload at 3072 bits, beside as many products in gmpy2, and with two jobs.

    In process, reading, verifying, keeping the upload and writing the index included, each time by a
    cloud that holds nothing yet. An encrypted feature takes 79 products of 80 numbers.
    """
    images = setting.size(1_000, 50)
    folder = setting.folder("index")
    roles = make_roles(folder, "dcr")
    upload = write_synthetic_upload(roles, roles.owners[0], images, folder / "upload.h5")
    empty, cloud = folder / "empty", roles.cloud
    shutil.copytree(cloud, empty)

    def indexed(jobs: int) -> Callable[[], float]:
        side = timed(lambda: index_containers(cloud, [upload], parallelism=Parallelism(jobs=jobs)))

        def seconds_from_empty() -> float:
            shutil.rmtree(cloud)
            shutil.copytree(empty, cloud)
            return side()

        return seconds_from_empty

    group = RoleDirectory.open(cloud, "cloud").deployment.parameters.group
    assert group is not None
    modulus = mpz(group.m) ** 2
    numbers = _ciphertexts(upload, cloud)

    def multiply() -> None:
        for _ in range(2 * images):
            product = numbers[0]
            for number in numbers[1:]:
                product = product * number % modulus

    rounds = setting.size(7, 2)
    with one_core():
        one, bare = in_turn(rounds, indexed(1), timed(multiply))
    yield Result(
        f"`cloud index` of a `dcr` upload of {images:,} images, 3072 bits",
        "the same number of gmpy2 `x*y % M` alone",
        median_ratio(one, bare),
        f"{seconds(one)}, {seconds(bare)}",
        Target("at most 1.3 × the time", 1.3),
    )
    one, two = in_turn(rounds, indexed(1), indexed(2))
    yield Result(
        f"`cloud index` of a `dcr` upload of {images:,} images, 3072 bits, 2 jobs",
        "1 job",
        median_ratio(one, two),
        f"{seconds(two)}, {seconds(one)}",
        Target("at least 1.8 × faster", 1.8, least=True),
    )


def _ciphertexts(upload: Path, cloud: Path) -> list[mpz]:
    """Return the 80 numbers of an encrypted feature of an upload."""
    parameters = RoleDirectory.open(cloud, "cloud").deployment.parameters
    source = FileSource(upload)
    with Container(source, read_header(source), upload_schema(parameters)) as container:
        ef, _ = UploadReader(container, parameters).encrypted_features(0, 1)
    return [mpz(int.from_bytes(number.tobytes(), "big")) for number in ef[0]]


def search_in_process(setting: Setting) -> Iterator[Result]:
    """Looking up the 100 nearest of 10,000 images in a pair table in memory, beside a scan, on one core.

    Sums are drawn like those of the sample pictures. The look-up takes what `cloud search` reads of a
    part: pairs as near as the last one needed, and of each its first images by id. The
    scan scores all images as uint32.
    """
    images = setting.size(10_000, 2_000)
    random = np.random.default_rng(2018)
    table = synthetic_sums(images, random)
    of_images = random.permutation(images)
    pair_of = random.permutation(
        np.repeat(np.arange(len(table.sum1)), np.diff(table.starts).astype(np.int64))
    )
    sum1, sum2 = (column[pair_of].astype(np.uint32) for column in (table.sum1, table.sum2))
    query = features(1)[0].astype(np.int64)
    query1, query2 = int(query.sum()), int((query * query).sum())

    def look_up() -> list[int]:
        pairs, _ = nearest_pairs(table, query1, query2, DIMENSION, DEFAULT_CANDIDATES)
        return _first_images(table, of_images, pairs)

    def scan() -> NDArray[np.int64]:
        scores = DIMENSION * (sum2 + query2) - 2 * query1 * sum1
        return np.argpartition(scores, DEFAULT_CANDIDATES)[:DEFAULT_CANDIDATES]

    with one_core():
        ours, theirs = in_turn(101, timed(look_up, 20), timed(scan, 20))
    yield Result(
        f"`cloud search` in process, {images:,} images, {len(table.sum1):,} pairs of sums",
        "one numpy pass over two uint32 columns plus `argpartition`",
        median_ratio(ours, theirs),
        f"{seconds(ours)}, {seconds(theirs)}",
        Target("at most 3 × the time", 3.0),
    )


def _first_images(table: PairTable, images: NDArray[np.int64], pairs: NDArray[np.int64]) -> list[int]:
    """Return the first images of pairs, as many of each as could be needed."""
    found: list[int] = []
    for begin, end in zip(table.starts[pairs].tolist(), table.starts[pairs + 1].tolist(), strict=True):
        found += images[begin : min(begin + DEFAULT_CANDIDATES, end)].tolist()
    return found


def index_size(setting: Setting) -> Iterator[Result]:
    """Bytes of an index: its parts, their block digests and index.h5.

    Of three owners, one part each; sums and ids are synthetic (big_index.py).
    """
    for rows in (10_000, setting.size(1_000_000, 30_000)):
        roles, _ = synthetic_cloud(setting.folder(f"index-size-{rows}"), rows)
        files = [*(roles.cloud / PARTS_FOLDER).iterdir(), roles.cloud / INDEX_FILE]
        size = sum(file.stat().st_size for file in files)
        yield Result(
            f"index of {rows:,} rows",
            "rows",
            size / rows,
            f"{size:,} bytes",
            Target("at most 36 bytes a row", 36.0),
            unit="bytes a row",
        )
