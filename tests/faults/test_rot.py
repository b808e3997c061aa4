"""Bytes flipped in a small store, some of all; python -m tests.faults.rot flips every one."""

from __future__ import annotations

from pathlib import Path

from tests.faults.rot import ROLES, flips, make_rotting_store, unnoticed
from tests.faults.store import meaning

_TRIED = 300


def test_a_flipped_byte_is_found_or_changes_nothing(tmp_path: Path) -> None:
    store = make_rotting_store(tmp_path / "store")
    before = meaning(store)
    every = list(flips(store))
    chosen = every[:: len(every) // _TRIED]
    assert {flip.role for flip in chosen} == {*ROLES}
    assert [(flip, problem) for flip in chosen if (problem := unnoticed(store, before, flip))] == []
