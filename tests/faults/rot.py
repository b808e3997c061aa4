"""Every byte of a small store flipped in turn: a check must name the file, or the flip must change nothing.

python -m tests.faults.rot flips all of them, and prints a table.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.deployment import JOBS, Deployment, done, run
from tests.faults.store import Meaning, make_store, meaning

ROLES = ("kmc", "cloud")
_MASKS = (0x01, 0x80, 0xFF)


@dataclass(frozen=True)
class Flip:
    """A byte of a file in a role's directory, and the bits of it that change."""

    role: str
    file: str
    at: int

    @property
    def mask(self) -> int:
        """Which bits change: one at either end, or all."""
        return _MASKS[self.at % len(_MASKS)]


def make_rotting_store(root: Path) -> Deployment:
    """Make a small store with all that a directory keeps: answered queries, removals, deletions."""
    store = make_store(root)
    query, results = root / "query.h5", root / "results.h5"
    done("user", "query", root / "alice", root / "pictures" / "query.png", "-o", query, "--candidates", 2)
    done("cloud", "search", root / "cloud", query, "-o", results, *JOBS)
    done("kmc", "reencrypt", root / "kmc", results, "-o", root / "answer.h5")
    done("owner", "delete", root / "north", "a.png", "-o", root / "delete.h5")
    done("cloud", "index", root / "cloud", root / "delete.h5", *JOBS)
    done("kmc", "rotate", root / "kmc")
    for role in ROLES:
        done(role, "remove", root / role, "south")
        assert run(role, "check", root / role).code == 0
    return store


def flips(store: Deployment) -> Iterator[Flip]:
    """Yield every byte of the directories of the KMC and the cloud."""
    for role in ROLES:
        for path in sorted(file for file in (store / role).rglob("*") if file.is_file()):
            for at in range(path.stat().st_size):
                yield Flip(role, str(path.relative_to(store / role)), at)


def unnoticed(store: Deployment, before: Meaning, flip: Flip) -> str | None:
    """Flip a byte, check, and flip it back; say what is wrong if the check says nothing and it matters."""
    path = store / flip.role / flip.file
    with path.open("r+b") as file:
        file.seek(flip.at)
        byte = file.read(1)[0]
        file.seek(flip.at)
        file.write(bytes([byte ^ flip.mask]))
    try:
        outcome = run(flip.role, "check", store / flip.role)
        if outcome.code:
            return None if path.name in outcome.err else f"is not named: {outcome.err.strip()}"
        return None if meaning(store) == before else "goes unnoticed, and changes what there is"
    finally:
        with path.open("r+b") as file:
            file.seek(flip.at)
            file.write(bytes([byte]))


_worker: tuple[Deployment, Meaning] | None = None


def _begin(original: Path, scratch: Path) -> None:
    global _worker  # noqa: PLW0603 -- a process of the pool has a store of its own
    folder = scratch / f"store-{multiprocessing.current_process().pid}"
    shutil.copytree(original, folder)
    store = Deployment(folder, "mask")
    _worker = store, meaning(store)


def _try(flip: Flip) -> tuple[Flip, str | None]:
    assert _worker is not None
    return flip, unnoticed(*_worker, flip)


def main() -> int:
    """Flip every byte, or every N-th; return 1 if one went unnoticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.rot", description=__doc__)
    parser.add_argument("--every", type=int, default=1, metavar="N")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--scratch", type=Path, help="where to copy stores to; a disk in memory is fastest")
    options = parser.parse_args()
    begin, tried, failed = time.monotonic(), dict.fromkeys(ROLES, 0), 0
    with TemporaryDirectory(prefix="mipp-rot-", dir=options.scratch) as scratch:
        folder = Path(scratch)
        store = make_rotting_store(folder / "store")
        chosen = list(flips(store))[:: options.every]
        context = multiprocessing.get_context("fork")
        with context.Pool(options.jobs, _begin, (store.root, folder)) as pool:
            for flip, problem in pool.imap_unordered(_try, chosen, chunksize=32):
                tried[flip.role] += 1
                if problem:
                    failed += 1
                    print(f"{flip.role}/{flip.file}, byte {flip.at}: {problem}", file=sys.stderr)
    for role in ROLES:
        print(f"{role}: {tried[role]} bytes flipped")
    print(f"{failed} unnoticed, in {(time.monotonic() - begin) / 60:.1f} minutes")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
