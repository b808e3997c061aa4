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

from tests.faults.store import Meaning, make_store, meaning
from tests.support.deployment import JOBS, Deployment, done, run

ROLES = ("kmc", "cloud")
_MASKS = (0x01, 0x80, 0xFF)
_MENDED = 20  # of so many bytes that are flipped one is mended, too, which takes longer


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


def make_rotting_store(root: Path, scheme: str = "mask") -> Deployment:
    """Make a small store with all that a directory keeps: answered queries, removals, deletions."""
    store = make_store(root, scheme)
    query, deletion = root / "query.h5", root / "delete.h5"
    done("user", "query", root / "alice", root / "pictures" / "query.png", "-o", query, "--candidates", 2)
    store.answer(store.search(query))
    done("owner", "delete", root / "north", "a.png", "-o", deletion)
    done("cloud", "index", root / "cloud", deletion, *JOBS)
    if scheme == "exact":
        done("kmc", "index", root / "kmc", deletion)
        done("owner", "features", root / "north", "-o", root / "handed")
    done("kmc", "rotate-key", root / "kmc")
    for role in ROLES:
        done(role, "remove", root / role, "south", "--yes")
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
    _flip(path, flip)
    try:
        outcome = run(flip.role, "check", store / flip.role)
        if outcome.code:
            return None if path.name in outcome.err else f"is not named: {outcome.err.strip()}"
        return None if meaning(store) == before else "goes unnoticed, and changes what there is"
    finally:
        _flip(path, flip)


def _flip(path: Path, flip: Flip) -> None:
    with path.open("r+b") as file:
        file.seek(flip.at)
        byte = file.read(1)[0]
        file.seek(flip.at)
        file.write(bytes([byte ^ flip.mask]))


def can_be_mended(flip: Flip) -> bool:
    """Say whether what a KMC has of this file can be made again without a backup."""
    return flip.role == "kmc" and Path(flip.file).parts[0] in ("features", "users", "rankings")


def unmended(store: Deployment, before: Meaning, flip: Flip) -> str | None:
    """Flip a byte of what a KMC keeps, rank, and make it whole as it is told to; say what is wrong."""
    with TemporaryDirectory(dir=store.root.parent) as folder:
        copy = store.copy(Path(folder) / "store")
        path = copy / flip.role / flip.file
        _flip(path, flip)
        query = copy / "new-query.h5"
        done("user", "query", copy / "alice", copy / "pictures" / "query.png", "-o", query)
        outcome = run("kmc", "rank", copy / "kmc", query, "-o", copy / "new-selection.h5")
        # damage costs what is damaged, and no more; where that leaves nothing to rank, ranking says so
        is_feature = path.parent.name == "north" and path.suffix != ".deleted"
        if outcome.code not in ({3} if path.suffix == ".tags" else {0, 2} if is_feature else {0}):
            return f"ranking ended with {outcome.code}: {outcome.err.strip()}"
        if is_feature and "damaged" not in outcome.err:
            return f"ranking says nothing: {outcome.err.strip()}"
        for words in _mending(copy, path):
            if run(*words).code:
                return f"cannot be mended: {run(*words).err.strip()}"
        if run("kmc", "check", copy / "kmc").code:
            return f"is not mended: {run('kmc', 'check', copy / 'kmc').err.strip()}"
        return None if meaning(copy) == before else "is mended to something else"


def _mending(store: Deployment, path: Path) -> Iterator[tuple[object, ...]]:
    """Yield the commands that make a damaged file whole."""
    if path.parent.name == "users":
        yield "owner", "authorize", store / "north", store / "alice" / "user.pub"
        yield "kmc", "enroll", store / "kmc", store / "north" / "enrolment.h5"
    elif path.parent.name == "rankings":
        path.unlink()
    else:
        if path.name == "index":
            path.parent.rename(store / "damaged")
        files = sorted((store / "handed").iterdir())
        yield "kmc", "index", store / "kmc", *files, store / "delete.h5"


_worker: tuple[Deployment, Meaning] | None = None


def _begin(original: Path, scratch: Path, scheme: str) -> None:
    global _worker  # noqa: PLW0603 -- a process of the pool has a store of its own
    folder = scratch / f"store-{multiprocessing.current_process().pid}"
    shutil.copytree(original, folder)
    _worker = Deployment(folder, scheme), meaning(Deployment(folder, scheme))


def _try(flip: Flip) -> tuple[Flip, str | None]:
    assert _worker is not None
    problem = unnoticed(*_worker, flip)
    if problem is None and can_be_mended(flip) and flip.at % _MENDED == 0 and _worker[0].scheme == "exact":
        problem = unmended(*_worker, flip)
    return flip, problem


def main() -> int:
    """Flip every byte, or every N-th; return 1 if one went unnoticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.rot", description=__doc__)
    parser.add_argument("--scheme", choices=("exact", "mask"), default="exact")
    parser.add_argument("--every", type=int, default=1, metavar="N")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--scratch", type=Path, help="where to copy stores to; a disk in memory is fastest")
    options = parser.parse_args()
    begin, tried, failed = time.monotonic(), dict.fromkeys(ROLES, 0), 0
    with TemporaryDirectory(prefix="mipp-rot-", dir=options.scratch) as scratch:
        folder = Path(scratch)
        store = make_rotting_store(folder / "store", options.scheme)
        chosen = list(flips(store))[:: options.every]
        context = multiprocessing.get_context("fork")
        with context.Pool(options.jobs, _begin, (store.root, folder, options.scheme)) as pool:
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
