"""One process of the fuzzer: `python -m tests.fuzz.worker TARGET SCRATCH LIBFUZZER-OPTION… CORPUS`."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

# pydicom for its own target alone: to make it tell where it goes takes long
OF_OTHERS = ["PIL", *(["pydicom"] if sys.argv[1:2] == ["dicom"] else [])]

with atheris.instrument_imports(include=["mipp_cli", *OF_OTHERS]):
    from tests.fuzz.limits import limit_memory
    from tests.fuzz.targets import TARGETS, attempt


def main() -> None:
    """Fuzz until libFuzzer ends the process."""
    name, scratch, *options = sys.argv[1:]
    target = TARGETS[name]
    target.seeds(Path(scratch))  # so that what they need is there before memory is limited

    def run(data: bytes) -> None:
        limit_memory()  # for each input, as what the fuzzer has learned takes more and more
        attempt(target, data, Path(scratch))

    atheris.Setup([sys.argv[0], *options], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
