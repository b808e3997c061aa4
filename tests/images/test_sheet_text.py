"""How names are made fit to be drawn on a contact sheet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageFont

from mipp_cli.images.sheet_text import shorten


@pytest.mark.parametrize("width", [0, 5, 40, 100, 250])
@pytest.mark.parametrize("name", ["scan.png", "W" * 300, "hospital/ward 7/patient_0001_left_knee.png"])
def test_a_long_name_is_shortened_to_the_width_of_its_cell(name: str, width: int) -> None:
    font = ImageFont.load_default(13)
    short = shorten(name, width, 13)
    assert font.getlength(short) <= max(width, font.getlength("…"))
    assert short == name or "…" in short


def test_a_shortened_name_keeps_its_beginning_and_its_end() -> None:
    short = shorten("hospital/ward 7/patient_0001_left_knee.png", 130, 13)
    assert short.startswith("hosp") and short.endswith(".png")


def test_letters_missing_from_the_font_are_replaced() -> None:
    assert shorten("Müller – Łódź, Straße", 1000, 13) == "Muller - Lodz, Strasse"
    assert shorten("ﬁlm №2 ２", 1000, 13) == "film No2 2"
    assert shorten("q\N{COMBINING DIAERESIS}", 1000, 13) == "q"


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("東京 1.png", "‹6771 4EAC› 1.png"),
        ("мрт.png", "‹043C 0440 0442›.png"),
        ("हिं.png", "‹0939 093F 0902›.png"),
        ("שָׁ.png", "‹05E9 05B8 05C1›.png"),
        ("😀👩\N{ZERO WIDTH JOINER}🔬", "‹1F600 1F469 200D 1F52C›"),
        ("a\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe", "a‹202E›gnp.exe"),
        ("é東é", "e‹6771›e"),
    ],
)
def test_other_scripts_are_told_by_their_code_points(name: str, drawn: str) -> None:
    assert shorten(name, 1000, 13) == drawn


@given(st.text(st.characters(codec=None), max_size=60))
def test_no_name_is_drawn_with_what_the_font_lacks(name: str) -> None:
    assert {*shorten(name, 10_000, 13)} <= {*map(chr, range(0x20, 0x7F)), *"‹›…·“”\u2018\u2019«»©°±™"}
