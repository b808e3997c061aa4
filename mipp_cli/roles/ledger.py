"""The owner's own record of what was sent: uploads, deletions, and those that were withdrawn.

One file for each message, `uploads/NUMBER.jsonl`: a line that says what the message was, a line
`[name, path]` for each image in the order of the message, and a line with the SHA-256 of all lines before.
Which images are *live*, at the cloud once it applied everything, follows from the messages in the order of
their numbers.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from mipp_cli.containers.atomic import new_file
from mipp_cli.errors import MalformedError

UPLOADS_FOLDER = "uploads"
UPLOAD, DELETE, WITHDRAWN = "upload", "delete", "withdrawn"
_PASS_BYTES = 1 << 25  # of ledgers that are gone through at once: some hundred thousand images in memory


@dataclass(frozen=True)
class Message:
    """What a message was: number, kind, of an upload the id of its SK and its mark, and what it withdraws."""

    number: int
    kind: str
    key: int | None = None
    replaces: bool = False
    withdraws: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in (UPLOAD, DELETE, WITHDRAWN):
            raise ValueError("no message is of this kind")
        if (self.key is None) == (self.kind == UPLOAD) or (self.withdraws is None) == (
            self.kind == WITHDRAWN
        ):
            raise ValueError("an upload has a key, and what is withdrawn has a number")

    def to_json(self) -> dict[str, Any]:
        """Return the message as the first line of its file says it."""
        key = None if self.key is None else f"{self.key:016x}"
        return {"kind": self.kind, "key": key, "replaces": self.replaces, "withdraws": self.withdraws}

    @classmethod
    def from_json(cls, number: int, fields: dict[str, Any]) -> Message:
        """Read what :meth:`to_json` gave; KeyError, ValueError or TypeError if it is damaged."""
        key, withdraws = fields["key"], fields["withdraws"]
        return cls(
            number,
            fields["kind"],
            None if key is None else int(key, 16),
            bool(fields["replaces"]),
            None if withdraws is None else int(withdraws),
        )


class LiveImage(NamedTuple):
    """An image that the cloud has: its name on the wire, and which row of which upload, under which SK.

    ``earlier`` are the SKs that it may still be under: an upload that adds what is there already is
    refused by the cloud, so that what was there stays.
    """

    path: str
    name: str
    upload: int
    row: int
    key: int
    earlier: tuple[int, ...] = ()


@dataclass
class LedgerWriter:
    """Appends lines to the ledger of a message."""

    _file: TextIO
    _digest: Any = field(default_factory=hashlib.sha256)

    def append(self, name: str, path: str) -> None:
        """Append an image."""
        self._line([name, path])

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
        return self.folder / f"{number}.jsonl"

    def remove(self, number: int) -> None:
        """Forget a message that never got out, because writing it failed."""
        with suppress(OSError):  # nothing can be written any more: `owner withdraw` forgets it later
            self.file(number).unlink(missing_ok=True)

    @contextmanager
    def writing(self, message: Message) -> Iterator[LedgerWriter]:
        """Write the ledger of a message, in place when the block succeeds; raises OutputError."""
        with new_file(self.file(message.number), force=True, private=True) as path, path.open("w") as file:
            writer = LedgerWriter(file)
            writer._line(message.to_json())
            yield writer
            writer._finish()

    def messages(self) -> list[Message]:
        """Return all messages, withdrawn ones too, in the order of their numbers; MalformedError."""
        numbers = sorted(int(file.stem) for file in self.folder.glob("*.jsonl") if file.stem.isdecimal())
        messages = [self._head(number) for number in numbers]
        for message in messages:
            if message.kind == WITHDRAWN:  # nobody else reads it to its end, where damage shows
                list(self.rows(message.number))
        return messages

    def in_force(self) -> list[Message]:
        """Return the uploads and deletions that were not withdrawn, in the order of their numbers."""
        messages = self.messages()
        withdrawn = {message.withdraws for message in messages}
        return [each for each in messages if each.kind != WITHDRAWN and each.number not in withdrawn]

    def _head(self, number: int) -> Message:
        with _reading(self.file(number)) as file:
            return Message.from_json(number, json.loads(file.readline()))

    def rows(self, number: int) -> Iterator[tuple[str, str]]:
        """Yield the name and path of each image of a message, in its order.

        Raises MalformedError, at the latest behind the last image, if the file is not as it was written.
        """
        with _reading(self.file(number)) as file:
            head = file.readline()
            digest, before = hashlib.sha256(head.encode()), ""
            for line in file:
                if before:
                    name, path = json.loads(before)
                    yield str(name), str(path)
                    digest.update(before.encode())
                before = line
            if json.loads(before)["digest"] != digest.hexdigest():
                raise ValueError("not what was written")

    def live_among(self, paths: Collection[str]) -> dict[str, LiveImage]:
        """Return those of ``paths`` that are live; memory grows with ``paths`` alone."""
        return self._live(paths.__contains__)

    def live(self, messages: Sequence[Message] | None = None) -> Iterator[LiveImage]:
        """Yield all live images, in the order of uploads and rows unless there are very many.

        With ``messages``, those that would be live if these were in force. A large ledger is gone through
        several times, each time for a share of the paths.
        """
        shares = 1 + sum(file.stat().st_size for file in self.folder.glob("*.jsonl")) // _PASS_BYTES
        for share in range(shares):
            yield from self._live(_Share(share, shares).has, messages).values()

    def live_by_key(self) -> dict[int, int]:
        """Return how many live images there are, or may be, under each SK, by its id."""
        return dict(Counter(key for image in self.live() for key in {image.key, *image.earlier}))

    def _live(
        self, wanted: Callable[[str], bool], messages: Sequence[Message] | None = None
    ) -> dict[str, LiveImage]:
        live: dict[str, LiveImage] = {}
        for message in self.in_force() if messages is None else messages:
            for row, (name, path) in enumerate(self.rows(message.number)):
                if wanted(path):
                    before = live.pop(path, None)  # so that the order is that of the last upload
                    if message.key is not None:
                        earlier = (*before.earlier, before.key) if before and not message.replaces else ()
                        live[path] = LiveImage(path, name, message.number, row, message.key, earlier)
        return live


@contextmanager
def _reading(path: Path) -> Iterator[TextIO]:
    try:
        with path.open(newline="\n") as file:
            yield file
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise MalformedError("is damaged", path=path, hint="restore it from a backup") from None
