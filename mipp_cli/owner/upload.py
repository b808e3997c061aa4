"""The second pass of `owner encrypt`: write the uploads, their features files, and their ledger files."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mipp_cli.compute.processes import Parallelism, open_workers
from mipp_cli.containers.base.container import header_of
from mipp_cli.containers.messages.features import FEATURES, write_features
from mipp_cli.containers.messages.upload import UploadCipher, write_upload
from mipp_cli.errors import (
    ChangedImageError,
    InvalidRequestError,
    MippError,
    OutputError,
    UnreadableImageError,
    errors_at,
)
from mipp_cli.files.atomic import discard, refuse_existing, remove, unchanged_on_failure
from mipp_cli.images.collection import ImageFile
from mipp_cli.images.pictures import open_picture
from mipp_cli.images.pixels import png_of_pixels
from mipp_cli.log import timed
from mipp_cli.owner.described_image import DescribedImage
from mipp_cli.owner.descriptions import Descriptions
from mipp_cli.owner.features import FEATURES_FOLDER, copy_file, kept_file, sweep_kept
from mipp_cli.owner.grouping import Group, Grouping
from mipp_cli.owner.ledger import UPLOAD, Message, SentImage, still_deciding
from mipp_cli.owner.owner import Owner
from mipp_cli.owner.whats_new import Choice, EncryptOptions
from mipp_cli.progress import Advance, Progress
from mipp_cli.scheme.aead import OVERHEAD_BYTES
from mipp_cli.scheme.envelope import Envelope
from mipp_cli.scheme.groups import Row
from mipp_cli.scheme.secret_keys import key_id


class UploadOutputs:
    """The paths of a run's uploads: ``output``, or with ``split`` numbered paths beside it.

    Where the KMC ranks, each has a features file beside it. A file of this owner is replaced with ``force``,
    or if a killed run left it. Raises OutputError if another file exists.
    """

    def __init__(self, owner: Owner, output: Path, options: EncryptOptions):
        self._owner, self._output, self._options = owner, output, options
        self.in_place = False  # whether the uploads of this run are
        grouped = owner.directory.deployment.parameters.protocol.grouped
        self._parts = ("", ".features") if grouped else ("",)
        if options.report is not None and self._is_output(options.report):
            raise InvalidRequestError(
                "the report would replace an upload", path=options.report, hint="give it another name"
            )
        for path in [*self.paths(1)[0], *self._there()]:
            goes = self._may_replace(path)
            if options.force and not goes and os.path.lexists(path):
                raise OutputError(
                    "is not an upload of this owner, so it is not replaced",
                    path=path,
                    hint="move it, or choose another output name",
                )
            refuse_existing(path, force=goes)

    def _may_replace(self, path: Path) -> bool:
        """Return whether a file may be replaced; a foreign one only if it is named as the output."""
        force = self._options.force
        if force and path == self._output and self._options.split is None:
            return True
        try:
            header, sender = header_of(path), self._owner.directory.sender
        except MippError:
            return False
        own = header.kind in (UPLOAD, FEATURES.kind) and header.sender_key == sender.signing_key.public
        if not own or force:
            return own
        return self._options.resume is True and header.sequence_number in self._owner.state.unsure

    def paths(self, count: int) -> list[list[Path]]:
        """Return the paths of ``count`` uploads, each followed by that of its features file, if any."""
        split, stem, suffix = self._options.split is not None, self._output.stem, self._output.suffix
        places = [f"-{place + 1:03d}" if split else "" for place in range(count)]
        return [
            [self._output.with_name(f"{stem}{place}{part}{suffix}") for part in self._parts]
            for place in places
        ]

    def remove_older(self, written: Sequence[Sequence[Path]]) -> None:
        """Remove surplus numbered uploads of a longer run that this one replaces; raises OutputError."""
        for path in set(self._there()).difference(*written):
            if self._may_replace(path):
                remove(path)

    def _there(self) -> list[Path]:
        """Return the numbered outputs of an earlier run."""
        folder = self._output.parent
        if self._options.split is None or not folder.is_dir():
            return []
        name = self._pattern("-[0-9]{3,}")
        return sorted(path for path in folder.iterdir() if re.fullmatch(name, path.name))

    def _is_output(self, path: Path) -> bool:
        """Return whether a path may be an output of some run, numbered or not."""
        is_beside = path.parent.resolve() == self._output.parent.resolve()
        return is_beside and re.fullmatch(self._pattern("(-[0-9]{3,})?"), path.name) is not None

    def _pattern(self, number: str) -> str:
        parts = "|".join(map(re.escape, self._parts))
        return f"{re.escape(self._output.stem)}{number}({parts}){re.escape(self._output.suffix)}"


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
