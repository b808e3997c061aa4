"""Deployments of scheme `exact`, made once with chunks of three rows."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mipp_cli.scheme import feature_chunks
from tests.deployment import Deployment
from tests.roles.exact_deployment import Exact, make_exact


@pytest.fixture(scope="session")
def _made_exact(tmp_path_factory: pytest.TempPathFactory) -> Exact:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_chunks, "_MOST_ROWS", 3)
        return make_exact(tmp_path_factory.mktemp("exact") / "made")


@pytest.fixture
def exact(_made_exact: Exact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Exact:
    """A deployment of the test's own, with chunks of three rows."""
    monkeypatch.setattr(feature_chunks, "_MOST_ROWS", 3)
    shutil.copytree(_made_exact.deployment.root, tmp_path / "exact")
    deployment = Deployment(tmp_path / "exact", "exact")
    owners = (
        replace(owner, deployment=deployment, live=dict(owner.live), chunks=list(owner.chunks))
        for owner in (_made_exact.north, _made_exact.south)
    )
    return Exact(deployment, *owners)
