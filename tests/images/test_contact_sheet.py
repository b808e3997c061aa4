"""What a contact sheet shows, and that nothing an owner sends can spoil it."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mipp_cli.errors import UnreadableImageError
from mipp_cli.images.contact_sheet import (
    MAX_HEIGHT,
    MAX_TILES,
    PALETTE,
    PER_LINE,
    THUMBNAIL_SIZE,
    SheetRow,
    Tile,
    draw_contact_sheet,
)
from mipp_cli.images.thumbnails import thumbnail

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
HOSTILE_NAMES = [
    "",
    "line\nbreak\r\n\ttab",
    "\x00\x1b[31m\x7f",
    "exe.\u202egpj",
    "a\u0301\u0302\u0303" * 500,
    "患者 🩻 صورة תמונה",
    "\udcff\ud800",
    "\u2028\u200b\ufeff",
    "x" * 1_000_000,
]


def plain(colour: tuple[int, int, int] = RED, size: tuple[int, int] = (90, 60)) -> Image.Image:
    return Image.new("RGB", size, colour)


def tile(rank: int, owner: str = "north", name: str = "a.png", picture: Image.Image | None = None) -> Tile:
    return Tile(rank, owner, name, rank / 8, picture)


def row(matches: int, query: Image.Image | None = None) -> SheetRow:
    return SheetRow("query.png", query, [tile(rank) for rank in range(1, matches + 1)])


def draw(*rows: SheetRow) -> Image.Image:
    return draw_contact_sheet(rows, title="Matches", subtitle="of a search")


def box_of(sheet: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Where pixels of exactly this colour are; fails if there are none."""
    down, across = np.nonzero((np.asarray(sheet) == colour).all(axis=2))
    assert down.size
    return int(across.min()), int(down.min()), int(across.max()) + 1, int(down.max()) + 1


def colours_of(sheet: Image.Image) -> set[str]:
    """All colours in the sheet, written like those of the palette."""
    counted = sheet.getcolors(sheet.width * sheet.height) or []
    return {"#" + bytes(cast("tuple[int, int, int]", colour)).hex() for _, colour in counted}


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text as it is drawn."""
    texts: list[str] = []
    draw_text = ImageDraw.ImageDraw.text

    def noting(self: ImageDraw.ImageDraw, xy: tuple[int, int], text: str, **options: object) -> None:
        texts.append(text)
        draw_text(self, xy, text, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", noting)
    return texts


def test_matches_stand_right_of_the_query_by_rank() -> None:
    tiles = [tile(2, picture=plain(BLUE)), tile(1, picture=plain(GREEN))]
    sheet = draw(SheetRow("q.png", plain(RED), tiles))
    query, first, second = (box_of(sheet, colour) for colour in (RED, GREEN, BLUE))
    assert query[2] < first[0] < first[2] < second[0]


def test_each_query_has_its_own_band_from_top_to_bottom() -> None:
    sheet = draw(row(1, plain(RED)), row(0, plain(GREEN)), row(2, plain(BLUE)))
    boxes = [box_of(sheet, colour) for colour in (RED, GREEN, BLUE)]
    assert boxes[0][3] < boxes[1][1] and boxes[1][3] < boxes[2][1]
    assert len({(box[0], box[2]) for box in boxes}) == 1


def test_every_further_query_adds_the_same_height() -> None:
    heights = [draw(*[row(3)] * count).height for count in (1, 2, 3)]
    assert heights[2] - heights[1] == heights[1] - heights[0] > 0


def test_more_matches_than_fit_on_a_line_wrap_within_the_band() -> None:
    one, two = draw(row(PER_LINE)), draw(row(PER_LINE + 1))
    assert two.width == one.width
    assert one.height < two.height < draw(row(PER_LINE), row(PER_LINE)).height


@pytest.mark.parametrize("size", [(900, 300), (300, 900), (500, 500), (70, 50)])
def test_a_picture_is_neither_cropped_nor_distorted(size: tuple[int, int]) -> None:
    left, top, right, bottom = box_of(draw(SheetRow("q", None, [tile(1, picture=plain(RED, size))])), RED)
    assert (right - left) / (bottom - top) == pytest.approx(size[0] / size[1], rel=0.03)


def test_a_small_picture_grows_to_twice_its_size_at_most() -> None:
    left, top, right, bottom = box_of(draw(SheetRow("q", None, [tile(1, picture=plain(RED, (20, 30)))])), RED)
    assert (right - left, bottom - top) == (40, 60)


def test_rank_owner_name_and_distance_are_written(written: list[str]) -> None:
    draw(SheetRow("q.png", None, [Tile(7, "north", "scan.png", 0.25, None)]))
    assert {"Matches", "of a search", "query", "q.png", "1 match", "7", "north", "scan.png"} <= set(written)
    assert any(text.startswith("0.25") for text in written)


def test_a_missing_picture_leaves_a_placeholder(written: list[str]) -> None:
    draw(SheetRow("q", plain(), [tile(1), tile(2, picture=plain())]))
    assert written.count("no picture") == 1


def test_a_damaged_picture_leaves_a_placeholder(written: list[str]) -> None:
    draw(SheetRow("q", plain(), [tile(1, picture=Image.new("RGB", (0, 5)))]))
    assert written.count("no picture") == 1


def test_a_query_without_matches_says_so(written: list[str]) -> None:
    draw(row(0))
    assert "no matches" in written


def test_the_header_counts_matches_per_owner_most_first(written: list[str]) -> None:
    draw(SheetRow("q", None, [tile(1, "south"), tile(2, "north"), tile(3, "north")]))
    assert written[:6] == ["Matches", "of a search", "north", "2", "south", "1"]


def test_many_owners_do_not_overflow_the_header(written: list[str]) -> None:
    draw(*[SheetRow("q", None, [tile(n, f"owner {10 * q + n}") for n in range(10)]) for q in range(6)])
    more = [text for text in written if text.endswith("more owners")]
    named = sum(text.startswith("owner") for text in written) - 60
    assert more == [f"and {60 - named} more owners"]


def test_owners_on_one_sheet_have_different_colours() -> None:
    owners = [f"owner {number}" for number in range(len(PALETTE))]
    sheet = draw(SheetRow("q", None, [tile(rank, owner) for rank, owner in enumerate(owners)]))
    assert set(PALETTE) <= colours_of(sheet)


def test_an_owner_keeps_its_colour_when_it_is_found_alone() -> None:
    together = draw(SheetRow("q", None, [tile(1, "north"), tile(2, "south")]))
    alone = draw(SheetRow("q", None, [tile(1, "north")]))
    assert len(colours_of(alone) & set(PALETTE)) == 1
    assert colours_of(alone) & set(PALETTE) < colours_of(together) & set(PALETTE)


def test_more_owners_than_colours_can_be_drawn() -> None:
    draw(SheetRow("q", None, [tile(rank, f"owner {rank}") for rank in range(3 * len(PALETTE))]))


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_hostile_name_is_drawn_as_plain_characters(name: str, written: list[str]) -> None:
    sheet = draw_contact_sheet([SheetRow(name, None, [tile(1, name, name)])], title=name, subtitle=name)
    assert sheet.height < 500
    assert all(" " <= letter <= "~" or letter in "…‹›" for text in written for letter in text)


def test_no_text_leaves_the_margins() -> None:
    long = "W" * 500
    tiles = [Tile(10**12, long, long, 1e300, None) for _ in range(PER_LINE)]
    sheet = draw_contact_sheet([SheetRow(long, None, tiles)], title=long, subtitle=long)
    right = sheet.crop((sheet.width - 38, 0, sheet.width, sheet.height))
    assert len(colours_of(right)) == 1


def test_equal_input_gives_equal_sheets() -> None:
    rows = [SheetRow("q", plain(), [tile(1, "north", picture=plain(BLUE)), tile(2, "south")]), row(0)]
    assert draw(*rows).tobytes() == draw(*rows).tobytes()


@pytest.mark.parametrize("distances", [[math.nan, math.inf, -math.inf], [0.0], [-0.5, 1e-12], [1e300]])
def test_any_distance_can_be_drawn(distances: Sequence[float]) -> None:
    draw(SheetRow("q", None, [Tile(1, "north", "a", distance, None) for distance in distances]))


def test_all_distances_of_a_sheet_have_equally_many_decimals(written: list[str]) -> None:
    draw(SheetRow("q", None, [Tile(rank, "o", "n", d, None) for rank, d in enumerate([0.5, 12.0, 3.25])]))
    assert {"0.50", "12.00", "3.25"} <= set(written)


def test_whole_distances_are_written_without_decimals(written: list[str]) -> None:
    draw(SheetRow("q", None, [Tile(rank, "o", "n", d, None) for rank, d in enumerate([64.0, 128.0])]))
    assert {"64", "128"} <= set(written)


def test_a_hundred_queries_of_ten_matches_all_fit(written: list[str]) -> None:
    sheet = draw(*[row(10)] * 100)
    assert sheet.height <= MAX_HEIGHT
    assert "query 100 of 100" in written


def test_queries_that_do_not_fit_are_counted_at_the_end(written: list[str]) -> None:
    sheet = draw(*[row(20)] * 100)
    drawn = sum(text.startswith("query ") for text in written)
    assert sheet.height <= MAX_HEIGHT
    assert written[-1] == f"… and {100 - drawn} more query images"


def test_a_query_with_too_many_matches_shows_only_the_first(written: list[str]) -> None:
    draw(row(MAX_TILES + 20))
    assert f"first {MAX_TILES} of {MAX_TILES + 20} matches" in written
    assert str(MAX_TILES) in written and str(MAX_TILES + 1) not in written


def test_a_sheet_without_queries_is_its_header(written: list[str]) -> None:
    assert draw().height < draw(row(0)).height
    assert "Matches" in written


def test_a_picture_cut_off_in_the_middle_is_unreadable() -> None:
    whole = io.BytesIO()
    Image.effect_noise((200, 200), 90).save(whole, "JPEG")
    damaged = Image.open(io.BytesIO(whole.getvalue()[: whole.tell() // 2]))
    with pytest.raises(UnreadableImageError):
        thumbnail(damaged, (50, 50))
    draw(SheetRow("q", damaged, []))


def test_a_thumbnail_of_the_advised_size_draws_like_its_picture() -> None:
    picture = Image.radial_gradient("L").resize((700, 500))
    small = thumbnail(picture, THUMBNAIL_SIZE)
    assert draw(SheetRow("q", picture, [])).tobytes() == draw(SheetRow("q", small, [])).tobytes()
