"""Key changes: rotate SK, forget former SKs that no image needs, update the KMC's sealing key."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from mipp_cli.errors import AlreadyAppliedError, ConflictError, InvalidRequestError
from mipp_cli.files.atomic import unchanged_on_failure, write_bytes
from mipp_cli.owner.ledger import Ledger
from mipp_cli.owner.owner import ENROLMENT_FILE, MEMBERS_FILE, NOT_IN_FORCE, Owner
from mipp_cli.report import Output, Report
from mipp_cli.scheme.secret_keys import generate_key, key_id
from mipp_cli.workdir.directory import SEALING_FILE
from mipp_cli.workdir.sealing_key import newer_sealing_key

_ROTATED = (
    "send enrolment.h5 to the KMC before uploads under the new key: until then it cannot re-encrypt them"
)
_FORGOTTEN = "send enrolment.h5 to the KMC, which then drops the key"


def rotate_key(path: Path) -> Report:
    """Generate a new SK for future uploads; the former one is kept for the images encrypted under it."""
    owner = Owner.open(path)
    with owner.directory.lock():
        former = [*owner.former_image_keys.values(), owner.image_key]
        output = owner.change_image_keys(generate_key(), former, owner.state.forgotten)
    return owner.report([output], {"former image keys": len(former)}, _ROTATED)


def forget_keys(path: Path, key: int | None = None, *, applied: int) -> Report:
    """Drop the former SK with the id ``key``, or all unused ones, and tell the KMC to do so.

    ``applied`` is the message number up to which the cloud is complete. The cloud may have any later
    message, so no key is dropped under which it may have an image. The KMC is told to drop ``key`` even if
    this directory does not hold it. Raises ConflictError if the key is in use, AlreadyAppliedError if there
    is nothing to drop.
    """
    owner = Owner.open(path)
    with owner.directory.lock():
        if applied > owner.last_number:
            raise InvalidRequestError(
                f"this owner has not used a number as high as {applied}; its last is {owner.last_number}",
                path=path,
                hint="give the number up to which the cloud (and in scheme exact the KMC) is complete, as "
                "their index commands print it; if this directory was restored from an older backup, first "
                "run: mipp owner renumber OWNER --above NUMBER",
            )
        images, held = _images_by_key(owner.ledger, applied), owner.former_image_keys
        if key is None:
            chosen = _unused(owner, images)
        else:
            _check_unused(owner, images, key)
            chosen = [key]
        kept = [value for each, value in held.items() if each not in chosen]
        output = owner.change_image_keys(owner.image_key, kept, owner.state.forgotten | set(chosen))
    counts = {
        "forgotten": len(chosen),
        "not held here": len(set(chosen) - set(held)),
        "former image keys": len(kept),
    }
    return owner.report([output], counts, _FORGOTTEN)


def update_kmc_key(path: Path, file: Path) -> Report:
    """Use the KMC's rotated sealing key, and rewrite enrolment.h5 and members.h5."""
    owner = Owner.open(path)
    enrolment, members, held = map(owner.directory.file, (ENROLMENT_FILE, MEMBERS_FILE, SEALING_FILE))
    with owner.directory.lock():
        text, sealing_key = newer_sealing_key(owner.directory, file)
        with unchanged_on_failure(enrolment, members, held):
            outputs = owner.write_membership(owner.users, sealing_key)
            # last, so that after a crash the command can be run again
            write_bytes(held, text, force=True)
    report = owner.report(outputs, {"users": len(owner.users)}, NOT_IN_FORCE)
    return replace(report, outputs=(Output(held, "sealing.pub"), *outputs))


def _images_by_key(ledger: Ledger, applied: int) -> Counter[int]:
    """Return how many images the cloud may have under each SK, by key id.

    These are the live images among the messages up to ``applied``, and all images sent later.
    """
    deciding, images = ledger.deciding(applied), Counter[int]()
    for message in ledger.messages():
        if message.key is not None:
            later = message.number > applied
            count = sum(1 for _ in ledger.images(message.number)) if later else deciding[message.number]
            images[message.key] += count
    return images


def _unused(owner: Owner, images: Counter[int]) -> list[int]:
    former = list(owner.former_image_keys)
    unused = [key for key in former if not images[key]]
    if unused:
        return unused
    if not former:
        raise AlreadyAppliedError(
            "there is no former image key", hint="mipp owner rotate-key generates a new key"
        )
    listed = ", ".join(f"{images[key]} under {key:016x}" for key in former)
    raise _in_use(owner, f"there may be images under every former key: {listed}")


def _check_unused(owner: Owner, images: Counter[int], key: int) -> None:
    """Refuse to forget a key that is in use or already forgotten."""
    if key == key_id(owner.image_key):
        raise ConflictError(
            f"the image key {key:016x} is in use",
            path=owner.directory.path,
            hint="rotate it first: mipp owner rotate-key",
        )
    if images[key]:
        raise _in_use(owner, f"the cloud may have {images[key]} images under the key {key:016x}")
    if key in owner.state.forgotten and key not in owner.former_image_keys:
        raise AlreadyAppliedError(f"the key {key:016x} is already forgotten", hint="there is nothing to do")


def _in_use(owner: Owner, message: str) -> ConflictError:
    return ConflictError(
        message,
        path=owner.directory.path,
        hint="send them under the new key (mipp owner encrypt OWNER IMAGES --again) or delete them; once the "
        "cloud has applied that, give the number that it prints",
    )
