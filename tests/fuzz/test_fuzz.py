"""Whatever reads bytes of another party ends in an answer or in one of our errors, soon and in little memory.

The same inputs each time; `python -m tests.fuzz` looks for others.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mipp_cli.errors import MippError
from tests.fuzz import hand_offs, targets
from tests.fuzz.targets import TARGETS, Target, attempt

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
INPUTS = "40"


def test_no_damage_ends_in_anything_but_a_reading_or_a_refusal(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz.short", INPUTS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr  # where libtiff, too, says what it thinks of a file
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert [outcome["target"] for outcome in outcomes] == list(TARGETS)
    for outcome in outcomes:
        assert outcome["read"] >= 3, outcome
        if outcome["target"] != "public":  # which asks several readers, each of which refuses most
            assert outcome["refused"] >= 8, outcome


def test_a_huge_allocation_is_a_finding_even_if_refused(tmp_path: Path) -> None:
    def run(_data: bytes, _scratch: Path) -> None:
        try:
            bytearray(1 << 62)
        except MemoryError as error:
            raise MippError("has no readable rows") from error

    with pytest.raises(AssertionError, match="memory was taken"):
        attempt(Target(run, lambda _scratch: []), b"", tmp_path)


@pytest.mark.parametrize("name", [name for name in TARGETS if name in targets.seeds.WRITERS])
def test_what_the_package_writes_is_read_by_its_target(name: str, tmp_path: Path) -> None:
    for body in targets.seeds.bodies(name, tmp_path):
        assert attempt(TARGETS[name], targets.BODY + body, tmp_path) is None


@pytest.mark.parametrize("step", hand_offs.STEPS)
def test_what_roles_hand_each_other_is_taken_by_its_target(step: str, tmp_path: Path) -> None:
    body = hand_offs.world(tmp_path).hand_off(step).body
    assert attempt(TARGETS[step], targets.BODY + body, tmp_path) is None
