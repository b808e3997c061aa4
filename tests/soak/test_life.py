"""A short life in the ordinary tests; python -m tests.soak lives longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.lives import begin

pytestmark = pytest.mark.slow

_OPERATIONS = {"mask": 100, "exact": 80}
_FIGURES = {
    "mask": ("lost", "delayed", "doubled", "out of order", "late rows dropped", "gaps closed"),
    "exact": ("KMC: lost", "KMC: delayed", "KMC: out of order", "sent with their group", "told missing"),
}


@pytest.mark.parametrize("scheme", [*_OPERATIONS])
def test_after_each_operation_all_is_as_the_model_says(tmp_path: Path, scheme: str) -> None:
    life = begin(tmp_path, 1, scheme)
    for _ in range(_OPERATIONS[scheme]):
        life.step()
    life.settle()
    assert life.counts.total() == _OPERATIONS[scheme]
    assert life.counts["query"] > 2
    for figure in _FIGURES[scheme]:
        assert life.figures[figure], figure
