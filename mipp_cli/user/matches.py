"""Matches as files: the folder that a user gets, private and replaced as a whole."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from mipp_cli.errors import OutputError, UnreadableImageError
from mipp_cli.files.atomic import new_folder
from mipp_cli.images.contact_sheet import THUMBNAIL_SIZE, SheetRow, Tile, draw_contact_sheet
from mipp_cli.images.pictures import open_picture
from mipp_cli.images.thumbnails import thumbnail
from mipp_cli.sanitize import table_cell
from mipp_cli.user.user import RememberedQuery

MATCHES_FILE = "matches.csv"
SHEET_FILE = "contact-sheet.png"
_ELSEWHERE = "choose another folder"
_QUERY_FOLDER = re.compile("query-[0-9]+")
COLUMNS = ("query", "rank", "owner", "name", "distance", "file")


@dataclass(frozen=True)
class WrittenMatch:
    """A match as it stands in matches.csv."""

    query: str
    rank: int
    owner: str
    name: str
    distance: float
    file: str

    def cells(self) -> list[str]:
        """Return the line of matches.csv."""
        name, distance = table_cell(self.name), f"{self.distance:.6f}"
        return [table_cell(self.query), str(self.rank), self.owner, name, distance, self.file]


def small_picture(content: bytes) -> Image.Image | None:
    """Return the thumbnail of a picture for the contact sheet; None if the bytes are no picture."""
    try:
        return thumbnail(open_picture(content, path=None), THUMBNAIL_SIZE)
    except UnreadableImageError:
        return None


def write_private(path: Path, content: bytes) -> None:
    """Write a new file that its owner alone may read, and sync it."""
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


def draw_sheet(
    query: RememberedQuery, tiles: Sequence[Sequence[Tile]], candidates: int, descriptor: str
) -> bytes:
    """Return the contact sheet of a query's matches, as PNG."""
    rows = [
        SheetRow(picture.name, picture.small, matches)
        for picture, matches in zip(query.pictures, tiles, strict=True)
    ]
    sheet = draw_contact_sheet(
        rows,
        title="Matches",
        subtitle=f"nearest of {candidates} decrypted candidates, by Euclidean distance ({descriptor})",
    )
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def refuse_output(output: Path, *, force: bool) -> None:
    """Raise OutputError if ``output`` exists, unless it is such a folder and is to be replaced."""
    if not output.name or output.name == "..":
        raise OutputError("cannot be replaced", path=output, hint="name a folder that is to be made")
    if not os.path.lexists(output):
        return
    if not force:
        raise OutputError(
            "the output exists", path=output, hint="choose another folder, or give --force to replace it"
        )
    if output.is_symlink() or not output.is_dir():
        raise OutputError("is no folder of matches, so it is not replaced", path=output, hint=_ELSEWHERE)
    if not _holds_matches_alone(output):
        raise OutputError(
            "holds other things than matches, so it is not replaced", path=output, hint=_ELSEWHERE
        )


def _holds_matches_alone(folder: Path) -> bool:
    """Say whether a folder is empty, or holds what a user's matches are made of and nothing else."""
    entries = list(folder.iterdir())
    queries = [entry for entry in entries if _QUERY_FOLDER.fullmatch(entry.name)]
    files = {entry.name for entry in entries if entry not in queries}
    if any(entry.is_symlink() or not entry.is_dir() for entry in queries):
        return False
    return not entries or (MATCHES_FILE in files and files <= {MATCHES_FILE, SHEET_FILE})


@contextmanager
def new_output(output: Path, *, force: bool) -> Iterator[Path]:
    """Give a private folder beside ``output``; put it there when the block succeeds."""
    old = None
    try:
        with new_folder(output) as building:
            old = building.with_suffix(".old")
            yield building
            refuse_output(output, force=force)
            if output.exists():
                output.rename(old)
    finally:
        if old is not None:
            if old.exists() and not output.exists():
                old.rename(output)
            shutil.rmtree(old, ignore_errors=True)
