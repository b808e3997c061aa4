"""A short life in the ordinary tests; python -m tests.soak lives longer."""

from __future__ import annotations

from pathlib import Path

from tests.deployment import SCHEMES
from tests.soak.life import Life

_OPERATIONS = 120


def test_after_each_operation_all_is_as_the_model_says(tmp_path: Path) -> None:
    life = Life(tmp_path, 1, *SCHEMES["mask"])
    for _ in range(_OPERATIONS):
        life.step()
    life.settle()
    assert life.counts.total() == _OPERATIONS
    assert life.counts["query"] > 5
    for figure in ("lost", "delayed", "doubled", "out of order", "late rows dropped", "gaps closed"):
        assert life.figures[figure], figure
