"""`query`: features of query images, the number of candidates, the owners, and USK sealed to the KMC.

In the sum schemes it goes to the cloud, with EQ and EQQ; in `exact` to the KMC, with codes under USK.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mipp_cli.containers.base.columns import Matrix, Ragged
from mipp_cli.containers.base.container import Check, Schema, open_source
from mipp_cli.containers.base.header import Header
from mipp_cli.containers.base.source import BytesSource
from mipp_cli.containers.base.writer import Sender, write_container
from mipp_cli.errors import MalformedError, NotAuthorisedError
from mipp_cli.scheme.encoding import length_prefixed
from mipp_cli.scheme.keys import SealingKey, SealingKeys, SealingPublicKey
from mipp_cli.scheme.parameters import Parameters
from mipp_cli.scheme.secret_keys import KEY_BYTES

CANDIDATES_LIMIT = 1_000_000
IMAGES_LIMIT = 1_000
QUERY_BYTES_LIMIT = 1 << 29
OWNERS_LIMIT = 1_000
_SEALED_LIMIT = 1 << 16


def _schema(features: Mapping[str, int | None]) -> Schema:
    columns: dict[str, Matrix | Ragged] = {name: Matrix("u1", width) for name, width in features.items()}
    own: dict[str, Matrix | Ragged] = {"sealed_usk": Matrix("u1"), "owners": Ragged(limit=64)}
    return Schema("query", {**columns, **own}, ("candidates",))


def query_schema(parameters: Parameters) -> Schema:
    """Return the schema of `query` for a scheme."""
    return _schema(parameters.protocol.query_columns)


def any_query_schemas() -> list[Schema]:
    """Return all schemas of `query`, for readers that do not know the deployment."""
    return [_schema(dict.fromkeys(names)) for names in (("codes",), ("EQ", "EQQ"))]


@dataclass(frozen=True)
class Query:
    """A verified query: its header, its original bytes, and its content.

    ``images`` is the number of query images, u. ``features`` are the columns of the scheme, each of shape
    (u, width). ``owners`` are the owners to search; if it is empty, all who authorised the user.
    """

    header: Header
    data: bytes
    candidates: int
    images: int
    features: tuple[NDArray[np.uint8], ...]
    sealed_usk: bytes
    owners: frozenset[str] = frozenset()

    def names_owner(self, owner: str) -> bool:
        """Return whether the images of an owner should be searched."""
        return not self.owners or owner in self.owners

    def no_named_owner(self, authorising: Iterable[str]) -> NotAuthorisedError:
        """Return the error for a query that names none of the owners ``authorising`` its user."""
        return NotAuthorisedError(
            f"none of the owners named in the query authorised the user {self.header.sender!r}: "
            f"{', '.join(sorted(self.owners))}",
            hint=f"these did: {', '.join(sorted(authorising))}; ask the user for a new query that names one "
            "of them exactly (mipp user query --owner), or names none",
        )

    @property
    def query_id(self) -> str:
        """The random id, 32 hex digits."""
        return self.header.number

    @property
    def digest(self) -> bytes:
        """SHA-256 of the whole file."""
        return hashlib.sha256(self.data).digest()

    def open_usk(self, sealing_key: SealingKey | SealingKeys) -> bytes:
        """Return USK, which only the KMC can open; raises MalformedError or WrongDeploymentError."""
        usk = sealing_key.open(self.sealed_usk, self.header.sealing_info)
        if len(usk) != KEY_BYTES:
            raise MalformedError("the sealed part of the query has an invalid length")
        return usk


def write_query(
    path: Path,
    parameters: Parameters,
    sender: Sender,
    query_id: str,
    *,
    codes: NDArray[np.uint8],
    candidates: int,
    usk: bytes,
    sealing_key: SealingPublicKey,
    owners: Collection[str] = (),
    force: bool = False,
    before_it_is_out: Callable[[Path], object] = lambda _: None,
) -> None:
    """Write a `query` for images with ``codes``, shape (u, l); see :class:`Query` for ``owners``.

    ``before_it_is_out`` is called with the finished file before it is renamed to ``path``.
    """
    sealed = sender.seal(usk, sealing_key, "query", query_id)
    place = features_place(sender.deployment, sender.name, query_id)
    features = parameters.protocol.query_features(codes, usk, place)
    columns = dict(zip(parameters.protocol.query_columns, features, strict=True))
    with write_container(
        path, query_schema(parameters), sender, query_id, force=force, before_it_is_out=before_it_is_out
    ) as writer:
        writer.add(**columns, candidates=candidates, owners=sorted(owners), sealed_usk=sealed)


def features_place(deployment: str, user: str, query_id: str) -> bytes:
    """Return the associated data to which features under USK are bound."""
    return length_prefixed("query", deployment, user, query_id)


def parse_query(data: bytes, parameters: Parameters, deployment: str, check: Check | None = None) -> Query:
    """Read and verify a query from its bytes."""
    schema = query_schema(parameters)
    with open_source(BytesSource(data), schema, deployment=deployment, check=check) as container:
        columns = tuple(parameters.protocol.query_columns)
        images = container.same_length(*columns)
        candidates = container.number("candidates")
        if not 1 <= images <= IMAGES_LIMIT or not 1 <= candidates <= CANDIDATES_LIMIT:
            raise MalformedError("has an invalid number of images or candidates")
        features = tuple(container.matrix(name).all().astype(np.uint8, copy=False) for name in columns)
        sealed = container.data("sealed_usk", _SEALED_LIMIT)
        if len(container.ragged("owners")) > OWNERS_LIMIT:
            raise MalformedError(f"names more than {OWNERS_LIMIT} owners")
        owners = frozenset(container.identifiers("owners", "an owner"))
        return Query(container.header, data, candidates, images, features, sealed, owners)
