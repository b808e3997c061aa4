"""`owner encrypt`: ImageEnc and ImageFeatureEnc over a collection, into one or more uploads.

Where the KMC ranks, a features file for the KMC is written beside each upload.

There are two passes over the images. The first reads and describes each image and encrypts its feature; this
is the slow part, and its results are kept for ``--resume``. The second reads each image again, in the order
of the upload's rows, encrypts it and writes it straight into the upload.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mipp_cli.compute.processes import LOCAL, Parallelism
from mipp_cli.descriptors.external import OwnFeatures, own_features
from mipp_cli.errors import (
    AlreadyAppliedError,
    InterruptedWorkError,
    InvalidRequestError,
    MippError,
    Problem,
    TooFewImagesError,
)
from mipp_cli.files.atomic import refuse_existing
from mipp_cli.images.collection import ImageFile
from mipp_cli.images.kinds import DICOM
from mipp_cli.owner.describing import FirstPass
from mipp_cli.owner.descriptions import Descriptions, Rehearsal, is_interrupted
from mipp_cli.owner.file_report import Row, is_file_report, reported, rows_of_run
from mipp_cli.owner.grouping import moved_warning, thin_warning
from mipp_cli.owner.ledger import PIXELS
from mipp_cli.owner.owner import Owner
from mipp_cli.owner.upload import SecondPass
from mipp_cli.owner.upload_outputs import UploadOutputs
from mipp_cli.owner.whats_new import Choice, EncryptOptions, as_called_before
from mipp_cli.progress import Progress, silent
from mipp_cli.report import Output, Report
from mipp_cli.workdir.describer import describer_of

_SHOWN = 5  # names in a warning; --report lists all


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
    """Encrypt ``images`` into the upload ``output``: EW under SK, EF and EFF, and wire names.

    With ``split``, several uploads are written, named ``output`` with -001, -002 and so on. ``left_out`` and
    ``passed_over`` are files left out when the images were collected, and files that are not pictures; they
    are reported. Raises AlreadyAppliedError if nothing is new, UnreadableImagesError for all unreadable
    images unless these are skipped, ChangedImageError for an image that changed during the run, and what
    :func:`own_features` raises.
    """
    owner = Owner.open(path)
    owner.directory.refuse_inside(output)
    _check_report(owner, options)
    with owner.directory.lock(), _inputs(owner, images, options) as (named, features):
        by_name = {image.name: image for image in named}
        describer = describer_of(owner.directory, features, options.model, options.device)
        outputs = UploadOutputs(owner, output, options)
        work = Descriptions(owner.directory, _request(options, features), resume=options.resume)
        with _told_what_is_kept(work, by_name):
            choice = Choice(owner.ledger, named, options, features, progress)
            _check_payload(choice, options)
            first = FirstPass(owner, by_name, options, features, describer, choice, work)
            rows = partial(rows_of_run, named, first, left_out, passed_over)
            found: list[Row] = []

            def so_far(failed: MippError | None) -> Iterable[Row]:
                return found if outputs.in_place else rows(failed)

            with reported(options.report, so_far, force=options.force):
                grouping = first.describe(parallelism, progress)
                second = SecondPass(owner, by_name, options, choice, work, grouping)
                found += [] if options.report is None else rows()
                written = second.write(outputs, parallelism, progress)
    done, protocol = work.done.keys(), owner.directory.deployment.parameters.protocol
    skipped = [*left_out, *first.problems]
    clipped = features.clipped if features else 0
    counts = {
        "images": len(done),
        **choice.counted(done),
        "sent with their group": len(done - grouping.sent),
        "skipped": len(skipped),
        "passed over": len(passed_over) + len(first.passed_over),
        "edgeless": len(second.edgeless),
        "clipped": clipped,
    }
    warnings = [*owner.directory.warnings, *(f"left out {each.path}: {each.message}" for each in skipped)]
    warnings += _absent_warning(choice)
    warnings += moved_warning(grouping.moved(done))
    warnings += thin_warning(grouping.thinned(done), protocol.group_size)
    warnings += [features.clipped_warning] if features and features.clipped else []
    warnings += _feature_warnings(second.edgeless, second.flat)
    files = [Output(each[0], "upload") for each in written]
    files += [Output(features_file, "features") for each in written for features_file in each[1:]]
    files += _report_written(options)
    notes = [_next_step(written), *_passed_over_note([*passed_over, *first.passed_over], options)]
    if options.pixels:
        notes.append(
            "users see a keyed name of each image instead of its path (mipp owner list OWNER shows both); "
            "text that is burnt into the pixels stays; CMYK becomes RGB"
        )
    return Report(tuple(files), counts, tuple(warnings), notes=tuple(notes))


@contextmanager
def _inputs(
    owner: Owner, images: Sequence[ImageFile], options: EncryptOptions
) -> Iterator[tuple[Sequence[ImageFile], OwnFeatures | None]]:
    """Give the images under their names in the ledger, and the features that the owner supplies."""
    images = as_called_before(owner.ledger, images)
    with own_features(options.features, images, owner.directory.deployment.parameters.descriptor) as features:
        yield images, features


def _request(options: EncryptOptions, features: OwnFeatures | None) -> dict[str, Any]:
    """Return what a run that continues another must have in common with it."""
    return {"payload": options.payload_kind, "features": features and features.identity}


@contextmanager
def _told_what_is_kept(work: Descriptions, names: Collection[str]) -> Iterator[None]:
    """Add to any error that ends the block early how to resume with the images described so far."""
    try:
        yield
    except KeyboardInterrupt:
        if not work.kept:
            raise
        raise InterruptedWorkError(
            f"interrupted; {work.left(names)} of {len(names)} images are described",
            hint="run it again with --resume to continue",
        ) from None
    except MippError as error:
        if work.kept:
            go_on = f"{work.left(names)} images are described: give --resume to continue after them"
            error.hint = f"{error.hint}; {go_on}" if error.hint else go_on
        raise
    finally:
        work.close()


def _report_written(options: EncryptOptions) -> tuple[Output, ...]:
    return () if options.report is None else (Output(options.report, "report"),)


def _absent_warning(choice: Choice) -> list[str]:
    if not choice.absent:
        return []
    return [
        f"{choice.absent} more images that should be sent again are not among those named: "
        "name their folders too, or delete them"
    ]


def _feature_warnings(edgeless: Sequence[str], flat: Sequence[str]) -> list[str]:
    """Warn of images whose features say little or nothing."""
    said = []
    if edgeless:
        said.append(
            f"{len(edgeless)} of the images have no edges, so their descriptors are equal: {_few(edgeless)}"
        )
    if flat:
        said.append(f"{len(flat)} of the images are flat (all pixels have one value): {_few(flat)}")
    return said


def _few(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


def _next_step(written: Sequence[Sequence[Path]]) -> str:
    """Say where to send the uploads and their features files."""
    upload, *features = written[0]
    note = f"send {upload.name if len(written) == 1 else 'the uploads'} to the cloud (mipp cloud index)"
    if features:
        what = features[0].name if len(written) == 1 else "the features"
        note += f" and {what} to the KMC (mipp kmc index)"
    return note


def _check_payload(choice: Choice, options: EncryptOptions) -> None:
    """Refuse images that need a missing extra, and images that name patients if no payload was chosen."""
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
            hint="choose: --payload pixels continues as before; --payload file sends the files bit for bit, "
            "with their paths",
        )
    if DICOM in choice.kinds:
        count, first = choice.kinds[DICOM]
        raise InvalidRequestError(
            f"{count} of the images are DICOM files, which contain patients' names",
            path=first.path,
            hint="choose: --payload pixels sends only the pixels and hides the path from users (text burnt "
            "into the pixels stays); --payload file sends each file bit for bit, identity included",
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
    parallelism: Parallelism = LOCAL,
    progress: Progress = silent,
    left_out: Sequence[Problem] = (),
    passed_over: Sequence[Problem] = (),
    output: Path | None = None,
) -> Report:
    """Report what :func:`encrypt_images` would send; only the file report is written.

    The images are described, as in a run, so that the counts are those of a run. Like a run, this is refused
    if an interrupted run must be resumed or discarded first, or if the ``output`` exists, where one is given.
    """
    owner = Owner.open(path)
    if output is not None:
        owner.directory.refuse_inside(output)
    _check_report(owner, options)
    asked, options = options, replace(options, skip_unreadable=True, small=True)
    with owner.directory.lock(shared=True), _inputs(owner, images, options) as (named, features):
        by_name = {image.name: image for image in named}
        describer = describer_of(owner.directory, features, options.model, options.device, remember=False)
        if output is not None:
            UploadOutputs(owner, output, options)
        is_interrupted(owner.directory, _request(options, features), resume=options.resume)
        choice = Choice(owner.ledger, named, options, features, progress)
        _check_payload(choice, options)
        work = Rehearsal()
        first = FirstPass(owner, by_name, options, features, describer, choice, work)
        grouping = first.grouping(set())
        rows = partial(rows_of_run, named, first, left_out, passed_over)
        with (
            reported(options.report, rows, force=options.force),
            suppress(AlreadyAppliedError),  # none of the new images can be read
        ):
            grouping = first.describe(parallelism, progress) if choice.sent else grouping
    done, unreadable = work.done.keys(), [*left_out, *first.problems]
    all_passed_over = [*passed_over, *first.passed_over]
    edgeless = [name for name, facts in work.done.items() if facts.edgeless]
    flat = [name for name, facts in work.done.items() if facts.flat]
    counts = {
        "images": len(done),
        **choice.counted(done),
        "sent with their group": len(done - grouping.sent),
        "unreadable": len(unreadable),
        "passed over": len(all_passed_over),
        "edgeless": len(edgeless),
        "clipped": features.clipped if features else 0,
    }
    notes = ["this is what a run would do; nothing was sent"]
    notes += _passed_over_note(all_passed_over, options)
    if unreadable and not asked.skip_unreadable:
        notes.append("it would be refused without --skip-unreadable: some of the images cannot be read")
    try:
        grouping.check_size(done)
    except TooFewImagesError as error:
        if not asked.small:
            notes.append(f"it would be refused without --small: {error.message}")
    warnings = [*owner.directory.warnings, *(f"left out {each.path}: {each.message}" for each in unreadable)]
    warnings += moved_warning(grouping.moved(done))
    warnings += _feature_warnings(edgeless, flat)
    return Report(_report_written(options), counts, tuple(warnings), notes=tuple(notes))


def _check_report(owner: Owner, options: EncryptOptions) -> None:
    """Refuse a path at which the file report cannot be written, before any work."""
    if options.report is not None:
        refuse_existing(options.report, force=options.force or is_file_report(options.report))
        owner.directory.refuse_inside(options.report)
