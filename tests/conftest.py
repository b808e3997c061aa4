"""Deployments that tests share or change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

from mipp_cli.scheme.parameters import SUM_SCHEMES
from tests.support.deployment import SCHEMES, Deployment, own_deployment, shared_deployment

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the tests of this process share."""
    return tmp_path_factory.getbasetemp()


# `paper` differs from `dcr` in its group alone: tests/scheme and tests/cli have it
_TRIED = [scheme for scheme in SCHEMES if scheme != "paper"]


@pytest.fixture(scope="session", params=_TRIED)
def _each_scheme(request: pytest.FixtureRequest, session_folder: Path) -> Deployment:
    return shared_deployment(session_folder, request.param)


@pytest.fixture
def any_scheme(_each_scheme: Deployment) -> Iterator[Deployment]:
    """A deployment to read from, of each scheme in turn."""
    with _unchanged(_each_scheme):
        yield _each_scheme


@pytest.fixture(params=[scheme for scheme in _TRIED if scheme in SUM_SCHEMES])
def sum_scheme(request: pytest.FixtureRequest, session_folder: Path) -> Iterator[Deployment]:
    """A deployment to read from, of each scheme in which the cloud ranks."""
    yield from _to_read(session_folder, request.param)


@pytest.fixture
def deployment(session_folder: Path) -> Iterator[Deployment]:
    """A deployment to read from, of the scheme that is the fastest."""
    yield from _to_read(session_folder, "mask")


@pytest.fixture
def changeable(session_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment of the test's own, of the scheme that is the fastest."""
    yield from own_deployment(session_folder, tmp_path_factory, "mask")


@pytest.fixture
def exact(session_folder: Path) -> Iterator[Deployment]:
    """A deployment of scheme `exact` to read from."""
    yield from _to_read(session_folder, "exact")


@pytest.fixture
def changeable_exact(session_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment of scheme `exact` of the test's own."""
    yield from own_deployment(session_folder, tmp_path_factory, "exact")


@pytest.fixture(params=["mask", "exact"])
def each_way(
    request: pytest.FixtureRequest, session_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """A deployment of the test's own: once the cloud ranks, by sums, and once the KMC."""
    yield from own_deployment(session_folder, tmp_path_factory, request.param)


def _to_read(base: Path, scheme: str) -> Iterator[Deployment]:
    """Give the shared deployment of a scheme, and fail if the test changes it."""
    shared = shared_deployment(base, scheme)
    with _unchanged(shared):
        yield shared


@contextmanager
def _unchanged(shared: Deployment) -> Iterator[None]:
    """Fail if a test leaves traces in what other tests read."""
    before = _listing(shared.root)
    yield
    assert _listing(shared.root) == before


def _listing(folder: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()}
