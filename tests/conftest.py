"""Deployments that tests share or change."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment import SCHEMES, Deployment, shared_deployment


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all test processes of the session share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session", params=SCHEMES)
def any_scheme(request: pytest.FixtureRequest, session_folder: Path) -> Deployment:
    """A deployment to read from, of each scheme in turn."""
    return shared_deployment(session_folder, request.param)


@pytest.fixture(scope="session")
def deployment(session_folder: Path) -> Deployment:
    """A deployment to read from, of the scheme that is the fastest."""
    return shared_deployment(session_folder, "mask")


@pytest.fixture
def changeable(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment of the test's own, of the scheme that is the fastest."""
    folder = tmp_path_factory.mktemp("changeable")
    yield deployment.copy(folder / "deployment")
    shutil.rmtree(folder, ignore_errors=True)
