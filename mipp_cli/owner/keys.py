"""The owner's image keys: a new SK, and former ones that are forgotten once no image needs them."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path

from mipp_cli.errors import AlreadyAppliedError, ConflictError, InvalidRequestError
from mipp_cli.files.atomic import unchanged_on_failure
from mipp_cli.owner.ledger import Ledger
from mipp_cli.owner.owner import ENROLMENT_FILE, Owner
from mipp_cli.report import Report
from mipp_cli.scheme.secret_keys import generate_key, key_id
from mipp_cli.workdir.directory import STATE_FILE
from mipp_cli.workdir.secrets_file import SECRETS_FILE

_ROTATED = (
    "bring enrolment.h5 to the KMC before uploads under the new key: until then it cannot re-encrypt them"
)
_FORGOTTEN = "bring enrolment.h5 to the KMC: it drops the key then"


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


def forget_keys(path: Path, key: int | None = None, *, applied: int) -> Report:
    """Drop the former SK with the id ``key``, or all that no image is under; the KMC is told to.

    ``applied`` is the number up to which the cloud has everything: of what was sent later, the cloud may
    have any message or none, and no key is dropped that one of its images may be under. An id that this
    directory does not hold is told to the KMC, too. Raises ConflictError if the key is in use,
    AlreadyAppliedError if there is nothing to drop.
    """
    owner = Owner.open(path)
    with owner.directory.lock():
        if applied > owner.last_number:
            raise InvalidRequestError(
                f"this directory gave no number as high as {applied}; its last is {owner.last_number}",
                path=path,
                hint="give the number up to which the cloud (and in scheme exact the KMC) is complete, as "
                "their index commands say; if the directory is a backup that does not know it: mipp owner "
                "renumber OWNER --above NUMBER",
            )
        images = _images_by_key(owner.ledger, applied)
        chosen = _unused(owner, images) if key is None else [_checked(owner, images, key)]
        held = owner.former_image_keys
        kept = [value for each, value in held.items() if each not in chosen]
        forgotten = owner.forgotten_keys | set(chosen)
        number = owner.next_number()
        owner.remember(number)
        with _all_or_nothing(owner):
            output = owner.write_enrolment(number, owner.users, [*kept, owner.image_key], forgotten)
            owner.remember(number, forgotten=forgotten)
            owner.directory.change_secrets({"former_images": kept})
    counts = {
        "forgotten": len(chosen),
        "not held here": len(set(chosen) - set(held)),
        "former image keys": len(kept),
    }
    return Report((output,), counts, owner.warnings, owner.shown([output]), (_FORGOTTEN,))


def _images_by_key(ledger: Ledger, applied: int) -> Counter[int]:
    """Return how many images the cloud may have under each SK, by its id.

    Those are the images live among the messages up to ``applied``, and all that were sent later.
    """
    deciding, images = ledger.deciding(applied), Counter[int]()
    for message in ledger.messages():
        if message.key is not None:
            later = message.number > applied
            count = sum(1 for _ in ledger.images(message.number)) if later else deciding[message.number]
            images[message.key] += count
    return images


def _all_or_nothing(owner: Owner) -> AbstractContextManager[None]:
    return unchanged_on_failure(*map(owner.directory.file, (ENROLMENT_FILE, STATE_FILE, SECRETS_FILE)))


def _unused(owner: Owner, images: Counter[int]) -> list[int]:
    former = list(owner.former_image_keys)
    unused = [key for key in former if not images[key]]
    if unused:
        return unused
    if not former:
        raise AlreadyAppliedError(
            "there is no former image key", hint="mipp owner rotate-key draws a new one"
        )
    listed = ", ".join(f"{images[key]} under {key:016x}" for key in former)
    raise _in_use(owner, f"there may be images under every former key: {listed}")


def _checked(owner: Owner, images: Counter[int], key: int) -> int:
    """Return ``key`` if it may be forgotten."""
    if key == key_id(owner.image_key):
        raise ConflictError(
            f"the image key {key:016x} is in use",
            path=owner.directory.path,
            hint="draw a new one first: mipp owner rotate-key",
        )
    if images[key]:
        raise _in_use(owner, f"the cloud may have {images[key]} images under the key {key:016x}")
    if key in owner.forgotten_keys and key not in owner.former_image_keys:
        raise AlreadyAppliedError(f"the key {key:016x} was forgotten before", hint="there is nothing to do")
    return key


def _in_use(owner: Owner, message: str) -> ConflictError:
    return ConflictError(
        message,
        path=owner.directory.path,
        hint="send them under the new key (mipp owner encrypt OWNER IMAGES --again) or delete them, and give "
        "the number that the cloud says once it applied that",
    )
