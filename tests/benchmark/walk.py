"""The tables of the README on a data set: `python -m tests.benchmark.walk DATASET [--scheme …]`.

A data set is a folder with a folder of images for each category. The first image of each category is a query;
the others are spread over three owners by category. Every command is a whole process, its start included.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from mipp_cli.scheme.parameters import SCHEMES
from tests.benchmark.measure import program, run

OWNERS = ("a", "b", "c")
CANDIDATES, TOP = 100, 10


class Walk:
    """All roles in one folder, and the seconds that the commands took, by their names."""

    def __init__(self, folder: Path, scheme: str, described_by: list[str], model: list[str]):
        self.folder, self.ranked_by_kmc = folder, scheme == "exact"
        self.seconds: defaultdict[str, float] = defaultdict(float)
        public = ("--kmc", folder / "kmc" / "kmc.pub")
        self.mipp("kmc init", folder / "kmc", "--scheme", scheme, *described_by)
        self.mipp("cloud init", folder / "cloud", *public)
        self.mipp("user init", folder / "doctor", "--id", "doctor", *public, *model)
        authorize = ("--authorize", folder / "doctor" / "user.pub")
        for owner in OWNERS:
            self.mipp("owner init", folder / owner, "--id", owner, *public, *authorize, *model)
        enrolments = (folder / owner / "enrolment.h5" for owner in OWNERS)
        self.mipp("kmc enroll", folder / "kmc", *enrolments, folder / "cloud" / "cloud.pub")
        self.mipp("cloud enroll", folder / "cloud", *(folder / owner / "members.h5" for owner in OWNERS))

    def mipp(self, command: str, *words: object) -> None:
        """Run a command, and add what it took."""
        begin = time.perf_counter()
        run((program("mipp"), *command.split(), *words))
        self.seconds[command] += time.perf_counter() - begin

    def send(self, dataset: Path, images: dict[str, list[Path]]) -> None:
        """Encrypt and index the images of each owner."""
        for owner, paths in images.items():
            listed = self.folder / f"{owner}.txt"
            listed.write_text("".join(f"{path}\n" for path in paths))
            given = ("--root", dataset, "--files-from", listed, "-o", self.folder / f"{owner}.h5")
            self.mipp("owner encrypt", self.folder / owner, *given)
        self.mipp("cloud index", self.folder / "cloud", *(self.folder / f"{owner}.h5" for owner in OWNERS))
        if self.ranked_by_kmc:
            features = (self.folder / f"{owner}.features.h5" for owner in OWNERS)
            self.mipp("kmc index", self.folder / "kmc", *features)

    def ask(self, queries: list[Path]) -> Path:
        """Search by the queries in one go; return the folder of matches."""
        query, answer = self.folder / "query.h5", self.folder / "reencrypted.h5"
        selection, results = self.folder / "selection.h5", self.folder / "results.h5"
        self.mipp("user query", self.folder / "doctor", *queries, "-o", query, "--candidates", CANDIDATES)
        if self.ranked_by_kmc:
            self.mipp("kmc rank", self.folder / "kmc", query, "-o", selection)
        search = selection if self.ranked_by_kmc else query
        self.mipp("cloud search", self.folder / "cloud", search, "-o", results)
        self.mipp("kmc reencrypt", self.folder / "kmc", results, "-o", answer)
        matches = self.folder / "matches"
        self.mipp("user decrypt", self.folder / "doctor", answer, "-o", matches, "--top", TOP)
        return matches


def precision(matches: Path, categories: dict[str, str]) -> float:
    """Return how many of the matches are of the query's category."""
    with (matches / "matches.csv").open(newline="") as table:
        hits = [row["name"].split("/")[0] == categories[row["query"]] for row in csv.DictReader(table)]
    return sum(hits) / len(hits)


def main() -> None:
    """Walk, and print precision, seconds and sizes."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.walk", description=main.__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--scheme", choices=SCHEMES, default="exact")
    parser.add_argument("--descriptor", default="edge-histogram")
    parser.add_argument("--model", type=Path, help="in the place of --descriptor")
    arguments = parser.parse_args()
    dataset = arguments.dataset.resolve()
    folders = sorted(folder for folder in dataset.iterdir() if folder.is_dir())
    found = {folder: sorted(folder.iterdir(), key=lambda p: (len(p.name), p.name)) for folder in folders}
    images: dict[str, list[Path]] = {owner: [] for owner in OWNERS}
    for number, paths in enumerate(found.values()):
        images[OWNERS[number % len(OWNERS)]] += paths[1:]
    model = ["--model", str(arguments.model.resolve())] if arguments.model else []
    with tempfile.TemporaryDirectory(prefix="mipp-walk-") as place:
        folder = Path(place)
        walk = Walk(folder, arguments.scheme, model or ["--descriptor", arguments.descriptor], model)
        walk.send(dataset, images)
        queries, categories = [], {}
        for category, paths in found.items():  # under names that tell them apart
            queries.append(folder / f"{category.name}{paths[0].suffix}")
            queries[-1].write_bytes(paths[0].read_bytes())
            categories[queries[-1].name] = category.name
        print(f"precision at {TOP}: {precision(walk.ask(queries), categories):.2f}")
        for command, seconds in walk.seconds.items():
            print(f"{command}: {seconds:.2f} s")
        print(f"uploads: {sum((folder / f'{owner}.h5').stat().st_size for owner in OWNERS) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
