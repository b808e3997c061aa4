"""A small data set that the experiments share."""

from __future__ import annotations

from pathlib import Path

import pytest

from mipp_cli.experiments.base.dataset import DataSet
from tests.support.small_datasets import draw_dataset, load_dataset


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three categories of six pictures each."""
    return draw_dataset(tmp_path_factory.mktemp("drawn") / "stripes")


@pytest.fixture(scope="session")
def dataset(drawn: Path) -> DataSet:
    """The drawn pictures, described."""
    return load_dataset(drawn)
