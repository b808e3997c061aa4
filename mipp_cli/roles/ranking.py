"""What the KMC remembers of a query that it ranked (scheme `exact`), and of the manifests that it saw."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipp_cli.containers.manifest import FeatureManifest
from mipp_cli.containers.query import Query
from mipp_cli.containers.selection import SelectedRow
from mipp_cli.errors import MalformedError, ReplayedError
from mipp_cli.roles.directory import RoleDirectory
from mipp_cli.roles.locks import locked
from mipp_cli.roles.removed import removal_of
from mipp_cli.roles.sequence import query_record
from mipp_cli.scheme.feature_chunks import ChunkPlace, stored_type
from mipp_cli.scheme.image_cipher import derive_key, sha256
from mipp_cli.scheme.parameters import Parameters

RANKINGS_FOLDER = "rankings"
MANIFESTS_FOLDER = "manifests"


@dataclass(frozen=True)
class RankedImage:
    """An image of a selection: its place and key, which query images it matches, and a MAC of its feature.

    A decoy matches nothing, and has no MAC.
    """

    row: SelectedRow
    key_id: int
    matches: tuple[int, ...] = ()
    feature: bytes = b""

    def to_fields(self) -> list[object]:
        """Return the image as JSON fields."""
        row, chunk = self.row, self.row.chunk
        place = [row.owner, chunk.upload, chunk.number, row.row, row.version]
        return [*place, self.key_id, list(self.matches), self.feature.hex()]


@dataclass(frozen=True)
class Ranking:
    """One query, ranked once: its digest, a digest of what was ranked, and what was selected.

    ``images`` ascend by place; ``left_out`` is how many images had features that did not open.
    """

    query: bytes
    ranked: bytes
    decoys: int
    left_out: int
    images: tuple[RankedImage, ...]

    def to_text(self) -> str:
        """Return the ranking as one line of JSON."""
        images = [
            [
                *(
                    each.row.owner,
                    each.row.chunk.upload,
                    each.row.chunk.number,
                    each.row.row,
                    each.row.version,
                ),
                *(each.key_id, list(each.matches), each.feature.hex()),
            ]
            for each in self.images
        ]
        return json.dumps([self.query.hex(), self.ranked.hex(), self.decoys, self.left_out, images])

    @classmethod
    def from_text(cls, text: str) -> Ranking:
        """Read what :meth:`to_text` gave; raises MalformedError for anything else."""
        try:
            query, ranked, decoys, left_out, images = json.loads(text)
            return cls(
                bytes.fromhex(query),
                bytes.fromhex(ranked),
                int(decoys),
                int(left_out),
                tuple(map(_image, images)),
            )
        except (ValueError, TypeError, RecursionError):
            raise MalformedError("is not the record of a ranking") from None


def _image(fields: list[object]) -> RankedImage:
    owner, upload, number, row, version, key_id, matches, feature = fields
    sound = isinstance(owner, str) and isinstance(feature, str) and isinstance(matches, list)
    numbers = (upload, number, row, version, key_id)
    if not sound or not all(isinstance(each, int) for each in numbers):
        raise ValueError("no image of a ranking")
    place = SelectedRow(owner, ChunkPlace(upload, number), row, version)  # type: ignore[arg-type]
    return RankedImage(place, key_id, tuple(matches), bytes.fromhex(feature))  # type: ignore[arg-type]


def recorded_ranking(directory: RoleDirectory, query: Query) -> Ranking | None:
    """Return how a query was ranked, or None; raises ReplayedError for another query under its id."""
    text = directory.recorded(RANKINGS_FOLDER, query_record(query.header))
    if text is None:
        return None
    ranking = Ranking.from_text(text)
    if not hmac.compare_digest(ranking.query, query.digest):
        raise ReplayedError(
            "holds a query under an id that another query of the same user had",
            hint="ask the user for a new query",
        )
    return ranking


def digest_of_manifests(manifests: Iterable[FeatureManifest]) -> bytes:
    """Return a digest of what is ranked: owner, number and digest of each manifest, in order."""
    lines = [[manifest.owner, manifest.number, manifest.header.digest] for manifest in manifests]
    return sha256(json.dumps(lines).encode())


class FeatureMac:
    """HMAC-SHA256 of features, under a key that comes of USK: what was ranked is what is handed over."""

    def __init__(self, usk: bytes, query_id: str, parameters: Parameters):
        self._key = derive_key(usk, "mipp/1 ranked features", bytes.fromhex(query_id))
        self._type = stored_type(parameters)

    def of(self, feature: NDArray[np.unsignedinteger]) -> bytes:
        """Return the MAC of a feature, shape (l,)."""
        return hmac.new(self._key, feature.astype(self._type).tobytes(), hashlib.sha256).digest()


@dataclass(frozen=True)
class SeenManifest:
    """The newest manifest seen of an owner: its number and digest, and the key of the cloud that had it."""

    number: int
    digest: str
    cloud: str


def seen_manifest(directory: RoleDirectory, owner: str) -> SeenManifest | None:
    """Return the newest manifest seen of an owner, or None; raises MalformedError for a damaged record."""
    file = manifest_record(owner)
    if not directory.file(file).exists():
        return None
    fields = directory.read_json(file)
    try:
        return SeenManifest(int(fields["number"]), str(fields["digest"]), str(fields["cloud"]))
    except (KeyError, ValueError, TypeError):
        raise MalformedError(
            "is damaged", path=directory.file(file), hint="restore it from a backup"
        ) from None


def manifest_record(owner: str) -> str:
    """Return where the newest manifest seen of an owner is recorded."""
    return f"{MANIFESTS_FOLDER}/{owner}.json"


def check_manifest(directory: RoleDirectory, manifest: FeatureManifest) -> None:
    """Refuse a manifest that is older than one seen, or other content under its number; ReplayedError."""
    seen, removal = seen_manifest(directory, manifest.owner), removal_of(directory, manifest.owner)
    is_old = removal is not None and manifest.number <= removal.highest
    if seen is not None:
        is_old |= manifest.number < seen.number
        is_old |= manifest.number == seen.number and manifest.header.digest != seen.digest
    if is_old:
        raise ReplayedError(
            f"holds features of {manifest.owner!r} that are older than those ranked before",
            hint="the cloud searches again with its latest index; it must keep every owner's latest message",
        )


def remember_manifests(directory: RoleDirectory, manifests: Iterable[FeatureManifest], cloud: str) -> None:
    """Remember the newest manifest of each owner, and which cloud it came from."""
    with locked(directory.folder(MANIFESTS_FOLDER)):
        for manifest in manifests:
            seen = seen_manifest(directory, manifest.owner)
            if seen is None or seen.number < manifest.number:
                fields = {"number": manifest.number, "digest": manifest.header.digest, "cloud": cloud}
                directory.write_json(manifest_record(manifest.owner), fields)
