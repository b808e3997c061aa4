"""Names from other parties, made safe for files, tables and terminals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipp_cli.sanitize import printable, safe_file_name, table_cell

ANY_TEXT = st.text(alphabet=st.characters(codec=None), max_size=200)


@given(ANY_TEXT)
def test_a_file_name_is_one_short_part_of_a_path(name: str) -> None:
    safe = safe_file_name(name)
    assert 0 < len(safe.encode()) <= 80
    assert not set(safe) & set('/\\\0:*?"<>| ')
    assert safe.isprintable()
    assert not safe.startswith((".", "_", "-")) or safe.startswith("-")
    assert safe not in (".", "..")


@given(ANY_TEXT)
def test_a_file_name_made_safe_twice_keeps_its_letters(name: str) -> None:
    assert safe_file_name(safe_file_name(name) + ".png") == safe_file_name(name)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("chest/anna-01.jpg", "anna-01"),
        ("a.b.c.png", "a.b.c"),
        ("no suffix", "no_suffix"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\win.ini", "win"),
        ("folder/", "folder"),
        ("..", "image"),
        ("", "image"),
        ("///", "image"),
        (".bashrc", "bashrc"),
        ("x\0y.png", "x_y"),
        ("患者.png", "患者"),
        ("\u202egnp.exe", "gnp"),
        ("é" * 100 + ".png", "é" * 40),
    ],
)
def test_a_file_name_keeps_what_people_read(name: str, safe: str) -> None:
    assert safe_file_name(name) == safe


@given(ANY_TEXT)
def test_printable_text_holds_nothing_that_steers_a_terminal(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()  # no lone surrogates either


@given(st.text(alphabet=st.characters(exclude_categories=("C", "Z"), include_characters=" ")))
def test_plain_text_is_shown_as_it_is(text: str) -> None:
    assert printable(text) == text


@given(ANY_TEXT)
def test_a_table_cell_is_never_a_formula(text: str) -> None:
    cell = table_cell(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert cell.removeprefix("./") == printable(text).removeprefix("./")
