"""The lowest versions are those of pyproject.toml, and no bound is passed over."""

from __future__ import annotations

import pytest

from tests.support.lowest import lowest_versions

PYPROJECT = """
[build-system]
requires = ["setuptools>=77"]
[project]
dependencies = ["click>=8.4.0", "{}"]
[project.optional-dependencies]
plots = ["matplotlib>=3.10"]
dev = ["matplotlib>=3.10"]
fuzz = ["atheris>=3.0; sys_platform == 'linux'"]
"""


def test_every_lower_bound_becomes_a_version() -> None:
    assert lowest_versions(PYPROJECT.format("numpy>=1.26.4")) == [
        "click==8.4.0",
        "matplotlib==3.10",
        "numpy==1.26.4",
        "setuptools==77",
    ]


@pytest.mark.parametrize("dependency", ["numpy", "numpy>=1.26,<2", "numpy==1.26"])
def test_another_form_of_bound_is_refused(dependency: str) -> None:
    with pytest.raises(ValueError, match="numpy"):
        lowest_versions(PYPROJECT.format(dependency))


def test_two_bounds_of_one_library_are_refused() -> None:
    with pytest.raises(ValueError, match="two lower bounds"):
        lowest_versions(PYPROJECT.format("matplotlib>=3.8"))
