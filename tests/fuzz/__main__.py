"""Fuzz with atheris (coverage-guided): `python -m tests.fuzz TARGET… --minutes N`, or `all`.

Needs `pip install .[fuzz]`. `--input FILE` reads one input that was kept, without atheris.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.limits import limit_memory
from tests.fuzz.targets import TARGETS, attempt

SECONDS_AN_INPUT = 10
MOST_CRASHES = 25  # of one target; then it is time to mend
_STATUS = re.compile(r"#(\d+)\s+\S+\s+cov: (\d+) ft: \d+ corp: (\d+)/")
_EXECUTED = re.compile(r"stat::number_of_executed_units:\s+(\d+)")


@dataclass
class Tally:
    """What came of a target: inputs tried, coverage, and findings by what they are."""

    seconds: float = 0
    executions: int = 0
    edges: int = 0
    corpus: int = 0
    findings: dict[str, list[Path]] = field(default_factory=dict)


def main() -> int:
    """Fuzz the targets asked for one after the other, and print a line on each."""
    arguments = _arguments()
    if arguments.input:
        return _read_one(arguments.targets[0], arguments.input)
    names = list(TARGETS) if arguments.targets == ["all"] else arguments.targets
    arguments.keep.mkdir(parents=True, exist_ok=True)
    print("| target | minutes | inputs | edges | corpus | findings |\n| --- | --- | --- | --- | --- | --- |")
    found = False
    for name in names:
        tally = fuzz(name, arguments.minutes * 60 / len(names), arguments.keep)
        found = found or bool(tally.findings)
        cells = (
            f"{tally.seconds / 60:.1f}",
            tally.executions,
            tally.edges,
            tally.corpus,
            len(tally.findings),
        )
        print(f"| {name} | {' | '.join(map(str, cells))} |", flush=True)
        for what, files in tally.findings.items():
            print(f"  {len(files)} × {what}, as in {files[0]}", flush=True)
    return 1 if found else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "targets", nargs="+", choices=["all", *TARGETS], metavar="TARGET", help=", ".join(TARGETS)
    )
    parser.add_argument("--minutes", type=float, default=1, help="for all targets together")
    parser.add_argument(
        "--keep", type=Path, default=Path("out/fuzz"), help="where corpus and findings are kept"
    )
    parser.add_argument("--input", type=Path, metavar="FILE", help="read this one input and say what comes")
    return parser.parse_args()


def _read_one(name: str, path: Path) -> int:
    with tempfile.TemporaryDirectory() as folder:
        TARGETS[name].seeds(Path(folder))
        limit_memory()
        print(f"refused: {attempt(TARGETS[name], path.read_bytes(), Path(folder))!r}")
    return 0


def fuzz(name: str, seconds: float, keep: Path) -> Tally:
    """Fuzz one target; after a crash the fuzzer is started again, with what it had learned."""
    tally = Tally()
    corpus, findings = keep / name, keep / f"{name}-findings"
    for folder in (corpus, findings):
        folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mipp-fuzz-", dir=_fast_folder()) as folder:
        scratch = Path(folder)
        for seed in TARGETS[name].seeds(scratch):
            (corpus / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
        begin = time.monotonic()  # what the seeds need, as a whole deployment, takes long to make
        end = begin + seconds
        for _ in range(MOST_CRASHES):
            left = int(end - time.monotonic())
            if left < 1:
                break
            _one_run(name, left, scratch, corpus, findings, tally)
        tally.seconds = time.monotonic() - begin
    tally.corpus = len(list(corpus.iterdir()))
    return tally


def _fast_folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _one_run(name: str, seconds: int, scratch: Path, corpus: Path, findings: Path, tally: Tally) -> None:
    before = set(findings.iterdir())
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={SECONDS_AN_INPUT}",
        f"-artifact_prefix={findings}/",
        "-print_final_stats=1",
        "-max_len=65536",
        "-rss_limit_mb=0",  # memory is limited by RLIMIT_AS, which no input gets over
    ]
    command = [sys.executable, "-m", "tests.fuzz.worker", name, str(scratch), *options, str(corpus)]
    log = findings.with_name(f"{name}-{len(before)}.log")  # a crash may not happen again
    with log.open("w") as output:
        # an arena for each thread would take much of the address space that is left
        environment = os.environ | {"MALLOC_ARENA_MAX": "1"}
        subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False, env=environment)
    text = log.read_text(errors="replace")
    status = [tuple(map(int, each)) for each in _STATUS.findall(text)]
    executed = _EXECUTED.findall(text)
    tally.executions += int(executed[-1]) if executed else max((runs for runs, _, _ in status), default=0)
    tally.edges = max([tally.edges, *(edges for _, edges, _ in status)])
    for path in sorted(set(findings.iterdir()) - before):
        if not path.name.startswith("slow-unit"):
            tally.findings.setdefault(_diagnosis(name, path), []).append(path)
    if not status and not executed:
        sys.exit(f"the fuzzer did not run; see {log}")


def _diagnosis(name: str, path: Path) -> str:
    """Read an input again, alone, and say in a line what comes of it."""
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.fuzz", name, "--input", str(path)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=6 * SECONDS_AN_INPUT
        )
    except subprocess.TimeoutExpired:
        return "does not return"
    if done.returncode == 0:
        return f"nothing when read alone ({path.name.partition('-')[0]})"
    return "; ".join([*_where(done.stderr), done.stderr.strip().splitlines()[-1][:200]])


def _where(text: str) -> Iterator[str]:
    """Yield the places in a traceback, or in what faulthandler prints, that are nearest to the fault."""
    places = [f"{Path(file).name}:{line}" for file, line in re.findall(r'File "([^"]+)", line (\d+)', text)]
    if "most recent call first" in text:
        yield f"{text.strip().splitlines()[0]} at {', '.join(places[:3])}"
    elif places:
        yield f"at {', '.join(places[-3:])}"


if __name__ == "__main__":
    sys.exit(main())
