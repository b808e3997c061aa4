"""How many cores there are, where a container is given less than the machine has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mipp_cli.compute import cores

AFFINITY = "sched_getaffinity"


def on_a_machine(monkeypatch: pytest.MonkeyPatch, place: Path, groups: str, files: dict[str, str]) -> int:
    """Return how many cores are seen on a machine of 8 with these control groups."""
    for name, content in files.items():
        file = place / "groups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    (place / "cgroup").write_text(groups)
    monkeypatch.setattr(cores, "_GROUPS", place / "groups")
    monkeypatch.setattr(cores, "_OF_THIS_PROCESS", place / "cgroup")
    monkeypatch.setattr(os, AFFINITY, lambda _pid: set(range(8)), raising=False)
    return cores.all_cores()


@pytest.mark.parametrize(
    ("groups", "files", "count"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "10000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "6400000 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {}, 8),
        ("", {"cpu.max": "200000 100000\n"}, 8),
        ("0::/a.slice/b\n", {"a.slice/cpu.max": "300000 100000\n", "a.slice/b/cpu.max": "max 100000\n"}, 3),
        ("0::/a.slice/b\n", {"a.slice/cpu.max": "300000 100000\n", "a.slice/b/cpu.max": "200000 100000"}, 2),
        ("0::/a/../b\n", {"cpu.max": "nonsense"}, 8),
        (
            "4:memory:/d\n3:cpu,cpuacct:/d\n",
            {"cpu,cpuacct/d/cpu.cfs_quota_us": "400000\n", "cpu,cpuacct/d/cpu.cfs_period_us": "100000\n"},
            4,
        ),
        (
            "3:cpu,cpuacct:/docker/1f\n0::/\n",  # as a container sees it: its own group is the root
            {"cpu,cpuacct/cpu.cfs_quota_us": "100000\n", "cpu,cpuacct/cpu.cfs_period_us": "50000\n"},
            2,
        ),
        ("3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
    ],
)
def test_the_quota_of_a_container_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str, files: dict[str, str], count: int
) -> None:
    assert on_a_machine(monkeypatch, tmp_path, groups, files) == count


def test_a_machine_without_control_groups_has_its_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "_OF_THIS_PROCESS", tmp_path / "nowhere")
    monkeypatch.setattr(os, AFFINITY, lambda _pid: {0, 3}, raising=False)
    assert cores.all_cores() == 2
