"""Results as tables."""

from __future__ import annotations

from mipp_cli.experiments.report.tables import key_table
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
