"""What a run is recorded with, so that another can be compared with it: versions, machine, data set."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mipp_cli import __version__
from mipp_cli.compute.processes import default_jobs
from mipp_cli.experiments.base.dataset import DataSet

_PACKAGES = ("numpy", "pillow", "gmpy2", "h5py", "cryptography", "matplotlib")


def describe_environment() -> dict[str, Any]:
    """Return versions and machine as JSON fields."""
    versions = {"mipp": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    machine = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "processors": os.cpu_count(),
        "processors allowed": default_jobs(),
    }
    return {"versions": versions, "machine": machine}


def _processor() -> str:
    """Return the processor's name, from where Linux tells it, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def describe_dataset(dataset: DataSet) -> dict[str, Any]:
    """Return name, size and digest of a data set as JSON fields."""
    return {
        "name": dataset.folder.resolve().name,
        "images": len(dataset),
        "categories": len(dataset.categories),
        "sha256": dataset.digest,
        "unreadable, left out": len(dataset.skipped),
        "without edges": dataset.edgeless,
    }
