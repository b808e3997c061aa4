"""The owner's record of what was sent, and which images are live by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mipp_cli.errors import MalformedError
from mipp_cli.roles import ledger as ledger_module
from mipp_cli.roles.ledger import Ledger, LiveImage, Message

KEY, NEWER_KEY = 7, 2**64 - 1


def upload(ledger: Ledger, number: int, paths: str, key: int = KEY, *, replaces: bool = False) -> None:
    with ledger.writing(Message(number, "upload", key, replaces)) as lines:
        for path in paths:
            lines.append(f"name of {path}", path)


def delete(ledger: Ledger, number: int, paths: str) -> None:
    with ledger.writing(Message(number, "delete")) as lines:
        for path in paths:
            lines.append(f"name of {path}", path)


def withdraw(ledger: Ledger, number: int, withdrawn: int) -> None:
    with ledger.writing(Message(number, "withdrawn", withdraws=withdrawn)):
        pass


def live(ledger: Ledger) -> list[tuple[str, int, int]]:
    return [(image.path, image.upload, image.row) for image in ledger.live()]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path)


def test_a_message_is_read_as_it_was_written(ledger: Ledger) -> None:
    messages = [
        Message(9, "upload", NEWER_KEY, replaces=True),
        Message(10, "delete"),
        Message(11, "withdrawn", withdraws=9),
    ]
    for message in reversed(messages):
        with ledger.writing(message) as lines:
            lines.append("b", "x/\u2028\n\u00e9.png")
            lines.append("a", "y")
    assert ledger.messages() == messages
    assert list(ledger.rows(9)) == [("b", "x/\u2028\n\u00e9.png"), ("a", "y")]


def test_an_upload_makes_images_live_in_its_order(ledger: Ledger) -> None:
    upload(ledger, 1, "cab")
    assert list(ledger.live()) == [
        LiveImage(path, f"name of {path}", 1, row, KEY) for row, path in enumerate("cab")
    ]


def test_what_counts_is_the_order_of_numbers(ledger: Ledger) -> None:
    delete(ledger, 20, "ab")
    upload(ledger, 100, "b")
    upload(ledger, 3, "abc")
    assert live(ledger) == [("c", 3, 2), ("b", 100, 0)]


def test_a_replaced_image_is_of_the_later_upload_and_key(ledger: Ledger) -> None:
    upload(ledger, 1, "abc")
    upload(ledger, 2, "b", NEWER_KEY, replaces=True)
    assert live(ledger) == [("a", 1, 0), ("c", 1, 2), ("b", 2, 0)]
    assert ledger.live_by_key() == {KEY: 2, NEWER_KEY: 1}


def test_what_is_added_again_without_replacing_may_still_be_under_its_former_key(ledger: Ledger) -> None:
    upload(ledger, 1, "ab")
    upload(ledger, 2, "b", NEWER_KEY)
    assert ledger.live_by_key() == {KEY: 2, NEWER_KEY: 1}
    upload(ledger, 3, "b", NEWER_KEY, replaces=True)
    assert ledger.live_by_key() == {KEY: 1, NEWER_KEY: 1}


def test_what_was_withdrawn_never_happened(ledger: Ledger) -> None:
    upload(ledger, 1, "ab")
    upload(ledger, 2, "b", NEWER_KEY, replaces=True)
    delete(ledger, 3, "a")
    withdraw(ledger, 4, 2)
    withdraw(ledger, 5, 3)
    assert live(ledger) == [("a", 1, 0), ("b", 1, 1)]
    assert [message.number for message in ledger.in_force()] == [1]


def test_images_are_looked_up_among_those_asked_for_alone(ledger: Ledger) -> None:
    upload(ledger, 1, "abcd")
    delete(ledger, 2, "c")
    assert set(ledger.live_among({"a", "c", "x"})) == {"a"}


def test_a_large_ledger_is_gone_through_in_shares(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = "".join(chr(character) for character in range(100, 400))
    upload(ledger, 1, paths)
    delete(ledger, 2, paths[:50])
    whole = live(ledger)
    monkeypatch.setattr(ledger_module, "_PASS_BYTES", 1000)
    shares = live(ledger)
    assert whole != shares
    assert sorted(whole) == sorted(shares)
    assert len(whole) == 250


def test_a_ledger_appears_whole_or_not_at_all(ledger: Ledger) -> None:
    with pytest.raises(KeyboardInterrupt), ledger.writing(Message(1, "delete")):
        raise KeyboardInterrupt
    assert not list(ledger.folder.iterdir())


def test_tidying_up_fails_quietly_where_nothing_can_be_written(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    upload(ledger, 1, "a")
    monkeypatch.setattr(Path, "unlink", refuse)
    ledger.remove(1)
    assert live(ledger) == [("a", 1, 0)]


def test_every_byte_that_is_changed_or_lost_is_found(ledger: Ledger) -> None:
    upload(ledger, 1, "ab")
    withdraw(ledger, 2, 1)
    for number in (1, 2):
        content = ledger.file(number).read_bytes()
        changed = [
            content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] for at in range(len(content) - 1)
        ]
        for damaged in [*changed, content[:-2], content[: content.index(b"\n") + 1], b"", content + b"{}\n"]:
            ledger.file(number).write_bytes(damaged)
            with pytest.raises(MalformedError, match="is damaged"):
                [list(ledger.rows(each)) for each in (1, 2) if ledger.messages()]
        ledger.file(number).write_bytes(content)
    assert live(ledger) == []
