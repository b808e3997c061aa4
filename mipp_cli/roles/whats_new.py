"""Which images `owner encrypt` sends: those that are new or changed, as the owner's ledger tells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from enum import Enum

from mipp_cli.errors import AlreadyAppliedError, InvalidRequestError, MippError
from mipp_cli.roles.collection import ImageFile
from mipp_cli.roles.ledger import DELETE, Ledger, Standing

NEW, CHANGED, AGAIN, UNCHANGED, DELETED = "new", "changed", "sent again", "unchanged", "deleted before"


class Look(Enum):
    """What is known of an image before its file is read."""

    SEND = "send"
    LEAVE = "leave"
    READ = "read"  # and compare what was sent


class Choice:
    """Says of each image whether it is sent, and counts why.

    Images that the ledger lists as sent and that are unchanged are left out, unless all are sent ``again``;
    those that were deleted are left out, unless they are ``undeleted``. With ``messages``, none is sent but
    what these uploads still decide.
    """

    def __init__(
        self,
        ledger: Ledger,
        images: Sequence[ImageFile],
        *,
        undelete: bool,
        again: bool,
        messages: Collection[int],
    ):
        self.standing = ledger.standing({image.name for image in images})
        self.counts: Counter[str] = Counter()
        self._to_read: set[str] = set()
        self._undelete, self._again, self._messages = undelete, again, frozenset(messages)
        _refuse_unknown(ledger, self._messages)

    def first_look(self, path: str, version: str) -> Look:
        """Decide by the ledger and by ``version``, which changes whenever the file does."""
        standing = self.standing.get(path)
        if self._messages:
            chosen = standing is not None and standing.message.number in self._messages
            return self._send(AGAIN) if chosen else Look.LEAVE
        if standing is None:
            return self._send(NEW)
        if not standing.live:
            return self._send(AGAIN) if self._undelete else self._leave(DELETED)
        if self._again:
            return self._send(AGAIN)
        if standing.image.version == version:
            return self._leave(UNCHANGED)
        self._to_read.add(path)
        return Look.READ

    def second_look(self, path: str, digest: str) -> Look:
        """Decide by the ``digest`` of what would be sent, of an image that was to be read."""
        return self._leave(UNCHANGED) if self.standing[path].image.digest == digest else self._send(CHANGED)

    def counted(self) -> dict[str, int]:
        """Return how many images were sent or left out, and why."""
        return {why: self.counts[why] for why in (NEW, CHANGED, AGAIN, UNCHANGED, DELETED)}

    @property
    def sent(self) -> int:
        """How many images were chosen to be sent, but for those that are still undecided."""
        return self.counts[NEW] + self.counts[CHANGED] + self.counts[AGAIN]

    def undecided(self, path: str) -> bool:
        """Say whether the first look at an image told to read it."""
        return path in self._to_read

    def superseded(self, paths: Collection[str]) -> list[Standing]:
        """Return what an upload of ``paths`` decides over."""
        return [self.standing[path] for path in paths if path in self.standing]

    def nothing_to_send(self) -> MippError:
        """Return the error that says why no image is sent."""
        if self._messages:
            numbers = ", ".join(map(str, sorted(self._messages)))
            return InvalidRequestError(
                f"none of the images named is one that {numbers} still decides",
                hint="name the folder that the images were sent from; what was sent since counts instead",
            )
        ways = {UNCHANGED: "--again sends those that are unchanged", DELETED: "--undelete those deleted"}
        found = [kind for kind in (UNCHANGED, DELETED) if self.counts[kind]]
        counts = ", ".join(f"{self.counts[kind]} {kind}" for kind in found)
        return AlreadyAppliedError(f"nothing is new: {counts}", hint="; ".join(ways[kind] for kind in found))

    def _send(self, why: str) -> Look:
        self.counts[why] += 1
        return Look.SEND

    def _leave(self, why: str) -> Look:
        self.counts[why] += 1
        return Look.LEAVE


def _refuse_unknown(ledger: Ledger, numbers: Collection[int]) -> None:
    kinds = {message.number: message.kind for message in ledger.messages()} if numbers else {}
    for number in numbers:
        if number not in kinds:
            raise InvalidRequestError(
                f"this owner sent no message {number}", hint="mipp inspect OWNER lists what was sent"
            )
        if kinds[number] == DELETE:
            raise InvalidRequestError(
                f"{number} is a deletion",
                hint=f"make it again with: mipp owner delete OWNER --again {number}",
            )
