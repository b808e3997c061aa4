"""The owner's image keys: a new SK, and former ones that are forgotten once no image needs them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from mipp_cli.containers.atomic import unchanged_on_failure
from mipp_cli.errors import AlreadyAppliedError, ConflictError, InvalidRequestError
from mipp_cli.roles.directory import STATE_FILE
from mipp_cli.roles.owner import ENROLMENT_FILE, Owner
from mipp_cli.roles.protection import SECRETS_FILE
from mipp_cli.roles.report import Report
from mipp_cli.scheme.image_cipher import generate_key, key_id

_ROTATED = (
    "bring enrolment.h5 to the KMC before uploads under the new key: until then it cannot re-encrypt them"
)
_FORGOTTEN = "bring enrolment.h5 to the KMC after the cloud applied all that was sent: it drops the key then"


def rotate_key(path: Path) -> Report:
    """Draw a new SK for uploads to come; the one before is kept, for images that are under it.

    The enrolment is written first: if the command ends there, the KMC hears of a key that nobody uses.
    """
    owner = Owner.open(path)
    with owner.directory.lock():
        former, new = [*owner.former_image_keys.values(), owner.image_key], generate_key()
        number = owner.next_number()
        owner.remember(number)
        with _all_or_nothing(owner):
            output = owner.write_enrolment(number, owner.users, [*former, new], owner.forgotten_keys)
            owner.directory.change_secrets({"image": new, "former_images": former})
    counts = {"former image keys": len(former)}
    return Report((output,), counts, owner.warnings, owner.shown([output]), (_ROTATED,))


def forget_keys(path: Path, key: int | None = None, *, unlisted: bool = False) -> Report:
    """Drop former SKs: the one with the id ``key``, or all without live images in the ledger.

    ``unlisted`` forgets an id that this directory does not hold. Raises ConflictError if the key is in
    use, or the ledger lists live images under it; AlreadyAppliedError if there is nothing to drop.
    """
    if unlisted and key is None:
        raise InvalidRequestError("no key is named", hint="give the id of the key that is not listed")
    owner = Owner.open(path)
    with owner.directory.lock():
        images = owner.ledger.live_by_key()
        chosen = _unused(owner, images) if key is None else [_checked(owner, images, key, unlisted)]
        held = owner.former_image_keys
        kept = [value for each, value in held.items() if each not in chosen]
        forgotten = owner.forgotten_keys | set(chosen)
        number = owner.next_number()
        owner.remember(number)
        with _all_or_nothing(owner):
            output = owner.write_enrolment(number, owner.users, [*kept, owner.image_key], forgotten)
            owner.remember(number, forgotten=forgotten)
            owner.directory.change_secrets({"former_images": kept})
    counts = {"forgotten": len(chosen), "former image keys": len(kept)}
    return Report((output,), counts, owner.warnings, owner.shown([output]), (_FORGOTTEN,))


def _all_or_nothing(owner: Owner) -> AbstractContextManager[None]:
    return unchanged_on_failure(*map(owner.directory.file, (ENROLMENT_FILE, STATE_FILE, SECRETS_FILE)))


def _unused(owner: Owner, images: dict[int, int]) -> list[int]:
    former = list(owner.former_image_keys)
    unused = [key for key in former if not images.get(key)]
    if unused:
        return unused
    if not former:
        raise AlreadyAppliedError("there is no former image key", hint="mipp owner rotate draws a new one")
    listed = ", ".join(f"{images[key]} under {key:016x}" for key in former)
    raise ConflictError(
        f"there are images under every former key: {listed}",
        path=owner.directory.path,
        hint="encrypt them again with --replace, or delete them",
    )


def _checked(owner: Owner, images: dict[int, int], key: int, unlisted: bool) -> int:
    """Return ``key`` if it may be forgotten."""
    if key == key_id(owner.image_key):
        raise ConflictError(
            f"the image key {key:016x} is in use",
            path=owner.directory.path,
            hint="draw a new one first: mipp owner rotate",
        )
    if images.get(key):
        raise ConflictError(
            f"the ledger lists {images[key]} images under the key {key:016x}",
            path=owner.directory.path,
            hint="encrypt them again with --replace, or delete them",
        )
    former = list(owner.former_image_keys)
    if key in owner.forgotten_keys and key not in former:
        raise AlreadyAppliedError(f"the key {key:016x} was forgotten before", hint="there is nothing to do")
    if key not in former and not unlisted:
        raise InvalidRequestError(
            f"there is no former image key {key:016x}",
            path=owner.directory.path,
            hint="there are: " + (", ".join(f"{each:016x}" for each in former) or "none"),
        )
    return key
