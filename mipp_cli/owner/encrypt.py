"""The owner's main step: ImageEnc and ImageFeatureEnc over a collection, into one upload or several.

In a scheme where the KMC ranks, each upload has a features file beside it, for the KMC.

An image goes two ways, one after the other. First it is read and described, and its feature encrypted: the
slow part, whose results are kept for ``--resume``. Then, in the order of the upload's rows, it is read again,
encrypted, and written straight into the upload.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mipp_cli.compute.processes import LOCAL, Parallelism
from mipp_cli.descriptors.external import OwnFeatures, own_features
from mipp_cli.errors import InterruptedWorkError, InvalidRequestError, MippError, Problem, TooFewImagesError
from mipp_cli.files.atomic import refuse_existing
from mipp_cli.images.collection import ImageFile
from mipp_cli.images.kinds import DICOM
from mipp_cli.owner.describing import FirstPass
from mipp_cli.owner.descriptions import Descriptions
from mipp_cli.owner.file_report import rows_of_preview, rows_of_run, write_file_report
from mipp_cli.owner.grouping import Grouping, moved_warning, thin_warning
from mipp_cli.owner.ledger import PIXELS
from mipp_cli.owner.owner import Owner
from mipp_cli.owner.upload import SecondPass, UploadOutputs
from mipp_cli.owner.whats_new import Choice, EncryptOptions, as_called_before
from mipp_cli.progress import Progress, silent
from mipp_cli.report import Output, Report
from mipp_cli.workdir.describer import describer_of

_SHOWN = 5  # names in a warning; --report has all


def encrypt_images(
    path: Path,
    images: Sequence[ImageFile],
    output: Path,
    options: EncryptOptions,
    parallelism: Parallelism = LOCAL,
    progress: Progress = silent,
    left_out: Sequence[Problem] = (),
    passed_over: Sequence[Problem] = (),
) -> Report:
    """Encrypt ``images`` into the upload ``output``: EW under SK, EF and EFF, names on the wire.

    With ``split``, into uploads named ``output`` with -001, -002 and so on. Raises AlreadyAppliedError if
    nothing is new, UnreadableImagesError that names all images that cannot be read, unless they are
    skipped, ChangedImageError for one that changed meanwhile, and what :func:`own_features` raises.
    ``left_out`` is what was left out when the images were collected, and ``passed_over`` what is no picture;
    both are told.
    """
    owner = Owner.open(path)
    owner.directory.refuse_inside(output)
    if options.report is not None:
        refuse_existing(options.report, force=options.force)
        owner.directory.refuse_inside(options.report)
    with owner.directory.lock(), _inputs(owner, images, options) as (named, features):
        by_name = {image.name: image for image in named}
        describer = describer_of(owner.directory, features, options.model, options.device)
        outputs = UploadOutputs(owner, output, options)
        request = {"payload": options.payload_kind, "features": features and features.identity}
        work = Descriptions(owner.directory, request, resume=options.resume)
        with _told_what_is_kept(work, len(named)):
            choice = Choice(owner.ledger, named, options, features, progress)
            _check_payload(choice, options)
            first = FirstPass(owner, by_name, options, features, describer, choice, work)
            grouping = first.describe(parallelism, progress)
            second = SecondPass(owner, by_name, options, choice, work, grouping)
            rows = [] if options.report is None else [*rows_of_run(named, first, left_out, passed_over)]
            written, edgeless = second.write(outputs, parallelism, progress)
    done, protocol = work.done.keys(), owner.directory.deployment.parameters.protocol
    skipped = [*left_out, *(Problem(str(each.path), each.message) for each in first.unreadable)]
    clipped = features.clipped if features else 0
    counts = {
        "images": len(done),
        **choice.counted(done),
        "sent with their group": len(done - grouping.sent),
        "skipped": len(skipped),
        "passed over": len(passed_over) + len(first.passed_over),
        "edgeless": edgeless,
        "clipped": clipped,
    }
    warnings = [*owner.directory.warnings, *(f"left out {each.path}: {each.message}" for each in skipped)]
    warnings += _absent_warning(choice)
    warnings += moved_warning(grouping.moved(done))
    warnings += thin_warning(grouping.thinned(done), protocol.group_size)
    warnings += [features.clipped_warning] if features and features.clipped else []
    warnings += _feature_warnings(edgeless, second.flat)
    files = [Output(each[0], "upload") for each in written]
    files += [Output(features_file, "features") for each in written for features_file in each[1:]]
    if options.report is not None:
        write_file_report(options.report, rows, force=options.force)
        files.append(Output(options.report, "report"))
    notes = [_next_step(written), *_passed_over_note([*passed_over, *first.passed_over], options)]
    if options.pixels:
        notes.append("users see no path of an image, but a keyed name; text that is burnt into pixels stays")
    return Report(tuple(files), counts, tuple(warnings), notes=tuple(notes))


@contextmanager
def _inputs(
    owner: Owner, images: Sequence[ImageFile], options: EncryptOptions
) -> Iterator[tuple[Sequence[ImageFile], OwnFeatures | None]]:
    """Give the images as the ledger calls them, and their owner's features of them."""
    images = as_called_before(owner.ledger, images)
    with own_features(options.features, images, owner.directory.deployment.parameters.descriptor) as features:
        yield images, features


@contextmanager
def _told_what_is_kept(work: Descriptions, images: int) -> Iterator[None]:
    """Say of whatever ends the block early how to go on with what was described."""
    try:
        yield
    except KeyboardInterrupt:
        if not work.kept:
            raise
        raise InterruptedWorkError(
            f"interrupted; {work.kept} of {images} images are described",
            hint="run it again with --resume to go on",
        ) from None
    except MippError as error:
        if work.kept:
            go_on = f"{work.kept} images are described: give --resume to go on after them"
            error.hint = f"{error.hint}; {go_on}" if error.hint else go_on
        raise
    finally:
        work.close()


def _absent_warning(choice: Choice) -> list[str]:
    if not choice.absent:
        return []
    return [
        f"{choice.absent} more images that were to be sent again are not among those named: "
        "name the folders that they are in, or delete them"
    ]


def _feature_warnings(edgeless: int, flat: Sequence[str]) -> list[str]:
    """Say of how many images the features tell little or nothing."""
    said = []
    if edgeless:
        said.append(f"{edgeless} of the images have no edges: their descriptors are all alike")
    if flat:
        shown = ", ".join(flat[:_SHOWN]) + (", …" if len(flat) > _SHOWN else "")
        said.append(f"{len(flat)} of the images are flat, of one value only: {shown}")
    return said


def _next_step(written: Sequence[Sequence[Path]]) -> str:
    """Say where the uploads go, and the features that lie beside them."""
    upload, *features = written[0]
    note = f"bring {upload.name if len(written) == 1 else 'the uploads'} to the cloud (mipp cloud index)"
    if features:
        what = features[0].name if len(written) == 1 else "the features"
        note += f" and {what} to the KMC (mipp kmc index)"
    return note


def _check_payload(choice: Choice, options: EncryptOptions) -> None:
    """Refuse what needs an extra that is missing, and what names patients as long as nobody chose."""
    for kind, (count, _) in choice.kinds.items():
        if (missing := kind.missing()) is not None:
            raise InvalidRequestError(
                f"{count} {kind.name} files need a package that is not installed", hint=missing
            )
    if options.payload is not None:
        return
    if choice.sent_as_pixels or (choice.sent and choice.payload_before == PIXELS):
        what = (
            f"{choice.sent_as_pixels} of the images were" if choice.sent_as_pixels else "the last upload was"
        )
        raise InvalidRequestError(
            f"{what} sent as pixels, and this would send files",
            hint="choose: --payload pixels goes on as before; --payload file sends the files bit for bit, "
            "with their paths",
        )
    if DICOM in choice.kinds:
        count, first = choice.kinds[DICOM]
        raise InvalidRequestError(
            f"{count} of the images are DICOM files, which carry names of patients",
            path=first.path,
            hint="choose: --payload pixels sends the pixels alone, and shows users no path (text that is "
            "burnt into them stays); --payload file sends each file bit for bit, identity included",
        )


def _passed_over_note(passed_over: Sequence[Problem], options: EncryptOptions) -> list[str]:
    """Say how many files were passed over, and why."""
    if not passed_over:
        return []
    reasons = Counter(each.message for each in passed_over)
    said = "; ".join(f"{reason}: {count}" for reason, count in reasons.most_common())
    named = "" if options.report is not None else "; --report FILE.csv lists them"
    return [f"passed over {len(passed_over)} files ({said}){named}"]


def preview(
    path: Path,
    images: Sequence[ImageFile],
    options: EncryptOptions,
    left_out: Sequence[Problem] = (),
    passed_over: Sequence[Problem] = (),
) -> Report:
    """Say what :func:`encrypt_images` would send; nothing is written."""
    owner = Owner.open(path)
    parameters = owner.directory.deployment.parameters
    with owner.directory.lock(shared=True), _inputs(owner, images, options) as (named, features):
        if options.model is not None or options.device != "cpu":
            describer_of(owner.directory, features, options.model, options.device, remember=False)
        choice = Choice(owner.ledger, named, options, features)
        _check_payload(choice, options)
        sent = {image.name for image in choice.sent} - choice.unreadable
        grouping = Grouping(owner.ledger, choice.groups(), sent, parameters.protocol.group_size)
        mates = grouping.mates({image.name for image in named} - choice.unreadable)
    counts = {
        "images": len(sent) + len(mates),
        **choice.counted(sent),
        "sent with their group": len(mates),
        "unreadable": len(choice.unreadable) + len(left_out),
        "passed over": len(passed_over),
    }
    notes = ["this is what would be done; nothing was written, and new images were not opened"]
    notes += _passed_over_note(passed_over, options)
    try:
        grouping.check_size(sent.union(mates))
    except TooFewImagesError as error:
        if not options.small:
            notes.append(f"it would be refused without --small: {error.message}")
    warnings = (*owner.directory.warnings, *moved_warning(grouping.moved(sent.union(mates))))
    written: tuple[Output, ...] = ()
    if options.report is not None:
        rows = rows_of_preview(named, choice, sent.union(mates), left_out, passed_over)
        write_file_report(options.report, rows, force=options.force)
        written = (Output(options.report, "report"),)
    return Report(written, counts, warnings, notes=tuple(notes))
