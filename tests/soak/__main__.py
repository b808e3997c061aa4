"""python -m tests.soak: a long life; says which seed it had, so that it can be lived again."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.deployment import SCHEMES
from tests.soak.life import Life


def main() -> int:
    """Run; the exit code is 0 if the model was right throughout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scheme", choices=[*SCHEMES], default="mask")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        life = Life(Path(folder), options.seed, *SCHEMES[options.scheme])
        for number in range(options.operations):
            try:
                name = life.step()
            except Exception:
                print(f"operation {number} of seed {options.seed} failed", file=sys.stderr)
                raise
            if (number + 1) % 100 == 0:
                print(f"{number + 1} operations, {time.monotonic() - started:.0f} s, last {name}", flush=True)
    print(", ".join(f"{name} {count}" for name, count in sorted(life.counts.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
