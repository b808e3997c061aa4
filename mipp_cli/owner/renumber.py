"""An owner whose clock was wrong: its numbers go back to the clock, and what was refused is struck."""

from __future__ import annotations

from pathlib import Path

from mipp_cli.containers.base.header import LARGEST_NUMBER
from mipp_cli.errors import AlreadyAppliedError, InvalidRequestError
from mipp_cli.files.atomic import remove, unchanged_on_failure
from mipp_cli.owner.features import sweep_kept
from mipp_cli.owner.owner import ENROLMENT_FILE, MEMBERS_FILE, NOT_IN_FORCE, Owner, number_of
from mipp_cli.report import Report
from mipp_cli.workdir.directory import STATE_FILE
from mipp_cli.workdir.replay import A_DAY, clock_number, moment


def renumber(path: Path, *, above: int = 0) -> Report:
    """Take an owner's numbers back to the clock, but above ``above``, which a receiver accepted.

    Receivers refuse a number more than a day ahead of their clock. What the ledger lists under such a
    number, and above ``above``, never counted: it is struck, so that its images are new again. The files
    that enrol the owner are written anew under a number that will be taken. A backup that does not know the
    last numbers, given when the clock was ahead, is taken above them likewise. Raises InvalidRequestError
    for a number that no message can have, AlreadyAppliedError if the numbers are right as they are.
    """
    if not 0 <= above < LARGEST_NUMBER:
        raise InvalidRequestError(
            f"{above} is not the number of a message", hint="give it as the cloud shows it"
        )
    owner = Owner.open(path)
    with owner.directory.lock():
        now = clock_number()
        accepted = max(above, now + A_DAY)
        files = [owner.directory.file(name) for name in (ENROLMENT_FILE, MEMBERS_FILE)]
        last = max([owner.last_number, *map(number_of, files)])
        if above <= last <= accepted:
            raise AlreadyAppliedError(
                f"its numbers are not ahead of this machine's clock ({moment(now)}); nothing changed",
                path=path,
                hint="set the clock first if it is wrong; give --above if a receiver has a higher number",
            )
        ledger, numbers = owner.ledger, [message.number for message in owner.ledger.messages()]
        struck = [number for number in numbers if number > accepted]
        changed = map(owner.directory.file, (STATE_FILE, ENROLMENT_FILE, MEMBERS_FILE))
        with unchanged_on_failure(*map(ledger.file, struck), *changed):
            for number in struck:  # first: whoever is killed here runs the command again
                remove(ledger.file(number))
            owner.take_back(max([above, *(number for number in numbers if number <= accepted)]))
            outputs = owner.write_membership(owner.users)
        sweep_kept(owner.directory, set(numbers).difference(struck))
    counts = {"uploads and deletions struck": len(struck)}
    notes = [NOT_IN_FORCE]
    if struck:
        listed = ", ".join(map(str, struck))
        notes.append(
            f"struck were {listed}: throw their files away, which would be taken once the clock passes these "
            "numbers; if the cloud has one of them, run this again with --above and the highest"
        )
    return owner.report(outputs, counts, *notes)
