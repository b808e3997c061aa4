"""The owner's main step: ImageEnc and ImageFeatureEnc over a collection, into one upload or several."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mipp_cli.containers.atomic import discard, refuse_existing
from mipp_cli.containers.upload import UploadCipher, write_upload
from mipp_cli.errors import InterruptedWorkError, InvalidRequestError, MippError, UnreadableImageError
from mipp_cli.roles.collection import ImageFile
from mipp_cli.roles.feature_work import DescribedImage, ReadImage, describe_and_encrypt, feature_tasks
from mipp_cli.roles.ledger import UPLOAD, Message
from mipp_cli.roles.own_features import OwnFeatures, own_features
from mipp_cli.roles.owner import Owner
from mipp_cli.roles.partial import PartialWork, Record
from mipp_cli.roles.progress import Advance, Progress, silent
from mipp_cli.roles.report import Output, Report
from mipp_cli.roles.workers import LOCAL, Workplace, open_executor, ordered_results
from mipp_cli.scheme.edge_histogram import is_edgeless
from mipp_cli.scheme.image_cipher import Envelope, key_id

PAYLOADS = ("file", "pixels")


@dataclass(frozen=True)
class EncryptOptions:
    """How a collection is encrypted.

    ``payload`` is `file` or `pixels`; unreadable images are skipped or refused; ``split`` is the size in
    bytes at which another upload is begun; ``resume`` goes on with an interrupted run (False throws it
    away, None refuses). ``replace`` marks uploads as ones that replace images, which must be live in the
    ledger unless ``unlisted``. ``features`` is a file of the owner's own features; without it, edges
    describe the images.
    """

    payload: str = "file"
    skip_unreadable: bool = False
    split: int | None = None
    resume: bool | None = None
    force: bool = False
    replace: bool = False
    unlisted: bool = False
    features: Path | None = None


def encrypt_images(
    path: Path,
    images: Sequence[ImageFile],
    output: Path,
    options: EncryptOptions,
    workplace: Workplace = LOCAL,
    progress: Progress = silent,
) -> Report:
    """Encrypt ``images`` into the upload ``output``: EW under SK, EF and EFF, names on the wire.

    With ``split``, into uploads named ``output`` with -001, -002 and so on. Raises UnreadableImageError
    for the first image that cannot be read, unless they are skipped, and what :func:`own_features` raises.
    """
    refuse_existing(output if options.split is None else _numbered(output, 1), force=options.force)
    if options.split is not None and not options.force:
        for other in _numbered_outputs(output):
            refuse_existing(other, force=False)
    owner = Owner.open(path)
    descriptor = owner.directory.deployment.parameters.features
    with own_features(options.features, images, descriptor) as features, owner.directory.lock():
        run = _Run(owner, images, options, features)
        try:
            run.encrypt(workplace, progress)
            return run.write(output, progress)
        except KeyboardInterrupt:
            if not run.work.kept:
                raise
            done = f"{run.work.kept} of {len(images)} images are done"
            raise InterruptedWorkError(
                f"interrupted; {done}", hint="run it again with --resume to go on"
            ) from None
        except MippError as error:
            if run.work.kept:
                go_on = f"{run.work.kept} images are done: give --resume to go on after them"
                error.hint = f"{error.hint}; {go_on}" if error.hint else go_on
            raise
        finally:
            run.work.close()


class _Run:
    """One run over a collection: first all images go into spools, then the spools become uploads."""

    def __init__(
        self,
        owner: Owner,
        images: Sequence[ImageFile],
        options: EncryptOptions,
        features: OwnFeatures | None,
    ):
        self._owner, self._images, self._options, self._features = owner, images, options, features
        self._sender = owner.directory.sender
        self._parameters = owner.directory.deployment.parameters
        self._image_key = owner.image_key
        self._skipped: list[UnreadableImageError] = []
        request = {
            "deployment": self._sender.deployment,
            "key_id": key_id(self._image_key),
            "payload": options.payload,
            "split": options.split,
            "image_ids": owner.image_ids,
            "replace": options.replace,
            "features": None if features is None else features.identity,
        }
        self._ledger = owner.ledger
        PartialWork.forget_published(owner.directory, self._ledger)
        self._listed = self._checked_against_ledger()
        self.work = PartialWork.begin(owner.directory, request, resume=options.resume, published=self._ledger)

    def _checked_against_ledger(self) -> int:
        """Return how many of the images are live; InvalidRequestError if others are to be replaced."""
        live = self._ledger.live_among({image.name for image in self._images})
        others = [image.name for image in self._images if image.name not in live]
        if others and self._options.replace and not self._options.unlisted:
            raise InvalidRequestError(
                f"{len(others)} of {len(self._images)} images were not sent before, or were deleted, "
                f"the first: {others[0]!r}",
                hint="leave out --replace; give --unlisted if the ledger is older than what was sent",
            )
        return len(live)

    def encrypt(self, workplace: Workplace, progress: Progress) -> None:
        """Encrypt what is not done yet."""
        todo = [image for image in self._images if not self.work.keep(image.name, image.version())]
        with progress("encrypting", len(self._images), "image") as advance:
            advance(len(self._images) - len(todo))
            for item in self._described(todo, workplace):
                if isinstance(item, UnreadableImageError):
                    if not self._options.skip_unreadable:
                        raise item
                    self._skipped.append(item)
                else:
                    self._append(*item)
                advance(1)
        if not self.work.numbers:
            raise InvalidRequestError(
                "none of the images can be read",
                path=self._skipped[0].path,
                hint=f"the first: {self._skipped[0].message}",
            )

    def _described(
        self, images: Sequence[ImageFile], workplace: Workplace
    ) -> Iterator[tuple[ReadImage, bytes, DescribedImage] | UnreadableImageError]:
        """Yield each image with its bytes and what the workers made of it, in order."""
        if not images:
            return
        parameters = self._parameters
        # made before workers are forked, so that they share its table
        cipher = parameters.cipher.prepared(2 * len(images), parameters.l)
        with open_executor(workplace) as (executor, count):
            pixels = self._options.payload == "pixels"
            tasks = feature_tasks(images, cipher, parameters.grey_bits, pixels, self._features)
            for task, results in ordered_results(executor, describe_and_encrypt, tasks, under_way=2 * count):
                for read, result in zip(task.images, results, strict=True):
                    if isinstance(result, UnreadableImageError):
                        yield result
                    elif isinstance(read.content, bytes):
                        yield read, read.content, result

    def _append(self, read: ReadImage, content: bytes, described: DescribedImage) -> None:
        number, image = self._number(), read.image
        name = self._owner.name_on_the_wire(image.name)
        payload = content if described.pixels is None else described.pixels
        envelope = Envelope(image.name, described.media_type, described.feature, payload)
        record = Record(
            image.name,
            read.version,
            self._parameters.features.computed and is_edgeless(described.feature),
            name,
            self._cipher(number).encrypt(envelope.pack(), name),
            described.ef.tobytes(),
            described.eff.tobytes(),
        )
        self.work.append(number, record)

    def _number(self) -> int:
        """Return the number of the upload that the next image goes into."""
        numbers, split = self.work.numbers, self._options.split
        if numbers and (split is None or self.work.size(numbers[-1]) < split):
            return numbers[-1]
        return max(self._owner.next_number(), *(number + 1 for number in numbers[-1:]), 0)

    def _cipher(self, number: int) -> UploadCipher:
        return UploadCipher(self._image_key, self._sender.deployment, self._sender.name, number)

    def write(self, output: Path, progress: Progress) -> Report:
        """Write the uploads and their ledgers, all or none, then forget the partial work."""
        written: list[Path] = []
        images = edgeless = 0
        self._owner.remember(self.work.numbers[-1])  # first: a number that got out must not be used again
        with ExitStack() as undo, progress("writing", self.work.done, "image") as advance:
            for number in self.work.numbers:
                if not self.work.upload_size(number).rows:
                    continue  # what an interrupted run had done of it has gone or changed since
                path = output if self._options.split is None else _numbered(output, len(written) + 1)
                undo.callback(self._ledger.remove, number)
                done, flat = self._write_upload(path, number, advance)
                images, edgeless = images + done, edgeless + flat
                written.append(path)
                undo.callback(discard, path)
            undo.pop_all()  # all are written: they stay
        self.work.remove()
        if self._options.split is not None:
            for older in set(_numbered_outputs(output)) - set(written):
                older.unlink()  # of a longer run that --force replaces
        warnings = [*self._parameters.warnings]
        warnings += [f"left out {each.path}: {each.message}" for each in self._skipped]
        if self._listed and not self._options.replace:
            warnings.append(
                f"{self._listed} of the images were sent before: if the cloud has them, it wants --replace; "
                "if they never got there, see mipp owner withdraw"
            )
        if edgeless:
            warnings.append(f"{edgeless} of the images have no edges: their descriptors are all alike")
        counts = {"images": images, "skipped": len(self._skipped), "edgeless": edgeless}
        return Report(tuple(Output(path, "upload") for path in written), counts, tuple(warnings))

    def _write_upload(self, path: Path, number: int, advance: Advance) -> tuple[int, int]:
        """Write one upload and its ledger; return how many images it has, and how many without edges.

        The ledger is in place first: whoever goes on after a crash sees that the number may be out.
        """
        images = edgeless = 0
        size, key = self.work.upload_size(number), key_id(self._image_key)
        force, replace = self._options.force, self._options.replace
        with (
            write_upload(
                path, self._parameters, self._sender, number, key, replace=replace, size=size, force=force
            ) as upload,
            self._ledger.writing(Message(number, UPLOAD, key, replace)) as ledger,
        ):
            for record in self.work.records(number):
                upload.append(record.name, record.ew, record.ef, record.eff)
                ledger.append(record.name, record.path)
                images, edgeless = images + 1, edgeless + record.edgeless
                advance(1)
        return images, edgeless


def _numbered_outputs(output: Path) -> list[Path]:
    """Return the uploads of this name that an earlier run with ``split`` left."""
    pattern = re.compile(re.escape(output.stem) + r"-[0-9]{3,}" + re.escape(output.suffix))
    folder = output.parent
    found = folder.iterdir() if folder.is_dir() else []
    return sorted(path for path in found if pattern.fullmatch(path.name))


def _numbered(output: Path, number: int) -> Path:
    return output.with_name(f"{output.stem}-{number:03d}{output.suffix}")
