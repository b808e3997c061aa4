"""Choose the images that `owner encrypt` sends: those that are new or changed according to the ledger."""

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
    """The options of `owner encrypt`.

    ``payload`` is `file` or `pixels`; None means `file`, but is refused if there are DICOM files, which name
    patients. ``skip_unreadable`` skips unreadable images instead of refusing. ``split`` is the size in bytes
    at which a new upload begins. ``resume`` continues an interrupted run (False discards it, None refuses).
    ``features`` is a file of the owner's own features, ``model`` the new place of the owner's copy of the
    deployment's model, ``device`` the device that runs it. ``undelete`` also sends deleted images, ``again``
    also all images sent before, and ``messages`` only images that these uploads still decide. ``small``
    allows groups smaller than the deployment's group size. ``report`` is the path of the file report.
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
        """Whether pixels are encrypted instead of files."""
        return self.payload == PIXELS

    @property
    def payload_kind(self) -> str:
        """The payload: `file` or `pixels`."""
        return PIXELS if self.pixels else FILE


class Choice:
    """The images to send (``sent``), and the reason for each image.

    Images that were sent and are unchanged are left out, and so are deleted ones, unless the options say
    otherwise. A file written since is read to see whether its content changed; ``refreshed`` has the new
    versions of those that did not. ``absent`` counts images of the uploads to be sent again that are not
    among ``images``.
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
        self.reasons: dict[str, str] = {}  # per image, why it is sent or not
        self.sent: list[ImageFile] = []
        self.sent_as_pixels = 0  # images that a file would replace without being asked for
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
        except UnreadableImageError:  # the first pass reports the error
            self.sent.append(image)

    def _reason(self, image: ImageFile) -> str:
        """Return why an image is sent or left out; raises UnreadableImageError if it had to be read."""
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
        """Return whether an image was sent as pixels and the options do not say which payload to send now."""
        standing = self._standing.get(image.name)
        return standing is not None and self._options.payload is None and was_pixels(standing.image.version)

    def _is_unchanged(self, image: ImageFile, sent: SentImage) -> bool:
        version = self.version(
            image, image.version()
        )  # before reading, so that a later change counts as a new version
        if sent.version == version:
            return True
        if not sent.digest:  # it is not known whether this was sent
            return False
        if self.digest(image, hashlib.sha256(image.read()).hexdigest()) != sent.digest:
            return False
        self.refreshed[image.name] = version
        return True

    def version(self, image: ImageFile, version: str) -> str:
        """Return a text that changes whenever the file, the payload or the supplied feature does."""
        codes = "" if self._features is None else hashlib.sha256(self._codes(image)).hexdigest()[:32]
        return f"{version} {self._options.payload_kind} {codes}".rstrip()

    def digest(self, image: ImageFile, content: str) -> str:
        """Return a digest of what is sent; ``content`` is the digest of the file's bytes, in hex."""
        sent = length_prefixed(self._options.payload_kind, content, self._codes(image))
        return hashlib.sha256(sent).hexdigest()[:32]

    def _codes(self, image: ImageFile) -> bytes:
        return b"" if self._features is None else self._features.codes(image).tobytes()

    def groups(self) -> dict[str, str]:
        """Return the group of each image in the ledger; for a deleted image, its last one."""
        return {path: each.image.group for path, each in self._standing.items() if each.image.group}

    def superseded(self, paths: Collection[str]) -> list[Standing]:
        """Return the entries that an upload of ``paths`` supersedes."""
        return [self._standing[path] for path in paths if path in self._standing]

    @cached_property
    def kinds(self) -> dict[Kind, tuple[int, ImageFile]]:
        """The count and the first image of each kind to be sent, judged by the first bytes."""
        found: dict[Kind, tuple[int, ImageFile]] = {}
        for image in self.sent:
            if (kind := image.kind()) is not None:
                count, first = found.get(kind, (0, image))
                found[kind] = (count + 1, first)
        return found

    def counted(self, sent: Collection[str]) -> dict[str, int]:
        """Return how many images were ``sent`` or left out, by reason."""
        counts = Counter(why for name, why in self.reasons.items() if why not in _SENT or name in sent)
        return {why: counts[why] for why in (NEW, CHANGED, AGAIN, UNCHANGED, DELETED)}

    @property
    def left_out(self) -> int:
        """How many images are left out."""
        return self._counts[UNCHANGED] + self._counts[DELETED]

    def nothing_to_send(self) -> MippError:
        """Return the error for a run that sends no image."""
        if self._options.messages:
            numbers = ", ".join(map(str, sorted(self._options.messages)))
            return InvalidRequestError(
                f"none of the images named is still decided by {numbers}",
                hint="name the folder that the images were sent from; images sent again since do not count",
            )
        ways = {UNCHANGED: "--again sends those that are unchanged", DELETED: "--undelete those deleted"}
        found = [kind for kind in ways if self._counts[kind]]
        counts = ", ".join(f"{self._counts[kind]} {kind}" for kind in found)
        return AlreadyAppliedError(f"nothing is new: {counts}", hint="; ".join(ways[each] for each in found))


def as_called_before(ledger: Ledger, images: Sequence[ImageFile]) -> Sequence[ImageFile]:
    """Return ``images``, renamed as in the ledger where names differ only in how accents are composed.

    Copying a folder to another system may change the form of its names.
    """
    if all(image.name.isascii() for image in images):
        return images
    before = recognised([image.name for image in images], ledger.paths())
    return [
        image if _is_beside(image, name := before.get(image.name, image.name)) else replace(image, name=name)
        for image in images
    ]


def _is_beside(image: ImageFile, name: str) -> bool:
    """Return whether another file of this ``name`` exists beside the image."""
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
                hint=f"write it again with: mipp owner delete OWNER --again {number}",
            )
