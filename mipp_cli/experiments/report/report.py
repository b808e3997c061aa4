"""The report: report.json for scripts, and report.html for people, one file that opens without a network."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from mipp_cli import __version__
from mipp_cli.experiments.base.result import Result
from mipp_cli.experiments.plots.drawings import drawing_names
from mipp_cli.experiments.report.tables import Table, key_table
from mipp_cli.experiments.report.workspace import Record
from mipp_cli.files.atomic import write_bytes

REPORT_HTML, REPORT_JSON = "report.html", "report.json"
_MOST_OBSERVATIONS = 2000

_TITLES = {
    "accuracy": "Accuracy (Fig. 3 and 4)",
    "positions": "Positions of similar images (Fig. 2)",
    "timing": "Time (Fig. 5 to 8)",
    "storage": "Storage (Table 3)",
    "leakage": "What the cloud can work out (section 6.2)",
    "attack": "Reading features out of an upload",
}


def write_report(records: Sequence[Record], folder: Path) -> list[Path]:
    """Write both files into ``folder``, where the CSV files and plots are; return their paths."""
    pages = {
        REPORT_JSON: json.dumps(_report_fields(records, folder), indent=1, ensure_ascii=False) + "\n",
        REPORT_HTML: _page(records, folder),
    }
    for name, text in pages.items():
        write_bytes(folder / name, text.encode(), force=True)
    return [folder / name for name in pages]


def _report_fields(records: Sequence[Record], folder: Path) -> dict[str, Any]:
    return {"mipp": __version__, "experiments": [_record_fields(record, folder) for record in records]}


def _record_fields(record: Record, folder: Path) -> dict[str, Any]:
    """Return a record with file names; observations that fill books stand in their CSV file alone."""
    fields = record.to_json()
    for each, result in zip(fields["results"], record.results, strict=True):
        each["csv"] = f"{result.name}.csv"
        each["plots"] = [name for name in drawing_names(result) if (folder / name).exists()]
        if len(result.observations) > _MOST_OBSERVATIONS:
            each["observations"] = None
    return fields


def _page(records: Sequence[Record], folder: Path) -> str:
    style = files("mipp_cli.experiments.report").joinpath("report.css").read_text(encoding="utf-8")
    dataset = next((record.dataset for record in records if record.dataset), {})
    name = escape(str(dataset.get("name", "")))
    body = "\n".join(
        [
            f"<h1>Does the paper hold? Measured on {name}</h1>",
            _summary(records),
            *(_section(record, folder) for record in records),
            _provenance(records),
        ]
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>mipp experiment: {name}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _summary(records: Sequence[Record]) -> str:
    links = "".join(
        f'<li><a href="#{record.experiment}">{escape(_TITLES[record.experiment])}</a></li>'
        for record in records
    )
    rows = "".join(
        f"<tr><td>{escape(claim.where)}</td><td>{escape(claim.claimed)}</td><td>{_parts(claim.measured)}</td></tr>"
        for record in records
        for result in record.results
        for claim in result.claims
    )
    return (
        f'<nav><ul>{links}<li><a href="#run">How it was run</a></li></ul></nav>\n'
        '<h2>The paper\'s claims and what was measured</h2>\n<div class="wide"><table class="claims">\n'
        "<thead><tr><th>where</th><th>the paper claims</th><th>measured</th></tr></thead>\n"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _parts(sentence: str) -> str:
    """Return what was measured, each line of it on a line of its own."""
    return "<br>".join(map(escape, sentence.splitlines()))


def _section(record: Record, folder: Path) -> str:
    parts = [f'<section id="{record.experiment}">', f"<h2>{escape(_TITLES[record.experiment])}</h2>"]
    shown = [result for result in record.results if _is_shown(result)]
    parts += [_result(result, folder) for result in shown]
    files = [result for result in record.results if result not in shown]
    if files:
        lines = (
            f"<li>{escape(each.title)}: {escape(each.name)}.csv, {len(each.observations):,} observations</li>"
            for each in files
        )
        parts.append(f"<h3>Further files</h3><ul>{''.join(lines)}</ul>")
    return "\n".join([*parts, "</section>"])


def _is_shown(result: Result) -> bool:
    """Say whether there is more to a result than its file: it is drawn, or explained."""
    return bool(result.notes or drawing_names(result))


def _result(result: Result, folder: Path) -> str:
    parts = [f"<h3>{escape(result.title)}</h3>"]
    parts += [
        f'<figure><img alt="{escape(result.title)}" src="{_data_uri(folder / name)}">'
        f"<figcaption>{escape(name)}</figcaption></figure>"
        for name in drawing_names(result)
        if (folder / name).exists()
    ]
    table = key_table(result)
    if table is not None:
        parts.append(_table(table))
    if result.notes:
        parts.append("<ul>" + "".join(f"<li>{escape(note)}</li>" for note in result.notes) + "</ul>")
    count = len(result.observations)
    parts.append(f'<p class="file">All {count:,} observations: {escape(result.name)}.csv</p>')
    return "\n".join(parts)


def _table(table: Table) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        columns = zip(cells, table.numeric, strict=True)
        inside = (f"<{tag}{' class=n' if right else ''}>{escape(cell)}</{tag}>" for cell, right in columns)
        return f"<tr>{''.join(inside)}</tr>"

    body = "".join(row(cells, "td") for cells in table.rows)
    head = row(table.header, "th")
    return f'<div class="wide"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def _data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _provenance(records: Sequence[Record]) -> str:
    """Say of each experiment what it was run on, with what, and how long it took."""
    blocks = []
    for record in records:
        facts = {
            "data set": record.dataset,
            "options": record.options,
            **record.environment,
            "seconds": round(record.seconds, 1),
        }
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(_plain(value))}</td></tr>"
            for name, value in facts.items()
        )
        blocks.append(f"<h3>{escape(_TITLES[record.experiment])}</h3><table>{rows}</table>")
    return f'<section id="run"><h2>How it was run</h2>{"".join(blocks)}</section>'


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_plain(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or "none"
    return "default" if value is None else str(value)
