"""`owner encrypt`: ImageEnc and ImageFeatureEnc over a collection, into one or more uploads.

Where the KMC ranks, a features file for the KMC is written beside each upload.

There are two passes over the images. The first reads and describes each image and encrypts its feature; this
is the slow part, and its results are kept for ``--resume``. The second reads each image again, in the order
of the upload's rows, encrypts it and writes it straight into the upload.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from mipp_cli.compute.processes import LOCAL, Parallelism
from mipp_cli.errors import InterruptedWorkError, MippError, Problem
from mipp_cli.images.collection import ImageFile
from mipp_cli.owner.describing import FirstPass
from mipp_cli.owner.descriptions import Descriptions
from mipp_cli.owner.encrypt_common import (
    check_payload,
    check_report,
    feature_warnings,
    inputs_of,
    passed_over_note,
    report_written,
    request_of,
)
from mipp_cli.owner.file_report import Row, reported, rows_of_run
from mipp_cli.owner.grouping import moved_warning, thin_warning
from mipp_cli.owner.owner import Owner
from mipp_cli.owner.upload import SecondPass
from mipp_cli.owner.upload_outputs import UploadOutputs
from mipp_cli.owner.whats_new import Choice, EncryptOptions
from mipp_cli.progress import Progress, silent
from mipp_cli.report import Output, Report
from mipp_cli.workdir.describer import describer_of


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
    check_report(owner, options)
    with owner.directory.lock(), inputs_of(owner, images, options) as (named, features):
        by_name = {image.name: image for image in named}
        describer = describer_of(owner.directory, features, options.model, options.device)
        outputs = UploadOutputs(owner, output, options)
        work = Descriptions(owner.directory, request_of(options, features), resume=options.resume)
        with _told_what_is_kept(work, by_name):
            choice = Choice(owner.ledger, named, options, features, progress)
            check_payload(choice, options)
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
    warnings += feature_warnings(second.edgeless, second.flat)
    files = [Output(each[0], "upload") for each in written]
    files += [Output(features_file, "features") for each in written for features_file in each[1:]]
    files += report_written(options)
    notes = [_next_step(written), *passed_over_note([*passed_over, *first.passed_over], options)]
    if options.pixels:
        notes.append(
            "users see a keyed name of each image instead of its path (mipp owner list OWNER shows both); "
            "text that is burnt into the pixels stays; CMYK becomes RGB"
        )
    return Report(tuple(files), counts, tuple(warnings), notes=tuple(notes))


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


def _absent_warning(choice: Choice) -> list[str]:
    if not choice.absent:
        return []
    return [
        f"{choice.absent} more images that should be sent again are not among those named: "
        "name their folders too, or delete them"
    ]


def _next_step(written: Sequence[Sequence[Path]]) -> str:
    """Say where to send the uploads and their features files."""
    upload, *features = written[0]
    note = f"send {upload.name if len(written) == 1 else 'the uploads'} to the cloud (mipp cloud index)"
    if features:
        what = features[0].name if len(written) == 1 else "the features"
        note += f" and {what} to the KMC (mipp kmc index)"
    return note
