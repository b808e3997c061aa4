"""Results as tables."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from mipp_cli.experiments.base.result import Result, table
from mipp_cli.experiments.report.table_files import as_csv, as_latex, escaped
from mipp_cli.experiments.report.tables import Table, key_table
from tests.experiments.stand_ins import ACCURACY, STORAGE


def test_tables_show_key_figures() -> None:
    table = key_table(ACCURACY)
    assert table is not None
    assert table.header == ["method", "precision at 1", "precision at 2", "recall at 2", "f1 at 2"]
    assert table.rows[0][1] == "0.500 [0.250, 0.750]"
    table = key_table(STORAGE)
    assert table is not None
    assert table.lines() == ["what    bytes  share  by", "index  12,345   0.25"]
    assert key_table(STORAGE, most_rows=0) is None


def test_descriptors_stand_in_lines_and_measures_in_columns() -> None:
    rows = [
        row
        for bits in (8, 2)
        for row in table(
            descriptor=["a", "b"], bits=bits, measure="mAP", mean=[0.5, bits / 10], low=0.25, high=0.75
        )
    ]
    found = key_table(Result("descriptors-bits", "", rows))
    assert found is not None
    assert found.header == ["descriptor", "measure", "2 bits", "8 bits"]
    assert found.rows[1] == ["b", "mAP", "0.200", "0.800"]
    rows = table(descriptor="a", label="Eq. 7", measure=["mAP", "nDCG at 5"], mean=0.5, low=0.25, high=0.75)
    found = key_table(Result("descriptors", "", rows))
    assert found is not None
    assert found.header == ["descriptor", "distance", "mAP", "nDCG at 5"]
    assert found.rows == [["a", "Eq. 7", "0.500 [0.250, 0.750]", "0.500 [0.250, 0.750]"]]


TABLE = Table(["what & where", "share"], [["a_1, 50 %", "0.5 [0.4, 0.6]"]], [False, True])


def test_tables_are_written_for_other_programs() -> None:
    assert list(csv.reader(io.StringIO(as_csv(TABLE), newline=""))) == [[*TABLE.header], *TABLE.rows]


def test_no_text_in_a_csv_file_is_a_formula(tmp_path: Path) -> None:
    """Names of files and folders are somebody else's; numbers may begin with a minus."""
    formula = "=cmd|' C'!A1"
    table = Table([formula, "share"], [[formula, "-0.5 [-0.6, 0.1]"]], [False, True])
    written = list(csv.reader(io.StringIO(as_csv(table), newline="")))
    assert written == [[f"./{formula}", "share"], [f"./{formula}", "-0.5 [-0.6, 0.1]"]]
    rows = [{"category": formula, "gain": -0.5, "right": True, "by": None}]
    with Result("own", "", rows).write_csv(tmp_path).open(newline="") as file:
        assert list(csv.reader(file))[1] == [f"./{formula}", "-0.5", "True", ""]


def test_tables_are_written_for_latex() -> None:
    assert as_latex(TABLE, "Sizes\nin all") == "\n".join((
        "% Sizes in all",
        r"\begin{tabular}{lr}",
        r"\hline",
        r"what \& where & share \\",
        r"\hline",
        r"a\_1, 50 \% & 0.5 {[}0.4, 0.6{]} \\",
        r"\hline",
        r"\end{tabular}",
        "",
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("\\{}", r"\textbackslash{}\{\}"),
        ("#$~^", r"\#\$\textasciitilde{}\textasciicircum{}"),
        ("Σx², 3–5 ×", r"$\Sigma$x$^2$, 3--5 $\times$"),
        ("Grüße", "Grüße"),
    ],
)
def test_special_characters_are_escaped(text: str, latex: str) -> None:
    assert escaped(text) == latex
