"""The owner's main step: ImageEnc and ImageFeatureEnc over a collection, into one upload or several.

In a scheme where the KMC ranks, each upload has a features file beside it, for the KMC.

An image goes two ways, one after the other. First it is read and described, and its feature encrypted: the
slow part, whose results are kept for ``--resume``. Then, in the order of the upload's rows, it is read again,
encrypted, and written straight into the upload.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mipp_cli.compute.processes import LOCAL, Parallelism
from mipp_cli.descriptors.external import own_features
from mipp_cli.errors import InterruptedWorkError, MippError, Problem, TooFewImagesError
from mipp_cli.images.collection import ImageFile
from mipp_cli.owner.describing import FirstPass
from mipp_cli.owner.descriptions import Descriptions
from mipp_cli.owner.grouping import Grouping, moved_warning, thin_warning
from mipp_cli.owner.owner import Owner
from mipp_cli.owner.upload import SecondPass, UploadOutputs
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
) -> Report:
    """Encrypt ``images`` into the upload ``output``: EW under SK, EF and EFF, names on the wire.

    With ``split``, into uploads named ``output`` with -001, -002 and so on. Raises AlreadyAppliedError if
    nothing is new, UnreadableImagesError that names all images that cannot be read, unless they are
    skipped, ChangedImageError for one that changed meanwhile, and what :func:`own_features` raises.
    ``left_out`` is what was left out when the images were collected, and is told.
    """
    owner, named = Owner.open(path), {image.name: image for image in images}
    owner.directory.refuse_inside(output)
    descriptor = owner.directory.deployment.parameters.descriptor
    with own_features(options.features, images, descriptor) as features, owner.directory.lock():
        describer = describer_of(owner.directory, features, options.model, options.device)
        outputs = UploadOutputs(owner, output, options)
        request = {"payload": options.payload, "features": features and features.identity}
        work = Descriptions(owner.directory, request, resume=options.resume)
        try:
            choice = Choice(owner.ledger, images, options, features, progress)
            first = FirstPass(owner, named, options, features, describer, choice, work)
            grouping = first.describe(parallelism, progress)
            second = SecondPass(owner, named, options, choice, work, grouping)
            written, edgeless = second.write(outputs, progress)
        except KeyboardInterrupt:
            if not work.kept:
                raise
            raise InterruptedWorkError(
                f"interrupted; {work.kept} of {len(images)} images are described",
                hint="run it again with --resume to go on",
            ) from None
        except MippError as error:
            if work.kept:
                go_on = f"{work.kept} images are described: give --resume to go on after them"
                error.hint = f"{error.hint}; {go_on}" if error.hint else go_on
            raise
        finally:
            work.close()
    done, protocol = work.done.keys(), owner.directory.deployment.parameters.protocol
    skipped = [*left_out, *(Problem(str(each.path), each.message) for each in first.unreadable)]
    warnings = [*owner.directory.warnings, *(f"left out {each.path}: {each.message}" for each in skipped)]
    if choice.absent:
        warnings.append(
            f"{choice.absent} more images that were to be sent again are not among those named: "
            "name the folders that they are in, or delete them"
        )
    warnings += moved_warning(grouping.moved(done))
    warnings += thin_warning(grouping.thinned(done), protocol.group_size)
    clipped = features.clipped if features else 0
    if clipped:
        warnings.append(f"{clipped} numbers of {options.features} lie outside of the range, and were clipped")
    if edgeless:
        warnings.append(f"{edgeless} of the images have no edges: their descriptors are all alike")
    counts = {
        "images": len(done),
        **choice.counted(),
        "sent with their group": len(done - grouping.sent),
        "skipped": len(skipped),
        "edgeless": edgeless,
        "clipped": clipped,
    }
    files = [Output(each[0], "upload") for each in written]
    files += [Output(features_file, "features") for each in written for features_file in each[1:]]
    note = "bring upload.h5 to the cloud (mipp cloud index)"
    if protocol.grouped:
        note += " and upload.features.h5 to the KMC (mipp kmc index)"
    return Report(tuple(files), counts, tuple(warnings), notes=(note,))


def preview(
    path: Path, images: Sequence[ImageFile], options: EncryptOptions, left_out: Sequence[Problem] = ()
) -> Report:
    """Say what :func:`encrypt_images` would send; nothing is written."""
    owner = Owner.open(path)
    parameters = owner.directory.deployment.parameters
    with (
        own_features(options.features, images, parameters.descriptor) as features,
        owner.directory.lock(shared=True),
    ):
        if options.model is not None or options.device != "cpu":
            describer_of(owner.directory, features, options.model, options.device, remember=False)
        choice = Choice(owner.ledger, images, options, features)
        sent = {image.name for image in choice.sent} - choice.unreadable
        grouping = Grouping(owner.ledger, choice.groups(), sent, parameters.protocol.group_size)
        mates = grouping.mates({image.name for image in images} - choice.unreadable)
    counts = {
        "images": len(sent) + len(mates),
        **choice.counted(),
        "sent with their group": len(mates),
        "unreadable": len(choice.unreadable) + len(left_out),
    }
    notes = ["this is what would be done; nothing was written, and new images were not opened"]
    try:
        grouping.check_size(sent.union(mates))
    except TooFewImagesError as error:
        if not options.small:
            notes.append(f"it would be refused without --small: {error.message}")
    warnings = (*owner.directory.warnings, *moved_warning(grouping.moved(sent.union(mates))))
    return Report((), counts, warnings, notes=tuple(notes))
