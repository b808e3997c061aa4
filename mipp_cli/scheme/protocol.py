"""The protocol of a scheme: the one object that knows which scheme a deployment has.

In the *sum* schemes (`dcr`, `mask`, `paper`) the cloud ranks by Eq. 9, using encrypted features stored with
the images. In `exact` the KMC ranks by Eq. 7: it receives the features, and the cloud returns whole groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from mipp_cli.errors import InvalidRequestError
from mipp_cli.scheme.aead import OVERHEAD_BYTES, seal, unseal
from mipp_cli.scheme.groups import size_class
from mipp_cli.scheme.secret_keys import derive_key

if TYPE_CHECKING:
    from mipp_cli.scheme.feature_cipher import FeatureCipher

Codes = NDArray[np.uint8]
Users = frozenset[tuple[str, bytes]]
MATCHES_LIMIT = 10_000  # matches of one query, where the KMC ranks


@dataclass(frozen=True)
class SumProtocol:
    """Eq. 4 to 9: the cloud stores EF and EFF, sees Σx and Σx² of every image and ranks by Sim.

    ``group_size`` is G, 1 without groups; ``grouped`` says whether rows are padded to the largest of their
    group. ``search_input`` and ``results`` are the kinds of container that `cloud search` reads and writes.
    """

    cipher: FeatureCipher
    l: int
    group_size: ClassVar[int] = 1
    grouped: ClassVar[bool] = False
    search_input: ClassVar[str] = "query"
    results: ClassVar[str] = "results"

    @property
    def upload_columns(self) -> Mapping[str, int]:
        """The columns of encrypted features in an upload, and the bytes of one row of each."""
        return dict.fromkeys(("EF", "EFF"), self.l * self.cipher.number_bytes)

    @property
    def query_columns(self) -> Mapping[str, int]:
        """The columns of encrypted features in a query, and the bytes of one row of each."""
        return dict.fromkeys(("EQ", "EQQ"), self.l * self.cipher.number_bytes)

    def size_class(self, length: int) -> int:
        """Return the size class to sort rows by: always 0, since rows are not padded to each other."""
        return 0

    def prepared(self, images: int) -> SumProtocol:
        """Return the protocol tuned to encrypt the features of ``images`` images in one process."""
        return SumProtocol(self.cipher.prepared(2 * images, self.l), self.l)

    def beside_image(self, codes: Codes) -> tuple[Codes, ...]:
        """ImageFeatureEnc: encrypt ``codes``, shape (n, l), for the upload; one array per upload column."""
        from mipp_cli.scheme.feature_cipher import encrypt_features

        return tuple(each.reshape(len(codes), -1) for each in encrypt_features(self.cipher, codes))

    def inside_image(self, codes: Codes) -> Codes:
        """Return the codes that go into the encrypted image: all, since the user re-ranks by Eq. 7."""
        return codes

    def users_at_cloud(self, users: Users) -> Users:
        """Return the users that the cloud is told of: all, since it answers only these."""
        return users

    def query_features(self, codes: Codes, usk: bytes, associated_data: bytes) -> tuple[Codes, ...]:
        """Encrypt the codes of query images, shape (u, l), for the party that ranks."""
        return self.prepared(len(codes)).beside_image(codes)

    def check_matches(self, most: int) -> None:
        """Refuse a query that may have too many matches: never here, as the answer has no fixed size."""

    def check_kmc_ranks(self) -> ExactProtocol:
        """Raise InvalidRequestError: in the sum schemes the KMC holds no features to rank."""
        raise InvalidRequestError(
            "the cloud ranks in this deployment's scheme, not the KMC",
            hint="search with: mipp cloud search CLOUD query.h5 -o results.h5",
        )


@dataclass(frozen=True)
class ExactProtocol:
    """Eq. 7 at the KMC, which receives the features in a separate file; the cloud stores images only.

    For the methods see :class:`SumProtocol`. The features of an upload are encrypted when its features file
    is written.
    """

    l: int
    group_size: int
    grouped: ClassVar[bool] = True
    search_input: ClassVar[str] = "selection"
    results: ClassVar[str] = "groups"

    @property
    def upload_columns(self) -> Mapping[str, int]:
        """None."""
        return {}

    @property
    def query_columns(self) -> Mapping[str, int]:
        """The codes, encrypted under a key derived from USK."""
        return {"codes": self.l + OVERHEAD_BYTES}

    def size_class(self, length: int) -> int:
        """⌊log2(length)/4⌋."""
        return size_class(length)

    def prepared(self, images: int) -> ExactProtocol:
        """Itself."""
        return self

    def beside_image(self, codes: Codes) -> tuple[Codes, ...]:
        """Nothing."""
        return ()

    def inside_image(self, codes: Codes) -> Codes:
        """Nothing: the user does not re-rank."""
        return codes[:0]

    def users_at_cloud(self, users: Users) -> Users:
        """Nobody: the cloud answers selections of the KMC, not users."""
        return frozenset()

    def query_features(self, codes: Codes, usk: bytes, associated_data: bytes) -> tuple[Codes, ...]:
        """AES-256-GCM of each row of codes, under a key derived from USK."""
        key = _query_key(usk)
        rows = [seal(key, row.tobytes(), associated_data + n) for n, row in _numbered(codes)]
        return (np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(codes), -1),)

    def open_query(self, rows: Codes, usk: bytes, associated_data: bytes) -> Codes:
        """Decrypt the output of :meth:`query_features`; raises TamperedError."""
        key = _query_key(usk)
        opened = [unseal(key, row.tobytes(), associated_data + n) for n, row in _numbered(rows)]
        return np.frombuffer(b"".join(opened), dtype=np.uint8).reshape(len(rows), self.l)

    def check_matches(self, most: int) -> None:
        """Refuse more than MATCHES_LIMIT: the answer is padded to the most matches there may be."""
        if most > MATCHES_LIMIT:
            raise InvalidRequestError(
                f"asks for up to {most} matches, but images × candidates may be at most {MATCHES_LIMIT}",
                hint="query with fewer images at a time, or ask for fewer candidates (--candidates)",
            )

    def check_kmc_ranks(self) -> ExactProtocol:
        """Return itself."""
        return self


FeatureProtocol = SumProtocol | ExactProtocol


def _query_key(usk: bytes) -> bytes:
    return derive_key(usk, "mipp/1 features of a query", b"")


def _numbered(rows: Codes) -> list[tuple[bytes, Codes]]:
    return [(number.to_bytes(4, "big"), row) for number, row in enumerate(rows)]
