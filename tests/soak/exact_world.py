"""What is compared after each operation where the KMC keeps features."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mipp_cli.cloud.cloud import Cloud
from mipp_cli.containers.store.index import Segment
from mipp_cli.descriptors.edge_histogram import edge_histogram
from mipp_cli.images.pictures import open_picture
from mipp_cli.kmc.kmc import Kmc
from mipp_cli.kmc.status import received
from mipp_cli.kmc.store import FeatureStore
from mipp_cli.kmc.store_index import StoredMessage
from mipp_cli.owner.owner import Owner
from mipp_cli.workdir.floors import floor_of
from tests.soak.model import FeaturesModel
from tests.soak.world import OWNERS, World

Codes = NDArray[np.uint8]


class ExactWorld(World):
    """A world whose cloud has names without sums, and whose KMC has features."""

    features: FeaturesModel

    def __init__(self, *arguments: Any):
        self._digests: dict[tuple[str, str], bytes] = {}
        self._seen: set[tuple[str, str, StoredMessage]] = set()
        super().__init__(*arguments)

    def digest_of(self, owner: str, path: str) -> bytes:
        """Return the SHA-256 of what the cloud calls an image."""
        if (owner, path) not in self._digests:
            name = Owner.open(self.root / owner).name_on_the_wire(path)
            self._digests[owner, path] = hashlib.sha256(name.encode()).digest()
        return self._digests[owner, path]

    def compare(self) -> None:
        """Compare the cloud's store, and the KMC's keys and features, with the models."""
        super().compare()
        kmc = Kmc.open(self.root / "kmc")
        for owner in OWNERS:
            self._compare_features(kmc, owner)

    def sums(self, content: bytes) -> tuple[int, int]:
        """There are none."""
        return 0, 0

    def _compare_segment(self, cloud: Cloud, segment: Segment) -> None:
        """Compare which group each image is in, too, and that a group's images are of one length."""
        super()._compare_segment(cloud, segment)
        if not segment.rows:
            return
        message = self.cloud.applied[segment.owner][segment.number]
        places = {self.digest_of(segment.owner, path): place for path, place in message.places.items()}
        with cloud.store.segment(segment) as upload:
            names = [hashlib.sha256(name.encode()).digest() for name in upload.names()]
            for group in range(len(upload.group_ends())):
                rows = upload.group_rows(group)
                assert {places[names[row]] for row in rows} <= {group}
                assert len({len(upload.encrypted_image(row)) for row in rows}) <= 1

    def _compare_features(self, kmc: Kmc, owner: str) -> None:
        """Compare what the KMC keeps of an owner, row by row, with the model."""
        model, applied = self.features, self.features.applied.get(owner, {})
        self.compare_promises(kmc.directory, model, owner)
        enrolled = kmc.owner(owner)
        if enrolled is None:
            assert not kmc.features_folder(owner).exists()
            assert not applied
            return
        store = FeatureStore.of(kmc, enrolled)
        index = store.index()
        assert store.unlisted(index) == []
        assert [message.number for message in index.messages] == sorted(applied)
        found = received(kmc, owner, index)
        assert (found.up_to, list(found.gaps)) == (model.complete(owner), model.gaps(owner))
        for message in index.messages:
            if (owner, str(kmc.directory.path), message) not in self._seen:
                self._seen.add((owner, str(kmc.directory.path), message))
                self._compare_message(store, message)

    def _compare_message(self, store: FeatureStore, stored: StoredMessage) -> None:
        owner, number = store.owner, stored.number
        message, rows = self.features.applied[owner][number], self.features.rows.get(owner, {})
        due = {self.digest_of(owner, path): path for path in message.images if rows.get(path) == number}
        coded = (owner, number) not in self.features.uncoded
        got: set[bytes] = set()
        for block in stored.blocks:
            assert block.coded == coded
            codes = store.codes(block) if coded else None
            for place, row in enumerate(store.table(block)):
                path = due[name := row["name"].tobytes()]
                assert name not in got
                got.add(name)
                assert int(row["group"]) == message.places[path]
                image = message.images[path]
                assert image is not None
                assert codes is None or (codes[place] == codes_of(image.content)).all()
        assert got == {*due}
        assert stored.deleted == (len(message.images) if message.is_deletion else 0)

    def kept_at(self, kmc: Kmc, owner: str) -> set[bytes]:
        """Return the SHA-256 of the names of all images of which a KMC keeps features."""
        enrolled = kmc.owner(owner)
        assert enrolled is not None
        assert floor_of(kmc.directory, owner).refused == 0
        store = FeatureStore.of(kmc, enrolled)
        return {row["name"].tobytes() for block in store.index().blocks for row in store.table(block)}


@lru_cache(maxsize=4096)
def codes_of(content: bytes) -> Codes:
    """Return a picture's codes."""
    return edge_histogram(open_picture(content, path=None).eight_bits())
