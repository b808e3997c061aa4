"""The owner's main step: ImageEnc and ImageFeatureEnc over a collection, into one upload or several.

An image goes two ways, one after the other. First it is read and described, and its feature encrypted: the
slow part, whose results are kept for ``--resume``. Then, in the order of the upload's rows, it is read again,
encrypted, and written straight into the upload.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mipp_cli.containers.atomic import unchanged_on_failure
from mipp_cli.containers.container import header_of
from mipp_cli.containers.upload import UploadCipher, UploadSize, write_upload
from mipp_cli.errors import (
    ChangedImageError,
    InterruptedWorkError,
    InvalidRequestError,
    MippError,
    Problem,
    UnreadableImageError,
    UnreadableImagesError,
)
from mipp_cli.roles.collection import ImageFile
from mipp_cli.roles.descriptions import Description, Descriptions
from mipp_cli.roles.feature_work import describe_and_encrypt, feature_tasks, payload_of
from mipp_cli.roles.ledger import UPLOAD, Message, SentImage, still_deciding
from mipp_cli.roles.own_features import OwnFeatures, own_features
from mipp_cli.roles.owner import Owner
from mipp_cli.roles.progress import Advance, Progress, silent
from mipp_cli.roles.report import Output, Report
from mipp_cli.roles.upload_outputs import UploadOutputs
from mipp_cli.roles.whats_new import Choice, EncryptOptions, Look
from mipp_cli.roles.workers import LOCAL, Workplace, open_executor, ordered_results
from mipp_cli.scheme.edge_histogram import is_edgeless
from mipp_cli.scheme.image_cipher import Envelope, key_id


def encrypt_images(
    path: Path,
    images: Sequence[ImageFile],
    output: Path,
    options: EncryptOptions,
    workplace: Workplace = LOCAL,
    progress: Progress = silent,
    left_out: Sequence[Problem] = (),
) -> Report:
    """Encrypt ``images`` into the upload ``output``: EW under SK, EF and EFF, names on the wire.

    With ``split``, into uploads named ``output`` with -001, -002 and so on. Raises AlreadyAppliedError if
    nothing is new, UnreadableImagesError that names all images that cannot be read, unless they are
    skipped, ChangedImageError for one that changed meanwhile, and what :func:`own_features` raises.
    ``left_out`` is what was left out when the images were collected, and is told.
    """
    owner = Owner.open(path)
    owner.directory.refuse_inside(output)
    descriptor = owner.directory.deployment.parameters.features
    with own_features(options.features, images, descriptor) as features, owner.directory.lock():
        run = _Run(owner, images, output, options, features, left_out)
        try:
            run.describe(workplace, progress)
            return run.write(progress)
        except KeyboardInterrupt:
            if not run.work.kept:
                raise
            raise InterruptedWorkError(
                f"interrupted; {run.work.kept} of {len(images)} images are described",
                hint="run it again with --resume to go on",
            ) from None
        except MippError as error:
            if run.work.kept:
                go_on = f"{run.work.kept} images are described: give --resume to go on after them"
                error.hint = f"{error.hint}; {go_on}" if error.hint else go_on
            raise
        finally:
            run.work.close()


def preview(
    path: Path, images: Sequence[ImageFile], options: EncryptOptions, left_out: Sequence[Problem] = ()
) -> Report:
    """Say what :func:`encrypt_images` would send; nothing is written."""
    owner = Owner.open(path)
    descriptor = owner.directory.deployment.parameters.features
    with own_features(options.features, images, descriptor) as features, owner.directory.lock(shared=True):
        choice = Choice(owner.ledger, images, options, features)
        unsure = [image for image in images if choice.first_look(image) is Look.READ]
        unreadable = sum(isinstance(read.content, UnreadableImageError) for read in choice.reads(unsure))
    counts = {"images": choice.sent, **choice.counted(), "unreadable": unreadable + len(left_out)}
    return Report(
        (),
        counts,
        owner.warnings,
        {},
        ("this is what would be done; nothing was written, and new images were not opened",),
    )


class _Run:
    """One run over a collection: first all images are described, then they are encrypted into uploads."""

    def __init__(
        self,
        owner: Owner,
        images: Sequence[ImageFile],
        output: Path,
        options: EncryptOptions,
        features: OwnFeatures | None,
        left_out: Sequence[Problem],
    ):
        self._left_out = left_out
        self._owner, self._options, self._features = owner, options, features
        self._images = {image.name: image for image in images}
        self._parameters = owner.directory.deployment.parameters
        self._skipped: list[UnreadableImageError] = []
        self._ledger = owner.ledger
        request = {
            "payload": options.payload,
            "features": None if features is None else features.identity,
        }
        split, force = options.split is not None, options.force
        self._outputs = UploadOutputs(output, self._may_replace, split=split, force=force)
        self.work = Descriptions.begin(owner.directory, request, resume=options.resume)
        self._choice = Choice(owner.ledger, images, options, features)

    def _may_replace(self, path: Path) -> bool:
        """Say whether an output may go: an upload of this owner, if one says so or a killed run left it.

        A file of another kind goes only if it is named itself.
        """
        if self._options.force and self._options.split is None:
            return True
        try:
            header, sender = header_of(path), self._owner.directory.sender
        except MippError:
            return False
        own = header.kind == UPLOAD and header.sender_key == sender.signing_key.public
        left = self._options.resume is True and own and self._ledger.is_unsure(header.sequence_number)
        return own and (self._options.force or left)

    def describe(self, workplace: Workplace, progress: Progress) -> None:
        """First pass: describe what is sent and is not described yet."""
        images = self._images.values()
        chosen = [image for image in images if self._choice.first_look(image) is not Look.LEAVE]
        with progress("describing", len(chosen), "image") as advance:
            todo = [image for image in chosen if not self.work.keep(image.name, image.version())]
            self._choice.described_before(self.work.done)
            advance(len(chosen) - len(todo))
            for result in self._described(todo, workplace, advance):
                if isinstance(result, UnreadableImageError):
                    self._skipped.append(result)
                else:
                    self.work.append(result)
                advance(1)
        if self._skipped and not self._options.skip_unreadable:
            raise _unreadable(self._skipped)
        left_out = sum(self._choice.counted().values()) > self._choice.sent
        if not self.work.done and self._skipped and not left_out:
            raise InvalidRequestError(
                "none of the images can be read",
                path=self._skipped[0].path,
                hint=f"the first: {self._skipped[0].message}",
            )
        if not self.work.done:
            self.work.remove()  # nothing to go on with
            self.work.kept = 0
            raise self._choice.nothing_to_send()

    def _described(
        self, images: Sequence[ImageFile], workplace: Workplace, advance: Advance
    ) -> Iterator[Description | UnreadableImageError]:
        """Yield what the workers made of each image that is sent, in order."""
        if not images:
            return
        parameters = self._parameters
        # made before workers are forked, so that they share its table
        cipher = parameters.cipher.prepared(2 * len(images), parameters.l)
        with open_executor(workplace) as (executor, count):
            pixels = self._options.payload == "pixels"
            reads = self._choice.reads(images, advance)
            tasks = feature_tasks(reads, cipher, parameters.grey_bits, pixels=pixels)
            for _, results in ordered_results(executor, describe_and_encrypt, tasks, under_way=2 * count):
                yield from results

    def write(self, progress: Progress) -> Report:
        """Second pass: write the uploads and their ledgers, all or none, then forget the descriptions."""
        uploads = list(self._dealt())
        first = self._owner.next_number()
        numbers = [first + place for place in range(len(uploads))]
        outputs = self._outputs.paths(len(uploads))
        self._owner.remember(numbers[-1])  # first: a number that got out must not be used again
        deciding = self._ledger.deciding()
        edgeless = 0
        with (
            self._ledger.unsure(numbers),
            unchanged_on_failure(*outputs),
            progress("encrypting", len(self.work.done), "image") as advance,
        ):
            for number, output, rows in zip(numbers, outputs, uploads, strict=True):
                deciding = still_deciding(deciding, self._choice.superseded(rows))
                edgeless += self._write_upload(output, number, sorted(deciding), rows, advance)
                deciding[number] = len(rows)
        self._ledger.sweep()
        self._ledger.refresh(self._choice.refreshed)
        self.work.remove()
        self._outputs.remove_older(outputs)
        return self._report(outputs, edgeless)

    def _dealt(self) -> Iterator[list[str]]:
        """Deal the images to uploads, in the order of their rows: that of a keyed digest of the path.

        Whatever the order of the paths says, such as which pictures lie in one folder, that says nothing.
        """
        rows: list[str] = []
        size = 0
        for path in sorted(self.work.done, key=self._owner.row_key):
            if rows and self._options.split is not None and size >= self._options.split:
                yield rows
                rows, size = [], 0
            rows.append(path)
            size += self.work.done[path].sealed_bytes + self.work.done[path].feature_bytes
        yield rows

    def _write_upload(
        self, output: Path, number: int, earlier: Sequence[int], rows: Sequence[str], advance: Advance
    ) -> int:
        """Write one upload and its ledger; return how many of its images have no edges.

        The ledger is in place first: whoever goes on after a crash sees that the number may be out. It stays
        so if another upload of the run fails, since this one could be copied meanwhile.
        """
        try:
            return self._write(output, number, earlier, rows, advance)
        except BaseException:
            self._ledger.remove(number)
            raise

    def _write(
        self, output: Path, number: int, earlier: Sequence[int], rows: Sequence[str], advance: Advance
    ) -> int:
        key, sender = self._owner.image_key, self._owner.directory.sender
        names = [self._owner.name_on_the_wire(path) for path in rows]
        size = UploadSize(
            len(rows),
            sum(len(name.encode()) for name in names),
            sum(self.work.done[path].sealed_bytes for path in rows),
        )
        seal = self._sealing(UploadCipher(key, sender.deployment, sender.name, number))
        edgeless = 0
        with (
            write_upload(
                output,
                self._parameters,
                sender,
                number,
                key_id(key),
                earlier=earlier,
                size=size,
                force=True,  # what must stay was refused before
            ) as upload,
            self._ledger.writing(Message(number, UPLOAD, key_id(key))) as ledger,
        ):
            for path, name in zip(rows, names, strict=True):
                description = self.work.read(path)
                upload.append(name, seal(description, name), description.ef, description.eff)
                ledger.append(self._sent_image(name, description))
                edgeless += self._parameters.features.computed and is_edgeless(description.feature)
                advance(1)
        return edgeless

    def _sealing(self, cipher: UploadCipher) -> Callable[[Description, str], bytes]:
        """Return what reads an image again and encrypts it (ImageEnc) for an upload."""
        pixels = self._options.payload == "pixels"

        def seal(description: Description, name: str) -> bytes:
            try:
                payload = payload_of(self._images[description.path], description, pixels=pixels)
            except ChangedImageError:
                self.work.forget(description.path)
                raise
            envelope = Envelope(description.path, description.media_type, description.feature, payload)
            return cipher.encrypt(envelope.pack(), name)

        return seal

    def _sent_image(self, name: str, description: Description) -> SentImage:
        image = self._images[description.path]
        version = self._choice.version(image, description.version)
        return SentImage(name, description.path, version, self._choice.digest(image, description.digest))

    def _report(self, outputs: Sequence[Path], edgeless: int) -> Report:
        warnings = [*self._owner.warnings]
        left_out = [*self._left_out, *map(_problem, self._skipped)]
        warnings += [f"left out {each.path}: {each.message}" for each in left_out]
        if self._choice.absent:
            warnings.append(
                f"{self._choice.absent} more images that were to be sent again are not among those named: "
                "name the folders that they are in, or delete them"
            )
        if edgeless:
            warnings.append(f"{edgeless} of the images have no edges: their descriptors are all alike")
        counts = {
            "images": len(self.work.done),
            **self._choice.counted(),
            "skipped": len(left_out),
            "edgeless": edgeless,
        }
        return Report(tuple(Output(path, "upload") for path in outputs), counts, tuple(warnings))


def _unreadable(errors: Sequence[UnreadableImageError]) -> UnreadableImageError:
    """Return one error for all images that cannot be read."""
    if len(errors) == 1:
        return errors[0]
    return UnreadableImagesError(
        [*map(_problem, errors)], hint="mend them, or leave them out with --skip-unreadable"
    )


def _problem(error: UnreadableImageError) -> Problem:
    return Problem(str(error.path), error.message)
