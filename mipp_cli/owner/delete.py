"""Images that the owner has deleted: what the cloud is to remove."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from mipp_cli.containers.messages.delete import write_delete
from mipp_cli.errors import InvalidRequestError
from mipp_cli.files.atomic import discard, refuse_existing
from mipp_cli.names import as_called, as_seen, name_of, recognised
from mipp_cli.owner.features import sweep_kept
from mipp_cli.owner.grouping import thin_warning
from mipp_cli.owner.ledger import DELETE, PIXELS, Ledger, Message, SentImage, still_deciding, was_pixels
from mipp_cli.owner.owner import Owner, number_of
from mipp_cli.report import Output, Report


def delete_images(
    path: Path, images: Sequence[str | bytes], output: Path, *, again: int | None = None, force: bool = False
) -> Report:
    """Write the `delete` ``output`` for ``images``, called as their owner calls them.

    An image is meant, too, by what its name looks like, if no other looks the same. Images that the ledger
    does not list are named, too, and counted: it may be older than what was sent.
    ``again`` is the number of a deletion that never came, whose images are named once more. Raises
    InvalidRequestError if no image is named, or ``again`` is no deletion that still decides one.
    """
    refuse_existing(output, force=force)
    owner = Owner.open(path)
    owner.directory.refuse_inside(output)
    with owner.directory.lock():
        ledger = owner.ledger
        called = _called(images, ledger)
        listed = recognised(called, ledger.paths(), as_seen)
        paths = dict.fromkeys([*(listed.get(each, each) for each in called), *_deleted_by(ledger, again)])
        if not paths:
            raise InvalidRequestError(
                "no images were named", hint="name images as they are called in the ledger"
            )
        known = ledger.standing(paths)
        earlier = still_deciding(ledger.deciding(), known.values())
        names = [owner.name_on_the_wire(each) for each in paths]
        (number,) = owner.begin_messages(1)  # first: a number that got out must not be used again
        try:
            with ledger.writing(Message(number)) as append:
                for each, name in zip(paths, names, strict=True):
                    pixels = each in known and was_pixels(known[each].image.version)
                    append(SentImage(name, each, PIXELS if pixels else ""))
            write_delete(output, owner.directory.sender, number, names, earlier=earlier, force=force)
        except BaseException:
            if number_of(output) != number:  # it is not out
                discard(ledger.file(number))
            raise
        owner.confirm([number])
        sweep_kept(owner.directory, earlier)
        groups = ledger.members({each.image.group for each in known.values() if each.image.group})
    group_size = owner.directory.deployment.parameters.protocol.group_size
    thin = sum(size for size in map(len, groups.values()) if size < group_size)
    unknown = [each for each in paths if each not in known]
    warnings = [*owner.directory.warnings, *thin_warning(thin, group_size)]
    if unknown:
        warnings.append(
            f"{len(unknown)} of the images are not in the ledger, which lists what was sent, the first: "
            f"'{unknown[0]}': check their names (mipp owner list OWNER); if the cloud has them, they go"
        )
    counts = {"images": len(paths), "not in the ledger": len(unknown)}
    kmc = " and to the KMC (mipp kmc index)" if owner.directory.deployment.parameters.protocol.grouped else ""
    notes = [f"took '{given}' to mean '{found}'" for given, found in listed.items() if given != found]
    notes.append(f"bring it to the cloud (mipp cloud index){kmc}")
    return Report((Output(output, DELETE),), counts, tuple(warnings), notes=tuple(notes))


def _called(images: Sequence[str | bytes], ledger: Ledger) -> list[str]:
    """Return what the ledger calls each image, once; raises InvalidRequestError if that is not clear.

    What looks like an escaped byte is one, unless the ledger has a file of that very name instead.
    """
    named = {_as_listed(each): str(PurePosixPath(name_of(each))) for each in images}
    unclear = {shown: own for shown, own in named.items() if shown != own}
    known = (
        {path for path in ledger.paths() if path in unclear or path in unclear.values()} if unclear else ()
    )
    for shown, own in unclear.items():
        if shown in known and own in known:
            raise InvalidRequestError(
                f"'{shown}' may mean the image '{shown}' or the image '{own}'",
                hint="name the second as mipp owner list OWNER shows it; the first by the bytes of its path, "
                "in a file of --files-from",
            )
    return [own if shown != own and own in known else shown for shown, own in named.items()]


def _as_listed(image: str | bytes) -> str:
    """Return what the ledger calls an image; raises InvalidRequestError for what no image is called."""
    path = PurePosixPath(as_called(image)).as_posix()
    if path == "." or "\0" in path:
        raise InvalidRequestError(
            f"'{path}' is not what an image can be called",
            hint="name images as they are called in the ledger: mipp owner list OWNER lists them",
        )
    return path


def _deleted_by(ledger: Ledger, number: int | None) -> list[str]:
    """Return the images that a deletion still decides."""
    if number is None:
        return []
    if Message(number) not in ledger.messages():
        raise InvalidRequestError(
            f"this owner made no deletion {number}", hint="mipp inspect OWNER lists what was sent"
        )
    decided = ledger.decided_by({number})
    if not decided:
        raise InvalidRequestError(
            f"the deletion {number} decides no image any more", hint="there is nothing to make again"
        )
    return sorted(decided)
