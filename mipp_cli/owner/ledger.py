"""The ledger: the owner's own record of the uploads and deletions it sent.

Each message has a file `uploads/NUMBER.jsonl`: a line with its key id, a line per image in the order of the
message, and a line with the SHA-256 of all lines before. The message with the highest number that mentions an
image decides it, as at a cloud that has all messages.

A message is *unsure* until the command that writes it ends; state.json lists these numbers. If that command
was killed, the message may or may not have been sent, so its images count as sent and changed since.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from mipp_cli.errors import OutputError
from mipp_cli.files.atomic import new_file
from mipp_cli.files.folders import paths_in
from mipp_cli.files.json_state import damaged_unless_sound

UPLOADS_FOLDER = "uploads"
UPLOAD, DELETE = "upload", "delete"
FILE, PIXELS = "file", "pixels"
"""The payload of an image; a word in its version."""


def was_pixels(version: str) -> bool:
    """Return whether an image of this version was sent as pixels, not as a file."""
    return PIXELS in version.split(" ")


class Message(NamedTuple):
    """A message: its number, and the id of the SK of an upload; None for a deletion."""

    number: int
    key: int | None = None

    @property
    def kind(self) -> str:
        """The kind of the message's container."""
        return DELETE if self.key is None else UPLOAD


class SentImage(NamedTuple):
    """An image of a message: its wire name and its path, and for an upload what was sent.

    ``version`` changes whenever the file is written, ``digest`` only when its content does. ``group`` is the
    id of the image's group, in schemes with groups. A deletion has only the payload as the version.
    """

    name: str
    path: str
    version: str = ""
    digest: str = ""
    group: str = ""


class Standing(NamedTuple):
    """The message that decides an image, and its entry there."""

    message: Message
    image: SentImage

    @property
    def live(self) -> bool:
        """Whether the image is live, not deleted."""
        return self.message.key is not None


@dataclass(frozen=True)
class Ledger:
    """An owner's ledger files, in one folder, and the numbers of messages that are ``unsure``."""

    folder: Path
    unsure: frozenset[int] = frozenset()

    def file(self, number: int) -> Path:
        """Return the path of a message's ledger file."""
        return self.folder / f"{number}.jsonl"

    @contextmanager
    def writing(self, message: Message) -> Iterator[Callable[[SentImage], None]]:
        """Give a function that appends an image to a message's ledger file.

        The file appears when the block succeeds. Raises OutputError.
        """
        digest = hashlib.sha256()
        with (
            new_file(self.file(message.number), force=True, private=True) as path,
            path.open("w", encoding="ascii") as file,
        ):

            def write(content: object) -> None:
                line = json.dumps(content) + "\n"
                digest.update(line.encode())
                file.write(line)

            write({"key": None if message.key is None else f"{message.key:016x}"})
            yield write
            write({"digest": digest.hexdigest()})

    def refresh(self, versions: Mapping[str, str]) -> None:
        """Record new versions of files whose content is unchanged.

        If a version cannot be written, its file is read again next time.
        """
        standing = self.standing(versions) if versions else {}
        for message in {each.message for each in standing.values()}:
            with suppress(OutputError), self.writing(message) as write:
                for image in self.images(message.number):
                    decides = standing.get(image.path)
                    fresh = decides is not None and decides.message == message
                    write(image._replace(version=versions[image.path]) if fresh else image)

    def messages(self) -> list[Message]:
        """Return all messages in the order of their numbers; raises MalformedError."""
        found = []
        names = (path.stem for path in paths_in(self.folder, ".jsonl"))
        for number in sorted(int(name) for name in names if name.isdecimal()):
            with _reading(self.file(number)) as file:
                key = json.loads(file.readline())["key"]
                found.append(Message(number, None if key is None else int(key, 16)))
        return found

    def images(self, number: int) -> Iterator[SentImage]:
        """Yield the images of a message, in its order.

        Raises MalformedError if the file was changed, at the latest after the last image.
        """
        with _reading(self.file(number)) as file:
            digest, before = hashlib.sha256(file.readline().encode()), ""
            for line in file:
                if before:
                    yield SentImage(*map(str, json.loads(before)))
                    digest.update(before.encode())
                before = line
            if json.loads(before)["digest"] != digest.hexdigest():
                raise ValueError("not what was written")

    def last_payload(self) -> str | None:
        """Return the payload of the newest upload, `file` or `pixels`; None if nothing was sent."""
        for message in reversed(self.messages()):
            if message.kind == UPLOAD:
                first = next(self.images(message.number), None)
                return PIXELS if first is not None and was_pixels(first.version) else FILE
        return None

    def paths(self) -> Iterator[str]:
        """Yield the path of each image of each message, with repetitions."""
        return (image.path for message in self.messages() for image in self.images(message.number))

    def standing(self, paths: Collection[str]) -> dict[str, Standing]:
        """Return what decides each of ``paths`` in the ledger; memory grows with ``paths`` only.

        A deleted image keeps its last group.
        """
        found: dict[str, Standing] = {}
        for message in self.messages():
            for image in self.images(message.number):
                if image.path in paths:
                    known, before = image, found.get(image.path)
                    if message.number in self.unsure or message.kind == DELETE:
                        # Keep the payload, so that what was sent as pixels is not sent as a file by mistake.
                        versions = (image.version, before.image.version if before else "")
                        pixels = any(map(was_pixels, versions))
                        known = image._replace(version=PIXELS if pixels else "", digest="")
                    if not image.group and before is not None:
                        known = known._replace(group=before.image.group)
                    found[image.path] = Standing(message, known)
        return found

    def live(self) -> Iterator[Standing]:
        """Yield all live images, message by message."""
        return (each for each in self._decided(self.messages()) if each.live)

    def everything(self, number: int | None = None) -> Iterator[tuple[Standing, bool]]:
        """Yield each image of all messages, or of one, and whether that message decides it."""
        for message, rows in self._last(self.messages()).items():
            if number in (None, message.number):
                for image, decides in zip(self.images(message.number), rows, strict=True):
                    yield Standing(message, image), bool(decides)

    def deciding(self, up_to: int | None = None) -> Counter[int]:
        """Return how many images each message decides, by number, without messages that decide none.

        With ``up_to``, only messages up to that number count.
        """
        messages = [each for each in self.messages() if up_to is None or each.number <= up_to]
        return +Counter({each.number: int(rows.sum()) for each, rows in self._last(messages).items()})

    def decided_by(self, numbers: Collection[int]) -> set[str]:
        """Return the paths of images that these messages decide, ignoring other messages that are unsure."""
        if not numbers:
            return set()
        others = self.unsure.difference(numbers)
        messages = [each for each in self.messages() if each.number not in others]
        return {each.image.path for each in self._decided(messages) if each.message.number in numbers}

    def members(self, groups: Collection[str]) -> dict[str, set[str]]:
        """Return the paths of the live images of each of ``groups``."""
        members: dict[str, set[str]] = {group: set() for group in groups}
        for each in self.live() if members else ():
            if each.image.group in members:
                members[each.image.group].add(each.image.path)
        return members

    def _decided(self, messages: Sequence[Message]) -> Iterator[Standing]:
        for message, rows in self._last(messages).items():
            for image in compress(self.images(message.number), rows):
                yield Standing(message, image)

    def _last(self, messages: Sequence[Message]) -> dict[Message, NDArray[np.bool_]]:
        """Return for each image of ``messages``, given in order, whether no later one mentions it.

        Takes a few dozen bytes of memory per image, since paths are reduced to digests.
        """
        digests = [self._path_digests(message.number) for message in messages]
        paths = np.concatenate([np.empty(0, dtype="S16"), *digests])
        _, from_the_end = np.unique(paths[::-1], return_index=True)
        is_last = np.zeros(len(paths), dtype=bool)
        is_last[len(paths) - 1 - from_the_end] = True
        ends = np.cumsum([len(each) for each in digests], dtype=int)
        return dict(zip(messages, np.split(is_last, ends), strict=False))  # the part after them is empty

    def _path_digests(self, number: int) -> NDArray[np.bytes_]:
        """Return a 128-bit digest of each path of a message."""
        paths = (image.path.encode() for image in self.images(number))
        data = b"".join(hashlib.blake2b(path, digest_size=16).digest() for path in paths)
        return np.frombuffer(data, dtype="S16")


def still_deciding(before: Mapping[int, int], superseded: Iterable[Standing]) -> Counter[int]:
    """Return what :meth:`Ledger.deciding` gives after a new message supersedes ``superseded``."""
    counts = Counter(before)
    counts.subtract(each.message.number for each in superseded)
    return +counts


@contextmanager
def _reading(path: Path) -> Iterator[TextIO]:
    with damaged_unless_sound(path), path.open(newline="\n", encoding="ascii") as file:
        yield file
