"""Decode and describe the JPEG files of a folder: `python -m tests.benchmark.describing FOLDER JOBS`.

What `owner encrypt` is measured beside: Pillow as it comes and the descriptor, in as many processes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from PIL import Image

from mipp_cli.descriptors.edge_histogram import edge_histogram

_BATCH = 50


def describe(files: Sequence[Path]) -> int:
    """Describe some files; return how many."""
    for file in files:
        with Image.open(file) as image:
            edge_histogram(image)
    return len(files)


def main() -> None:
    """Describe the files of the folder, and check that there were as many as it has."""
    files, jobs = sorted(Path(sys.argv[1]).glob("*.jpg")), int(sys.argv[2])
    batches = [files[begin : begin + _BATCH] for begin in range(0, len(files), _BATCH)]
    if jobs == 1:
        described = sum(map(describe, batches))
    else:
        with ProcessPoolExecutor(jobs) as pool:
            described = sum(pool.map(describe, batches))
    assert described == len(files) > 0


if __name__ == "__main__":
    main()
