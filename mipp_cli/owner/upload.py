"""The second pass of `owner encrypt`: write the uploads, their features files, and their ledger files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mipp_cli.compute.processes import Parallelism, open_workers
from mipp_cli.containers.messages.features import write_features
from mipp_cli.containers.messages.upload import UploadCipher, write_upload
from mipp_cli.errors import (
    ChangedImageError,
    UnreadableImageError,
    errors_at,
)
from mipp_cli.files.atomic import discard, unchanged_on_failure
from mipp_cli.images.collection import ImageFile
from mipp_cli.images.pictures import open_picture
from mipp_cli.images.pixels import png_of_pixels
from mipp_cli.log import timed
from mipp_cli.owner.described_image import DescribedImage
from mipp_cli.owner.descriptions import Descriptions
from mipp_cli.owner.features import FEATURES_FOLDER, copy_file, kept_file, sweep_kept
from mipp_cli.owner.grouping import Group, Grouping
from mipp_cli.owner.ledger import Message, SentImage, still_deciding
from mipp_cli.owner.owner import Owner
from mipp_cli.owner.upload_outputs import UploadOutputs
from mipp_cli.owner.whats_new import Choice, EncryptOptions
from mipp_cli.progress import Advance, Progress
from mipp_cli.scheme.aead import OVERHEAD_BYTES
from mipp_cli.scheme.envelope import Envelope
from mipp_cli.scheme.groups import Row
from mipp_cli.scheme.secret_keys import key_id


class _EncryptedImage(NamedTuple):
    """An encrypted image, EW: its name on the wire, and the SHA-256 of EW where a features file needs it."""

    name: str
    ew: bytes
    digest: bytes


@dataclass(frozen=True)
class SecondPass:
    """Writes the uploads of a run.

    ``flat`` collects images whose pixels all have one value, ``edgeless`` images without edges.
    """

    owner: Owner
    images: Mapping[str, ImageFile]
    options: EncryptOptions
    choice: Choice
    work: Descriptions
    grouping: Grouping
    flat: list[str] = field(default_factory=list)
    edgeless: list[str] = field(default_factory=list)

    @timed("encrypting the images into the upload")
    def write(self, outputs: UploadOutputs, parallelism: Parallelism, progress: Progress) -> list[list[Path]]:
        """Write the uploads and their ledger files, all or none, then remove the descriptions.

        Returns the outputs of each upload. The kept features appear first, then the ledger file, then the
        upload: after a crash, the ledger shows that the number may have been sent, and its features exist.
        Both stay if another upload of the run fails, because this one may have been copied meanwhile.

        The keys stay in this process. Pixels are decoded and compressed in threads, which takes half the time
        with two; files are encrypted one by one, because threads took half as long again.
        """
        threads = replace(parallelism, scheduler=None, threads=True)
        threads = threads.at_most(len(self.work.done) if self.options.pixels else 1)
        owner, uploads = self.owner, self._dealt()
        paths = outputs.paths(len(uploads))
        numbers = owner.begin_messages(len(uploads))  # first, so that no number is ever used twice
        deciding = owner.ledger.deciding()
        with (
            unchanged_on_failure(*(path for each in paths for path in each)),
            progress("encrypting", len(self.work.done), "image") as advance,
        ):
            for number, places, groups in zip(numbers, paths, uploads, strict=True):
                sent = [path for group in groups for path in group.paths]
                deciding = still_deciding(deciding, self.choice.superseded(sent))
                kept = kept_file(owner.directory, number)
                try:
                    self._write(places, number, sorted(deciding), groups, threads, advance)
                    for features in places[1:]:
                        copy_file(kept, features, force=True)
                except BaseException:
                    discard(owner.ledger.file(number))
                    discard(kept)
                    raise
                deciding[number] = len(sent)
        outputs.in_place = True
        owner.confirm(numbers)
        sweep_kept(owner.directory, deciding)
        owner.ledger.refresh(self.choice.refreshed)
        self.work.remove()
        outputs.remove_older(paths)
        return paths

    def _dealt(self) -> list[list[Group]]:
        """Assign the groups to uploads, ordered by a keyed digest of the path.

        This order reveals nothing, whereas that of the paths would show which pictures share a folder.
        """
        owner, done = self.owner, self.work.done
        size_class = owner.directory.deployment.parameters.protocol.size_class
        rows = [
            Row(
                path,
                each.sealed_bytes,
                owner.row_key(path),
                size_class(each.sealed_bytes),
                owner.grouping_key(path),
            )
            for path, each in done.items()
        ]
        uploads: list[list[Group]] = [[]]
        size = 0
        for group in self.grouping.groups(rows):
            if uploads[-1] and self.options.split is not None and size >= self.options.split:
                uploads.append([])
                size = 0
            uploads[-1].append(group)
            size += group.size + sum(done[path].feature_bytes for path in group.paths)
        return uploads

    def _write(
        self,
        places: Sequence[Path],
        number: int,
        earlier: list[int],
        groups: list[Group],
        threads: Parallelism,
        advance: Advance,
    ) -> None:
        """Write one upload."""
        owner, directory = self.owner, self.owner.directory
        key, sender, parameters = owner.image_key, directory.sender, directory.deployment.parameters
        cipher = UploadCipher(key, sender.deployment, sender.name, number)
        features = None
        with ExitStack() as stack:  # what is opened last appears first
            upload = stack.enter_context(
                write_upload(places[0], parameters, sender, number, key_id(key), earlier=earlier, force=True)
            )
            note = stack.enter_context(owner.ledger.writing(Message(number, key_id(key))))
            if parameters.protocol.grouped:
                directory.folder(FEATURES_FOLDER)
                kept = kept_file(directory, number)
                features = stack.enter_context(
                    write_features(kept, parameters.l, sender, number, key, earlier=earlier, force=True)
                )
            workers = stack.enter_context(open_workers(partial(self._encrypted, cipher), threads))
            rows = ((group, self.work.read(path)) for group in groups for path in group.paths)
            for (group, description), image in workers.in_order(rows, under_way=workers.count + 1):
                if isinstance(image, ChangedImageError):
                    self.work.forget(description.path)
                    raise image
                upload.append(image.name, image.ew, description.features)
                if features is not None:
                    features.append(image.name, image.digest, description.feature)
                note(self._sent_image(image.name, description, group.name if features is not None else ""))
                if description.facts.flat:
                    self.flat.append(description.path)
                if description.facts.edgeless:
                    self.edgeless.append(description.path)
                advance(1)
                if description.path == group.paths[-1]:
                    upload.end_group()
                    if features is not None:
                        features.end_group(group.length)

    def _encrypted(
        self, cipher: UploadCipher, row: tuple[Group, DescribedImage]
    ) -> _EncryptedImage | ChangedImageError:
        """Read an image again and encrypt it; return the error if it changed."""
        group, description = row
        name = self.owner.name_on_the_wire(description.path)
        try:
            envelope = self._envelope(description)
        except ChangedImageError as error:
            return error
        ew = cipher.encrypt(envelope.pack(group.length - OVERHEAD_BYTES), name)
        grouped = self.owner.directory.deployment.parameters.protocol.grouped
        return _EncryptedImage(name, ew, hashlib.sha256(ew).digest() if grouped else b"")

    def _envelope(self, description: DescribedImage) -> Envelope:
        """Read an image again; raises ChangedImageError if it is not the one described."""
        image = self.images[description.path]
        try:
            content = image.read()
            how = "its content is different now"
        except UnreadableImageError as error:
            content, how = b"", error.message
        if hashlib.sha256(content).hexdigest() != description.digest:
            raise self._changed(description.path, how)
        if self.options.pixels:
            with errors_at(image.path):
                content = png_of_pixels(open_picture(content, path=str(image.path)).stored())
            if len(content) != description.payload_bytes:  # resumed work may be another Pillow's
                raise self._changed(description.path, "its pixels take another number of bytes now")
        inside = description.feature[: description.inside]
        name = self.owner.keyed_name(description.path) if self.options.pixels else description.path
        return Envelope(name, description.media_type, inside, content)

    def _changed(self, path: str, how: str) -> ChangedImageError:
        return ChangedImageError(
            f"changed while the command ran: {how}",
            path=self.images[path].path,
            hint="nothing was written; run it again while nobody changes the images",
        )

    def _sent_image(self, name: str, description: DescribedImage, group: str) -> SentImage:
        image = self.images[description.path]
        version = self.choice.version(image, description.version)
        digest = self.choice.digest(image, description.digest)
        return SentImage(name, description.path, version, digest, group)
