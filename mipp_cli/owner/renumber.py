"""`owner renumber`: recover from a clock that ran ahead."""

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
    """Reset an owner's numbers to the clock, but above ``above``, the highest number a receiver accepted.

    Receivers refuse a number more than a day ahead of their clock. Messages in the ledger with such a number,
    above ``above``, were never applied: they are removed, so that their images are new again. enrolment.h5
    and members.h5 are rewritten with an acceptable number. A directory restored from a backup, which lacks
    the last numbers, is moved above them in the same way. Raises InvalidRequestError for an impossible
    number, AlreadyAppliedError if the numbers need no change.
    """
    if not 0 <= above < LARGEST_NUMBER:
        raise InvalidRequestError(
            f"{above} is not a message number", hint="give the number as the cloud prints it"
        )
    owner = Owner.open(path)
    with owner.directory.lock():
        now = clock_number()
        accepted = max(above, now + A_DAY)
        files = [owner.directory.file(name) for name in (ENROLMENT_FILE, MEMBERS_FILE)]
        last = max([owner.last_number, *map(number_of, files)])
        if above <= last <= accepted:
            raise AlreadyAppliedError(
                f"numbers are not ahead of this machine's clock ({moment(now)}); nothing changed",
                path=path,
                hint="set the clock first if it is wrong; give --above if a receiver has a higher number",
            )
        ledger, numbers = owner.ledger, [message.number for message in owner.ledger.messages()]
        struck = [number for number in numbers if number > accepted]
        changed = map(owner.directory.file, (STATE_FILE, ENROLMENT_FILE, MEMBERS_FILE))
        with unchanged_on_failure(*map(ledger.file, struck), *changed):
            for number in struck:  # first, so that after a crash the command can be run again
                remove(ledger.file(number))
            owner.take_back(max([above, *(number for number in numbers if number <= accepted)]))
            outputs = owner.write_membership(owner.users)
        sweep_kept(owner.directory, set(numbers).difference(struck))
    counts = {"uploads and deletions struck": len(struck)}
    notes = [NOT_IN_FORCE]
    if struck:
        listed = ", ".join(map(str, struck))
        notes.append(
            f"removed from the record: {listed}; delete their files, which would be accepted once the clock "
            "passes these numbers; if the cloud has any of them, run this again with --above and the highest"
        )
    return owner.report(outputs, counts, *notes)
