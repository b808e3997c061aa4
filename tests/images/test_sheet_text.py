"""How names are made fit to be drawn on a contact sheet."""

from __future__ import annotations

import pytest
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
    assert shorten("東京.png", 1000, 13) == "??.png"
