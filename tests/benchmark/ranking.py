"""Scheme `exact` at the KMC: ranking beside TenSEAL, and beside numpy and AES-GCM; memory of `kmc rank`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tenseal
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from mipp_cli.containers.candidates import OwnerFeatures, write_candidates
from mipp_cli.containers.manifest import write_manifest
from mipp_cli.containers.query import write_exact_query
from mipp_cli.roles.cloud import PUBLIC_FILE
from mipp_cli.roles.directory import RoleDirectory
from mipp_cli.roles.kmc import enroll_at_kmc
from mipp_cli.roles.owner import ENROLMENT_FILE, Owner
from mipp_cli.scheme.edge_histogram import DIMENSION, LEVELS
from mipp_cli.scheme.feature_chunks import FeatureChunkCipher, chunk_bytes, chunk_rows
from mipp_cli.scheme.image_cipher import generate_key, key_id
from mipp_cli.scheme.live_chunks import chunks_of_upload
from mipp_cli.scheme.nearest import Nearest
from mipp_cli.scheme.parameters import generate_parameters
from tests.benchmark.materials import Roles, Setting, features, make_roles
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
_POLY_DEGREE = 4096
_PLAIN_MODULUS = 1032193  # a prime of which 2 · 4096 divides p − 1, so that 4096 numbers lie in a ciphertext
_REST_SECONDS = 0.1
_UPLOAD = 1
_PARAMETERS = generate_parameters("exact")
_ROWS = chunk_rows(_PARAMETERS)

Codes = NDArray[np.uint8]


class EncryptedFeatures:
    """So many random features in chunks, as they lie at the cloud, and a query among them."""

    def __init__(self, images: int):
        random = np.random.default_rng(1)
        self.codes = random.integers(0, LEVELS, (images, DIMENSION), dtype=np.uint8)
        self.query = random.integers(0, LEVELS, DIMENSION, dtype=np.uint8)
        self.cipher = FeatureChunkCipher(generate_key(), "d" * 64, "owner", _UPLOAD, _PARAMETERS)
        slices = [self.codes[begin : begin + _ROWS] for begin in range(0, images, _ROWS)]
        self.chunks = [self.cipher.encrypt(each, number, _UPLOAD) for number, each in enumerate(slices)]
        self.rows = [len(each) for each in slices]

    def rank(self) -> list[int]:
        """Decrypt every chunk, and return the places of the nearest images."""
        nearest, memory = Nearest(self.query[np.newaxis], _CANDIDATES, LEVELS), bytearray(len(self.chunks[0]))
        for number, (chunk, rows) in enumerate(zip(self.chunks, self.rows, strict=True)):
            nearest.add(self.cipher.decrypt(chunk, number, _UPLOAD, rows, memory), number * _ROWS)
        places: list[int] = nearest.places()[0].tolist()
        return places


def beside_bfv(setting: Setting) -> Iterator[Result]:
    """10,000 × 80: the KMC's ranking beside one encrypted query under BFV, on one core.

    TenSEAL gets the layout that suits it best: a ciphertext for each dimension of the query, repeated in
    all 4096 slots, and the images in columns; |q|² − 2·x·q + |x|² then takes one product with plain
    numbers for each dimension and 4096 images. Encrypting the query and opening the distances are left out.
    """
    images = setting.size(10_000, 1_000)
    with one_core():
        encrypted = EncryptedFeatures(images)
        other = _BfvDistances(encrypted.codes, encrypted.query)
        expected = ((encrypted.codes.astype(np.int64) - encrypted.query) ** 2).sum(axis=1)
        if not (other.opened(other.distances()) == expected).all():
            raise RuntimeError("TenSEAL computes other distances")
        ours, theirs = in_turn(setting.size(11, 2), timed(encrypted.rank, 20), timed(other.distances))
    yield Result(
        f"`kmc rank`'s ranking of {images:,} × {DIMENSION}, decryption of the chunks included",
        f"TenSEAL, exact squared distances of one encrypted query under BFV, degree {_POLY_DEGREE}",
        median_ratio(theirs, ours),
        f"{seconds(ours)}, {seconds(theirs)}",
        Target("at least 100 × faster", 100, least=True),
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


def beside_numpy(setting: Setting) -> Iterator[Result]:
    """1,000,000 × 80: the KMC's ranking beside `X @ q` in float32 and AES-256-GCM over as many bytes.

    On one core. Both sides find what they read in memory; AES-GCM reads pieces of 320 KiB, which stay
    in the cache. After each product there is a rest, since OpenBLAS lets a second thread spin for some
    milliseconds, here on the core that is measured on.
    """
    images = setting.size(1_000_000, 50_000)
    with one_core():
        encrypted = EncryptedFeatures(images)
        matrix, vector = encrypted.codes.astype(np.float32), encrypted.query.astype(np.float32)
        aes_gcm, nonce = AESGCM(os.urandom(32)), os.urandom(12)
        plain = [encrypted.codes[begin : begin + _ROWS].tobytes() for begin in range(0, images, _ROWS)]
        sealed = [aes_gcm.encrypt(nonce, each, None) for each in plain]

        def multiply() -> None:
            matrix @ vector

        def open_all() -> None:
            for each in sealed:
                aes_gcm.decrypt(nonce, each, None)

        def bare() -> float:
            spent = timed(multiply)()
            time.sleep(_REST_SECONDS)
            return spent + timed(open_all)()

        ours, theirs = in_turn(setting.size(31, 3), timed(encrypted.rank), bare)
    yield Result(
        f"`kmc rank`'s ranking of {images:,} × {DIMENSION}, decryption of the chunks included",
        "numpy float32 `X @ q`, and reading the same bytes through AES-256-GCM once",
        median_ratio(ours, theirs),
        f"{seconds(ours)}, {seconds(theirs)}",
        Target("at most 1.5 × the time", 1.5),
    )
    size = sum(map(len, encrypted.chunks)) / images
    yield Result(
        f"features at the cloud under `exact`, {images:,} images, an image",
        "80 bytes",
        size,
        f"{size:.2f} bytes",
        Target("at most 82 bytes", 82.0),
        "bytes",
    )


def memory(setting: Setting) -> Iterator[Result]:
    """Peak memory of `kmc rank`, whole process, on features of many images and of few."""
    many, few = setting.size(10_000_000, 100_000), setting.size(100_000, 10_000)
    folder = setting.folder("exact-memory")
    roles = make_roles(folder, "exact")
    kmc = folder / "kmc"
    enroll_at_kmc(kmc, [roles.owner(roles.owners[0]) / ENROLMENT_FILE, roles.cloud / PUBLIC_FILE])
    files = {images: _synthetic_candidates(roles, images) for images in (few, many)}
    peaks = {
        images: peak_resident((program("mipp"), "kmc", "rank", kmc, file, "-o", folder / f"{images}.h5"))
        for images, file in files.items()
    }
    size = files[many].stat().st_size / MEGABYTE
    yield Result(
        f"`kmc rank`, whole process, {many:,} images: peak memory",
        f"{few:,} images: {peaks[few] / MEGABYTE:.0f} MB",
        peaks[many] / MEGABYTE,
        f"{peaks[many] / MEGABYTE:.0f} MB; the file has {size:.0f} MB",
        Target("under 400 MB", 400.0),
        "MB",
    )


def _synthetic_candidates(roles: Roles, images: int) -> Path:
    """Write candidates of so many images under an owner's real keys; all chunks have the same codes."""
    owner, user = Owner.open(roles.owner(roles.owners[0])), RoleDirectory.open(roles.user, "user")
    sender = owner.directory.sender
    codes = features(_ROWS)
    live = chunks_of_upload(_PARAMETERS, _UPLOAD, key_id(owner.image_key), images)
    cipher = FeatureChunkCipher(owner.image_key, sender.deployment, sender.name, _UPLOAD, _PARAMETERS)
    manifest, query = roles.folder / f"{images}.manifest", roles.folder / f"{images}.query.h5"
    write_manifest(manifest, sender, _UPLOAD + images, live)
    query_id = f"{images:032x}"
    write_exact_query(
        query,
        _PARAMETERS,
        user.sender,
        query_id,
        features=codes[:1],
        candidates=_CANDIDATES,
        usk=generate_key(),
        sealing_key=user.sealing_key,
    )

    def chunks() -> Iterator[bytes]:
        for chunk in live:
            yield cipher.encrypt(codes[: chunk.rows], chunk.place.number, chunk.version)

    sizes = [chunk_bytes(_PARAMETERS, chunk.rows) for chunk in live]
    output = roles.folder / f"{images}.candidates.h5"
    offered = OwnerFeatures(sender.name, manifest.read_bytes(), sizes, chunks)
    cloud = RoleDirectory.open(roles.cloud, "cloud").sender
    write_candidates(output, cloud, query_id, query.read_bytes(), [offered])
    return output
