"""Which images `owner encrypt` sends: those that are new or changed, as the owner's ledger tells."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from mipp_cli.descriptors.external import OwnFeatures
from mipp_cli.errors import AlreadyAppliedError, InvalidRequestError, MippError, UnreadableImageError
from mipp_cli.images.collection import ImageFile
from mipp_cli.images.kinds import Kind
from mipp_cli.log import timed
from mipp_cli.names import path_of, recognised
from mipp_cli.owner.ledger import DELETE, FILE, PIXELS, Ledger, SentImage, Standing, was_pixels
from mipp_cli.progress import Progress, silent
from mipp_cli.scheme.encoding import length_prefixed

NEW, CHANGED, AGAIN, UNCHANGED, DELETED = "new", "changed", "sent again", "unchanged", "deleted before"
_NOT_NAMED = "not named by --again"
_SENT = (NEW, CHANGED, AGAIN)


@dataclass(frozen=True)
class EncryptOptions:
    """How a collection is encrypted, and what of it.

    ``payload`` is `file` or `pixels`, or None where nobody chose: then it is the file, unless the collection
    holds files that name patients; unreadable images are skipped or refused; ``split`` is the size in
    bytes at which another upload is begun; ``resume`` goes on with an interrupted run (False throws it
    away, None refuses). ``features`` is a file of the owner's own features; ``model`` where the owner's
    copy of the deployment's model is now, if it moved; ``device`` what runs it. What is new is sent;
    ``undelete`` sends images that were deleted, too, ``again`` all that were sent before, and ``messages``
    nothing but what these uploads still decide. ``report`` is where every file is
    accounted for, as CSV. ``small`` admits groups that are smaller than the
    deployment's.
    """

    payload: str | None = None
    skip_unreadable: bool = False
    split: int | None = None
    resume: bool | None = None
    force: bool = False
    features: Path | None = None
    model: Path | None = None
    device: str = "cpu"
    undelete: bool = False
    again: bool = False
    messages: frozenset[int] = frozenset()
    small: bool = False
    report: Path | None = None

    @property
    def pixels(self) -> bool:
        """Whether the matrix of pixels is encrypted, and not the file."""
        return self.payload == PIXELS

    @property
    def payload_kind(self) -> str:
        """What is encrypted: `file` or `pixels`."""
        return PIXELS if self.pixels else FILE


class Choice:
    """Which of ``images`` are ``sent``, and how many for which reason.

    Images that the ledger lists as sent and that are unchanged are left out, and so are those that were
    deleted, unless the options say otherwise. A file that was written since is read, to see whether it is
    another now; ``refreshed`` gives the versions of those that are not. ``absent`` is how many images of the
    uploads that are to be made again are not there.
    """

    @timed("comparing the images with what was sent")
    def __init__(
        self,
        ledger: Ledger,
        images: Sequence[ImageFile],
        options: EncryptOptions,
        features: OwnFeatures | None,
        progress: Progress = silent,
    ):
        _refuse_unknown(ledger, options.messages)
        paths = {image.name for image in images}
        self._options, self._features = options, features
        self._standing = ledger.standing(paths)
        self._wanted = ledger.decided_by(options.messages)
        self.absent = len(self._wanted - paths)
        self.refreshed: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self.reasons: dict[str, str] = {}  # of each image, why it is sent or not
        self.sent: list[ImageFile] = []
        self.unreadable: set[str] = set()  # of those that had to be read
        self.sent_as_pixels = 0  # of which the file would take the place, and nobody said so
        self.payload_before = ledger.last_payload()
        with progress("comparing", len(images), "image") as advance:
            for image in images:
                self._choose(image)
                advance(1)

    def _choose(self, image: ImageFile) -> None:
        try:
            why = self._reason(image)
            self.reasons[image.name] = why
            self._counts[why] += 1
            if why in _SENT:
                self.sent.append(image)
                self.sent_as_pixels += why != NEW and self._were_pixels(image)
        except UnreadableImageError:  # whoever describes it says why
            self.sent.append(image)
            self.unreadable.add(image.name)

    def _reason(self, image: ImageFile) -> str:
        """Return why an image is sent or left out; UnreadableImageError if its file had to be read."""
        standing, options = self._standing.get(image.name), self._options
        if options.messages:
            return AGAIN if image.name in self._wanted else _NOT_NAMED
        if standing is None:
            return NEW
        if options.again if standing.live else options.undelete:
            return AGAIN
        if not standing.live:
            return DELETED
        return UNCHANGED if self._is_unchanged(image, standing.image) else CHANGED

    def _were_pixels(self, image: ImageFile) -> bool:
        """Say whether an image was sent as pixels, and nobody says that the file may be sent now."""
        standing = self._standing.get(image.name)
        return standing is not None and self._options.payload is None and was_pixels(standing.image.version)

    def _is_unchanged(self, image: ImageFile, sent: SentImage) -> bool:
        version = self.version(image, image.version())  # before reading: what changes meanwhile is another
        if sent.version == version:
            return True
        if not sent.digest:  # nobody knows what of it got out
            return False
        if self.digest(image, hashlib.sha256(image.read()).hexdigest()) != sent.digest:
            return False
        self.refreshed[image.name] = version
        return True

    def version(self, image: ImageFile, version: str) -> str:
        """Return what changes whenever the file, the payload or its owner's feature does."""
        codes = "" if self._features is None else hashlib.sha256(self._codes(image)).hexdigest()[:32]
        return f"{version} {self._options.payload_kind} {codes}".rstrip()

    def digest(self, image: ImageFile, content: str) -> str:
        """Return a digest of what is sent: ``content`` is that of the file's bytes, in hex."""
        sent = length_prefixed(self._options.payload_kind, content, self._codes(image))
        return hashlib.sha256(sent).hexdigest()[:32]

    def _codes(self, image: ImageFile) -> bytes:
        return b"" if self._features is None else self._features.codes(image).tobytes()

    def groups(self) -> dict[str, str]:
        """Return the group that the ledger has each image in, or had a deleted one in."""
        return {path: each.image.group for path, each in self._standing.items() if each.image.group}

    def superseded(self, paths: Collection[str]) -> list[Standing]:
        """Return what an upload of ``paths`` decides over."""
        return [self._standing[path] for path in paths if path in self._standing]

    @cached_property
    def kinds(self) -> dict[Kind, tuple[int, ImageFile]]:
        """Of each kind of picture that is sent, by the first bytes: how many there are, and the first."""
        found: dict[Kind, tuple[int, ImageFile]] = {}
        for image in self.sent:
            if (kind := image.kind()) is not None:
                count, first = found.get(kind, (0, image))
                found[kind] = (count + 1, first)
        return found

    def counted(self, sent: Collection[str]) -> dict[str, int]:
        """Return how many images were ``sent`` or left out, and why."""
        counts = Counter(why for name, why in self.reasons.items() if why not in _SENT or name in sent)
        return {why: counts[why] for why in (NEW, CHANGED, AGAIN, UNCHANGED, DELETED)}

    @property
    def left_out(self) -> int:
        """How many images need not be sent."""
        return self._counts[UNCHANGED] + self._counts[DELETED]

    def nothing_to_send(self) -> MippError:
        """Return the error that says why no image is sent."""
        if self._options.messages:
            numbers = ", ".join(map(str, sorted(self._options.messages)))
            return InvalidRequestError(
                f"none of the images named is one that {numbers} still decides",
                hint="name the folder that the images were sent from; what was sent since counts instead",
            )
        ways = {UNCHANGED: "--again sends those that are unchanged", DELETED: "--undelete those deleted"}
        found = [kind for kind in ways if self._counts[kind]]
        counts = ", ".join(f"{self._counts[kind]} {kind}" for kind in found)
        return AlreadyAppliedError(f"nothing is new: {counts}", hint="; ".join(ways[each] for each in found))


def as_called_before(ledger: Ledger, images: Sequence[ImageFile]) -> Sequence[ImageFile]:
    """Return ``images``, each called as the ledger calls it if the two differ in how letters are composed.

    A folder that was copied from one system to another may come with other names, and the same pictures.
    """
    if all(image.name.isascii() for image in images):
        return images
    before = recognised([image.name for image in images], ledger.paths())
    return [
        image if _is_beside(image, name := before.get(image.name, image.name)) else replace(image, name=name)
        for image in images
    ]


def _is_beside(image: ImageFile, name: str) -> bool:
    """Say whether another file of this ``name`` is there too, though it was not named."""
    location, own = str(image.path), path_of(image.name)
    with suppress(OSError):
        other = location.removesuffix(own) + path_of(name)
        return location.endswith(own) and not image.path.samefile(other)
    return False


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
