"""The second pass of `owner encrypt`: one upload, the features file beside it, and the ledger of both."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mipp_cli.containers.messages.features import FeaturesWriter, write_features
from mipp_cli.containers.messages.upload import UploadCipher, write_upload
from mipp_cli.descriptors.edge_histogram import is_edgeless
from mipp_cli.errors import ChangedImageError
from mipp_cli.files.atomic import discard
from mipp_cli.images.collection import ImageFile
from mipp_cli.owner.describing import payload_of
from mipp_cli.owner.descriptions import DescribedImage, Descriptions
from mipp_cli.owner.features import FEATURES_FOLDER, copy_file, kept_file
from mipp_cli.owner.grouping import Group
from mipp_cli.owner.ledger import UPLOAD, Message, SentImage
from mipp_cli.owner.owner import Owner
from mipp_cli.owner.upload_outputs import UploadOutput
from mipp_cli.owner.whats_new import Choice
from mipp_cli.progress import Advance
from mipp_cli.scheme.aead import OVERHEAD_BYTES
from mipp_cli.scheme.envelope import Envelope
from mipp_cli.scheme.secret_keys import key_id


@dataclass(frozen=True)
class UploadTask:
    """What all uploads of a run are written from."""

    owner: Owner
    images: Mapping[str, ImageFile]
    work: Descriptions
    choice: Choice
    pixels: bool

    def write(
        self,
        output: UploadOutput,
        number: int,
        earlier: Sequence[int],
        groups: Sequence[Group],
        advance: Advance,
    ) -> int:
        """Write one upload; return how many of its images have no edges.

        The ledger is in place first, and before it the features that are kept: whoever goes on after a crash
        sees that the number may be out, and has its features. It stays so if another upload of the run
        fails, since this one could be copied meanwhile.
        """
        ledger, kept = self.owner.ledger, kept_file(self.owner.directory, number)
        try:
            edgeless = self._write(output, number, earlier, groups, advance)
            if output.features is not None:
                copy_file(kept, output.features, force=True)
        except BaseException:
            ledger.remove(number)
            discard(kept)
            raise
        return edgeless

    def _write(
        self,
        output: UploadOutput,
        number: int,
        earlier: Sequence[int],
        groups: Sequence[Group],
        advance: Advance,
    ) -> int:
        key, sender = self.owner.image_key, self.owner.directory.sender
        parameters = self.owner.directory.deployment.parameters
        cipher = UploadCipher(key, sender.deployment, sender.name, number)
        edgeless = 0
        with (
            write_upload(
                output.upload,
                parameters,
                sender,
                number,
                key_id(key),
                earlier=earlier,
                force=True,  # what must stay was refused before
            ) as upload,
            self.owner.ledger.writing(Message(number, UPLOAD, key_id(key))) as ledger,
            self._features(output.features, number, earlier) as features,  # first of all in place
        ):
            for group in groups:
                for path in group.paths:
                    description = self.work.read(path)
                    name = self.owner.name_on_the_wire(path)
                    ew = cipher.encrypt(self._envelope(description).pack(group.length - OVERHEAD_BYTES), name)
                    upload.append(name, ew, description.features)
                    if features is not None:
                        features.append(name, hashlib.sha256(ew).digest(), description.feature)
                    ledger.append(self._sent_image(name, description, group.name if features else ""))
                    edgeless += parameters.features.computed and is_edgeless(description.feature)
                    advance(1)
                upload.end_group()
                if features is not None:
                    features.end_group(group.length)
        return edgeless

    @contextmanager
    def _features(
        self, output: Path | None, number: int, earlier: Sequence[int]
    ) -> Iterator[FeaturesWriter | None]:
        """Write the features file where it is kept, if there is to be one."""
        if output is None:
            yield None
            return
        directory = self.owner.directory
        directory.folder(FEATURES_FOLDER)
        kept, l = kept_file(directory, number), directory.deployment.parameters.l
        key, sender = self.owner.image_key, directory.sender
        with write_features(kept, l, sender, number, key, earlier=earlier, force=True) as features:
            yield features

    def _envelope(self, description: DescribedImage) -> Envelope:
        """Read an image again; raises ChangedImageError if it is not what was described."""
        try:
            payload = payload_of(self.images[description.path], description, pixels=self.pixels)
        except ChangedImageError:
            self.work.forget(description.path)
            raise
        inside = description.feature[: description.inside]
        return Envelope(description.path, description.media_type, inside, payload)

    def _sent_image(self, name: str, description: DescribedImage, group: str) -> SentImage:
        image = self.images[description.path]
        version = self.choice.version(image, description.version)
        digest = self.choice.digest(image, description.digest)
        return SentImage(name, description.path, version, digest, group)
