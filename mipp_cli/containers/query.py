"""`query` (user → cloud): EQ, EQQ, the number of candidates, and USK sealed to the KMC."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mipp_cli.containers.columns import Matrix
from mipp_cli.containers.container import Container, Schema, Sender, open_source, write_container
from mipp_cli.containers.header import BLOCK_BYTES, Header
from mipp_cli.containers.sealed import seal_to_kmc, sealing_info
from mipp_cli.containers.source import BytesSource
from mipp_cli.containers.upload import feature_bytes
from mipp_cli.errors import MalformedError
from mipp_cli.scheme.image_cipher import KEY_BYTES, sha256
from mipp_cli.scheme.keys import SealingKey, SealingKeys, SealingPublicKey
from mipp_cli.scheme.parameters import Parameters

CANDIDATES_LIMIT = 1_000_000
IMAGES_LIMIT = 1_000
QUERY_BYTES_LIMIT = 1 << 29
_SEALED_LIMIT = 1 << 16


def query_schema(parameters: Parameters | None) -> Schema:
    """Return the schema of `query` for a scheme (or any)."""
    width = feature_bytes(parameters)
    columns = {"EQ": Matrix("u1", width), "EQQ": Matrix("u1", width), "sealed_usk": Matrix("u1")}
    return Schema("query", columns, ("candidates",))


@dataclass(frozen=True)
class Query:
    """A verified query: its header, its bytes as they came, and of how many images it is.

    EQ and EQQ have shape (u, l, number_bytes).
    """

    header: Header
    octets: bytes
    candidates: int
    images: int
    eq: NDArray[np.uint8]
    eqq: NDArray[np.uint8]
    sealed_usk: bytes

    @property
    def query_id(self) -> str:
        """The random id, 32 hex digits."""
        return self.header.number

    @property
    def digest(self) -> bytes:
        """SHA-256 of the whole file."""
        return sha256(self.octets)

    def open_usk(self, sealing_key: SealingKey | SealingKeys) -> bytes:
        """Return USK, as the KMC may; raises MalformedError or WrongDeploymentError."""
        usk = sealing_key.open(self.sealed_usk, sealing_info(self.header))
        if len(usk) != KEY_BYTES:
            raise MalformedError("the sealed part of the query has an impossible length")
        return usk


def write_query(
    path: Path,
    parameters: Parameters,
    sender: Sender,
    query_id: str,
    *,
    features: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    candidates: int,
    usk: bytes,
    sealing_key: SealingPublicKey,
    force: bool = False,
) -> None:
    """Write a `query`; ``features`` are EQ and EQQ, each of shape (u, l, number_bytes)."""
    sealed = seal_to_kmc(usk, sealing_key, "query", sender, query_id)
    with write_container(path, query_schema(parameters), sender, query_id, force=force) as writer:
        writer.number("candidates", candidates)
        for name, ciphertexts in zip(("EQ", "EQQ"), features, strict=True):
            writer.matrix(name).append(ciphertexts.reshape(len(ciphertexts), -1))
        writer.matrix("sealed_usk").append(np.frombuffer(sealed, dtype=np.uint8))


def parse_query(
    octets: bytes, parameters: Parameters, deployment: str, check: Callable[[Header], None] | None = None
) -> Query:
    """Read and verify a query from its bytes."""
    if len(octets) < BLOCK_BYTES:
        raise MalformedError("is not a MIPP container")
    schema = query_schema(parameters)
    with open_source(BytesSource(octets), schema, deployment=deployment, check=check) as container:
        images = container.same_length("EQ", "EQQ")
        candidates = container.number("candidates")
        if not 1 <= images <= IMAGES_LIMIT or not 1 <= candidates <= CANDIDATES_LIMIT:
            raise MalformedError("asks for an impossible number of images or candidates")
        eq, eqq = (_ciphertexts(container, name, parameters) for name in ("EQ", "EQQ"))
        sealed = container.octets("sealed_usk", _SEALED_LIMIT)
        return Query(container.header, octets, candidates, images, eq, eqq, sealed)


def _ciphertexts(container: Container, name: str, parameters: Parameters) -> NDArray[np.uint8]:
    rows = container.matrix(name).all().astype(np.uint8, copy=False)
    return rows.reshape(len(rows), parameters.l, parameters.cipher.number_bytes)
