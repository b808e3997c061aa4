"""Write the folder of matches, which is private and replaced as a whole."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from mipp_cli.errors import OutputError
from mipp_cli.files.atomic import new_folder
from mipp_cli.files.folders import is_there
from mipp_cli.images.contact_sheet import MAX_TILES, THUMBNAIL_SIZE, SheetRow, Tile, draw_contact_sheet
from mipp_cli.images.renditions import jpeg, looks_best_on_black, render
from mipp_cli.images.thumbnails import Size, thumbnail
from mipp_cli.log import timed
from mipp_cli.names import on_disk
from mipp_cli.sanitize import table_cell
from mipp_cli.scheme.envelope import Envelope
from mipp_cli.user.results_page import PageMatch, PagePicture, PageQuery, results_page
from mipp_cli.user.user import RememberedQuery

MATCHES_FILE = "matches.csv"
SHEET_FILE = "contact-sheet.png"
PAGE_FILE = "matches.html"
COPIES_FOLDER = "copies"
"""Holds large copies of pictures that browsers cannot show."""
_ELSEWHERE = "choose another folder"
_QUERY_FOLDER = re.compile("query-[0-9]+")
COLUMNS = ("query", "rank", "owner", "name", "distance", "file", "study", "series")


@dataclass(frozen=True)
class WrittenMatch:
    """A row of matches.csv; ``study`` and ``series`` are the UIDs of a DICOM file, else empty."""

    query: str
    rank: int
    owner: str
    name: str
    distance: float
    file: str
    study: str
    series: str

    def cells(self) -> list[str]:
        """Return the cells of the row."""
        name, distance = table_cell(self.name), f"{self.distance:.6f}"
        shown = [table_cell(self.query), str(self.rank), self.owner, name, distance, self.file]
        return [*shown, self.study, self.series]


@dataclass(frozen=True)
class ShownMatch:
    """A match as written, with its tile on the contact sheet and its entry on the page."""

    written: WrittenMatch
    tile: Tile
    on_page: PageMatch


def write_match(match: WrittenMatch, envelope: Envelope, folder: Path, small: Size) -> ShownMatch:
    """Write a match's picture, and a copy if browsers cannot show it; return the match as shown.

    ``small`` is the size of its picture on the page. The picture is decoded only once.
    """
    write_private(folder / on_disk(match.file), envelope.content)
    rendition = render(envelope.content, envelope.media_type, small)
    large, tile, picture = match.file, None, None
    if rendition is not None:
        picture = _page_picture(rendition.small)
        if match.rank <= MAX_TILES:  # the sheet shows no more, and further tiles would use up memory
            tile = thumbnail(rendition.small, THUMBNAIL_SIZE)
        if rendition.large is not None:
            # Not named after the owner's file: no owner can influence this name.
            large = f"{COPIES_FOLDER}/{Path(match.file).parent.name}-{match.rank:03d}.jpg"
            (folder / COPIES_FOLDER).mkdir(mode=0o700, exist_ok=True)
            write_private(folder / large, rendition.large)
    full_size = rendition.full_size if rendition else (0, 0)
    shown = (match.rank, match.owner, match.name, match.distance)
    return ShownMatch(
        match,
        Tile(*shown, tile),
        PageMatch(*shown, match.file, large, full_size, picture, match.study, match.series),
    )


def _page_picture(small: Image.Image) -> PagePicture:
    return PagePicture(jpeg(small), small.size, looks_best_on_black(small))


def write_private(path: Path, content: bytes) -> None:
    """Write a new file that only the user can read, and sync it."""
    path.touch(mode=0o600, exist_ok=False)
    with path.open("r+b") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_table(written: Sequence[WrittenMatch], path: Path) -> None:
    """Write matches.csv."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(match.cells() for match in written)
    write_private(path, text.getvalue().encode())


@timed("drawing the contact sheet")
def draw_sheet(
    query: RememberedQuery, found: Sequence[Sequence[ShownMatch]], candidates: int, descriptor: str
) -> bytes:
    """Return the contact sheet of a query's matches, as PNG."""
    rows = [
        SheetRow(picture.name, picture.small, [match.tile for match in matches])
        for picture, matches in zip(query.pictures, found, strict=True)
    ]
    sheet = draw_contact_sheet(
        rows,
        title="Matches",
        subtitle=f"nearest of {candidates} decrypted candidates, by Euclidean distance ({descriptor})",
    )
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


@timed("writing the page of matches")
def draw_page(
    query: RememberedQuery,
    found: Sequence[Sequence[ShownMatch]],
    facts: Mapping[str, str],
    warnings: Sequence[str],
) -> bytes:
    """Return the page of a query's matches, as HTML."""
    queries = [
        PageQuery(picture.name, _page_picture(picture.small), [match.on_page for match in matches])
        for picture, matches in zip(query.pictures, found, strict=True)
    ]
    return results_page(queries, facts=facts, warnings=warnings).encode()


def refuse_output(output: Path, *, force: bool) -> None:
    """Raise OutputError if ``output`` exists, unless ``force`` and it is a folder of matches."""
    if not output.name or output.name == "..":
        raise OutputError("cannot be replaced", path=output, hint="name a new folder")
    if not os.path.lexists(output):
        return
    if not force:
        raise OutputError(
            "the output exists", path=output, hint="choose another folder, or give --force to replace it"
        )
    if output.is_symlink() or not output.is_dir():
        raise OutputError("is not a folder of matches, so it is not replaced", path=output, hint=_ELSEWHERE)
    if not _holds_matches_alone(output):
        raise OutputError(
            "contains files other than matches, so it is not replaced", path=output, hint=_ELSEWHERE
        )


def _holds_matches_alone(folder: Path) -> bool:
    """Return whether a folder is empty or contains only a user's matches."""
    entries = list(folder.iterdir())
    folders = [
        entry for entry in entries if _QUERY_FOLDER.fullmatch(entry.name) or entry.name == COPIES_FOLDER
    ]
    files = {entry.name for entry in entries if entry not in folders}
    if any(entry.is_symlink() or not entry.is_dir() for entry in folders):
        return False
    return not entries or (MATCHES_FILE in files and files <= {MATCHES_FILE, SHEET_FILE, PAGE_FILE})


@contextmanager
def new_output(output: Path, *, force: bool) -> Iterator[Path]:
    """Yield a private folder beside ``output``; move it to ``output`` when the block succeeds."""
    old = None
    try:
        with new_folder(output) as building:
            old = building.with_suffix(".old")
            yield building
            refuse_output(output, force=force)
            if is_there(output):
                output.rename(old)
    finally:
        if old is not None:
            if is_there(old) and not is_there(output):
                old.rename(output)
            shutil.rmtree(old, ignore_errors=True)
