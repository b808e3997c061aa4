"""What scheme `exact` stores and sends of 10,000 features, written by the roles' own code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mipp_cli.containers.candidates import OwnerFeatures, write_candidates
from mipp_cli.containers.manifest import write_manifest
from mipp_cli.experiments.dataset import DataSet
from mipp_cli.experiments.trial_deployment import TrialDeployment
from mipp_cli.roles.cloud import Cloud
from mipp_cli.roles.cloud_search import search
from mipp_cli.roles.kmc_rank import rank
from mipp_cli.roles.owner import Owner
from mipp_cli.scheme.feature_chunks import FeatureChunkCipher
from mipp_cli.scheme.image_cipher import key_id
from mipp_cli.scheme.live_chunks import chunks_of_upload

CANDIDATES, SELECTION = "candidates.h5 of one query", "selection.h5 of one query"
_UPLOAD = 1


@dataclass(frozen=True)
class LargeFeatures:
    """The chunks of a large collection and the owner's manifest of them, as an upload brings them."""

    images: int
    chunks: Sequence[bytes]
    manifest: bytes

    @property
    def nbytes(self) -> int:
        """What the chunks take at the cloud."""
        return sum(map(len, self.chunks))


def encrypt_large(dataset: DataSet, trial: TrialDeployment, images: int) -> LargeFeatures:
    """Encrypt the data set's features, over again, as one upload of so many images."""
    owner = Owner.open(trial.owner(trial.owners[0]))
    sender, parameters = owner.directory.sender, trial.public.parameters
    codes = np.resize(dataset.features, (images, dataset.features.shape[1]))
    cipher = FeatureChunkCipher(owner.image_key, sender.deployment, sender.name, _UPLOAD, parameters)
    live = chunks_of_upload(parameters, _UPLOAD, key_id(owner.image_key), images)
    ends = np.cumsum([chunk.rows for chunk in live]).tolist()
    chunks = [
        cipher.encrypt(codes[end - chunk.rows : end], chunk.place.number, chunk.version)
        for chunk, end in zip(live, ends, strict=True)
    ]
    path = trial.root / "large-manifest.h5"
    write_manifest(path, sender, _UPLOAD, live)
    return LargeFeatures(images, chunks, path.read_bytes())


def hand_offs(
    trial: TrialDeployment, cloud: Cloud, query: Path, large: LargeFeatures
) -> Iterator[tuple[str, int, int]]:
    """Yield what a query takes between cloud and KMC: what it is, of how many images, and its bytes."""
    small, selection, full = (trial.root / f"{name}.h5" for name in ("candidates", "selection", "full"))
    offered = search(cloud.directory.path, query, small)
    ranked = rank(trial.kmc, small, selection)
    yield CANDIDATES, offered.counts["candidates"], small.stat().st_size
    features = OwnerFeatures(trial.owners[0], large.manifest, [*map(len, large.chunks)], lambda: large.chunks)
    write_candidates(full, cloud.directory.sender, "0" * 32, query.read_bytes(), [features])
    yield CANDIDATES, large.images, full.stat().st_size
    yield SELECTION, ranked.counts["images"], selection.stat().st_size
