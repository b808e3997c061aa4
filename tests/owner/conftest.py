"""Owners to try things on: each module says of which pictures, and in which groups, by its ``template``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.owner_world import OwnerWorld


@pytest.fixture
def fresh(template: OwnerWorld, names: Sequence[str], tmp_path: Path) -> OwnerWorld:
    """Pictures of which none was sent."""
    world = template.copy(tmp_path / "world")
    world.draw(*names)
    return world


@pytest.fixture
def world(fresh: OwnerWorld) -> OwnerWorld:
    """Pictures that were sent."""
    fresh.send()
    return fresh
