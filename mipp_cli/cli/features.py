"""The command that prints edge histogram codes."""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mipp_cli.cli.options import files_argument, grey_bits_option, prints_report, refuse_with_json
from mipp_cli.report import Report, in_columns
from mipp_cli.sanitize import printable, table_cell

if TYPE_CHECKING:
    from mipp_cli.descriptors.describe import Description


@click.command()
@files_argument("IMAGE...")
@click.option("--csv", "as_csv", is_flag=True, help="Print a line an image: path and 80 codes.")
@grey_bits_option
@prints_report
def features(files: tuple[Path, ...], as_csv: bool, grey_bits: int) -> Report:
    """Print the 80 edge histogram codes of images (MPEG-7), 0 to 7.

    Five kinds of edge in each of 4 x 4 sub-images: vertical, horizontal, 45 degrees, 135 degrees,
    non-directional.
    """
    from mipp_cli.descriptors.describe import describe_images
    from mipp_cli.images.collection import collect_examples

    if as_csv:
        refuse_with_json("--csv")
    report, descriptions = describe_images(collect_examples(files), grey_bits=grey_bits)
    fields = [{"path": each.path, "codes": each.codes, "edgeless": each.edgeless} for each in descriptions]
    if as_csv:
        _print_csv(descriptions)
        return Report(warnings=report.warnings)
    lines = [line for each in descriptions for line in _lines(each)]
    return replace(report, details={"descriptions": fields}, lines=lines)


def _print_csv(descriptions: list[Description]) -> None:
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["path", *(f"code{number}" for number in range(1, 81))])
    table.writerows([table_cell(each.path), *each.codes] for each in descriptions)


def _lines(each: Description) -> list[str]:
    rows: list[tuple[str, ...]] = [("row,column", "vert", "horiz", "45°", "135°", "none")]
    rows += [
        (f"{number // 4 + 1},{number % 4 + 1}", *map(str, each.codes[5 * number : 5 * number + 5]))
        for number in range(16)
    ]
    return [printable(each.path), *(f"  {line}" for line in in_columns(rows, right=range(1, 6)))]
