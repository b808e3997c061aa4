"""Which images `owner encrypt` sends: those that are new or changed, as the owner's ledger tells."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from mipp_cli.descriptors.external import OwnFeatures
from mipp_cli.errors import AlreadyAppliedError, InvalidRequestError, MippError
from mipp_cli.images.collection import ImageFile
from mipp_cli.owner.describing import ReadImage, read_image
from mipp_cli.owner.ledger import DELETE, Ledger, Standing
from mipp_cli.progress import Advance
from mipp_cli.scheme.encoding import length_prefixed

NEW, CHANGED, AGAIN, UNCHANGED, DELETED = "new", "changed", "sent again", "unchanged", "deleted before"


class Look(Enum):
    """What is known of an image before its file is read."""

    SEND = "send"
    LEAVE = "leave"
    READ = "read"  # and compare what was sent


@dataclass(frozen=True)
class EncryptOptions:
    """How a collection is encrypted, and what of it.

    ``payload`` is `file` or `pixels`; unreadable images are skipped or refused; ``split`` is the size in
    bytes at which another upload is begun; ``resume`` goes on with an interrupted run (False throws it
    away, None refuses). ``features`` is a file of the owner's own features; without it, edges describe the
    images. What is new is sent; ``undelete`` sends images that were deleted, too, ``again`` all that were
    sent before, and ``messages`` nothing but what these uploads still decide. ``small`` admits groups that
    are smaller than the deployment's.
    """

    payload: str = "file"
    skip_unreadable: bool = False
    split: int | None = None
    resume: bool | None = None
    force: bool = False
    features: Path | None = None
    undelete: bool = False
    again: bool = False
    messages: frozenset[int] = frozenset()
    small: bool = False


class Choice:
    """Says of each image whether it is sent, and counts why.

    Images that the ledger lists as sent and that are unchanged are left out, and so are those that were
    deleted, unless the options say otherwise. ``absent`` is how many images of the uploads that are to be
    made again are not there; ``refreshed`` gives versions of files that were written again as they were.
    """

    def __init__(
        self,
        ledger: Ledger,
        images: Sequence[ImageFile],
        options: EncryptOptions,
        features: OwnFeatures | None,
    ):
        _refuse_unknown(ledger, options.messages)
        paths = {image.name for image in images}
        self._standing = ledger.standing(paths)
        self._wanted = ledger.decided_by(options.messages)
        self.absent = len(self._wanted - paths)
        self._options, self._features = options, features
        self._counts: Counter[str] = Counter()
        self._undecided: set[str] = set()
        self.refreshed: dict[str, str] = {}

    def first_look(self, image: ImageFile) -> Look:
        """Decide by the ledger whether an image is sent, if its file need not be read for that."""
        standing, options = self._standing.get(image.name), self._options
        if options.messages:
            return self._send(AGAIN) if image.name in self._wanted else Look.LEAVE
        if standing is None:
            return self._send(NEW)
        if not standing.live:
            return self._send(AGAIN) if options.undelete else self._leave(DELETED)
        if options.again:
            return self._send(AGAIN)
        if standing.image.version == self.version(image, image.version()):
            return self._leave(UNCHANGED)
        self._undecided.add(image.name)
        return Look.READ

    def undecided(self, paths: Iterable[str]) -> list[str]:
        """Return those of ``paths`` whose files must be read, to see whether they are sent."""
        return [path for path in paths if path in self._undecided]

    def settle(self, image: ImageFile, content: str, version: str) -> bool:
        """Say whether an undecided image is sent, by the SHA-256 of its file, in hex; it is decided then."""
        self._undecided.remove(image.name)
        if self.digest(image, content) != self._standing[image.name].image.digest:
            self._send(CHANGED)
            return True
        self._leave(UNCHANGED)
        self.refreshed[image.name] = self.version(image, version)
        return False

    def reads(self, images: Sequence[ImageFile], leave: Advance = lambda _: None) -> Iterator[ReadImage]:
        """Read ``images``, and yield those that are sent; ``leave`` is called for each of the others."""
        for image in images:
            read = read_image(image, self._features)
            if isinstance(read.content, bytes) and image.name in self._undecided:
                content = hashlib.sha256(read.content).hexdigest()
                if not self.settle(image, content, read.version):
                    leave(1)
                    continue
            yield read

    def version(self, image: ImageFile, version: str) -> str:
        """Return what changes whenever the file, the payload or its owner's feature does."""
        codes = "" if self._features is None else hashlib.sha256(self._codes(image)).hexdigest()[:32]
        return f"{version} {self._options.payload} {codes}".rstrip()

    def digest(self, image: ImageFile, content: str) -> str:
        """Return a digest of what is sent: ``content`` is that of the file's bytes, in hex."""
        sent = length_prefixed(self._options.payload, content, self._codes(image))
        return hashlib.sha256(sent).hexdigest()[:32]

    def _codes(self, image: ImageFile) -> bytes:
        return b"" if self._features is None else self._features.codes(image).tobytes()

    def groups(self) -> dict[str, str]:
        """Return the group that the ledger has each image in, or had a deleted one in."""
        return {path: each.image.group for path, each in self._standing.items() if each.image.group}

    def superseded(self, paths: Collection[str]) -> list[Standing]:
        """Return what an upload of ``paths`` decides over."""
        return [self._standing[path] for path in paths if path in self._standing]

    def counted(self) -> dict[str, int]:
        """Return how many images were sent or left out, and why."""
        return {why: self._counts[why] for why in (NEW, CHANGED, AGAIN, UNCHANGED, DELETED)}

    @property
    def sent(self) -> int:
        """How many images are sent."""
        return self._counts[NEW] + self._counts[CHANGED] + self._counts[AGAIN]

    def nothing_to_send(self) -> MippError:
        """Return the error that says why no image is sent."""
        if self._options.messages:
            numbers = ", ".join(map(str, sorted(self._options.messages)))
            return InvalidRequestError(
                f"none of the images named is one that {numbers} still decides",
                hint="name the folder that the images were sent from; what was sent since counts instead",
            )
        ways = {UNCHANGED: "--again sends those that are unchanged", DELETED: "--undelete those deleted"}
        found = [kind for kind in (UNCHANGED, DELETED) if self._counts[kind]]
        counts = ", ".join(f"{self._counts[kind]} {kind}" for kind in found)
        return AlreadyAppliedError(f"nothing is new: {counts}", hint="; ".join(ways[each] for each in found))

    def _send(self, why: str) -> Look:
        self._counts[why] += 1
        return Look.SEND

    def _leave(self, why: str) -> Look:
        self._counts[why] += 1
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
