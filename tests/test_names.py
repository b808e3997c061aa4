"""Names of files as text, and which of two names are one."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mipp_cli.names import as_called, as_seen, composed, name_of, on_disk, recognised

PATHS = st.lists(
    st.sampled_from([b"\\", b"x", b"5c", b"ff", b"\xff", b"\xc3", b"\xa9", b"e\xcc\x81", b"/", b"a"]),
    max_size=9,
).map(b"".join)
NFC, NFD = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")


def path_of(name: str) -> bytes:
    """Return the path whose name this is."""
    return re.sub(rb"\\x(5c|[89a-f][0-9a-f])", lambda found: bytes.fromhex(found[1].decode()), name.encode())


@given(PATHS | st.binary(max_size=30))
@example(b"\\xff")
@example(b"\\x5cxff")
@example(b"\\\xff")
def test_a_name_gives_its_path_back(path: bytes) -> None:
    assert path_of(name_of(path)) == path


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\\")))
def test_a_name_in_utf8_stays_as_it_is(text: str) -> None:
    assert name_of(text.encode()) == text


@given(PATHS | st.binary(max_size=30))
def test_what_is_shown_and_what_is_on_disk_both_call_a_file(path: bytes) -> None:
    assert as_called(name_of(path)) == name_of(path)
    if b"\\" not in path:
        assert as_called(path) == name_of(path)


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1))
def test_a_name_of_our_making_is_utf8_on_disk(text: str) -> None:
    assert as_called(on_disk(text)) == text


def test_a_name_that_is_there_means_itself() -> None:
    assert recognised([NFC, NFD], [NFD, NFC, "e"]) == {NFC: NFC, NFD: NFD}


def test_a_name_means_the_only_one_that_differs_in_composition() -> None:
    assert recognised([NFC, "x"], ["y", NFD, NFD]) == {NFC: NFD}


def test_of_two_names_that_differ_in_composition_none_is_meant() -> None:
    other = "e\N{COMBINING ACUTE TONE MARK}"
    assert composed(other) == composed(NFD)
    assert recognised([NFC], [NFD, other]) == {}
    assert recognised([NFC, NFD], [NFD]) == {NFD: NFD}
    assert recognised([NFC, NFD], [other]) == {}


@pytest.mark.parametrize(("name", "seen"), [("a\nb", r"a\u000ab"), (NFD, NFC), ("\\xff", "\\xff")])
def test_a_name_is_recognised_by_what_a_terminal_shows(name: str, seen: str) -> None:
    assert as_seen(name) == seen
    assert recognised([seen], [name], as_seen) == {seen: name}
