"""The report: report.json, and report.html, a single file that needs no network."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from mipp_cli import __version__
from mipp_cli.experiments.plots.drawings import drawing_names
from mipp_cli.experiments.report.provenance import PAPER
from mipp_cli.experiments.report.table_files import table_names
from mipp_cli.experiments.report.tables import Table, key_table
from mipp_cli.experiments.report.workspace import EXPERIMENTS, Record
from mipp_cli.files.atomic import write_bytes
from mipp_cli.files.folders import is_there

REPORT_HTML, REPORT_JSON = "report.html", "report.json"
_MOST_OBSERVATIONS = 2000


def write_report(records: Sequence[Record], folder: Path) -> list[Path]:
    """Write both files into ``folder``, where the CSV files and plots are; return their paths."""
    experiments = [_record_fields(record, folder) for record in records]
    fields = {"paper": PAPER, "mipp": __version__, "experiments": experiments}
    pages = {
        REPORT_JSON: json.dumps(fields, indent=1, ensure_ascii=False) + "\n",
        REPORT_HTML: _page(records, folder),
    }
    for name, text in pages.items():
        write_bytes(folder / name, text.encode(), force=True)
    return [folder / name for name in pages]


def _record_fields(record: Record, folder: Path) -> dict[str, Any]:
    """Return a record with file names; very long observations are only in their CSV file."""
    fields = asdict(record)
    for each, result in zip(fields["results"], record.results, strict=True):
        each["csv"] = f"{result.name}.csv"
        each["tables"] = _there(table_names(result), folder)
        each["plots"] = _there(drawing_names(result), folder)
        if len(result.observations) > _MOST_OBSERVATIONS:
            each["observations"] = None
    return fields


def _there(names: Iterable[str], folder: Path) -> list[str]:
    return [name for name in names if is_there(folder / name)]


class _Html(str):
    """Text that is already HTML."""

    __slots__ = ()


def _element(name: str, *inside: str, **attributes: str) -> _Html:
    """Return an element; text that is not HTML is escaped, and empty attributes are left out."""
    begin = name + "".join(f' {key.rstrip("_")}="{escape(each)}"' for key, each in attributes.items() if each)
    content = "".join(each if isinstance(each, _Html) else escape(each) for each in inside)
    return _Html(f"<{begin}>" if name == "img" else f"<{begin}>{content}</{name}>")


def _list(items: Iterable[str]) -> _Html:
    return _element("ul", *(_element("li", item) for item in items))


def _table(table: Table, kind: str = "") -> _Html:
    def line(tag: str, texts: Sequence[str]) -> _Html:
        columns = zip(texts, table.numeric, strict=True)
        cells = ((_in_one_line(cell) if right else cell, right) for cell, right in columns)
        return _element("tr", *(_element(tag, cell, class_="n" if right else "") for cell, right in cells))

    head = _element("thead", line("th", table.header))
    body = _element("tbody", *(line("td", cells) for cells in table.rows))
    return _element("div", _element("table", head, body, class_=kind), class_="wide")


def _in_one_line(interval: str) -> str:
    """Return a figure whose interval may wrap to the next line, but only as a whole."""
    mean, bracket, rest = interval.partition(" [")
    return mean + bracket + rest.replace(" ", "\N{NO-BREAK SPACE}")


def _page(records: Sequence[Record], folder: Path) -> str:
    template = files("mipp_cli.experiments.report").joinpath("report.html").read_text(encoding="utf-8")
    dataset = next((record.dataset for record in records if record.dataset), {})
    links = {f"#{record.experiment}": EXPERIMENTS[record.experiment] for record in records}
    links["#run"] = "Data set, options and environment"
    claims = [
        (claim.where, claim.claimed, claim.measured, claim.conclusion)
        for record in records
        for result in record.results
        for claim in result.claims
    ]
    return Template(template).substitute(
        name=escape(str(dataset.get("name", ""))),
        links=_list(_element("a", title, href=target) for target, title in links.items()),
        paper=escape(PAPER),
        made=escape(_made(records)),
        claims=_table(
            Table(("where", "the paper claims", "measured", "conclusion"), claims, [False] * 4), "claims"
        ),
        sections="\n".join(_section(record, folder) for record in records),
        runs="\n".join(_run(record) for record in records),
    )


def _made(records: Sequence[Record]) -> str:
    """Return version, commit and date of the latest experiment."""
    if not records:
        return f"mipp {__version__}."
    last = max((record.environment for record in records), key=lambda each: str(each.get("date", "")))
    commit = last.get("commit", "none")
    source = "" if commit == "none" else f", commit {commit}"
    return f"Measured by mipp {last['versions']['mipp']}{source}, {last.get('date', '')}."


def _section(record: Record, folder: Path) -> _Html:
    parts = [_element("h2", EXPERIMENTS[record.experiment])]
    more = []
    for result in record.results:
        count = f"{len(result.observations):,} observations"
        # results without plots and notes are listed as files only
        if not (result.notes or drawing_names(result)):
            more.append(f"{result.title}: {result.name}.csv, {count}")
            continue
        parts.append(_element("h3", result.title))
        for name in _there(drawing_names(result), folder):
            if name.endswith(".svg"):
                continue  # the same plot as the PNG
            data = base64.b64encode((folder / name).read_bytes()).decode("ascii")
            image = _element("img", alt=result.title, src=f"data:image/png;base64,{data}")
            also = _there([name.replace(".png", ".svg")], folder)
            parts.append(_element("figure", image, _element("figcaption", ", ".join([name, *also]))))
        if (table := key_table(result)) is not None:
            parts.append(_table(table))
        if result.notes:
            parts.append(_list(result.notes))
        tables = _there(table_names(result), folder)
        named = f"; this table: {', '.join(tables)}" if tables else ""
        parts.append(_element("p", f"All {count}: {result.name}.csv{named}", class_="file"))
    if more:
        parts += [_element("h3", "Further files"), _list(more)]
    return _element("section", *parts, id=record.experiment)


def _run(record: Record) -> str:
    """Return data set, options, environment and duration of an experiment."""
    facts = {
        "data set": record.dataset,
        "options": record.options,
        **record.environment,
        "seconds": round(record.seconds, 1),
    }
    rows = (
        _element("tr", _element("th", name), _element("td", _plain(value))) for name, value in facts.items()
    )
    return _element("h3", EXPERIMENTS[record.experiment]) + _element("table", *rows)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_plain(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or "none"
    return "default" if value is None else str(value)
