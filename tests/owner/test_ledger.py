"""The owner's record of what was sent, which images are live by it, and what later messages list of it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mipp_cli.containers.base.container import open_container
from mipp_cli.containers.messages.delete import DELETE
from mipp_cli.containers.messages.earlier import read_earlier
from mipp_cli.containers.messages.upload import upload_schema
from mipp_cli.errors import MalformedError
from mipp_cli.owner.ledger import Ledger, Message, SentImage, Standing, still_deciding
from mipp_cli.owner.owner import Owner
from tests.support.deployment import JOBS, Deployment, done, picture

KEY, NEWER_KEY = 7, 2**64 - 1


def sent(path: str) -> SentImage:
    return SentImage(f"name of {path}", path, f"version of {path}", f"digest of {path}")


def upload(ledger: Ledger, number: int, paths: str, key: int = KEY) -> None:
    write(ledger, Message(number, key), map(sent, paths))


def delete(ledger: Ledger, number: int, paths: str) -> None:
    write(ledger, Message(number), (SentImage(f"name of {path}", path) for path in paths))


def write(ledger: Ledger, message: Message, images: Iterable[SentImage]) -> None:
    with ledger.writing(message) as append:
        for image in images:
            append(image)


def live(ledger: Ledger) -> dict[str, int]:
    """Return the number that decides each live image, by its path."""
    return {each.image.path: each.message.number for each in ledger.live()}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path)


def test_a_message_is_read_as_it_was_written(ledger: Ledger) -> None:
    messages = [Message(9, NEWER_KEY), Message(10), Message(11, 0)]
    images = [SentImage("b", "x/\u2028\n\u00e9.png", "1 2", "d"), SentImage("a", "y", "v", "")]
    for message in reversed(messages):
        write(ledger, message, images)
    assert ledger.messages() == messages
    assert list(ledger.images(9)) == images


def test_a_deletion_lists_names_and_paths_alone(ledger: Ledger) -> None:
    delete(ledger, 1, "ab")
    assert list(ledger.images(1)) == [SentImage("name of a", "a"), SentImage("name of b", "b")]


def test_an_upload_keeps_its_order(ledger: Ledger) -> None:
    upload(ledger, 1, "cab")
    assert [image.path for image in ledger.images(1)] == ["c", "a", "b"]


def test_an_upload_makes_images_live(ledger: Ledger) -> None:
    upload(ledger, 1, "cab")
    expected = [Standing(Message(1, KEY), sent(path)) for path in "abc"]
    assert sorted(ledger.live(), key=lambda each: each.image.path) == expected


def test_the_highest_number_decides(ledger: Ledger) -> None:
    delete(ledger, 20, "ab")
    upload(ledger, 100, "b")
    upload(ledger, 3, "abc")
    assert live(ledger) == {"c": 3, "b": 100}


def test_an_image_sent_again_is_of_the_later_upload(ledger: Ledger) -> None:
    upload(ledger, 1, "abc")
    upload(ledger, 2, "b", NEWER_KEY)
    assert live(ledger) == {"a": 1, "b": 2, "c": 1}
    assert {each.image.path: each.message.key for each in ledger.live()} == {
        "a": KEY,
        "b": NEWER_KEY,
        "c": KEY,
    }


def test_what_was_deleted_stands_and_is_not_live(ledger: Ledger) -> None:
    upload(ledger, 1, "ab")
    delete(ledger, 2, "ax")
    standing = {each.image.path: each for each in ledger.standing("abx").values()}
    assert {path: (each.message.number, each.live) for path, each in standing.items()} == {
        "a": (2, False),
        "b": (1, True),
        "x": (2, False),
    }


def test_images_are_looked_up_among_those_asked_for(ledger: Ledger) -> None:
    upload(ledger, 1, "abcd")
    delete(ledger, 2, "c")
    found = ledger.standing({"a", "c", "x"})
    assert {path: (each.message.number, each.live) for path, each in found.items()} == {
        "a": (1, True),
        "c": (2, False),
    }


@pytest.mark.parametrize(
    ("up_to", "expected"),
    [(0, {}), (1, {1: 2}), (4, {1: 1, 2: 1}), (5, {1: 1, 5: 1}), (None, {1: 1, 5: 1})],
)
def test_what_was_decided_up_to_a_number(ledger: Ledger, up_to: int | None, expected: dict[int, int]) -> None:
    upload(ledger, 1, "ab")
    delete(ledger, 2, "b")
    upload(ledger, 5, "b")
    assert ledger.deciding(up_to) == expected


def test_how_many_images_each_message_decides(ledger: Ledger) -> None:
    upload(ledger, 1, "abcd")
    upload(ledger, 2, "ab")
    delete(ledger, 3, "ax")
    upload(ledger, 4, "y")
    upload(ledger, 5, "y")
    assert ledger.deciding() == {1: 2, 2: 1, 3: 2, 5: 1}
    assert 4 not in ledger.deciding()


def test_a_message_takes_from_what_others_decide(ledger: Ledger) -> None:
    upload(ledger, 1, "ab")
    upload(ledger, 2, "cd")
    superseded = ledger.standing({"a", "b", "c", "new"}).values()
    assert still_deciding(ledger.deciding(), superseded) == {2: 1}
    assert ledger.deciding() == {1: 2, 2: 2}


def test_an_unsure_upload_counts_as_sent_and_changed(ledger: Ledger) -> None:
    upload(ledger, 1, "ab")
    upload(ledger, 2, "b")
    found = Ledger(ledger.folder, frozenset([2])).standing("ab")
    assert {path: each.message.number for path, each in found.items()} == {"a": 1, "b": 2}
    assert (found["a"].image.version != "", found["b"].image.version) == (True, "")


def test_an_unsure_upload_is_not_in_the_way_of_another_try(ledger: Ledger) -> None:
    upload(ledger, 1, "ab")
    upload(ledger, 2, "b")
    ledger = Ledger(ledger.folder, frozenset([2]))
    assert ledger.decided_by({1}) == {"a", "b"}
    assert ledger.decided_by({2}) == {"b"}
    assert ledger.deciding() == {1: 1, 2: 1}


def test_of_many_images_those_are_found_that_are_live(ledger: Ledger) -> None:
    paths = "".join(chr(character) for character in range(100, 400))
    upload(ledger, 1, paths)
    delete(ledger, 2, paths[:50])
    assert [each.image.path for each in ledger.live()] == list(paths[50:])
    assert ledger.deciding() == {1: 250, 2: 50}


def test_versions_are_noted_where_an_image_stands(ledger: Ledger) -> None:
    upload(ledger, 1, "abc")
    upload(ledger, 2, "b")
    ledger.refresh({"a": "newer", "b": "newer", "x": "newer"})
    versions = {(number, image.path): image.version for number in (1, 2) for image in ledger.images(number)}
    assert versions == {
        (1, "a"): "newer",
        (1, "b"): "version of b",
        (1, "c"): "version of c",
        (2, "b"): "newer",
    }


def test_a_ledger_appears_whole_or_not_at_all(ledger: Ledger) -> None:
    with pytest.raises(KeyboardInterrupt), ledger.writing(Message(1)):
        raise KeyboardInterrupt
    assert not list(ledger.folder.iterdir())


def test_every_byte_that_is_changed_or_lost_is_found(ledger: Ledger) -> None:
    upload(ledger, 1, "ab")
    delete(ledger, 2, "ab")
    for number in (1, 2):
        content = ledger.file(number).read_bytes()
        changed = [
            content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] for at in range(len(content) - 1)
        ]
        for damaged in [*changed, content[:-2], content[: content.index(b"\n") + 1], b"", content + b"{}\n"]:
            ledger.file(number).write_bytes(damaged)
            with pytest.raises(MalformedError, match="is damaged"):
                [list(ledger.images(each)) for each in (1, 2) if ledger.messages()]
        ledger.file(number).write_bytes(content)
    assert live(ledger) == {}


@pytest.mark.parametrize("ask", [lambda ledger: list(ledger.live()), Ledger.deciding, Ledger.messages])
def test_damage_is_told_whatever_is_asked(ledger: Ledger, ask: Callable[[Ledger], object]) -> None:
    upload(ledger, 1, "a")
    ledger.file(1).write_bytes(b"[]\n")
    with pytest.raises(MalformedError, match="is damaged") as caught:
        ask(ledger)
    assert caught.value.path == str(ledger.file(1))


# What messages list of those before


def earlier_of(there: Deployment, file: Path) -> list[int]:
    """Return the numbers that an upload or a deletion lists."""
    schema = (
        DELETE if b"\nkind delete\n" in file.read_bytes()[:1024] else upload_schema(there.public.parameters)
    )
    with open_container(file, schema, deployment=there.public.fingerprint) as container:
        return list(read_earlier(container))


def number_of(file: Path) -> int:
    return int(file.read_bytes().split(b"\n")[3].split()[1])


@dataclass
class History:
    """What an owner does, and beside it a model: which message decides each path."""

    there: Deployment
    random: random.Random
    folder: Path
    decides: dict[str, int] = field(default_factory=dict)
    holds: dict[int, list[str]] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    seed: int = 0

    def run(self, *words: object) -> list[Path]:
        """Run a command of the owner, and return what it wrote."""
        return [Path(each["path"]) for each in done("owner", *words, "--json").json["outputs"]]

    def place(self) -> Path:
        return self.there / f"message-{len(list(self.there.root.iterdir()))}.h5"

    def check(self, files: list[Path], paths: set[str], *, deletes: bool) -> None:
        """Demand that messages about ``paths`` list what still decides an image, and go on from there."""
        ledger, left = Owner.open(self.there / "north").ledger, set(paths)
        for file in files:
            number = number_of(file)
            told = [image.path for image in ledger.images(number)]
            left -= set(told)
            others = {path: decider for path, decider in self.decides.items() if path not in told}
            assert earlier_of(self.there, file) == sorted(set(others.values()))
            self.decides = others | dict.fromkeys(told, number)
            self.holds[number] = told
        assert not left
        self.deleted = self.deleted | paths if deletes else self.deleted - paths
        assert ledger.deciding() == Counter(self.decides.values())

    def some(self, paths: list[str]) -> set[str]:
        return set(self.random.sample(paths, self.random.randint(1, min(3, len(paths)))))

    def encrypt(self) -> None:
        """Send some pictures that are new or changed; sometimes in several uploads, or deleted ones again."""
        names = self.some([f"{number}.png" for number in range(8)])
        for name in names:
            self.seed += 1
            picture(self.seed, size=(24, 24)).save(self.folder / name)
        split = ("--split", "1") if self.random.random() < 0.4 else ()
        undelete = ("--undelete",) if self.random.random() < 0.5 else ()
        if not undelete:
            names -= self.deleted
        if names:
            files = [self.folder / name for name in sorted(names)]
            words = (self.there / "north", *files, "-o", self.place(), *split, *undelete, *JOBS)
            self.check(self.run("encrypt", *words), names, deletes=False)

    def delete(self) -> None:
        """Delete some images, among them such as the ledger does not list."""
        names = self.some([*self.decides, "unknown.png"])
        self.check(
            self.run("delete", self.there / "north", *names, "-o", self.place()),
            names,
            deletes=True,
        )

    def again(self) -> None:
        """Make a message again."""
        number = self.random.choice(sorted({*self.decides.values()} & {*self.holds}) or [0])
        names = {path for path, decider in self.decides.items() if decider == number}
        if not names:
            return
        place = ("-o", self.place(), "--again", number)
        if names <= self.deleted:
            self.check(self.run("delete", self.there / "north", *place), names, deletes=True)
        else:
            words = (self.there / "north", self.folder, *place, *JOBS)
            self.check(self.run("encrypt", *words), names, deletes=False)


@pytest.mark.parametrize("seed", range(6))
def test_messages_list_what_still_decides_an_image(changeable: Deployment, tmp_path: Path, seed: int) -> None:
    history = History(changeable, random.Random(seed), tmp_path)
    first = Owner.open(changeable / "north").ledger
    history.decides = {each.image.path: each.message.number for each in first.live()}
    for _ in range(14):
        history.random.choice([history.encrypt, history.encrypt, history.delete, history.again])()
    assert len(history.holds) > 5
