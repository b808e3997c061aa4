"""What a scheme asks of the hand-offs: the one object that knows which scheme a deployment has.

In the *sum* schemes (`dcr`, `mask`, `paper`) the cloud ranks, by Eq. 9, from encrypted features that lie
beside the images. In `exact` the KMC ranks, by Eq. 7: features go to it, and the cloud brings whole groups.
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
MATCHES_LIMIT = 10_000  # of a query, where the KMC ranks


@dataclass(frozen=True)
class SumProtocol:
    """Eq. 4 to 9: EF and EFF lie at the cloud, which sees Σx and Σx² of every image and ranks by Sim.

    ``group_size`` is G, 1 without groups; ``grouped`` says whether rows are padded to the largest of their
    group. ``search_input`` and ``results`` are the kinds of container that a cloud searches with, and that
    it answers with.
    """

    cipher: FeatureCipher
    l: int
    group_size: ClassVar[int] = 1
    grouped: ClassVar[bool] = False
    search_input: ClassVar[str] = "query"
    results: ClassVar[str] = "results"

    @property
    def upload_columns(self) -> Mapping[str, int]:
        """The encrypted features that an upload holds beside each image, and the bytes of a row of each."""
        return dict.fromkeys(("EF", "EFF"), self.l * self.cipher.number_bytes)

    @property
    def query_columns(self) -> Mapping[str, int]:
        """The encrypted features that a query holds of each image, and the bytes of a row of each."""
        return dict.fromkeys(("EQ", "EQQ"), self.l * self.cipher.number_bytes)

    def size_class(self, length: int) -> int:
        """Return the class by which rows are sorted first: all are of one, as none is padded to another."""
        return 0

    def prepared(self, images: int) -> SumProtocol:
        """Return the protocol that encrypts the features of so many images fastest, in one process."""
        return SumProtocol(self.cipher.prepared(2 * images, self.l), self.l)

    def beside_image(self, codes: Codes) -> tuple[Codes, ...]:
        """ImageFeatureEnc: encrypt ``codes``, shape (n, l), for the upload; a row an image, a column each."""
        from mipp_cli.scheme.feature_cipher import encrypt_features

        return tuple(each.reshape(len(codes), -1) for each in encrypt_features(self.cipher, codes))

    def inside_image(self, codes: Codes) -> Codes:
        """Return what of the feature goes into the encrypted image: all, the user ranks anew by Eq. 7."""
        return codes

    def users_at_cloud(self, users: Users) -> Users:
        """Return what the cloud hears of an owner's list of users: all, it searches for those alone."""
        return users

    def query_features(self, codes: Codes, usk: bytes, associated_data: bytes) -> tuple[Codes, ...]:
        """Encrypt the codes of query images, shape (u, l), for whoever ranks."""
        return self.prepared(len(codes)).beside_image(codes)

    def check_matches(self, most: int) -> None:
        """Refuse a query that may have too many matches: none here, an answer is as long as need be."""

    def check_kmc_ranks(self) -> ExactProtocol:
        """Return the protocol by which the KMC ranks; InvalidRequestError: here it holds no features."""
        raise InvalidRequestError(
            "in this deployment's scheme the cloud ranks, and the KMC holds no features",
            hint="search with: mipp cloud search CLOUD query.h5 -o results.h5",
        )


@dataclass(frozen=True)
class ExactProtocol:
    """Eq. 7 at the KMC: features go there, in a file of their own, and the cloud keeps images alone.

    What the methods are for, SumProtocol says; the features of an upload are encrypted when it is written.
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
        """The codes, under a key from USK."""
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
        """Nothing: the ranking is the KMC's."""
        return codes[:0]

    def users_at_cloud(self, users: Users) -> Users:
        """Nobody: the cloud searches for the KMC."""
        return frozenset()

    def query_features(self, codes: Codes, usk: bytes, associated_data: bytes) -> tuple[Codes, ...]:
        """AES-256-GCM of each row of codes, under a key from USK."""
        key = _query_key(usk)
        rows = [seal(key, row.tobytes(), associated_data + n) for n, row in _numbered(codes)]
        return (np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(codes), -1),)

    def open_query(self, rows: Codes, usk: bytes, associated_data: bytes) -> Codes:
        """Return the codes that :meth:`query_features` encrypted; raises TamperedError."""
        key = _query_key(usk)
        opened = [unseal(key, row.tobytes(), associated_data + n) for n, row in _numbered(rows)]
        return np.frombuffer(b"".join(opened), dtype=np.uint8).reshape(len(rows), self.l)

    def check_matches(self, most: int) -> None:
        """The answer has room for all that there may be, whether or not there are so many."""
        if most > MATCHES_LIMIT:
            raise InvalidRequestError(
                f"asks for up to {most} matches; images × candidates may be up to {MATCHES_LIMIT}",
                hint="ask with fewer images at a time, or for fewer candidates (--candidates)",
            )

    def check_kmc_ranks(self) -> ExactProtocol:
        """It does, by this one."""
        return self


FeatureProtocol = SumProtocol | ExactProtocol


def _query_key(usk: bytes) -> bytes:
    return derive_key(usk, "mipp/1 features of a query", b"")


def _numbered(rows: Codes) -> list[tuple[bytes, Codes]]:
    return [(number.to_bytes(4, "big"), row) for number, row in enumerate(rows)]
