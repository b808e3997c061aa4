"""Break every command off at every write boundary, and print a table: `python -m tests.faults`."""

from __future__ import annotations

import argparse
import multiprocessing
import re
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from mipp_cli.scheme import passphrase
from tests.faults.commands import COMMANDS
from tests.faults.injection import FAULTS
from tests.faults.store import make_store
from tests.faults.trial import Bench, Trial

SCHEMES = ("mask", "exact")
_BY_CHANCE = re.compile(r"\b([0-9a-f]{12,}|[0-9]{12,})\b")
_benches: dict[str, Bench] = {}


def main() -> int:
    """Run the trials asked for; return 1 if something is wrong."""
    arguments = _arguments()
    passphrase.STRETCHING = passphrase.Stretching(16, 8, 1)  # nobody guesses here
    commands = [command for command in COMMANDS if command.scheme in arguments.scheme]
    names = [command.name for command in commands if command.name in (arguments.only or [command.name])]
    faults = arguments.fault or list(FAULTS)
    failures = 0
    begin = time.perf_counter()
    print(f"| command | boundaries | {' | '.join(FAULTS)} | failures |")
    print(f"| --- | --- |{' --- |' * len(FAULTS)} --- |", flush=True)
    with TemporaryDirectory(prefix="mipp-faults-", dir=arguments.scratch) as folder:
        schemes = {command.scheme for command in COMMANDS if command.name in names}
        stores = {scheme: make_store(Path(folder) / f"store-{scheme}", scheme) for scheme in sorted(schemes)}
        for command in COMMANDS:
            if command.name not in names:
                continue
            (scratch := Path(folder) / command.name).mkdir()
            bench = _benches[command.name] = Bench(command, stores[command.scheme], scratch)
            trials = [trial for trial in bench.trials() if trial.fault in faults]
            tasks = [(command.name, trial) for trial in trials][:: arguments.every]
            with multiprocessing.get_context("fork").Pool(arguments.jobs) as pool:
                results = pool.map(_problems, tasks, chunksize=8)
            failures += _report(bench, [trial for _, trial in tasks], results)
    print(f"\n{failures} failures, in {(time.perf_counter() - begin) / 60:.1f} minutes")
    return 1 if failures else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=[each.name for each in COMMANDS], metavar="COMMAND")
    parser.add_argument("--scheme", nargs="+", choices=SCHEMES, default=SCHEMES)
    parser.add_argument("--fault", nargs="+", choices=FAULTS, help="; ".join(map(": ".join, FAULTS.items())))
    parser.add_argument("--every", type=int, default=1, metavar="N", help="do every N-th trial")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--scratch", type=Path, help="where to copy stores to; a disk in memory is fastest")
    return parser.parse_args()


def _problems(task: tuple[str, Trial]) -> list[str]:
    name, trial = task
    return _benches[name].problems(trial)


def _report(bench: Bench, trials: list[Trial], results: list[list[str]]) -> int:
    """Print the row of a command, and below it what is wrong, alike things together."""
    tried = Counter(trial.fault for trial in trials)
    failed = sum(bool(problems) for problems in results)
    counts = " | ".join(str(tried[fault]) for fault in FAULTS)
    print(f"| {bench.command.name} | {len(bench.boundaries)} | {counts} | {failed} |", flush=True)
    alike: dict[str, list[str]] = {}
    for trial, problems in zip(trials, results, strict=True):
        boundary = bench.boundaries[trial.at - 1]
        for problem in problems:
            where = f"{trial.fault} at {trial.at}, {boundary.call} {Path(boundary.place).name}"
            alike.setdefault(_BY_CHANCE.sub("…", problem), []).append(where)
    for problem, places in alike.items():
        print(f"  {len(places)} times, first {places[0]}, last {places[-1]}: {problem}", file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main())
