"""What must be true of a deployment after each operation, in plain Python: no ciphers, no files."""

from __future__ import annotations

from dataclasses import dataclass, field

Place = tuple[str, str]  # owner and path of an image


@dataclass(frozen=True)
class Stored:
    """An image at the cloud: its content, and which of its owner's keys it is under."""

    content: bytes
    key: str


@dataclass(frozen=True)
class Message:
    """An upload or a deletion: kind (`add`, `replace`, `delete`), number, and what it holds by path."""

    kind: str
    number: int
    images: dict[str, Stored]

    def applied_to(self, images: dict[str, Stored]) -> dict[str, Stored]:
        """Return the images that there are after it."""
        if self.kind == "delete":
            return {path: stored for path, stored in images.items() if path not in self.images}
        return {**images, **self.images}


@dataclass(frozen=True)
class Enrolment:
    """What an owner says of itself: number, users, keys held and forgotten, and the key it is sealed to."""

    number: int
    users: frozenset[str]
    keys: frozenset[str]
    forgotten: frozenset[str]
    sealed_to: int


def order(new: Enrolment, in_force: Enrolment | None, left: int) -> int:
    """Return the exit code that is due for the order of enrolments; ``left`` was in force at a removal."""
    if in_force is None:
        return 6 if new.number <= left else 0
    if new.number == in_force.number:
        return 5
    return 6 if new.number < in_force.number else 0


@dataclass
class CloudModel:
    """Whom the cloud knows, what it holds, and what it applied."""

    members: dict[str, Enrolment] = field(default_factory=dict)
    images: dict[str, dict[str, Stored]] = field(default_factory=dict)
    applied: dict[str, set[int]] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)
    floors: dict[str, int] = field(default_factory=dict)

    def enroll(self, owner: str, enrolment: Enrolment) -> int:
        """Return the exit code that is due, and take the list if it is 0."""
        code = order(enrolment, self.members.get(owner), self.left.get(owner, 0))
        if code:
            return code
        self.members[owner] = enrolment
        return 0

    def apply(self, owner: str, messages: list[Message]) -> int:
        """Return the exit code that is due for messages in one call, and apply them if it is 0."""
        images = self.images.get(owner, {})
        applied = set(self.applied.get(owner, set()))
        new = 0
        for message in messages:
            code = self._refusal(owner, message, images, applied)
            if code == 5:
                continue
            if code:
                return code
            images = message.applied_to(images)
            applied.add(message.number)
            new += 1
        if not new:
            return 5
        self.images[owner], self.applied[owner] = images, applied
        return 0

    def _refusal(self, owner: str, message: Message, images: dict[str, Stored], applied: set[int]) -> int:
        if owner not in self.members:
            return 4
        if message.number in applied:
            return 5
        if message.number < max(applied, default=0) or message.number <= self.floors.get(owner, 0):
            return 6
        there = [path in images for path in message.images]
        fits = not any(there) if message.kind == "add" else all(there)
        return 0 if fits else 9

    def remove(self, owner: str) -> int:
        """End an owner's membership."""
        if owner not in self.members:
            return 5
        self.floors[owner] = max(self.floors.get(owner, 0), *self.applied.get(owner, set()), 0)
        self.left[owner] = self.members.pop(owner).number
        self.images.pop(owner, None)
        self.applied.pop(owner, None)
        return 0

    def found_by(self, user: str) -> dict[Place, Stored]:
        """Return every image that the user may search."""
        return {
            (owner, path): stored
            for owner, member in self.members.items()
            if user in member.users
            for path, stored in self.images.get(owner, {}).items()
        }


@dataclass
class KmcModel:
    """Whom the KMC knows, which keys it holds, and to which sealing keys it can be spoken to."""

    enrolled: dict[str, Enrolment] = field(default_factory=dict)
    keys: dict[str, frozenset[str]] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)
    opens: set[int] = field(default_factory=lambda: {0})
    sealing: int = 0

    def enroll(self, owner: str, enrolment: Enrolment) -> int:
        """Return the exit code that is due, and take the enrolment if it is 0."""
        code = order(enrolment, self.enrolled.get(owner), self.left.get(owner, 0))
        if code:
            return code
        if enrolment.sealed_to not in self.opens:
            return 8
        held = self.keys.get(owner, frozenset())
        self.keys[owner] = (held - enrolment.forgotten) | enrolment.keys
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


@dataclass
class OwnerModel:
    """What an owner holds and sent."""

    files: dict[str, bytes] = field(default_factory=dict)
    sent: list[Message] = field(default_factory=list)
    users: frozenset[str] = frozenset()
    keys: list[str] = field(default_factory=list)
    forgotten: frozenset[str] = frozenset()
    sealing: int = 0

    def live(self) -> dict[str, Stored]:
        """Return the images that the owner's ledger lists."""
        images: dict[str, Stored] = {}
        for message in self.sent:
            images = message.applied_to(images)
        return images

    def forgettable(self) -> list[str]:
        """Return the former keys under which the ledger lists no image."""
        in_use = {stored.key for stored in self.live().values()}
        return [key for key in self.keys[:-1] if key not in in_use]

    def enrolment(self, number: int) -> Enrolment:
        """Return what the owner says of itself now."""
        return Enrolment(number, self.users, frozenset(self.keys), self.forgotten, self.sealing)

    def forget(self, keys: list[str]) -> None:
        """Drop former keys."""
        self.keys = [key for key in self.keys if key not in keys]
        self.forgotten |= frozenset(keys)
