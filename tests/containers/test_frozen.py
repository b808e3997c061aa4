"""Frozen containers are read as they were, and each of their siblings with one defect is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.seeds import WRITERS
from tests.support.frozen import ERRORS, FOLDER, READERS, patched, read, refusal

FROZEN = {name: json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")) for name in READERS}
SIBLINGS = [(name, defect) for name, frozen in FROZEN.items() for defect in frozen["siblings"]]


def test_a_container_of_every_kind_is_frozen() -> None:
    assert set(READERS) == set(WRITERS)


@pytest.mark.parametrize("name", READERS)
def test_a_frozen_container_says_what_it_said(name: str) -> None:
    assert read(name, FOLDER / f"{name}.h5") == FROZEN[name]["answer"]


@pytest.mark.parametrize(("name", "defect"), SIBLINGS)
def test_a_sibling_with_one_defect_is_refused(name: str, defect: str, tmp_path: Path) -> None:
    sibling: dict[str, Any] = FROZEN[name]["siblings"][defect]
    path = tmp_path / "sibling.h5"
    path.write_bytes(patched((FOLDER / f"{name}.h5").read_bytes(), sibling))
    assert type(refusal(name, path)) is ERRORS[defect]
