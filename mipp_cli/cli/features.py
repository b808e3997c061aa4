"""The command that prints features in plaintext."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from mipp_cli.cli.messages import print_table
from mipp_cli.cli.options import (
    device_option,
    files_argument,
    model_output_option,
    model_pooling_option,
    prints_report,
    refuse_with_json,
)
from mipp_cli.report import Report, in_columns
from mipp_cli.sanitize import printable


@click.command()
@files_argument("IMAGE...")
@click.option(
    "--descriptor",
    metavar="NAME|model:PATH",
    default="edge-histogram",
    show_default=True,
    help="The descriptor: edge-histogram, colour-edge, or an image model in ONNX form.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, one line per image: path and codes.")
@model_output_option
@model_pooling_option
@device_option
@prints_report
def features(
    files: tuple[Path, ...],
    descriptor: str,
    as_csv: bool,
    model_output: str | None,
    model_pooling: str | None,
    device: str,
) -> Report:
    """Print the features of images: their codes under a descriptor.

    edge-histogram (MPEG-7) has 80 codes, 0 to 7: five kinds of edge (vertical, horizontal, 45 degrees, 135
    degrees, non-directional) in each of 4 x 4 sub-images. colour-edge has 168 codes, 0 to 31: those edges,
    then 16 of greys, then 72 of colours. A model has one code, 0 to 255, per number of its output.
    """
    from mipp_cli.descriptors.choice import chosen_describer
    from mipp_cli.descriptors.describe import describe_images
    from mipp_cli.images.collection import collect_examples

    if as_csv:
        refuse_with_json("--csv")
    describer = chosen_describer(descriptor, device=device, output=model_output, pooling=model_pooling)
    report, descriptions = describe_images(collect_examples(files), describer)
    if as_csv:
        columns = ["path", *(f"code{number}" for number in range(1, describer.descriptor.l + 1))]
        print_table(columns, ([each["path"], *each["codes"]] for each in descriptions))
        return Report(warnings=report.warnings)
    lines = _edge_lines if descriptor == "edge-histogram" else _lines
    return replace(report, lines=[line for each in descriptions for line in lines(each)])


def _edge_lines(description: dict[str, Any]) -> list[str]:
    codes = [*map(str, description["codes"])]
    rows = [["row,column", "vert", "horiz", "45°", "135°", "none"]]
    rows += [[f"{n // 4 + 1},{n % 4 + 1}", *codes[5 * n : 5 * n + 5]] for n in range(16)]
    return [printable(description["path"]), *(f"  {line}" for line in in_columns(rows, right=range(1, 6)))]


def _lines(description: dict[str, Any]) -> list[str]:
    codes = [*map(str, description["codes"])]
    rows = [[str(first + 1), *codes[first : first + 16]] for first in range(0, len(codes), 16)]
    rows[-1] += [""] * (17 - len(rows[-1]))
    return [printable(description["path"]), *(f"  {line}" for line in in_columns(rows, right=range(17)))]
