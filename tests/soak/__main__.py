"""python -m tests.soak: a long life; says which seed it had, so that it can be lived again."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.soak.lives import begin
from tests.support.deployment import SCHEMES


def main() -> int:
    """Run; the exit code is 0 if the model was right throughout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scheme", choices=[*SCHEMES], default="exact")
    parser.add_argument(
        "--scratch", type=Path, help="where the deployment lives; a disk in memory is fastest"
    )
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        life = begin(Path(folder), options.seed, options.scheme)
        done = 0
        try:
            while done < options.operations:
                name = life.step()
                done += 1
                if done % 100 == 0:
                    print(f"{done} operations, {time.monotonic() - started:.0f} s, last {name}", flush=True)
            life.settle()
        except Exception:
            print(f"operation {done} of seed {options.seed} failed", file=sys.stderr)
            raise
    print(f"operations: {_listed(life.counts)}")
    print(f"figures: {_listed(life.figures)}")
    print(f"seed {options.seed}, {time.monotonic() - started:.0f} s: all was as the model says")
    return 0


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


if __name__ == "__main__":
    sys.exit(main())
