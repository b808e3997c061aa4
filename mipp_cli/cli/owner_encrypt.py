"""The owner's command that encrypts pictures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from mipp_cli.cli.options import (
    AGAIN,
    PATH,
    SIZE,
    device_option,
    directory_argument,
    features_option,
    files_argument,
    files_from_option,
    force_option,
    listed_paths,
    moved_model_option,
    output_option,
    parallelism_options,
    prints_report,
)
from mipp_cli.cli.progress import progress_option

if TYPE_CHECKING:
    from mipp_cli.compute.processes import Parallelism
    from mipp_cli.errors import Problem
    from mipp_cli.progress import Progress
    from mipp_cli.report import Report


@click.command()
@directory_argument("OWNER")
@files_argument("IMAGES...", required=False)
@output_option("upload.h5", "the upload, for the cloud (and upload.features.h5)", required=False)
@click.option("--root", metavar="DIR", type=PATH, help="Name images by their path relative to DIR.")
@files_from_option
@click.option(
    "--payload",
    type=click.Choice(["file", "pixels"]),
    help="Encrypt the file bit for bit, or only its pixels as a PNG (Algorithm 1), with the path hidden from "
    "users. Required if there are DICOM files, which name patients.  [default: file]",
)
@click.option(
    "--split",
    metavar="SIZE",
    type=SIZE,
    help="Split the upload into files of about SIZE (500MB, 4GB): upload-001.h5, upload-002.h5, …",
)
@click.option(
    "--resume/--no-resume",
    default=None,
    help="Resume an interrupted run with the features it has computed, or discard them.",
)
@features_option
@moved_model_option
@device_option
@click.option("--skip-unreadable", is_flag=True, help="Leave out images that cannot be read, with a warning.")
@click.option(
    "--again",
    metavar="[NUMBER]",
    type=AGAIN,
    is_flag=False,
    flag_value=0,
    multiple=True,
    help="Also send unchanged images; with NUMBER, send only the images of the lost upload NUMBER. Put it "
    "after IMAGES.",
)
@click.option("--undelete", is_flag=True, help="Also send images that were deleted.")
@click.option(
    "--small",
    is_flag=True,
    help="Allow a group smaller than the deployment's group size, which hides less (scheme exact).",
)
@click.option(
    "--report",
    metavar="FILE.csv",
    type=PATH,
    help="Write one row per file seen: whether it was sent or why not, kind, size, bits, frame.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Read all images and show what would be sent; write nothing but the report.",
)
@parallelism_options
@force_option
@progress_option
@prints_report
def encrypt(
    directory: Path,
    files: tuple[Path, ...],
    output: Path | None,
    root: Path | None,
    files_from: BinaryIO | None,
    again: tuple[int, ...],
    dry_run: bool,
    parallelism: Parallelism,
    progress: Progress,
    **arguments: Any,
) -> Report:
    """Encrypt images and features for the cloud (ImageEnc, ImageFeatureEnc).

    In scheme exact the features go into a second file, upload.features.h5, for the KMC.

    IMAGES are files, or folders with all their subfolders. An image is named by its path relative to the
    folder given, or to --root. Images that were sent before and have not changed are left out, and so are
    deleted images. A changed image replaces the one sent before.
    """
    from mipp_cli.images.collection import collect_images
    from mipp_cli.owner.encrypt import encrypt_images
    from mipp_cli.owner.preview import preview
    from mipp_cli.owner.whats_new import EncryptOptions

    named = [*files, *(Path(os.fsdecode(each)) for each in listed_paths(files_from))]
    left_out: list[Problem] = []
    passed_over: list[Problem] = []
    options = EncryptOptions(again=0 in again, messages=frozenset(again) - {0}, **arguments)
    images = collect_images(
        named,
        root=root,
        left_out=left_out if options.skip_unreadable else None,
        passed_over=passed_over,
    )
    if dry_run:
        return preview(directory, images, options, parallelism, progress, left_out, passed_over, output)
    if output is None:
        raise click.UsageError("Missing option '-o' / '--output'.")
    return encrypt_images(directory, images, output, options, parallelism, progress, left_out, passed_over)
