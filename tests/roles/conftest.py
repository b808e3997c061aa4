"""Deployments of both ways to rank: at the cloud by sums, and at the KMC by exact distance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment import Deployment, own_deployment


@pytest.fixture(params=["mask", "exact"])
def each_way(
    request: pytest.FixtureRequest, session_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """A deployment of the test's own: once the cloud ranks, by sums, and once the KMC."""
    yield from own_deployment(session_folder, tmp_path_factory, request.param)
