"""`owner encrypt --dry-run`: what a run would send, from describing the images, without sending any."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from mipp_cli.compute.processes import LOCAL, Parallelism
from mipp_cli.errors import AlreadyAppliedError, Problem, TooFewImagesError
from mipp_cli.images.collection import ImageFile
from mipp_cli.owner.describing import FirstPass
from mipp_cli.owner.descriptions import Rehearsal, is_interrupted
from mipp_cli.owner.encrypt_common import (
    check_payload,
    check_report,
    feature_warnings,
    inputs_of,
    passed_over_note,
    report_written,
    request_of,
)
from mipp_cli.owner.file_report import reported, rows_of_run
from mipp_cli.owner.grouping import moved_warning
from mipp_cli.owner.owner import Owner
from mipp_cli.owner.upload_outputs import UploadOutputs
from mipp_cli.owner.whats_new import Choice, EncryptOptions
from mipp_cli.progress import Progress, silent
from mipp_cli.report import Report
from mipp_cli.workdir.describer import describer_of


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
    """Report what :func:`mipp_cli.owner.encrypt.encrypt_images` would send; only the file report is written.

    The images are described, as in a run, so that the counts are those of a run. Like a run, this is refused
    if an interrupted run must be resumed or discarded first, or if the ``output`` exists, where one is given.
    """
    owner = Owner.open(path)
    if output is not None:
        owner.directory.refuse_inside(output)
    check_report(owner, options)
    asked, options = options, replace(options, skip_unreadable=True, small=True)
    with owner.directory.lock(shared=True), inputs_of(owner, images, options) as (named, features):
        by_name = {image.name: image for image in named}
        describer = describer_of(owner.directory, features, options.model, options.device, remember=False)
        if output is not None:
            UploadOutputs(owner, output, options)
        is_interrupted(owner.directory, request_of(options, features), resume=options.resume)
        choice = Choice(owner.ledger, named, options, features, progress)
        check_payload(choice, options)
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
    notes += passed_over_note(all_passed_over, options)
    if unreadable and not asked.skip_unreadable:
        notes.append("it would be refused without --skip-unreadable: some of the images cannot be read")
    try:
        grouping.check_size(done)
    except TooFewImagesError as error:
        if not asked.small:
            notes.append(f"it would be refused without --small: {error.message}")
    warnings = [*owner.directory.warnings, *(f"left out {each.path}: {each.message}" for each in unreadable)]
    warnings += moved_warning(grouping.moved(done))
    warnings += feature_warnings(edgeless, flat)
    return Report(report_written(options), counts, tuple(warnings), notes=tuple(notes))
