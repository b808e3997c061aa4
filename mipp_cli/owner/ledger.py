"""The owner's own record of what was sent: uploads and deletions.

One file for each message, `uploads/NUMBER.jsonl`: a line that says under which key it is, a line for each
image in the order of the message, and a line with the SHA-256 of all lines before. For an image, the highest
number that mentions it decides, as it does at the cloud once that has everything.

A message is *unsure*, as state.json says, until the command that writes it is done. Of what a killed command
wrote, nobody knows what got out: its images count as sent, and as changed since.
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
from mipp_cli.files.json_state import damaged_unless_sound

UPLOADS_FOLDER = "uploads"
UPLOAD, DELETE = "upload", "delete"
FILE, PIXELS = "file", "pixels"
"""What an image was sent as; a word of its version."""


def was_pixels(version: str) -> bool:
    """Say whether the version of a sent image says that its pixels were sent, and not its file."""
    return PIXELS in version.split(" ")


class Message(NamedTuple):
    """A message: its number, and of an upload the id of its SK; a deletion has none."""

    number: int
    key: int | None = None

    @property
    def kind(self) -> str:
        """What kind of container the message is."""
        return DELETE if self.key is None else UPLOAD


class SentImage(NamedTuple):
    """An image of a message: its name on the wire and its path, and of an upload what was sent.

    ``version`` changes whenever the file is written, ``digest`` only when what is sent changes. ``group``
    is what the owner calls the image's group, where the scheme has groups.
    """

    name: str
    path: str
    version: str = ""
    digest: str = ""
    group: str = ""


class Standing(NamedTuple):
    """What decides an image: the message, and what that says of the image."""

    message: Message
    image: SentImage

    @property
    def live(self) -> bool:
        """Whether the image is live in that message, and not deleted."""
        return self.message.key is not None


@dataclass(frozen=True)
class Ledger:
    """The ledgers of an owner, in one folder, and the numbers of the messages that are ``unsure``."""

    folder: Path
    unsure: frozenset[int] = frozenset()

    def file(self, number: int) -> Path:
        """Return where the ledger of a message is kept."""
        return self.folder / f"{number}.jsonl"

    @contextmanager
    def writing(self, message: Message) -> Iterator[Callable[[SentImage], None]]:
        """Give what appends an image to the ledger of a message, in place when the block succeeds.

        Raises OutputError.
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
        """Note of images that are unchanged under which version their files are known now.

        Where that cannot be written, the files are read again the next time.
        """
        standing = self.standing(versions) if versions else {}
        for message in {each.message for each in standing.values()}:
            with suppress(OutputError), self.writing(message) as write:
                for image in self.images(message.number):
                    decides = standing.get(image.path)
                    fresh = decides is not None and decides.message == message
                    write(image._replace(version=versions[image.path]) if fresh else image)

    def messages(self) -> list[Message]:
        """Return all messages in the order of their numbers; MalformedError."""
        found = []
        for number in sorted(int(file.stem) for file in self.folder.glob("*.jsonl") if file.stem.isdecimal()):
            with _reading(self.file(number)) as file:
                key = json.loads(file.readline())["key"]
                found.append(Message(number, None if key is None else int(key, 16)))
        return found

    def images(self, number: int) -> Iterator[SentImage]:
        """Yield the images of a message, in its order.

        Raises MalformedError, at the latest behind the last image, if the file is not as it was written.
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
        """Return what the newest upload holds, `file` or `pixels`; None if nothing was sent."""
        for message in reversed(self.messages()):
            if message.kind == UPLOAD:
                first = next(self.images(message.number), None)
                return PIXELS if first is not None and was_pixels(first.version) else FILE
        return None

    def paths(self) -> Iterator[str]:
        """Yield the path of each image of each message, as often as it was sent or deleted."""
        return (image.path for message in self.messages() for image in self.images(message.number))

    def standing(self, paths: Collection[str]) -> dict[str, Standing]:
        """Return what decides each of ``paths`` that there are; memory grows with ``paths`` alone.

        A deleted image is said to be in its last group.
        """
        found: dict[str, Standing] = {}
        for message in self.messages():
            for image in self.images(message.number):
                if image.path in paths:
                    known, before = image, found.get(image.path)
                    if message.number in self.unsure or message.kind == DELETE:
                        # The payload stays known: what went out as pixels is not sent as a file unasked.
                        versions = (image.version, before.image.version if before else "")
                        pixels = any(map(was_pixels, versions))
                        known = image._replace(version=PIXELS if pixels else "", digest="")
                    if not image.group and before is not None:
                        known = known._replace(group=before.image.group)
                    found[image.path] = Standing(message, known)
        return found

    def live(self) -> Iterator[Standing]:
        """Yield all images that are live, message by message."""
        return (each for each in self._decided(self.messages()) if each.live)

    def everything(self, number: int | None = None) -> Iterator[tuple[Standing, bool]]:
        """Yield each image of each message, or of one, and whether that message decides it."""
        for message, rows in self._last(self.messages()).items():
            if number in (None, message.number):
                for image, decides in zip(self.images(message.number), rows, strict=True):
                    yield Standing(message, image), bool(decides)

    def deciding(self, up_to: int | None = None) -> Counter[int]:
        """Return how many images each message decides, by its number; none is there with 0.

        With ``up_to``, among the messages up to a number.
        """
        messages = [each for each in self.messages() if up_to is None or each.number <= up_to]
        return +Counter({each.number: int(rows.sum()) for each, rows in self._last(messages).items()})

    def decided_by(self, numbers: Collection[int]) -> set[str]:
        """Return the paths of the images that messages still decide, whatever others say that are unsure."""
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
        """Say of each image of ``messages``, which are in order, whether none behind mentions it.

        Memory takes some 16-byte digests and numbers an image sent, and no paths.
        """
        digests = [self._path_digests(message.number) for message in messages]
        paths = np.concatenate([np.empty(0, dtype="S16"), *digests])
        _, from_the_end = np.unique(paths[::-1], return_index=True)
        is_last = np.zeros(len(paths), dtype=bool)
        is_last[len(paths) - 1 - from_the_end] = True
        ends = np.cumsum([len(each) for each in digests], dtype=int)
        return dict(zip(messages, np.split(is_last, ends), strict=False))  # nothing is behind the last end

    def _path_digests(self, number: int) -> NDArray[np.bytes_]:
        """Return 128 bits for each path of a message: enough to tell paths apart."""
        paths = (image.path.encode() for image in self.images(number))
        data = b"".join(hashlib.blake2b(path, digest_size=16).digest() for path in paths)
        return np.frombuffer(data, dtype="S16")


def still_deciding(before: Mapping[int, int], superseded: Iterable[Standing]) -> Counter[int]:
    """Return :meth:`Ledger.deciding` once a message decides over the images of ``superseded``."""
    counts = Counter(before)
    counts.subtract(each.message.number for each in superseded)
    return +counts


@contextmanager
def _reading(path: Path) -> Iterator[TextIO]:
    with damaged_unless_sound(path), path.open(newline="\n", encoding="ascii") as file:
        yield file
