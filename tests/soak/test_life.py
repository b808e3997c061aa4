"""A short life in the ordinary tests; python -m tests.soak lives longer."""

from __future__ import annotations

from pathlib import Path

from tests.deployment import SCHEMES
from tests.soak.life import Life


def test_after_each_of_two_hundred_operations_all_is_as_the_model_says(tmp_path: Path) -> None:
    life = Life(tmp_path, 1, *SCHEMES["mask"])
    for _ in range(200):
        life.step()
    assert sum(life.counts.values()) == 200
    assert life.counts["query"] > 10
