"""Commands of an image owner."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from mipp_cli.cli.options import (
    APPLIED,
    KEY_ID,
    NUMBER,
    PATH,
    directory_argument,
    files_argument,
    files_from_option,
    fingerprint_option,
    force_option,
    kmc_option,
    listed_paths,
    model_option,
    new_directory_argument,
    output_option,
    prints_report,
)
from mipp_cli.cli.owner_encrypt import encrypt
from mipp_cli.cli.owner_list import list_images

if TYPE_CHECKING:
    from mipp_cli.report import Report


@click.group()
def owner() -> None:
    """Image owner: authorise users, encrypt and delete images, rotate keys."""


owner.add_command(encrypt)
owner.add_command(list_images)


@owner.command()
@new_directory_argument("OWNER")
@click.option("--id", "name", metavar="OID", required=True, help="The owner's name, as other roles see it.")
@kmc_option
@click.option(
    "--authorize",
    metavar="user.pub",
    type=PATH,
    multiple=True,
    help="A user who may search; may be repeated.",
)
@click.option(
    "--image-names",
    type=click.Choice(["hashed", "path"]),
    default="hashed",
    show_default=True,
    help="The image names that the cloud sees: keyed digests of the paths, or the paths themselves.",
)
@model_option
@fingerprint_option
@prints_report
def init(directory: Path, **arguments: Any) -> Report:
    """Create the directory OWNER, with keys and the list of authorised users.

    Send OWNER/enrolment.h5 to the KMC and OWNER/members.h5 to the cloud.
    """
    from mipp_cli.owner.init import init_owner

    return init_owner(directory, **arguments)


@owner.command()
@directory_argument("OWNER")
@files_argument("user.pub...")
@fingerprint_option
@prints_report
def authorize(directory: Path, files: tuple[Path, ...], fingerprints: tuple[str, ...]) -> Report:
    """Authorise users to search; rewrites OWNER/enrolment.h5 and OWNER/members.h5.

    Takes effect when the KMC and the cloud have enrolled these files.
    """
    from mipp_cli.owner.authorize import authorize_users

    return authorize_users(directory, files, fingerprints=fingerprints)


@owner.command()
@directory_argument("OWNER")
@click.argument("names", metavar="UID...", nargs=-1, required=True)
@prints_report
def revoke(directory: Path, names: tuple[str, ...]) -> Report:
    """Revoke users' search access; rewrites OWNER/enrolment.h5 and OWNER/members.h5.

    Takes effect at the KMC and at the cloud as soon as each has enrolled its file.
    """
    from mipp_cli.owner.authorize import revoke_users

    return revoke_users(directory, names)


@owner.command()
@directory_argument("OWNER")
@click.argument("images", metavar="PATH...", nargs=-1)
@output_option("delete.h5", "the deletion, for the cloud and, in scheme exact, the KMC")
@files_from_option
@click.option("--again", metavar="NUMBER", type=NUMBER, help="Write the lost deletion NUMBER again.")
@force_option
@prints_report
def delete(directory: Path, images: tuple[str, ...], files_from: BinaryIO | None, **arguments: Any) -> Report:
    """Delete images from the cloud and, in scheme exact, from the KMC.

    Takes effect when they have applied the deletion. A PATH is an image's path as `mipp owner list OWNER`
    prints it. If the file still exists, mipp owner encrypt does not send it again, unless --undelete is
    given.
    """
    from mipp_cli.owner.delete import delete_images

    return delete_images(directory, [*images, *listed_paths(files_from)], **arguments)


@owner.command()
@directory_argument("OWNER")
@click.option(
    "--above",
    metavar="NUMBER",
    type=NUMBER,
    default=0,
    help="The highest message number that the KMC or the cloud accepted.",
)
@prints_report
def renumber(directory: Path, above: int) -> Report:
    """Recover from a clock that ran ahead; rewrites enrolment.h5 and members.h5.

    Messages are numbered by the clock, and the KMC and the cloud refuse a message that is more than a day
    ahead of their clocks. Set the clock first. This command then removes the refused messages from OWNER's
    record, so that their images are sent again. Discard the refused files.
    """
    from mipp_cli.owner.renumber import renumber as step

    return step(directory, above=above)


@owner.command()
@directory_argument("OWNER")
@prints_report
def rotate_key(directory: Path) -> Report:
    """Rotate the image key (SK) for future uploads; rewrites OWNER/enrolment.h5.

    Send OWNER/enrolment.h5 to the KMC. The former key is kept for the images encrypted under it: see
    forget-key.
    """
    from mipp_cli.owner.keys import rotate_key as step

    return step(directory)


@owner.command("forget-key")
@directory_argument("OWNER")
@click.argument("key", metavar="[KEYID]", type=KEY_ID, required=False)
@click.option(
    "--applied",
    metavar="NUMBER",
    type=APPLIED,
    required=True,
    help="The message number up to which the cloud and, in scheme exact, the KMC are complete, as printed by "
    "mipp cloud index and mipp kmc index. If they differ, give the lower one.",
)
@prints_report
def forget_key(directory: Path, key: int | None, applied: int) -> Report:
    """Drop former image keys that no image uses any more; rewrites OWNER/enrolment.h5.

    Without KEYID, every unused former key is dropped. KEYID is refused while the cloud has, or may have, an
    image encrypted under it: it may have any image sent after NUMBER. Send OWNER/enrolment.h5 to the KMC.
    """
    from mipp_cli.owner.keys import forget_keys

    return forget_keys(directory, key, applied=applied)


@owner.command()
@directory_argument("OWNER")
@output_option("DIR", "the features files; this folder is created")
@prints_report
def features(directory: Path, output: Path) -> Report:
    """Write the features files of all current uploads again, for the KMC (scheme exact)."""
    from mipp_cli.owner.features import hand_out_features

    return hand_out_features(directory, output)


@owner.command()
@directory_argument("OWNER")
@click.argument("sealing", metavar="sealing.pub", type=PATH)
@prints_report
def update_kmc_key(directory: Path, sealing: Path) -> Report:
    """Use the KMC's rotated sealing key; rewrites enrolment.h5 and members.h5."""
    from mipp_cli.owner.keys import update_kmc_key as step

    return step(directory, sealing)
