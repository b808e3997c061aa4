"""What `owner encrypt` and its dry run have in common: their inputs, what they refuse, and what they say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mipp_cli.descriptors.external import OwnFeatures, own_features
from mipp_cli.errors import InvalidRequestError, Problem
from mipp_cli.files.atomic import refuse_existing
from mipp_cli.images.collection import ImageFile
from mipp_cli.images.kinds import DICOM
from mipp_cli.owner.file_report import is_file_report
from mipp_cli.owner.ledger import PIXELS
from mipp_cli.owner.owner import Owner
from mipp_cli.owner.whats_new import Choice, EncryptOptions, as_called_before
from mipp_cli.report import Output

_SHOWN = 5  # names in a warning; --report lists all


@contextmanager
def inputs_of(
    owner: Owner, images: Sequence[ImageFile], options: EncryptOptions
) -> Iterator[tuple[Sequence[ImageFile], OwnFeatures | None]]:
    """Give the images under their names in the ledger, and the features that the owner supplies."""
    images = as_called_before(owner.ledger, images)
    with own_features(options.features, images, owner.directory.deployment.parameters.descriptor) as features:
        yield images, features


def request_of(options: EncryptOptions, features: OwnFeatures | None) -> dict[str, Any]:
    """Return what a run that continues another must have in common with it."""
    return {"payload": options.payload_kind, "features": features and features.identity}


def check_report(owner: Owner, options: EncryptOptions) -> None:
    """Refuse a path at which the file report cannot be written, before any work."""
    if options.report is not None:
        refuse_existing(options.report, force=options.force or is_file_report(options.report))
        owner.directory.refuse_inside(options.report)


def check_payload(choice: Choice, options: EncryptOptions) -> None:
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


def report_written(options: EncryptOptions) -> tuple[Output, ...]:
    """Return the file report as an output, if one was requested."""
    return () if options.report is None else (Output(options.report, "report"),)


def feature_warnings(edgeless: Sequence[str], flat: Sequence[str]) -> list[str]:
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


def passed_over_note(passed_over: Sequence[Problem], options: EncryptOptions) -> list[str]:
    """Say how many files were passed over, and why."""
    if not passed_over:
        return []
    reasons = Counter(each.message for each in passed_over)
    said = "; ".join(f"{reason}: {count}" for reason, count in reasons.most_common())
    named = "" if options.report is not None else "; --report FILE.csv lists them"
    return [f"passed over {len(passed_over)} files ({said}){named}"]
