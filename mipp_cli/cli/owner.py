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
    """An image owner: authorise users, encrypt and delete images, renew keys."""


owner.add_command(encrypt)
owner.add_command(list_images)


@owner.command()
@new_directory_argument("OWNER")
@click.option("--id", "name", metavar="OID", required=True, help="The owner's name, as others will read it.")
@kmc_option
@click.option(
    "--authorize", metavar="user.pub", type=PATH, multiple=True, help="A user who may search; again for more."
)
@click.option(
    "--image-names",
    type=click.Choice(["hashed", "path"]),
    default="hashed",
    show_default=True,
    help="What the cloud sees images called: a keyed digest of the path, or the path itself.",
)
@model_option
@fingerprint_option
@prints_report
def init(directory: Path, **arguments: Any) -> Report:
    """Make the directory OWNER: keys, and who may search.

    OWNER/enrolment.h5 is for the KMC, OWNER/members.h5 for the cloud.
    """
    from mipp_cli.owner.init import init_owner

    return init_owner(directory, **arguments)


@owner.command()
@directory_argument("OWNER")
@files_argument("user.pub...")
@fingerprint_option
@prints_report
def authorize(directory: Path, files: tuple[Path, ...], fingerprints: tuple[str, ...]) -> Report:
    """Let users search; rewrites OWNER/enrolment.h5 and OWNER/members.h5.

    In force once the KMC and the cloud enrolled them.
    """
    from mipp_cli.owner.authorize import authorize_users

    return authorize_users(directory, files, fingerprints=fingerprints)


@owner.command()
@directory_argument("OWNER")
@click.argument("names", metavar="UID...", nargs=-1, required=True)
@prints_report
def revoke(directory: Path, names: tuple[str, ...]) -> Report:
    """Revoke users' search access; rewrites OWNER/enrolment.h5 and OWNER/members.h5.

    In force once the KMC and the cloud enrolled them; each refuses the user from then on.
    """
    from mipp_cli.owner.authorize import revoke_users

    return revoke_users(directory, names)


@owner.command()
@directory_argument("OWNER")
@click.argument("images", metavar="PATH...", nargs=-1)
@output_option("delete.h5", "the deletion, for the cloud, and in scheme exact for the KMC")
@files_from_option
@click.option("--again", metavar="NUMBER", type=NUMBER, help="Make the deletion NUMBER again: it was lost.")
@force_option
@prints_report
def delete(directory: Path, images: tuple[str, ...], files_from: BinaryIO | None, **arguments: Any) -> Report:
    """Say which images the cloud, and in scheme exact the KMC, is to remove, ciphertexts and all.

    A PATH is what the owner calls an image: as `mipp owner list OWNER` shows it. A picture whose
    file is still there does not come back: mipp owner encrypt leaves it out, unless told to --undelete.
    """
    from mipp_cli.owner.delete import delete_images

    return delete_images(directory, [*images, *listed_paths(files_from)], **arguments)


@owner.command()
@directory_argument("OWNER")
@click.option(
    "--above", metavar="NUMBER", type=NUMBER, default=0, help="The highest number that a receiver accepted."
)
@prints_report
def renumber(directory: Path, above: int) -> Report:
    """Take an owner whose clock was wrong back to the clock; rewrites enrolment.h5 and members.h5.

    Messages are numbered by the clock, and the KMC and the cloud refuse one more than a day ahead of
    theirs. What was refused is struck from OWNER's record, so that its images are sent again; throw those
    files away. Set the clock first.
    """
    from mipp_cli.owner.renumber import renumber as step

    return step(directory, above=above)


@owner.command()
@directory_argument("OWNER")
@prints_report
def rotate_key(directory: Path) -> Report:
    """Draw a new image key (SK) for uploads to come; rewrites OWNER/enrolment.h5, for the KMC.

    The former key is kept for the images that are under it: see forget-key.
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
    help="Up to which number the cloud, and in scheme exact the KMC, is complete, as mipp cloud index and "
    "mipp kmc index say.",
)
@prints_report
def forget_key(directory: Path, key: int | None, applied: int) -> Report:
    """Drop former image keys that no image is under any more; rewrites OWNER/enrolment.h5, for the KMC.

    Refused while an image that the cloud has, or may have, is under KEYID. Of what was sent after NUMBER,
    the cloud may have any. Give the lower number, where cloud and KMC have two.
    """
    from mipp_cli.owner.keys import forget_keys

    return forget_keys(directory, key, applied=applied)


@owner.command()
@directory_argument("OWNER")
@output_option("DIR", "the features files: a folder that is made")
@prints_report
def features(directory: Path, output: Path) -> Report:
    """Hand out the features files of all uploads that count, for a KMC that lacks some (scheme exact)."""
    from mipp_cli.owner.features import hand_out_features

    return hand_out_features(directory, output)


@owner.command()
@directory_argument("OWNER")
@click.argument("sealing", metavar="sealing.pub", type=PATH)
@prints_report
def update_kmc_key(directory: Path, sealing: Path) -> Report:
    """Take over the KMC's renewed sealing key, and rewrite enrolment.h5 and members.h5 with it."""
    from mipp_cli.owner.keys import update_kmc_key as step

    return step(directory, sealing)
