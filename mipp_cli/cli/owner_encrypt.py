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
@click.option("--root", metavar="DIR", type=PATH, help="Call images by their path below DIR.")
@files_from_option
@click.option(
    "--payload",
    type=click.Choice(["file", "pixels"]),
    help="Encrypt the file bit for bit, or the matrix of pixels as a PNG (Algorithm 1), of which users see "
    "no path. Must be chosen where there is DICOM, which names patients.  [default: file]",
)
@click.option(
    "--split",
    metavar="SIZE",
    type=SIZE,
    help="Begin another upload after SIZE (as 500MB or 4GB): upload-001.h5, upload-002.h5, …",
)
@click.option(
    "--resume/--no-resume",
    default=None,
    help="Go on with an interrupted run, which kept what it had described; or throw that away.",
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
    help="Send unchanged images again, too; with NUMBER, only what the upload NUMBER held, which was lost. "
    "Stands behind IMAGES.",
)
@click.option("--undelete", is_flag=True, help="Send images that were deleted, too.")
@click.option(
    "--small",
    is_flag=True,
    help="Admit a group of fewer images than the deployment asks for, which hides less (scheme exact).",
)
@click.option(
    "--report",
    metavar="FILE.csv",
    type=PATH,
    help="Account for every file seen: sent or not and why, kind, size, bits, frame.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and write nothing but the report.")
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
    """Encrypt images and their features into an upload for the cloud (ImageEnc, ImageFeatureEnc).

    In scheme exact the features go into a file of their own beside it, upload.features.h5, for the KMC.

    IMAGES are files or folders, which are walked. An image's name is its path below the folder named,
    or below --root. What was sent before and is unchanged is left out, and so is what was deleted; an image
    that changed takes the place of the one sent before.
    """
    from mipp_cli.images.collection import collect_images
    from mipp_cli.owner.encrypt import encrypt_images, preview
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
        return preview(directory, images, options, left_out, passed_over)
    if output is None:
        raise click.UsageError("Missing option '-o' / '--output'.")
    return encrypt_images(directory, images, output, options, parallelism, progress, left_out, passed_over)
