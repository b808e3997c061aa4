"""The short run of the ordinary tests, the same each time: `python -m tests.fuzz.short INPUTS FOLDER`.

Without atheris, with the same targets, seeds and limits. Prints, for each target, how many inputs were read
and how many refused; ends at the first finding.
"""

from __future__ import annotations

import faulthandler
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.choices import EXTREMES
from tests.fuzz.limits import limit_memory
from tests.fuzz.targets import BODY, RECIPE, TARGETS, attempt

SECONDS_AN_INPUT = 20  # far above what any takes, on a machine that does other things too


def inputs(name: str, count: int, scratch: Path) -> Iterator[bytes]:
    """Yield the seeds of a target, and then as many inputs made of them."""
    target, source = TARGETS[name], random.Random(name)
    seeds, mode = target.seeds(scratch), target.mode
    yield from seeds
    whole = [seed for seed in seeds if mode is None or seed[mode : mode + 1] == BODY]
    for _ in range(count):
        if mode is not None and source.random() < 0.5:
            yield source.randbytes(mode) + RECIPE + source.randbytes(source.choice((16, 32, 64, 128)))
        else:
            yield damaged(source.choice(whole), source, 0 if mode is None else mode + 1)


def damaged(seed: bytes, source: random.Random, begin: int) -> bytes:
    """Return a seed of which some bytes from ``begin`` on are changed, missing, added or copied."""
    data = bytearray(seed)
    for _ in range(source.choice((1, 1, 2, 4, 8))):
        place = source.randrange(begin, len(data)) if len(data) > begin else begin
        match source.randrange(8):
            case 0:
                del data[place : place + source.choice((1, 2, 8, 100))]
            case 1:
                data[place:place] = source.randbytes(source.choice((1, 2, 8)))
            case 2 | 3:
                size = source.choice((1, 2, 4, 8))
                number = source.choice(EXTREMES) % (1 << 8 * size)
                data[place : place + size] = number.to_bytes(size, source.choice(("little", "big")))
            case 4:
                other = source.randrange(len(data) + 1)
                data[place : place + 8] = data[other : other + 8]
            case _:
                data[place : place + 1] = bytes([source.choice((0, 1, 127, 255, source.randrange(256)))])
    return bytes(data)


def main() -> None:
    """Try the inputs on every target."""
    count, scratch = int(sys.argv[1]), Path(sys.argv[2])
    made = {name: list(inputs(name, count, scratch)) for name in TARGETS}
    limit_memory()
    for name, target in TARGETS.items():
        outcomes: Counter[str] = Counter()
        for data in made[name]:
            (scratch / "last-input").write_bytes(data)
            faulthandler.dump_traceback_later(SECONDS_AN_INPUT, exit=True)
            outcomes["read" if attempt(target, data, scratch) is None else "refused"] += 1
        print(json.dumps({"target": name, **outcomes}), flush=True)
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    faulthandler.enable()
    main()
