"""The process that decodes compressed DICOM frames ends with the command that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mipp_cli.images import decoder_process
from tests.images.made_dicom import wheel_file
from tests.support.deployment import done
from tests.support.process_tree import alive, descendants_of, gone

REPOSITORY = Path(__file__).parents[2]
FILES = 300  # so that the command is still at work when it is killed


def decoders_of(pid: int) -> list[int]:
    """Return the decoding processes that a command has now."""
    return [each for each in descendants_of(pid) if decoder_process.__name__ in arguments_of(each)]


def arguments_of(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:  # it has ended
        return []


@pytest.mark.parametrize("jobs", [1, 2])
def test_decoders_do_not_outlive_a_killed_command(tmp_path: Path, jobs: int) -> None:
    done("kmc", "init", tmp_path / "kmc", "--scheme", "mask")
    public = tmp_path / "kmc" / "kmc.pub"
    done("owner", "init", tmp_path / "north", "--id", "north", "--kmc", public)
    (folder := tmp_path / "pictures").mkdir()
    for number in range(FILES):
        (folder / f"{number}.dcm").write_bytes(wheel_file("MR_small_jpeg_ls_lossless.dcm"))
    words = ("owner", "encrypt", tmp_path / "north", folder, "--payload", "file", "--jobs", jobs)
    process = subprocess.Popen(
        [sys.executable, "-m", "mipp_cli", *map(str, words), "-o", tmp_path / "upload.h5"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    there: list[int] = []
    try:
        while len(decoders_of(process.pid)) < jobs:
            assert process.poll() is None
        there = descendants_of(process.pid)
        process.kill()
        process.wait()
        assert gone(there)
    finally:
        process.kill()
        process.wait()
        for pid in filter(alive, there):
            os.kill(pid, signal.SIGKILL)
