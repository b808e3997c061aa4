"""Deployments of both ways to rank: at the cloud by sums, and at the KMC by exact distance."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment import Deployment, shared_deployment


@pytest.fixture(params=["mask", "exact"])
def each_way(
    request: pytest.FixtureRequest, session_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """A deployment of the test's own: once the cloud ranks, by sums, and once the KMC."""
    folder = tmp_path_factory.mktemp("each-way")
    yield shared_deployment(session_folder, request.param).copy(folder / "deployment")
    shutil.rmtree(folder, ignore_errors=True)
