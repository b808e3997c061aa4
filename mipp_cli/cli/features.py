"""The command that prints edge histogram codes."""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from mipp_cli.cli.options import files_argument, grey_bits_option, prints_report, refuse_with_json
from mipp_cli.report import Report, in_columns
from mipp_cli.sanitize import printable, table_cell


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
    if as_csv:
        table = csv.writer(sys.stdout, lineterminator="\n")
        table.writerow(["path", *(f"code{number}" for number in range(1, 81))])
        table.writerows([table_cell(each["path"]), *each["codes"]] for each in descriptions)
        return Report(warnings=report.warnings)
    return replace(report, lines=[line for each in descriptions for line in _lines(each)])


def _lines(description: dict[str, Any]) -> list[str]:
    codes = [*map(str, description["codes"])]
    rows = [["row,column", "vert", "horiz", "45°", "135°", "none"]]
    rows += [[f"{n // 4 + 1},{n % 4 + 1}", *codes[5 * n : 5 * n + 5]] for n in range(16)]
    return [printable(description["path"]), *(f"  {line}" for line in in_columns(rows, right=range(1, 6)))]
