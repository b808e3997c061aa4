"""Tables of commands are tried under one scheme, but for the commands that only another has."""

from __future__ import annotations

import pytest

EXACT_ALONE = ("kmc rank", "cloud collect")


@pytest.fixture
def quick_scheme(request: pytest.FixtureRequest) -> str:
    """The scheme that is the fastest and has the command which a test is about, its parameter ``name``."""
    callspec = getattr(request.node, "callspec", None)
    return "exact" if callspec and callspec.params.get("name") in EXACT_ALONE else "mask"
