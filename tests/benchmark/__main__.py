"""Measure, and print one Markdown table: `python -m tests.benchmark [--only NAME ...] [--quick]`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from tests.benchmark import ciphers, cloud, images, models, processes, ranking, selections
from tests.benchmark.materials import Setting
from tests.benchmark.measure import Result

CASES: dict[str, Callable[[Setting], Iterator[Result]]] = {
    "dcr-features": ciphers.dcr_features,
    "dcr-jobs": ciphers.dcr_jobs,
    "mask-features": ciphers.mask_features,
    "ranking": ranking.ranking,
    "ranking-bfv": ranking.beside_bfv,
    "kmc-rank-memory": ranking.memory,
    "kmc-index": selections.kmc_index,
    "selection": selections.selection,
    "small-commands": selections.small_commands,
    "descriptor": images.descriptor,
    "image-encryption": images.image_encryption,
    "index": cloud.index,
    "search-in-process": cloud.search_in_process,
    "search": processes.search,
    "help": processes.help_text,
    "index-size": cloud.index_size,
    "encrypt": processes.encrypt,
    "upload-size": images.upload_size,
    "memory": processes.memory,
    "model-encrypt": models.encrypt,
    "model-accuracy": models.accuracy,
}
ROWS = 100_000_000
QUICK_ROWS = 1_000_000
LEGEND = """\
Of the two figures the first is this package's. Both sides of a ratio ran in turn, and the ratio is the
median over their rounds; "—": the figure is bounded itself. Synthetic: the sums and ids of the indexes
of `cloud search` and of the index's size (sums drawn from a normal distribution fitted to the sample
pictures), and the repetition of a few pictures and encrypted features where a row says how many images."""
PACKAGES = (
    "onnxruntime",
    "numpy",
    "gmpy2",
    "cryptography",
    "h5py",
    "phe",
    "sf-heu",
    "numkong",
    "faiss-cpu",
    "tenseal",
)


def main() -> None:
    """Run the cases asked for and print their rows as they come."""
    arguments = _arguments()
    _keep_stdout_to_ourselves()
    print(f"{machine()}\n\n{LEGEND}\n", flush=True)
    print("| what | against | ratio | figures of both | target | met |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    begin, results = time.perf_counter(), []
    with tempfile.TemporaryDirectory(prefix="mipp-benchmark-") as folder:
        scratch = Path(folder)
        rows = arguments.rows or (QUICK_ROWS if arguments.quick else ROWS)
        cache = arguments.cache or scratch / "cache"
        setting = Setting(arguments.quick, rows, cache, scratch, arguments.model, arguments.photographs)
        for name in arguments.only or CASES:
            for result in CASES[name](setting):
                results.append(result)
                print(row(result), flush=True)
    minutes = (time.perf_counter() - begin) / 60
    met = sum(each.met for each in results)
    print(f"\n{met} of {len(results)} targets met, in {minutes:.1f} minutes; {load()}")
    if arguments.json:
        fields = [asdict(each) | {"met": each.met} for each in results]
        arguments.json.write_text(json.dumps({"machine": machine(), "results": fields}, indent=1) + "\n")


def _keep_stdout_to_ourselves() -> None:
    """Send to stderr what libraries write to file descriptor 1, for the table to stay in one piece."""
    sys.stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark", description=main.__doc__)
    parser.add_argument("--only", nargs="+", choices=CASES, metavar="NAME", help=f"cases: {', '.join(CASES)}")
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the benchmark itself")
    parser.add_argument("--rows", type=int, help="of the big index (44 bytes each); 100 million unless told")
    parser.add_argument("--cache", type=Path, help="a folder that keeps the big index for the next run")
    parser.add_argument("--model", type=Path, metavar="PATH", help="an image model, for the cases model-…")
    parser.add_argument(
        "--photographs", type=Path, metavar="DIR", help="a folder for each category, for them"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    return parser.parse_args()


def machine() -> str:
    """Return a line on what the figures were measured on."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}; {load()}"


def load() -> str:
    """Return what else the machine had to do."""
    return "load average " + ", ".join(f"{each:.2f}" for each in os.getloadavg())


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def row(result: Result) -> str:
    """Return a result as a row of the table."""
    measured = f"{result.measured:.3g} {result.unit}"
    cells = (
        result.what,
        result.against,
        measured,
        result.figures,
        result.target.text,
        "yes" if result.met else "no",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
