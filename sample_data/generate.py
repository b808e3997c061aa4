"""Draw the demonstration pictures: three owners' collections and three query pictures.

    python sample_data/generate.py [--seed 2018] [--into DIRECTORY] [--force]

Every picture has a random generator of its own, seeded by the seed and by the picture's name, so adding
or removing one picture leaves all the others as they are.
"""

import argparse
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from drawing.colour import fundus, histology, skin
from drawing.radiographs import chest, dental, hand
from drawing.scans import brain, ultrasound
from PIL import Image

Painter = Callable[[np.random.Generator], Image.Image]

PAINTERS: dict[str, Painter] = {
    "brain": brain,
    "chest": chest,
    "dental": dental,
    "fundus": fundus,
    "hand": hand,
    "histology": histology,
    "skin": skin,
    "ultrasound": ultrasound,
}

OWNERS: dict[str, dict[str, int]] = {
    "hospital-north": {"brain": 5, "chest": 6, "hand": 4, "histology": 5, "ultrasound": 4},
    "hospital-south": {"brain": 3, "chest": 4, "fundus": 4, "hand": 3, "histology": 3, "skin": 3},
    "clinic-lake": {"dental": 5, "fundus": 4, "skin": 4, "ultrasound": 3},
}

QUERIES = ("chest", "fundus", "histology")

# The smaller hospital's scanner writes PNG, so that a collection of mixed formats is at hand.
AS_PNG = {("hospital-south", "brain")}


@dataclass(frozen=True)
class Picture:
    """One picture to draw: its category and its path below the output directory."""

    category: str
    path: Path

    def draw(self, seed: int) -> Image.Image:
        """The picture's pixels, which depend on the seed and on its name alone."""
        name = zlib.crc32(self.path.with_suffix("").as_posix().encode())
        return PAINTERS[self.category](np.random.default_rng([seed, name]))


def plan() -> Iterator[Picture]:
    """Every picture of the demonstration, the owners' first."""
    for owner, counts in OWNERS.items():
        for category, count in counts.items():
            suffix = "png" if (owner, category) in AS_PNG else "jpg"
            for number in range(1, count + 1):
                folder = Path("owners", owner, category)
                yield Picture(category, folder / f"{category}-{number:02}.{suffix}")
    for category in QUERIES:
        yield Picture(category, Path("queries", f"{category}.jpg"))


def save(image: Image.Image, path: Path) -> None:
    """Write the picture in the format its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        image.save(path, optimize=True)
    else:
        image.save(path, quality=88, optimize=True)


def main() -> int:
    """Draw all pictures; exit code 1, with nothing written, if that would overwrite any unasked."""
    parser = argparse.ArgumentParser(description="Draw the demonstration pictures.")
    parser.add_argument("--seed", type=int, default=2018, help="what the pictures vary by (default 2018)")
    parser.add_argument(
        "--into", type=Path, default=Path(__file__).parent, help="default: beside this program"
    )
    parser.add_argument("--force", action="store_true", help="overwrite pictures that are there")
    options = parser.parse_args()

    pictures = list(plan())
    present = [picture.path for picture in pictures if (options.into / picture.path).exists()]
    if present and not options.force:
        print(f"{options.into / present[0]} is there already; --force overwrites", file=sys.stderr)
        return 1
    for picture in pictures:
        save(picture.draw(options.seed), options.into / picture.path)
    print(f"{len(pictures)} pictures in {options.into}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
