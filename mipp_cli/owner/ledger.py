"""The owner's own record of what was sent: uploads and deletions.

One file for each message, `uploads/NUMBER.jsonl`: a line that says what the message was, a line for each
image in the order of the message, and a line with the SHA-256 of all lines before. For an image, the
highest number that mentions it decides, as it does at the cloud once that has everything.

Messages are *unsure*, `uploads/FIRST-LAST.unsure`, from before they are written until the command that writes
them is done. Of what a killed one wrote, nobody knows what got out: its images count as sent, and as changed
since.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from mipp_cli.errors import OutputError
from mipp_cli.files.atomic import discard, new_file, write_bytes
from mipp_cli.files.json_state import damaged_unless_sound

UPLOADS_FOLDER = "uploads"
UPLOAD, DELETE = "upload", "delete"
_SUFFIX, _UNSURE = ".jsonl", ".unsure"
_PASS_BYTES = 1 << 25  # of ledgers that are gone through at once: some hundred thousand images in memory


@dataclass(frozen=True)
class Message:
    """What a message was: number, kind, and of an upload the id of its SK."""

    number: int
    kind: str
    key: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in (UPLOAD, DELETE) or (self.key is None) == (self.kind == UPLOAD):
            raise ValueError("a message is an upload, which has a key, or a deletion")

    def to_json(self) -> dict[str, Any]:
        """Return the message as the first line of its file says it."""
        return {"kind": self.kind, "key": None if self.key is None else f"{self.key:016x}"}

    @classmethod
    def from_json(cls, number: int, fields: dict[str, Any]) -> Message:
        """Read what :meth:`to_json` gave."""
        key = fields["key"]
        return cls(number, fields["kind"], None if key is None else int(key, 16))


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
    group: str = ""  # the image's last one, of a deleted image too

    @property
    def live(self) -> bool:
        """Whether the image is live in that message, and not deleted."""
        return self.message.kind == UPLOAD


@dataclass
class LedgerWriter:
    """Appends lines to the ledger of a message."""

    _file: TextIO
    _digest: Any = field(default_factory=hashlib.sha256)

    def append(self, image: SentImage) -> None:
        """Append an image."""
        self._line(image if image.version else image[:2])

    def _line(self, content: object) -> None:
        line = json.dumps(content) + "\n"
        self._file.write(line)
        self._digest.update(line.encode())

    def _finish(self) -> None:
        self._line({"digest": self._digest.hexdigest()})
        self._file.flush()


@dataclass(frozen=True)
class _Share:
    """A share of all paths."""

    number: int
    of: int

    def has(self, path: str) -> bool:
        return zlib.crc32(path.encode()) % self.of == self.number


@dataclass(frozen=True)
class Ledger:
    """The ledgers of an owner, in one folder."""

    folder: Path

    def file(self, number: int) -> Path:
        """Return where the ledger of a message is kept."""
        return self.folder / f"{number}{_SUFFIX}"

    def _unsure(self) -> dict[Path, range]:
        """Return the marks of unsure messages, and which numbers each is of: its name says so."""
        found = {}
        for mark in self.folder.glob(f"*{_UNSURE}"):
            first, _, last = mark.stem.partition("-")
            if first.isdecimal() and last.isdecimal():
                found[mark] = range(int(first), int(last) + 1)
        return found

    def is_unsure(self, number: int) -> bool:
        """Say whether a message may be out or not."""
        return any(number in numbers for numbers in self._unsure().values())

    @contextmanager
    def unsure(self, numbers: Sequence[int]) -> Iterator[None]:
        """Mark messages, numbered one after the other, as unsure while they are written.

        If the block fails, those stay unsure whose ledgers are in place; also if the mark cannot be removed,
        which costs no more than that their images are sent again. Raises OutputError before the block.
        """
        mark = self.folder / f"{numbers[0]}-{numbers[-1]}{_UNSURE}"
        write_bytes(mark, b"", private=True)
        try:
            yield
        except BaseException:
            if not any(self.file(number).exists() for number in numbers):
                discard(mark)
            raise
        discard(mark)

    def sweep(self) -> None:
        """Remove the marks of messages that decide nothing, or were never written; what stays goes later."""
        marks = self._unsure()
        deciding = self.deciding() if marks else ()
        for mark, numbers in marks.items():
            if not any(number in numbers for number in deciding):
                discard(mark)

    def remove(self, number: int) -> None:
        """Forget a message that never got out."""
        with suppress(OSError):  # nothing can be written any more: the message stays a gap until made again
            self.file(number).unlink(missing_ok=True)

    def refresh(self, versions: Mapping[str, str]) -> None:
        """Note of images that are unchanged under which version their files are known now.

        Where that cannot be written, the files are read again the next time.
        """
        standing = self.standing(versions.keys())
        for message in {each.message for each in standing.values()}:
            images = list(self.images(message.number))
            with suppress(OutputError), self.writing(message) as writer:
                for image in images:
                    decides = standing.get(image.path)
                    fresh = decides is not None and decides.message == message
                    writer.append(image._replace(version=versions[image.path]) if fresh else image)

    @contextmanager
    def writing(self, message: Message) -> Iterator[LedgerWriter]:
        """Write the ledger of a message, in place when the block succeeds; raises OutputError."""
        with new_file(self.file(message.number), force=True, private=True) as path, path.open("w") as file:
            writer = LedgerWriter(file)
            writer._line(message.to_json())
            yield writer
            writer._finish()

    def messages(self) -> list[Message]:
        """Return all messages in the order of their numbers; MalformedError."""
        numbers = sorted(int(file.stem) for file in self.folder.glob("*.jsonl") if file.stem.isdecimal())
        return [self._head(number) for number in numbers]

    def _head(self, number: int) -> Message:
        with _reading(self.file(number)) as file:
            return Message.from_json(number, json.loads(file.readline()))

    def images(self, number: int) -> Iterator[SentImage]:
        """Yield the images of a message, in its order.

        Raises MalformedError, at the latest behind the last image, if the file is not as it was written.
        """
        with _reading(self.file(number)) as file:
            head = file.readline()
            digest, before = hashlib.sha256(head.encode()), ""
            for line in file:
                if before:
                    yield SentImage(*map(str, json.loads(before)))
                    digest.update(before.encode())
                before = line
            if json.loads(before)["digest"] != digest.hexdigest():
                raise ValueError("not what was written")

    def standing(self, paths: Collection[str]) -> dict[str, Standing]:
        """Return what decides each of ``paths`` that there are; memory grows with ``paths`` alone."""
        return self._standing(paths.__contains__)

    def live(self) -> Iterator[Standing]:
        """Yield all images that are live, in no order.

        A large ledger is gone through several times, each time for a share of the paths.
        """
        shares = 1 + sum(file.stat().st_size for file in self.folder.glob("*.jsonl")) // _PASS_BYTES
        for share in range(shares):
            yield from (each for each in self._standing(_Share(share, shares).has).values() if each.live)

    def deciding(self, up_to: int | None = None) -> Counter[int]:
        """Return how many images each message decides, by its number; none is there with 0.

        With ``up_to``, among the messages up to a number. Memory takes 24 bytes an image sent.
        """
        numbers = [each.number for each in self.messages() if up_to is None or each.number <= up_to]
        digests = [self._path_digests(number) for number in numbers]
        paths = np.concatenate([np.empty((0, 2), dtype="<u8"), *digests])
        places = np.repeat(np.arange(len(numbers)), [len(each) for each in digests])
        order = np.lexsort((places, *paths.T))  # by path, and of each path the message that decides last
        is_last = np.append((paths[order][1:] != paths[order][:-1]).any(axis=1), True)[: len(order)]
        counts = np.bincount(places[order][is_last], minlength=len(numbers)).tolist()
        return +Counter(dict(zip(numbers, counts, strict=True)))

    def _path_digests(self, number: int) -> NDArray[np.uint64]:
        """Return 128 bits for each path of a message, shape (n, 2): enough to tell paths apart."""
        paths = (image.path.encode() for image in self.images(number))
        data = b"".join(hashlib.blake2b(path, digest_size=16).digest() for path in paths)
        return np.frombuffer(data, dtype="<u8").reshape(-1, 2)

    def decided_by(self, numbers: Collection[int]) -> set[str]:
        """Return the paths of the images that messages still decide, whatever others say that are unsure."""
        paths = {image.path for number in numbers for image in self.images(number)}
        marks = self._unsure().values()
        others = {each.number for each in self.messages() if any(each.number in mark for mark in marks)}
        standing = self._standing(paths.__contains__, others - set(numbers))
        return {path for path, each in standing.items() if each.message.number in numbers}

    def _standing(self, wanted: Callable[[str], bool], without: Collection[int] = ()) -> dict[str, Standing]:
        found: dict[str, Standing] = {}
        marks = self._unsure().values()
        for message in (each for each in self.messages() if each.number not in without):
            unsure = any(message.number in mark for mark in marks)
            for image in self.images(message.number):
                if wanted(image.path):
                    known = image._replace(version="", digest="") if unsure else image
                    before = found.get(image.path)
                    group = image.group or (before.group if before else "")
                    found[image.path] = Standing(message, known, group)
        return found

    def members(self, groups: Collection[str]) -> dict[str, set[str]]:
        """Return the paths of the live images of each of ``groups``; memory grows with those alone."""
        members: dict[str, set[str]] = {group: set() for group in groups}
        if not members:
            return members
        sent = (image for message in self.messages() for image in self.images(message.number))
        paths = {image.path for image in sent if image.group in members}
        for path, standing in self.standing(paths).items():
            if standing.live and standing.group in members:
                members[standing.group].add(path)
        return members


def still_deciding(before: Mapping[int, int], superseded: Collection[Standing]) -> Counter[int]:
    """Return :meth:`Ledger.deciding` once a message decides over the images of ``superseded``."""
    counts = Counter(before)
    counts.subtract(each.message.number for each in superseded)
    return +counts


@contextmanager
def _reading(path: Path) -> Iterator[TextIO]:
    with damaged_unless_sound(path), path.open(newline="\n") as file:
        yield file
