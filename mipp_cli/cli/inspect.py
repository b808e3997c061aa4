"""The command that shows what a file or directory contains."""

from __future__ import annotations

from pathlib import Path

import click

from mipp_cli.cli.messages import print_table
from mipp_cli.cli.options import PATH, prints_report, refuse_with_json
from mipp_cli.cli.passphrases import passphrase_option
from mipp_cli.errors import InvalidRequestError
from mipp_cli.names import name_of
from mipp_cli.report import Report, in_columns
from mipp_cli.sanitize import printable


@click.command()
@passphrase_option
@click.argument("path", metavar="PATH", type=PATH)
@click.option("--csv", "as_csv", is_flag=True, help="Print the main table as CSV.")
@prints_report
def inspect(path: Path, as_csv: bool) -> Report:
    """Show what PATH contains, except secrets.

    PATH is a container, a public file or a role's directory. The main table (--csv) of an index is
    owner,image_id,sum1,sum2 (all that the cloud knows about features); of results query,owner,image_id,sim;
    of an upload image_id,encrypted_bytes; of a deletion image_id. To list an owner's images, run mipp owner
    list.
    """
    from mipp_cli.inspection.directories import inspect_path

    found = inspect_path(path)
    if as_csv:
        refuse_with_json("--csv")
        if found.table is None:
            raise InvalidRequestError("has no table to print", path=path, hint="leave out --csv")
        print_table(found.table.columns, found.table.rows())
        return Report(warnings=found.warnings)
    told = [(printable(label), printable(text)) for field in found.fields for label, text in field.lines]
    lines = [printable(found.title), *(f"  {line}" for line in in_columns(told))]
    fields = {field.key: field.value for field in found.fields}
    details = {"inspection": {"path": name_of(path), "kind": found.kind, "fields": fields}}
    return Report(warnings=found.warnings, details=details, lines=lines)
