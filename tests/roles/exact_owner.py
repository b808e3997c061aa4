"""An owner of scheme `exact` in memory: uploads and deletions with chunks of features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mipp_cli.containers.delete import write_delete
from mipp_cli.containers.feature_columns import EncryptedChunk, FeatureChange
from mipp_cli.containers.manifest import write_manifest
from mipp_cli.containers.upload import UploadCipher, write_upload
from mipp_cli.roles.owner import Owner
from mipp_cli.scheme.feature_chunks import ChunkPlace, FeatureChunkCipher, LiveChunk
from mipp_cli.scheme.image_cipher import Envelope, key_id
from mipp_cli.scheme.live_chunks import chunks_of_upload, places_of_rows, without_rows
from tests.deployment import Deployment
from tests.roles.forgery import next_number

Feature = NDArray[np.unsignedinteger]


@dataclass
class ExactOwner:
    """Which images are live, upload by upload, with their features; every message is written to a file."""

    deployment: Deployment
    name: str
    live: dict[int, list[tuple[str, Feature]]] = field(default_factory=dict)
    chunks: list[LiveChunk] = field(default_factory=list)

    @property
    def role(self) -> Owner:
        """The owner's real directory."""
        return Owner.open(self.deployment / self.name)

    def cipher(self, upload: int) -> FeatureChunkCipher:
        """Return the cipher of an upload's chunks."""
        public = self.deployment.public
        return FeatureChunkCipher(
            self.role.image_key, public.fingerprint, self.name, upload, public.parameters
        )

    def upload(
        self,
        images: Mapping[str, Feature],
        *,
        replace_images: bool = False,
        hidden: Mapping[str, Feature] | None = None,
    ) -> Path:
        """Write an upload; ``hidden`` are features that stand in the images instead of the ranked ones."""
        number, key = next_number(), self.role.image_key
        anew = self._drop(images, number) if replace_images else set()
        self.live[number] = list(images.items())
        own = chunks_of_upload(self.deployment.public.parameters, number, key_id(key), len(images))
        self.chunks += own
        cipher = UploadCipher(key, self.deployment.public.fingerprint, self.name, number)
        path = self.deployment / f"{self.name}-{number}.h5"
        parameters, sender = self.deployment.public.parameters, self.role.directory.sender
        with write_upload(path, parameters, sender, number, key_id(key), replace=replace_images) as writer:
            for name, feature in images.items():
                envelope = Envelope(
                    f"{name}.png",
                    "image/png",
                    (hidden or {}).get(name, feature),
                    f"content of {name}".encode(),
                )
                writer.append_image(name, cipher.encrypt(envelope.pack(), name))
            writer.write_features(self.change(number, anew | {chunk.place for chunk in own}))
        return path

    def delete(self, names: Iterable[str]) -> Path:
        """Write a deletion."""
        number, names = next_number(), list(names)
        anew = self._drop(names, number)
        path = self.deployment / f"{self.name}-{number}.h5"
        write_delete(path, self.role.directory.sender, number, names, features=self.change(number, anew))
        return path

    def _drop(self, names: Iterable[str], number: int) -> set[ChunkPlace]:
        gone = set(names)
        dropped = {
            upload: rows
            for upload, images in self.live.items()
            if (rows := [row for row, (name, _) in enumerate(images) if name in gone])
        }
        self.chunks, anew = without_rows(self.chunks, dropped, number)
        self.live = {
            upload: [image for image in images if image[0] not in gone]
            for upload, images in self.live.items()
        }
        return anew

    def change(self, number: int, places: Iterable[ChunkPlace]) -> FeatureChange:
        """Return what a message brings: these chunks, and the manifest."""
        path = self.deployment / f"manifest-{number}"
        write_manifest(path, self.role.directory.sender, number, self.chunks, force=True)
        octets = path.read_bytes()
        path.unlink()
        return FeatureChange(octets, [self.encrypted(place) for place in sorted(places)])

    def encrypted(self, place: ChunkPlace) -> EncryptedChunk:
        """Encrypt a live chunk."""
        chunk = next(chunk for chunk in self.chunks if chunk.place == place)
        own = [each for each in self.chunks if each.place.upload == place.upload]
        images = self.live[place.upload]
        where = places_of_rows(own, range(len(images)))
        rows = [images[row][1] for row, (number, _) in enumerate(where) if own[number] == chunk]
        return place, self.cipher(place.upload).encrypt(np.stack(rows), place.number, chunk.version)


def spoiled(change: FeatureChange, **changes: object) -> FeatureChange:
    """Return a change of features with something else in it."""
    return replace(change, **changes)  # type: ignore[arg-type]


def features_of(names: Sequence[str], *, seed: int = 0, levels: int = 8) -> dict[str, Feature]:
    """Draw a feature for each name."""
    random = np.random.default_rng([seed, *map(ord, "".join(names))])
    return {name: random.integers(0, levels, 80, dtype=np.uint8) for name in names}
