"""Scheme `exact` at the KMC: ranking beside TenSEAL and beside bare numpy and AES-GCM; bytes an image."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import tenseal
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from mipp_cli.scheme.edge_histogram import DIMENSION, LEVELS
from mipp_cli.scheme.feature_chunks import FeatureChunkCipher, chunk_rows
from mipp_cli.scheme.image_cipher import generate_key
from mipp_cli.scheme.nearest import Nearest
from mipp_cli.scheme.parameters import generate_parameters
from tests.benchmark.materials import Setting
from tests.benchmark.measure import Result, Target, in_turn, median_ratio, one_core, seconds, timed

_CANDIDATES = 10
_POLY_DEGREE = 4096
_PLAIN_MODULUS = 1032193  # a prime of which 2 · 4096 divides p − 1, so that 4096 numbers lie in a ciphertext
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
        nearest = Nearest(self.query, _CANDIDATES, LEVELS)
        for number, (chunk, rows) in enumerate(zip(self.chunks, self.rows, strict=True)):
            nearest.add(self.cipher.decrypt(chunk, number, _UPLOAD, rows), number * _ROWS)
        places: list[int] = nearest.places().tolist()
        return places


def beside_bfv(setting: Setting) -> Iterator[Result]:
    """10,000 × 80: the KMC's ranking beside one encrypted query under BFV, on one core.

    TenSEAL gets the layout that suits it best: a ciphertext for each dimension of the query, repeated in
    all 4096 slots, and the images in columns; |q|² − 2·x·q + |x|² then takes one product with plain
    numbers for each dimension and 4096 images. Encrypting the query and opening the distances are left out.
    """
    images = setting.size(10_000, 1_000)
    with one_core():
        features = EncryptedFeatures(images)
        other = _BfvDistances(features.codes, features.query)
        expected = ((features.codes.astype(np.int64) - features.query) ** 2).sum(axis=1)
        if not (other.opened(other.distances()) == expected).all():
            raise RuntimeError("TenSEAL computes other distances")
        ours, theirs = in_turn(setting.size(11, 2), timed(features.rank, 20), timed(other.distances))
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
    in the cache.
    """
    images = setting.size(1_000_000, 50_000)
    with one_core():
        features = EncryptedFeatures(images)
        matrix, vector = features.codes.astype(np.float32), features.query.astype(np.float32)
        aes_gcm, nonce = AESGCM(os.urandom(32)), os.urandom(12)
        plain = [features.codes[begin : begin + _ROWS].tobytes() for begin in range(0, images, _ROWS)]
        sealed = [aes_gcm.encrypt(nonce, each, None) for each in plain]

        def bare() -> None:
            matrix @ vector
            for each in sealed:
                aes_gcm.decrypt(nonce, each, None)

        ours, theirs = in_turn(setting.size(31, 3), timed(features.rank), timed(bare))
    yield Result(
        f"`kmc rank`'s ranking of {images:,} × {DIMENSION}, decryption of the chunks included",
        "numpy float32 `X @ q`, and reading the same bytes through AES-256-GCM once",
        median_ratio(ours, theirs),
        f"{seconds(ours)}, {seconds(theirs)}",
        Target("at most 1.5 × the time", 1.5),
    )
    size = sum(map(len, features.chunks)) / images
    yield Result(
        f"features at the cloud under `exact`, {images:,} images, an image",
        "80 bytes",
        size,
        f"{size:.2f} bytes",
        Target("at most 82 bytes", 82.0),
        "bytes",
    )
