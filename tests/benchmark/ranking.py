"""The KMC's ranking of stored features: beside AES-GCM and the kernel, FAISS, and TenSEAL; memory."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import numpy as np
import tenseal
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from mipp_cli.containers.base.source import read_file
from mipp_cli.containers.messages.query import Query, parse_query, write_query
from mipp_cli.kmc.index import index_at_kmc
from mipp_cli.kmc.kmc import Kmc
from mipp_cli.kmc.nearest import Collection
from mipp_cli.progress import silent
from mipp_cli.scheme import nearest
from mipp_cli.scheme.nearest import squared_distances
from mipp_cli.scheme.secret_keys import generate_key
from mipp_cli.workdir.directory import RoleDirectory
from tests.benchmark.materials import Roles, Setting, make_roles, write_synthetic_features
from tests.benchmark.measure import (
    MEGABYTE,
    Result,
    Target,
    in_turn,
    median_ratio,
    one_core,
    peak_resident,
    program,
    seconds,
    timed,
)

_CANDIDATES = 10
_BLOCK_BYTES = 1 << 22
_POLY_DEGREE = 4096
_PLAIN_MODULUS = 1032193  # a prime of which 2 · 4096 divides p − 1, so that 4096 numbers lie in a ciphertext

Codes = NDArray[np.uint8]


class StoredFeatures:
    """So many random features of one owner in a KMC's store, and a query of one image."""

    def __init__(self, folder: Path, images: int, l: int, levels: int):
        random = np.random.default_rng(1)
        self.codes = random.integers(0, levels, (images, l), dtype=np.uint8)
        self.query = random.integers(0, levels, l, dtype=np.uint8)
        self.roles = make_roles(folder, "exact", descriptor=f"synthetic:{l}:{levels}")
        owner = self.roles.owners[0]
        features = write_synthetic_features(self.roles, owner, self.codes, folder / "features.h5")
        index_at_kmc(self.roles.kmc, [features])
        self.query_file = folder / "query.h5"
        self._kmc = Kmc.open(self.roles.kmc)
        self._query = _write_query(self.roles, self.query, self.query_file)
        known = self._kmc.owner(owner)
        if known is None:
            raise RuntimeError("the owner is not enrolled")
        self._owners = {owner: known}

    def rank(self) -> list[int]:
        """Rank as `kmc rank` does, blocks read and decrypted on the way; return the squared distances."""
        found = Collection(self._kmc, self._owners).nearest(self.query[np.newaxis], self._query, silent)
        return [match.distance for match in found.matches]


def _write_query(roles: Roles, codes: Codes, path: Path) -> Query:
    user = RoleDirectory.open(roles.user, "user")
    parameters = user.deployment.parameters
    write_query(
        path,
        parameters,
        user.sender,
        "0" * 32,
        codes=codes[np.newaxis],
        candidates=_CANDIDATES,
        usk=generate_key(),
        sealing_key=user.sealing_key,
        force=True,
    )
    return parse_query(read_file(path, 1 << 29), parameters, user.deployment.fingerprint)


def ranking(setting: Setting) -> Iterator[Result]:
    """1,000,000 × 80 at 8 levels and 100,000 × 1,280 at 256, on one core, the store in the page cache."""
    for images, l, levels in ((1_000_000, 80, 8), (100_000, 1_280, 256)):
        count = setting.size(images, images // 20)
        folder = setting.folder(f"ranking-{l}")
        with one_core():
            yield from _ranking(StoredFeatures(folder, count, l, levels), setting.size(15, 2))


def _ranking(stored: StoredFeatures, rounds: int) -> Iterator[Result]:
    images, l = stored.codes.shape
    what = f"`kmc rank`'s ranking of {images:,} × {l:,}, blocks read and decrypted on the way"
    bare, flat = _aes_and_kernel(stored), _flat_index(stored)
    ours, theirs, index, plain = in_turn(
        rounds, timed(stored.rank), timed(bare), timed(flat), timed(lambda: _without_kernel(stored.rank))
    )
    yield Result(
        f"{what}, `[fast]`",
        "AES-256-GCM of the same bytes once, and one pass of the SIMD kernel alone",
        median_ratio(ours, theirs),
        f"{seconds(ours)}, {seconds(theirs)}",
        Target("at most 1.3 × the time", 1.3),
    )
    yield Result(
        f"{what}, `[fast]`",
        "FAISS `IndexFlatL2`, the same vectors in plain float32, one thread, 10 nearest",
        median_ratio(ours, index),
        f"{seconds(ours)}, {seconds(index)}",
        Target("at most 2.5 × the time", 2.5),
    )
    yield Result(
        f"{what}, without `[fast]`",
        "the same with it",
        median_ratio(plain, ours),
        f"{seconds(plain)}, {seconds(ours)}",
        Target("at most 4 × the time", 4.0),
    )


def _aes_and_kernel(stored: StoredFeatures) -> Callable[[], None]:
    """Return what opens the same bytes, in pieces as large as a block, and then passes over plain ones."""
    aes_gcm, nonce = AESGCM(os.urandom(32)), os.urandom(12)
    rows = max(1, _BLOCK_BYTES // stored.codes.shape[1])
    begins = range(0, len(stored.codes), rows)
    sealed = [aes_gcm.encrypt(nonce, stored.codes[b : b + rows].tobytes(), None) for b in begins]
    buffer = bytearray(rows * stored.codes.shape[1])

    def run() -> None:
        for each in sealed:
            aes_gcm.decrypt_into(nonce, each, None, memoryview(buffer)[: len(each) - 16])
        squared_distances(stored.query, stored.codes)

    return run


def _flat_index(stored: StoredFeatures) -> Callable[[], None]:
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatL2(stored.codes.shape[1])
    index.add(stored.codes.astype(np.float32))
    query = stored.query[np.newaxis].astype(np.float32)

    def run() -> None:
        index.search(query, _CANDIDATES)

    return run


def _without_kernel(work: Callable[[], object]) -> None:
    """Do ``work`` as where the SIMD kernel is not installed."""
    installed = nearest._numkong
    nearest._numkong = functools.cache(lambda: None)
    try:
        work()
    finally:
        nearest._numkong = installed


def beside_bfv(setting: Setting) -> Iterator[Result]:
    """10,000 × 80: the KMC's ranking beside one encrypted query under BFV, on one core.

    TenSEAL gets the layout that suits it best: a ciphertext for each dimension of the query, repeated in
    all 4096 slots, and the images in columns; |q|² − 2·x·q + |x|² then takes one product with plain
    numbers for each dimension and 4096 images. Encrypting the query and opening the distances are left out.
    """
    images = setting.size(10_000, 1_000)
    nearest._numkong()  # which a process asks for once it has many codes to measure
    with one_core():
        stored = StoredFeatures(setting.folder("ranking-bfv"), images, 80, 8)
        other = _BfvDistances(stored.codes, stored.query)
        expected = ((stored.codes.astype(np.int64) - stored.query) ** 2).sum(axis=1)
        if not (other.opened(other.distances()) == expected).all():
            raise RuntimeError("TenSEAL computes other distances")
        if stored.rank() != sorted(expected.tolist())[:_CANDIDATES]:
            raise RuntimeError("the KMC computes other distances")
        ours, theirs = in_turn(setting.size(11, 2), timed(stored.rank, 20), timed(other.distances))
    yield Result(
        f"`kmc rank`'s ranking of {images:,} × 80, blocks read and decrypted on the way, `[fast]`",
        f"TenSEAL, exact squared distances of one encrypted query under BFV, degree {_POLY_DEGREE}",
        median_ratio(theirs, ours),
        f"{seconds(ours)}, {seconds(theirs)}",
        Target("at least 1,500 × faster", 1500, least=True),
    )


class _BfvDistances:
    """Squared distances of an encrypted query to plain images under BFV, 4096 images in a ciphertext."""

    def __init__(self, codes: Codes, query: Codes):
        self._images = len(codes)
        context = tenseal.context(tenseal.SCHEME_TYPE.BFV, _POLY_DEGREE, _PLAIN_MODULUS)
        context.generate_relin_keys()
        self._query = [tenseal.bfv_vector(context, [code] * _POLY_DEGREE) for code in query.tolist()]
        padding = np.zeros((-self._images % _POLY_DEGREE, codes.shape[1]), dtype=np.int64)
        blocks = np.concatenate([codes.astype(np.int64), padding]).reshape(-1, _POLY_DEGREE, codes.shape[1])
        self._norms = [(block**2).sum(axis=1).tolist() for block in blocks]
        self._columns = [(-2 * block.T).tolist() for block in blocks]

    def distances(self) -> list[tenseal.BFVVector]:
        """Return ciphertexts of the squared distances."""
        squares = self._sum(number * number for number in self._query)
        return [
            squares + self._sum(q * x for q, x in zip(self._query, columns, strict=True)) + norms
            for columns, norms in zip(self._columns, self._norms, strict=True)
        ]

    @staticmethod
    def _sum(terms: Iterator[tenseal.BFVVector]) -> tenseal.BFVVector:
        total = next(terms)
        for term in terms:
            total += term
        return total

    def opened(self, distances: list[tenseal.BFVVector]) -> NDArray[np.int64]:
        """Decrypt distances."""
        return np.concatenate([each.decrypt() for each in distances])[: self._images]


def memory(setting: Setting) -> Iterator[Result]:
    """Peak memory of `kmc rank`, whole process, on a store of 1,000,000 × 1,280."""
    images = setting.size(1_000_000, 20_000)
    folder = setting.folder("rank-memory")
    stored = StoredFeatures(folder, images, 1_280, 256)
    peak = peak_resident(
        (program("mipp"), "kmc", "rank", stored.roles.kmc, stored.query_file, "-o", folder / "selection.h5")
    )
    yield Result(
        f"`kmc rank`, whole process, {images:,} × 1,280: peak memory",
        "—",
        peak / MEGABYTE,
        f"{peak / MEGABYTE:.0f} MB",
        Target("under 300 MB", 300.0),
        "MB",
    )
