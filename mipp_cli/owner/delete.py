"""`owner delete`: write the message that makes the cloud (and the KMC) remove images."""

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
    """Write the `delete` message ``output`` for ``images``, named as in the ledger.

    A name that only looks like one in the ledger means that image, if no other looks the same. Images that
    the ledger does not list are deleted too, and counted, because the ledger may come from a backup.
    ``again`` is the number of a lost deletion, whose images are deleted again. Raises InvalidRequestError if
    no image is named, or if ``again`` is not a deletion that still decides an image.
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
                "no images were named", hint="name images as mipp owner list OWNER shows them"
            )
        known = ledger.standing(paths)
        earlier = still_deciding(ledger.deciding(), known.values())
        names = [owner.name_on_the_wire(each) for each in paths]
        (number,) = owner.begin_messages(1)  # first, so that no number is ever used twice
        try:
            with ledger.writing(Message(number)) as append:
                for each, name in zip(paths, names, strict=True):
                    pixels = each in known and was_pixels(known[each].image.version)
                    append(SentImage(name, each, PIXELS if pixels else ""))
            write_delete(output, owner.directory.sender, number, names, earlier=earlier, force=force)
        except BaseException:
            if number_of(output) != number:  # the output was not written
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
            f"not in the record of what was sent: {len(unknown)} of the images, the first is "
            f"'{unknown[0]}'. Check the names (mipp owner list OWNER); the cloud deletes them if it has them"
        )
    counts = {"images": len(paths), "not in the ledger": len(unknown)}
    kmc = " and to the KMC (mipp kmc index)" if owner.directory.deployment.parameters.protocol.grouped else ""
    notes = [f"'{given}' was taken to mean '{found}'" for given, found in listed.items() if given != found]
    notes.append(f"send it to the cloud (mipp cloud index){kmc}")
    return Report((Output(output, DELETE),), counts, tuple(warnings), notes=tuple(notes))


def _called(images: Sequence[str | bytes], ledger: Ledger) -> list[str]:
    """Return each image's path in the ledger, once; raises InvalidRequestError if a name is ambiguous.

    Text that looks like an escaped byte is read as one, unless the ledger has a file with that literal name.
    """
    named = {_as_listed(each): str(PurePosixPath(name_of(each))) for each in images}
    unclear = {shown: own for shown, own in named.items() if shown != own}
    known = (
        {path for path in ledger.paths() if path in unclear or path in unclear.values()} if unclear else ()
    )
    for shown, own in unclear.items():
        if shown in known and own in known:
            raise InvalidRequestError(
                f"'{shown}' is ambiguous: it may mean the image '{shown}' or the image '{own}'",
                hint="name the second as mipp owner list OWNER shows it, and the first by its bytes, in a "
                "file for --files-from",
            )
    return [own if shown != own and own in known else shown for shown, own in named.items()]


def _as_listed(image: str | bytes) -> str:
    """Return an image's path as the ledger writes it; raises InvalidRequestError if it cannot be one."""
    path = PurePosixPath(as_called(image)).as_posix()
    if path == "." or "\0" in path:
        raise InvalidRequestError(
            f"'{path}' cannot be the path of an image",
            hint="name images as mipp owner list OWNER shows them",
        )
    return path


def _deleted_by(ledger: Ledger, number: int | None) -> list[str]:
    """Return the images that the deletion ``number`` still decides."""
    if number is None:
        return []
    if Message(number) not in ledger.messages():
        raise InvalidRequestError(
            f"this owner made no deletion {number}", hint="mipp inspect OWNER lists what was sent"
        )
    decided = ledger.decided_by({number})
    if not decided:
        raise InvalidRequestError(
            f"the deletion {number} no longer decides any image", hint="there is nothing to write again"
        )
    return sorted(decided)
