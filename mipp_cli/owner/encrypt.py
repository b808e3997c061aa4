"""The owner's main step: ImageEnc and ImageFeatureEnc over a collection, into one upload or several.

In a scheme where the KMC ranks, each upload has a features file beside it, for the KMC.

An image goes two ways, one after the other. First it is read and described, and its feature encrypted: the
slow part, whose results are kept for ``--resume``. Then, in the order of the upload's rows, it is read again,
encrypted, and written straight into the upload.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mipp_cli.compute.processes import LOCAL, Parallelism, open_executor, ordered_results
from mipp_cli.containers.base.container import header_of
from mipp_cli.containers.messages.features import FEATURES
from mipp_cli.descriptors.external import OwnFeatures, own_features
from mipp_cli.errors import (
    InterruptedWorkError,
    InvalidRequestError,
    MippError,
    Problem,
    UnreadableImageError,
    UnreadableImagesError,
)
from mipp_cli.files.atomic import unchanged_on_failure
from mipp_cli.images.collection import ImageFile
from mipp_cli.owner.describing import describe_and_encrypt, feature_tasks
from mipp_cli.owner.descriptions import DescribedImage, Descriptions
from mipp_cli.owner.features import sweep_kept
from mipp_cli.owner.grouping import Group, Grouping, TooFewImagesError, moved_warning, thin_warning
from mipp_cli.owner.ledger import UPLOAD, still_deciding
from mipp_cli.owner.owner import Owner
from mipp_cli.owner.upload import UploadTask
from mipp_cli.owner.upload_outputs import UploadOutput, UploadOutputs
from mipp_cli.owner.whats_new import Choice, EncryptOptions, Look
from mipp_cli.progress import Advance, Progress, silent
from mipp_cli.report import Output, Report
from mipp_cli.scheme.groups import Row


def encrypt_images(
    path: Path,
    images: Sequence[ImageFile],
    output: Path,
    options: EncryptOptions,
    parallelism: Parallelism = LOCAL,
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
            run.describe(parallelism, progress)
            return run.write(progress)
        except KeyboardInterrupt:
            if not run.work.kept:
                raise
            raise InterruptedWorkError(
                f"interrupted; {run.work.kept} of {len(images)} images are described",
                hint="run it again with --resume to go on",
            ) from None
        except TooFewImagesError:
            run.work.wait()
            raise
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
        looks = {image: choice.first_look(image) for image in images}
        unsure = [image for image, look in looks.items() if look is Look.READ]
        read = {each.image.name: isinstance(each.content, bytes) for each in choice.reads(unsure)}
        sent = {image.name for image, look in looks.items() if look is Look.SEND}
        sent |= {path for path in read if read[path]}
        unreadable = read.keys() - sent
        group_size = owner.directory.deployment.parameters.protocol.group_size
        grouping = Grouping(owner.ledger, choice.groups(), sent, group_size)
        mates = grouping.mates({image.name for image in images} - unreadable)
    counts = {
        "images": len(sent) + len(mates),
        **choice.counted(),
        "sent with their group": len(mates),
        "unreadable": len(unreadable) + len(left_out),
    }
    notes = ["this is what would be done; nothing was written, and new images were not opened"]
    try:
        grouping.check_size(sent.union(mates))
    except TooFewImagesError as error:
        if not options.small:
            notes.append(f"it would be refused without --small: {error.message}")
    warnings = (*owner.warnings, *moved_warning(grouping.moved(sent.union(mates))))
    return Report((), counts, warnings, notes=tuple(notes))


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
        self._left_out, self._output = left_out, output
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
        apart = self._parameters.protocol.grouped
        self._outputs = UploadOutputs(output, self._may_replace, split=split, force=force, features=apart)
        self.work = Descriptions.begin(owner.directory, request, resume=options.resume)
        self._choice = Choice(owner.ledger, images, options, features)

    def _may_replace(self, path: Path) -> bool:
        """Say whether an output may go: a file of this owner, if one says so or a killed run left it.

        One of others, or of another kind, goes only if it is named itself.
        """
        if self._options.force and path == self._output and self._options.split is None:
            return True
        try:
            header, sender = header_of(path), self._owner.directory.sender
        except MippError:
            return False
        own = header.kind in (UPLOAD, FEATURES.kind) and header.sender_key == sender.signing_key.public
        left = self._options.resume is True and own and self._ledger.is_unsure(header.sequence_number)
        return own and (self._options.force or left)

    def describe(self, parallelism: Parallelism, progress: Progress) -> None:
        """First pass: describe what is sent and is not described yet, then the mates that go with it."""
        images = self._images.values()
        chosen = [image for image in images if self._choice.first_look(image) is not Look.LEAVE]
        self._describe(chosen, parallelism, progress)
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
        sent, group_size = set(self.work.done), self._parameters.protocol.group_size
        self._grouping = Grouping(self._ledger, self._choice.groups(), sent, group_size)
        mates = self._grouping.mates(self._readable())
        if mates:
            self._describe([self._images[path] for path in mates], parallelism, progress)
        if self._skipped and not self._options.skip_unreadable:
            raise _unreadable(self._skipped)
        for path in set(mates).difference(self._grouping.mates(self._readable())) & self.work.done.keys():
            self.work.put_back(path)  # a mate of it cannot be read: it stays where it is
        if not self._options.small:
            self._grouping.check_size(self.work.done.keys())
        self._mates = len(self.work.done) - len(sent)

    def _readable(self) -> set[str]:
        """Return the images named but for those that are known to be unreadable."""
        unreadable = {str(each.path) for each in self._skipped}
        return {name for name, image in self._images.items() if str(image.path) not in unreadable}

    def _describe(self, images: Sequence[ImageFile], parallelism: Parallelism, progress: Progress) -> None:
        with progress("describing", len(images), "image") as advance:
            todo = [image for image in images if not self.work.keep(image.name, image.version())]
            for path in self._choice.undecided([*self.work.done]):
                description = self.work.read(path)
                if not self._choice.settle(self._images[path], description.digest, description.version):
                    self.work.put_back(path)
            advance(len(images) - len(todo))
            for result in self._described(todo, parallelism, advance):
                if isinstance(result, UnreadableImageError):
                    self._skipped.append(result)
                else:
                    self.work.append(result)
                advance(1)

    def _described(
        self, images: Sequence[ImageFile], parallelism: Parallelism, advance: Advance
    ) -> Iterator[DescribedImage | UnreadableImageError]:
        """Yield what the workers made of each image that is sent, in order."""
        if not images:
            return
        parameters = self._parameters
        # made before workers are forked, so that they share its table
        protocol = parameters.protocol.prepared(len(images))
        with open_executor(parallelism) as (executor, count):
            pixels = self._options.payload == "pixels"
            reads = self._choice.reads(images, advance)
            tasks = feature_tasks(reads, protocol, parameters.grey_bits, pixels=pixels)
            for _, results in ordered_results(executor, describe_and_encrypt, tasks, under_way=2 * count):
                yield from results

    def write(self, progress: Progress) -> Report:
        """Second pass: write the uploads and their ledgers, all or none, then forget the descriptions."""
        uploads = self._dealt()
        first = self._owner.next_number()
        numbers = [first + place for place in range(len(uploads))]
        outputs = self._outputs.paths(len(uploads))
        self._owner.remember(numbers[-1])  # first: a number that got out must not be used again
        deciding = self._ledger.deciding()
        pixels = self._options.payload == "pixels"
        task = UploadTask(self._owner, self._images, self.work, self._choice, pixels)
        edgeless = 0
        with (
            unchanged_on_failure(*(path for output in outputs for path in output.paths)),
            progress("encrypting", len(self.work.done), "image") as advance,
        ):
            for number, output, groups in zip(numbers, outputs, uploads, strict=True):
                paths = [path for group in groups for path in group.paths]
                deciding = still_deciding(deciding, self._choice.superseded(paths))
                edgeless += task.write(output, number, sorted(deciding), groups, advance)
                deciding[number] = len(paths)
        self._ledger.confirm(numbers)
        sweep_kept(self._owner.directory, deciding)
        self._ledger.refresh(self._choice.refreshed)
        self.work.remove()
        self._outputs.remove_older(outputs)
        return self._report(outputs, edgeless)

    def _dealt(self) -> list[list[Group]]:
        """Deal the groups to uploads, in the order of their rows: that of a keyed digest of the path.

        Whatever the order of the paths says, such as which pictures lie in one folder, that says nothing.
        """
        size_class, done = self._parameters.protocol.size_class, self.work.done
        rows = [
            Row(
                path,
                each.sealed_bytes,
                self._owner.row_key(path),
                size_class(each.sealed_bytes),
                self._owner.lot(path),
            )
            for path, each in done.items()
        ]
        uploads: list[list[Group]] = [[]]
        size = 0
        for group in self._grouping.groups(rows):
            if uploads[-1] and self._options.split is not None and size >= self._options.split:
                uploads.append([])
                size = 0
            uploads[-1].append(group)
            size += group.size + sum(done[path].feature_bytes for path in group.paths)
        return uploads

    def _report(self, outputs: Sequence[UploadOutput], edgeless: int) -> Report:
        warnings = [*self._owner.warnings]
        left_out = [*self._left_out, *map(_problem, self._skipped)]
        warnings += [f"left out {each.path}: {each.message}" for each in left_out]
        if self._choice.absent:
            warnings.append(
                f"{self._choice.absent} more images that were to be sent again are not among those named: "
                "name the folders that they are in, or delete them"
            )
        done, group_size = self.work.done.keys(), self._parameters.protocol.group_size
        warnings += moved_warning(self._grouping.moved(done))
        warnings += thin_warning(self._grouping.thinned(done), group_size)
        if edgeless:
            warnings.append(f"{edgeless} of the images have no edges: their descriptors are all alike")
        counts = {
            "images": len(self.work.done),
            **self._choice.counted(),
            "sent with their group": self._mates,
            "skipped": len(left_out),
            "edgeless": edgeless,
        }
        files = [Output(output.upload, "upload") for output in outputs]
        files += [Output(output.features, "features") for output in outputs if output.features]
        note = "bring upload.h5 to the cloud (mipp cloud index)"
        if self._parameters.protocol.grouped:
            note += " and upload.features.h5 to the KMC (mipp kmc index)"
        return Report(tuple(files), counts, tuple(warnings), notes=(note,))


def _unreadable(errors: Sequence[UnreadableImageError]) -> UnreadableImageError:
    """Return one error for all images that cannot be read."""
    if len(errors) == 1:
        return errors[0]
    return UnreadableImagesError(
        [*map(_problem, errors)], hint="mend them, or leave them out with --skip-unreadable"
    )


def _problem(error: UnreadableImageError) -> Problem:
    return Problem(str(error.path), error.message)
