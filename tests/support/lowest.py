"""The lowest versions that pyproject.toml allows, one `name==version` a line, as pip takes them.

Left out are the extras that the tests do without: the benchmark's competitors, the fuzzer, the GPU, the
decoder of JPEG of 12 bits, and what makes a release.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

BESIDE_THE_TESTS = {"bench", "dicom-gpl", "fuzz", "model-gpu", "release"}
_BOUND = re.compile(r"([A-Za-z0-9._-]+)>=([0-9][0-9.]*)")


def lowest_versions(pyproject: str) -> list[str]:
    """Return the lowest version of each dependency, and of what builds the package."""
    read = tomllib.loads(pyproject)
    named = list(read["build-system"]["requires"]) + list(read["project"]["dependencies"])
    for extra, needed in read["project"]["optional-dependencies"].items():
        if extra not in BESIDE_THE_TESTS:
            named += needed
    bounds: dict[str, str] = {}
    for each in named:
        match = _BOUND.fullmatch(each)
        if match is None:
            raise ValueError(f"pyproject.toml: {each!r} has no lower bound of the form name>=version")
        name, version = match.groups()
        if bounds.setdefault(name, version) != version:
            raise ValueError(f"pyproject.toml: {name} has two lower bounds, {bounds[name]} and {version}")
    return [f"{name}=={version}" for name, version in sorted(bounds.items())]


if __name__ == "__main__":
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    sys.stdout.write("\n".join(lowest_versions(text)) + "\n")
