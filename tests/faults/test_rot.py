"""Bytes flipped in a small store, some of all; python -m tests.faults.rot flips every one."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from tests.faults.rot import ROLES, can_be_mended, flips, make_rotting_store, unmended, unnoticed
from tests.faults.store import make_store, meaning
from tests.support.deployment import JOBS, done, picture, run, snapshot

pytestmark = pytest.mark.slow

_TRIED = 200


@pytest.mark.parametrize("scheme", ["mask", "exact"])
def test_a_flipped_byte_is_found_or_changes_nothing(tmp_path: Path, scheme: str) -> None:
    store = make_rotting_store(tmp_path / "store", scheme)
    before = meaning(store)
    every = list(flips(store))
    chosen = every[:: len(every) // _TRIED]
    assert {flip.role for flip in chosen} == {*ROLES}
    assert [(flip, problem) for flip in chosen if (problem := unnoticed(store, before, flip))] == []


def test_the_kmc_ranks_beside_damage_and_is_mended(tmp_path: Path) -> None:
    store = make_rotting_store(tmp_path / "store", "exact")
    before = meaning(store)
    of_file = defaultdict(list)
    for flip in filter(can_be_mended, flips(store)):
        of_file[flip.file].append(flip)
    assert {Path(file).parts[0] for file in of_file} == {"features", "users", "rankings"}
    chosen = [each[len(each) // 2] for each in of_file.values()]
    assert [(flip, problem) for flip in chosen if (problem := unmended(store, before, flip))] == []


def test_indexing_beside_damage_does_all_or_nothing(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    for name in ("lost", "more"):  # the cloud looks further back for what is complete where one is missing
        (store / name).mkdir()
        picture(len(name) + ord(name[0]), size=(24, 16)).save(store / name / f"{name}.png")
        words = (store / "north", store / name, "-o", store / f"{name}.h5", *JOBS)
        done("owner", "encrypt", *words)
    segment = next((store / "cloud" / "segments").glob("north-*.h5"))
    data = segment.read_bytes()
    segment.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    before = snapshot(store / "cloud")
    outcome = run("cloud", "index", store / "cloud", store / "more.h5", *JOBS)
    assert outcome.code == 0 or snapshot(store / "cloud") == before, outcome.err
