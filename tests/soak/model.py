"""What must be true of a deployment after each operation, in plain Python: no ciphers, no files.

One rule makes the model: for a name, the highest number among the messages applied decides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

Place = tuple[str, str]  # owner and path of an image
A_DAY = 24 * 3600 * 10**6  # in microseconds, as numbers count


@dataclass(frozen=True)
class Stored:
    """An image at the cloud: its content, and which of its owner's keys it is under."""

    content: bytes
    key: str


@dataclass(frozen=True, eq=False)
class Message:
    """An upload or a deletion: its number, what it says of each path (None: deleted), what it lists.

    Where images go in groups, ``groups`` says which each is in, by a number of the owner's own, and
    ``places`` where that group stands in the upload.
    """

    owner: str
    number: int
    images: Mapping[str, Stored | None]
    earlier: frozenset[int]
    groups: Mapping[str, int] = field(default_factory=dict)
    places: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_deletion(self) -> bool:
        """Whether it deletes what it names."""
        return None in self.images.values()


@dataclass(frozen=True)
class Enrolment:
    """What an owner says of itself: number, users, keys held and forgotten, and the key it is sealed to."""

    number: int
    users: frozenset[str]
    keys: frozenset[str]
    forgotten: frozenset[str]
    sealed_to: int


@dataclass
class Counts:
    """What one call of `cloud index` is to count."""

    uploads: int = 0
    deletions: int = 0
    images: int = 0
    replaced: int = 0
    deleted: int = 0
    superseded: int = 0
    skipped: int = 0


def order(new: Enrolment, in_force: Enrolment | None, left: int, now: int) -> int:
    """Return the exit code that is due for the order of enrolments; ``left`` was in force at a removal."""
    if in_force is None:
        too_old, last = new.number <= left, 0
    else:
        if new.number == in_force.number:
            return 5
        too_old, last = new.number < in_force.number, in_force.number
    return 6 if too_old or is_of_a_time_to_come(new.number, last, now) else 0


def is_of_a_time_to_come(number: int, last: int, now: int) -> bool:
    """Say whether a number is more than a day ahead of a receiver's clock and of the last applied."""
    return number > max(now, last) + A_DAY


def decided(messages: Iterable[Message]) -> dict[str, Message]:
    """Return which message decides each path: that with the highest number."""
    found: dict[str, Message] = {}
    for message in sorted(messages, key=lambda each: each.number):
        found.update(dict.fromkeys(message.images, message))
    return found


def live_of(messages: Iterable[Message]) -> dict[str, Stored]:
    """Return the images that are live by the messages of an owner: an order of theirs plays no part."""
    found = {path: message.images[path] for path, message in decided(messages).items()}
    return {path: stored for path, stored in found.items() if stored is not None}


@dataclass
class CloudModel:
    """Whom the cloud knows, what it holds, and what it applied.

    ``rows`` says in which message each live image is. ``deleted`` remembers for good which number deleted
    an image last. Messages up to ``refused`` are not taken; that those up to ``removed`` lack is no gap.
    """

    members: dict[str, Enrolment] = field(default_factory=dict)
    applied: dict[str, dict[int, Message]] = field(default_factory=dict)
    rows: dict[str, dict[str, int]] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    removed: dict[str, int] = field(default_factory=dict)
    deleted: dict[Place, int] = field(default_factory=dict)

    def enroll(self, owner: str, enrolment: Enrolment, now: int) -> int:
        """Return the exit code that is due, and take the list if it is 0."""
        known = self.members.get(owner)
        code = order(enrolment, known, self.left.get(owner, 0), now)
        if code:
            return code
        if known is None and owner in self.left:  # back after a removal
            self.raise_floor(owner, enrolment.number, removed=True)
        self.members[owner] = enrolment
        return 0

    def apply(self, messages: list[Message], now: int) -> tuple[int, Counts]:
        """Return the exit code that is due for messages in one call, and apply them if it is 0."""
        counts = Counts()
        applied = {owner: dict(each) for owner, each in self.applied.items()}
        rows = {owner: dict(each) for owner, each in self.rows.items()}
        for message in messages:
            there = applied.setdefault(message.owner, {})
            code = self.refusal(message, there, now)
            if code == 5:
                counts.skipped += 1
            elif code:
                return code, counts
            else:
                apply_to(message, there, rows.setdefault(message.owner, {}), counts)
        if counts.skipped == len(messages):
            return 5, counts
        self.applied, self.rows = applied, rows
        self.note_deleted(messages)
        return 0, counts

    def note_deleted(self, messages: Iterable[Message]) -> None:
        """Remember for good what messages delete."""
        for message in messages:
            for path in message.images if message.is_deletion else ():
                place = message.owner, path
                self.deleted[place] = max(message.number, self.deleted.get(place, 0))

    def refusal(self, message: Message, applied: Mapping[int, Message], now: int) -> int:
        if message.owner not in self.members:
            return 4
        if message.number in applied:
            return 5
        if message.number <= self.refused.get(message.owner, 0):
            return 6
        last = max([self.members[message.owner].number, *applied])
        return 6 if is_of_a_time_to_come(message.number, last, now) else 0

    def gaps(self, owner: str) -> list[int]:
        """Return the messages that the newest one lists and that did not come."""
        applied = self.applied.get(owner, {})
        return sorted(self._missing(applied[max(applied)])) if applied else []

    def complete(self, owner: str) -> int:
        """Return the number of the newest message of whose list nothing is missing."""
        applied = self.applied.get(owner, {}).values()
        return max((message.number for message in applied if not self._missing(message)), default=0)

    def _missing(self, message: Message) -> set[int]:
        applied, removed = self.applied[message.owner], self.removed.get(message.owner, 0)
        return {number for number in message.earlier if number not in applied and number > removed}

    def remove(self, owner: str) -> int:
        """End an owner's membership."""
        if owner not in self.members:
            return 5
        self.raise_floor(owner, max(self.applied.get(owner, {}), default=0), removed=True)
        self.left[owner] = self.members.pop(owner).number
        self.rows.pop(owner, None)
        self.applied.pop(owner, None)
        return 0

    def drop(self, owner: str, number: int, now: int) -> None:
        """Forget a message that was damaged: what is older is not taken any more.

        No floor is higher than a number that might be taken now.
        """
        del self.applied[owner][number]
        self.rows[owner] = {path: each for path, each in self.rows[owner].items() if each != number}
        self.raise_floor(owner, min(number, now + A_DAY) - 1, removed=False)

    def raise_floor(self, owner: str, number: int, *, removed: bool) -> None:
        self.refused[owner] = max(number, self.refused.get(owner, 0))
        if removed:
            self.removed[owner] = max(number, self.removed.get(owner, 0))

    def images(self, owner: str) -> dict[str, Stored]:
        """Return the live images of an owner."""
        found: dict[str, Stored] = {}
        for path, number in self.rows.get(owner, {}).items():
            stored = self.applied[owner][number].images[path]
            assert stored is not None
            found[path] = stored
        return found

    def found_by(self, user: str) -> dict[Place, Stored]:
        """Return every image that the user may search."""
        return {
            (owner, path): stored
            for owner, member in self.members.items()
            if user in member.users
            for path, stored in self.images(owner).items()
        }

    def highest(self, owner: str) -> int:
        """Return the highest number that the cloud took of an owner, in force or applied."""
        known = [self.members[owner].number] if owner in self.members else []
        return max([*known, *self.applied.get(owner, {})], default=0)

    def number_of_messages(self) -> int:
        """Return how many messages of all owners are applied."""
        return sum(map(len, self.applied.values()))


def apply_to(message: Message, applied: dict[int, Message], rows: dict[str, int], counts: Counts) -> None:
    """Apply a message: it says nothing of a path that a newer one mentions."""
    newer = {path for each in applied.values() if each.number > message.number for path in each.images}
    says = [path for path in message.images if path not in newer]
    went = sum(rows.pop(path, None) is not None for path in says)
    applied[message.number] = message
    counts.superseded += len(message.images) - len(says)
    if message.is_deletion:
        counts.deletions += 1
        counts.deleted += went
    else:
        rows.update(dict.fromkeys(says, message.number))
        counts.uploads += 1
        counts.images += len(says)
        counts.replaced += went


@dataclass
class FeaturesModel(CloudModel):
    """What the KMC keeps of features: as the cloud keeps images, for whoever is enrolled there.

    ``uncoded`` are the uploads that came after their key was forgotten.
    """

    uncoded: set[tuple[str, int]] = field(default_factory=set)

    def take(self, messages: list[Message], now: int, kmc: KmcModel) -> tuple[int, Counts]:
        """Return the exit code that is due for messages in one call, and apply them if it is 0.

        They are checked from the oldest on, and applied from the newest.
        """
        counts, new = Counts(), list[Message]()
        for message in sorted(messages, key=lambda each: each.number):
            there = dict(self.applied.get(message.owner, {}))
            there |= {each.number: each for each in new if each.owner == message.owner}
            code = self.refusal(message, there, now)
            if code == 5:
                counts.skipped += 1
            elif code:
                return code, counts
            else:
                new.append(message)
        if not new:
            return 5, counts
        keys = {(each.owner, stored.key) for each in new for stored in each.images.values() if stored}
        if any(key not in kmc.keys[owner] | kmc.forgotten[owner] for owner, key in keys):
            return 8, counts
        for message in reversed(new):
            rows = self.rows.setdefault(message.owner, {})
            apply_to(message, self.applied.setdefault(message.owner, {}), rows, counts)
            if {stored.key for stored in message.images.values() if stored} & kmc.forgotten[message.owner]:
                self.uncoded.add((message.owner, message.number))
        self.note_deleted(new)
        return 0, counts

    def leave(self, owner: str) -> None:
        """Let go of what an owner sent who is removed."""
        self.raise_floor(owner, max(self.applied.get(owner, {}), default=0), removed=True)
        self.rows.pop(owner, None)
        self.applied.pop(owner, None)


def live_in_group(store: CloudModel, owner: str, number: int, place: int) -> set[str]:
    """Return the images of a group of an upload that are live at the cloud or the KMC."""
    message = store.applied.get(owner, {}).get(number)
    if message is None:
        return set()
    rows = store.rows.get(owner, {})
    return {path for path in message.images if rows.get(path) == number and message.places[path] == place}


@dataclass
class KmcModel:
    """Whom the KMC knows, which keys it holds, and to which sealing keys it can be spoken to.

    Keys that were forgotten once stay so, through removals, too.
    """

    enrolled: dict[str, Enrolment] = field(default_factory=dict)
    keys: dict[str, frozenset[str]] = field(default_factory=dict)
    forgotten: dict[str, frozenset[str]] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)
    opens: set[int] = field(default_factory=lambda: {0})
    sealing: int = 0

    def enroll(self, owner: str, enrolment: Enrolment, now: int) -> int:
        """Return the exit code that is due, and take the enrolment if it is 0."""
        code = order(enrolment, self.enrolled.get(owner), self.left.get(owner, 0), now)
        if code:
            return code
        if enrolment.sealed_to not in self.opens:
            return 8
        self.forgotten[owner] = self.forgotten.get(owner, frozenset()) | enrolment.forgotten
        held = self.keys.get(owner, frozenset()) | enrolment.keys
        self.keys[owner] = held - self.forgotten[owner]
        self.enrolled[owner] = enrolment
        return 0

    def remove(self, owner: str) -> int:
        """End an owner's membership."""
        if owner not in self.enrolled:
            return 5
        self.left[owner] = self.enrolled.pop(owner).number
        del self.keys[owner]
        return 0

    def rotate(self, *, drop_former: bool) -> None:
        """Renew the sealing key."""
        self.sealing += 1
        self.opens = {self.sealing} if drop_former else self.opens | {self.sealing}

    def answer(self, user: str, sealed_to: int, found: dict[Place, Stored]) -> tuple[int, set[Place]]:
        """Return the exit code that is due for all of ``found``, and which images the user gets."""
        trusting = {owner for owner, each in self.enrolled.items() if user in each.users}
        if not trusting or any(owner not in trusting for owner, _ in found):
            return 4, set()
        if sealed_to not in self.opens:
            return 8, set()
        opened = {place for place, stored in found.items() if stored.key in self.keys[place[0]]}
        return (8 if found and not opened else 0), opened


@dataclass(frozen=True)
class Plan:
    """What a run of `owner encrypt` sends: groups that stay, images for new groups, how many moved there."""

    sent: set[str]
    kept: dict[int, set[str]]
    new: set[str]
    moved: int


@dataclass
class OwnerModel:
    """What an owner holds and sent; ``sent`` is the ledger, ``last`` the last number given."""

    files: dict[str, bytes] = field(default_factory=dict)
    sent: dict[int, Message] = field(default_factory=dict)
    last: int = 0
    users: frozenset[str] = frozenset()
    keys: list[str] = field(default_factory=list)
    forgotten: frozenset[str] = frozenset()
    sealing: int = 0

    def standing(self, up_to: int | None = None) -> dict[str, Message]:
        """Return which message decides each path, by the ledger, or by its messages up to a number."""
        return decided(each for each in self.sent.values() if up_to is None or each.number <= up_to)

    def live(self) -> dict[str, Stored]:
        """Return the images that are live by the ledger."""
        return live_of(self.sent.values())

    def earlier(self, paths: Collection[str]) -> frozenset[int]:
        """Return what a message that names ``paths`` lists: the messages that decide something else."""
        standing = self.standing()
        return frozenset(message.number for path, message in standing.items() if path not in paths)

    def to_send(self, *, undelete: bool = False, again: bool = False, message: int = 0) -> set[str]:
        """Return which files `owner encrypt` sends: new ones, changed ones, and those asked for."""
        standing = self.standing()
        chosen = set()
        for path, content in self.files.items():
            decides = standing.get(path)
            stored = decides.images[path] if decides else None
            if message:
                is_sent = decides is not None and decides.number == message
            elif decides is None:
                is_sent = True
            elif stored is None:
                is_sent = undelete
            else:
                is_sent = again or stored.content != content
            if is_sent:
                chosen.add(path)
        return chosen

    def plan(self, chosen: set[str], at_hand: Collection[str]) -> Plan:
        """Return what is sent if ``chosen`` is and ``at_hand`` are named: an image keeps its mates for life.

        Groups are sent whole, as the ledger has them; where the files of mates are not at hand, the images
        move to new groups.
        """
        group_of = {path: group for message in self._in_order() for path, group in message.groups.items()}
        members: dict[int, set[str]] = {group_of[path]: set() for path in chosen if path in group_of}
        for path in self.live():
            if group_of[path] in members:
                members[group_of[path]].add(path)
        sent = set(chosen)
        for mates in members.values():
            if mates - chosen <= set(at_hand):
                sent |= mates
        whole = {group for group, mates in members.items() if mates and mates <= sent}
        kept = {group: {path for path in sent if group_of.get(path) == group} for group in whole}
        new = sent.difference(*kept.values())
        return Plan(
            sent, kept, new, sum(bool(members.get(group_of[path])) for path in new if path in group_of)
        )

    def _in_order(self) -> list[Message]:
        return sorted(self.sent.values(), key=lambda each: each.number)

    def decided_by(self, number: int) -> set[str]:
        """Return the paths that a message still decides."""
        return {path for path, message in self.standing().items() if message.number == number}

    def in_use(self, applied: int) -> set[str]:
        """Return the keys that an image may be under at a cloud that is complete up to a number."""
        standing = self.standing(applied).items()
        later = (each for each in self.sent.values() if each.number > applied)
        may_be = [message.images[path] for path, message in standing]
        may_be += [stored for message in later for stored in message.images.values()]
        return {stored.key for stored in may_be if stored is not None}

    def renumber(self, above: int, now: int) -> set[int] | None:
        """Go back to the clock; return the messages that are struck, None if the numbers are right."""
        accepted = max(above, now + A_DAY)
        if above <= self.last <= accepted:
            return None
        struck = {number for number in self.sent if number > accepted}
        self.sent = {number: each for number, each in self.sent.items() if number not in struck}
        self.last = max([above, *self.sent])
        return struck

    def enrolment(self, number: int) -> Enrolment:
        """Return what the owner says of itself now."""
        return Enrolment(number, self.users, frozenset(self.keys), self.forgotten, self.sealing)

    def forget(self, keys: Collection[str]) -> None:
        """Drop former keys."""
        self.keys = [key for key in self.keys if key not in keys]
        self.forgotten |= frozenset(keys)
