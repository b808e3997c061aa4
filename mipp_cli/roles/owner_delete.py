"""Images that the owner has deleted, and messages that the owner withdraws because they never got out."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from mipp_cli.containers.atomic import refuse_existing
from mipp_cli.containers.container import header_of
from mipp_cli.containers.delete import write_delete
from mipp_cli.containers.stored import remove
from mipp_cli.errors import AlreadyAppliedError, InvalidRequestError, MippError, NotAuthorisedError
from mipp_cli.roles.ledger import DELETE, UPLOAD, WITHDRAWN, Ledger, Message
from mipp_cli.roles.owner import Owner
from mipp_cli.roles.report import Output, Report

_WITHDRAWN = "if the cloud applied it all the same, take this back: mipp owner withdraw --undo"


def delete_images(
    path: Path, images: Sequence[str], output: Path, *, unlisted: bool = False, force: bool = False
) -> Report:
    """Write the `delete` ``output`` for ``images``, called as their owner calls them; all or none.

    All must be live in the ledger, unless ``unlisted``; or be what the last deletion deleted, which is so
    made again. Raises InvalidRequestError otherwise.
    """
    refuse_existing(output, force=force)
    paths = dict.fromkeys(_as_listed(image) for image in images)
    if not paths:
        raise InvalidRequestError("no images were named", hint="name images as they are called in the ledger")
    owner = Owner.open(path)
    with owner.directory.lock():
        ledger = owner.ledger
        live = ledger.live_among(paths)
        missing = [each for each in paths if each not in live]
        if missing and not unlisted and not _was_last(ledger, paths):
            raise _not_live(path, missing, len(paths))
        names = {each: live[each].name if each in live else owner.name_on_the_wire(each) for each in paths}
        number = owner.next_number()
        owner.remember(number)  # first: a number that got out must not be used again
        sender = owner.directory.sender
        try:
            with ledger.writing(Message(number, DELETE)) as lines:
                for each, name in names.items():
                    lines.append(name, each)
            write_delete(output, sender, number, names.values(), force=force)
        except BaseException:
            if not _is_out(output, number):
                ledger.remove(number)
            raise
    counts = {"images": len(names), "unlisted": len(missing)}
    return Report((Output(output, DELETE),), counts, owner.warnings)


def _as_listed(image: str) -> str:
    """Return what the ledger calls an image; raises InvalidRequestError for what no image is called."""
    try:
        image.encode()
    except UnicodeEncodeError:
        raise InvalidRequestError(
            "its name is not UTF-8",
            path=os.fsencode(image).decode(errors="replace"),
            hint="name images as they are called in the ledger",
        ) from None
    return PurePosixPath(image).as_posix()


def _was_last(ledger: Ledger, paths: Collection[str]) -> bool:
    """Say whether ``paths`` are what the last message deleted: its file may never have got out."""
    messages = ledger.in_force()
    if not messages or messages[-1].kind != DELETE:
        return False
    return {path for _, path in ledger.rows(messages[-1].number)} == set(paths)


def _not_live(path: Path, missing: Sequence[str], named: int) -> InvalidRequestError:
    return InvalidRequestError(
        f"{len(missing)} of {named} images are not in the ledger, the first: {missing[0]!r}",
        path=path,
        hint="see mipp inspect --csv; give --unlisted if the ledger is older than what was sent",
    )


def _is_out(output: Path, number: int) -> bool:
    try:
        return header_of(output).number == str(number)
    except MippError:
        return False


def withdraw_message(path: Path, which: str, *, undo: bool = False) -> Report:
    """Forget an upload or deletion that was never brought to the cloud, by its number or its file.

    With ``undo`` one that was withdrawn counts again: it was applied after all.
    Raises InvalidRequestError if the ledger does not list it, AlreadyAppliedError if it was withdrawn.
    """
    owner = Owner.open(path)
    with owner.directory.lock():
        number = int(which) if re.fullmatch(r"[0-9]{1,19}", which) else _number_of(Path(which), owner)
        messages = owner.ledger.messages()
        withdrawals = [message.number for message in messages if message.withdraws == number]
        if undo:
            return _undo(owner, number, withdrawals)
        if withdrawals:
            raise AlreadyAppliedError(f"{number} was withdrawn before", hint="there is nothing to do")
        kinds = {message.number: message.kind for message in messages if message.kind != WITHDRAWN}
        if number not in kinds:
            raise InvalidRequestError(
                f"the ledger lists no upload or deletion {number}",
                path=path,
                hint=f"mipp inspect {path} lists them",
            )
        numbers = [number]
        counts = {"uploads withdrawn": 0, "deletions withdrawn": 0, "images": 0}
        for each in reversed(numbers):  # the last first: what is left is a whole at any time
            _withdraw(owner, each)
            counts["uploads withdrawn" if kinds[each] == UPLOAD else "deletions withdrawn"] += 1
            counts["images"] += sum(1 for _ in owner.ledger.rows(each))
    notes = [_WITHDRAWN] if counts["uploads withdrawn"] else []
    return Report((), counts, owner.warnings, {}, tuple(notes))


def _undo(owner: Owner, number: int, withdrawals: Sequence[int]) -> Report:
    if not withdrawals:
        raise AlreadyAppliedError(f"{number} is not withdrawn", hint="there is nothing to do")
    images = sum(1 for _ in owner.ledger.rows(number))
    for each in withdrawals:
        remove(owner.ledger.file(each))
    return Report((), {"withdrawals undone": 1, "images": images}, owner.warnings)


def _withdraw(owner: Owner, number: int) -> None:
    event = Message(owner.next_number(), WITHDRAWN, withdraws=number)
    owner.remember(event.number)
    with owner.ledger.writing(event):
        pass


def _number_of(file: Path, owner: Owner) -> int:
    header, sender = header_of(file), owner.directory.sender
    if header.kind not in (UPLOAD, DELETE):
        raise InvalidRequestError(
            f"is of kind {header.kind}", path=file, hint="name an upload or deletion, or its number"
        )
    if (header.deployment, header.sender_key) != (sender.deployment, sender.signing_key.public):
        raise NotAuthorisedError("is not this owner's", path=file, hint="withdraw it where it was made")
    return header.sequence_number
