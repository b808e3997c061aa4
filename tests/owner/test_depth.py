"""One photograph in every depth: whatever its file, its own copies are found before any other's."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.images.made_dicom import made
from tests.support.deployment import JOBS, SAMPLES, Deployment, done

SCENES = 4
Shades = NDArray[np.float64]


def scene(number: int) -> Shades:
    """Return the shades of a photograph, 0…1."""
    file = sorted(path for path in SAMPLES.rglob("*") if path.suffix in (".jpg", ".png"))[number]
    with Image.open(file) as image:
        grey = np.asarray(image.convert("L").resize((120, 96)), float)
    return (grey - grey.min()) / (grey.max() - grey.min())


def of_bits(shades: Shades, bits: int) -> NDArray[np.uint16]:
    return (shades * (2**bits - 1)).astype(np.uint16)


def saved(samples: NDArray[np.generic], path: Path) -> None:
    Image.fromarray(samples).save(path)


def as_dicom(samples: NDArray[np.generic], path: Path, **attributes: object) -> None:
    path.write_bytes(made(samples, **attributes))


COPIES: dict[str, Callable[[Shades, Path], None]] = {
    "8.jpg": lambda s, path: Image.fromarray((s * 255).astype(np.uint8)).save(path, quality=95),
    "8.png": lambda s, path: saved((s * 255).astype(np.uint8), path),
    "10.png": lambda s, path: saved(of_bits(s, 10), path),
    "10-scaled.png": lambda s, path: saved(of_bits(s, 10) << 6, path),
    "12.tif": lambda s, path: saved(of_bits(s, 12), path),
    "12-scaled.tif": lambda s, path: saved(of_bits(s, 12) << 4, path),
    "16.png": lambda s, path: saved(of_bits(s, 16), path),
    "16.tif": lambda s, path: saved(of_bits(s, 16), path),
    "float.tif": lambda s, path: saved((s * 3 - 1).astype(np.float32), path),
    "8.dcm": lambda s, path: as_dicom((s * 255).astype(np.uint8), path),
    "12.dcm": lambda s, path: as_dicom(of_bits(s, 12), path, BitsStored=12, HighBit=11),
    "16.dcm": lambda s, path: as_dicom(of_bits(s, 16), path),
    "signed.dcm": lambda s, path: as_dicom((s * 2000 - 1000).astype(np.int16), path, RescaleIntercept=-24),
    "negative.dcm": lambda s, path: as_dicom(
        4095 - of_bits(s, 12), path, BitsStored=12, HighBit=11, PhotometricInterpretation="MONOCHROME1"
    ),
}


def found(deployment: Deployment, folder: Path, queries: list[Path], top: int, out: Path) -> list[list[str]]:
    """Encrypt a folder and search by pictures; return the names of the matches of each, nearest first."""
    north = deployment / "north"
    done("owner", "encrypt", north, folder, "-o", deployment / "d.h5", "--payload", "file", *JOBS)
    done("cloud", "index", deployment / "cloud", deployment / "d.h5", *JOBS)
    query = deployment / "depth.h5"
    done("user", "query", deployment / "alice", *queries, "-o", query)
    answer = deployment.answer(deployment.search(query))
    done("user", "decrypt", deployment / "alice", answer, "-o", out, "--top", top)
    rows: dict[str, list[str]] = {path.name: [] for path in queries}
    with (out / "matches.csv").open(newline="") as table:
        for row in csv.DictReader(table):
            rows[row["query"]].append(row["name"])
    return [*rows.values()]


@pytest.mark.parametrize("asked", ["8.jpg", "12.tif", "16.png", "12.dcm", "float.tif"])
def test_a_photograph_finds_its_copies_of_any_depth(
    changeable: Deployment, tmp_path: Path, asked: str
) -> None:
    folder = tmp_path / "depths"
    for number in range(SCENES):
        (folder / str(number)).mkdir(parents=True)
        for name, make in COPIES.items():
            make(scene(number), folder / str(number) / name)
    queries = []
    for number in range(SCENES):
        queries.append(tmp_path / f"{number}-{asked}")
        COPIES[asked](scene(number), queries[-1])
    matches = found(changeable, folder, queries, len(COPIES), tmp_path / "m")
    assert [{name.split("/")[0] for name in names} for names in matches] == [{"0"}, {"1"}, {"2"}, {"3"}]


def test_padding_around_a_slice_does_not_part_it(changeable: Deployment, tmp_path: Path) -> None:
    """The circle of a tomograph, with and without a padding value, said or not."""
    folder = tmp_path / "slices"
    folder.mkdir()
    y, x = np.mgrid[0:96, 0:96]
    outside = (x - 48) ** 2 + (y - 48) ** 2 > 46**2
    for number in range(SCENES):
        inside = (scene(number)[:96, :96] * 1500 - 200).astype(np.int16)
        for padding in (-2000, -1024, 0):
            padded = np.where(outside, np.int16(padding), inside)
            said = {"PixelPaddingValue": padding} if padding == -2000 else {}
            as_dicom(padded, folder / f"{number}{padding}", **said)
    queries = [folder / f"{number}-2000" for number in range(SCENES)]
    matches = found(changeable, folder, queries, 2, tmp_path / "m")
    assert [{name[0] for name in names} for names in matches] == [{"0"}, {"1"}, {"2"}, {"3"}]


def test_a_mask_of_zeros_and_ones_is_found(changeable: Deployment, tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    folder.mkdir()
    for number in range(SCENES):
        mask = scene(number) > np.median(scene(number))
        saved(mask, folder / f"{number}-bit.png")
        saved(mask.astype(np.uint16), folder / f"{number}-deep.png")
        as_dicom(mask.astype(np.uint8), folder / f"{number}-slice")
    queries = [folder / f"{number}-deep.png" for number in range(SCENES)]
    matches = found(changeable, folder, queries, 3, tmp_path / "m")
    assert [{name[0] for name in names} for names in matches] == [{"0"}, {"1"}, {"2"}, {"3"}]
