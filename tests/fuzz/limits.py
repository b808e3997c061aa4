"""The memory that reading one small file may take, however it lies about itself."""

from __future__ import annotations

import resource
from pathlib import Path

# HDF5 keeps a few megabytes for a file, an answer of 2^20 pixels takes some tens; beyond that is a finding
HEADROOM_BYTES = 1 << 28


def limit_memory() -> None:
    """Let this process take a fixed amount of memory beyond what it has now, until this is called again."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + HEADROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))
