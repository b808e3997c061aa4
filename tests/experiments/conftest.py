"""Small data sets, drawn: stripes of one direction a category."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mipp_cli.compute.processes import Parallelism
from mipp_cli.experiments.base.dataset import DataSet, LabelledImage, load_dataset

ANGLES = {"diagonal": 0.7, "flat": 1.5, "upright": 0.0}
INLINE = Parallelism(jobs=1)


def draw_dataset(folder: Path, images: int = 6) -> Path:
    """Draw ``images`` pictures into a folder for each of three categories."""
    random = np.random.default_rng(7)
    x, y = np.meshgrid(np.arange(80), np.arange(72))
    for name, angle in ANGLES.items():
        (folder / name).mkdir(parents=True)
        for number in range(images):
            turn, wave = angle + random.normal(0, 0.25), random.uniform(0.2, 0.6)
            stripes = 100 * np.sign(np.sin(wave * (x * np.cos(turn) + y * np.sin(turn))))
            pixels = np.clip(128 + stripes + random.normal(0, 25, x.shape), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number:02d}.png")
    return folder


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three categories of six pictures each."""
    return draw_dataset(tmp_path_factory.mktemp("drawn") / "stripes")


@pytest.fixture(scope="session")
def dataset(drawn: Path) -> DataSet:
    """The drawn pictures, described."""
    return load_dataset(drawn, parallelism=INLINE)


def made_up(features: np.ndarray[tuple[int, int], np.dtype[np.uint8]], labels: list[int]) -> DataSet:
    """Return a data set of given features, without files."""
    categories = tuple(f"c{number}" for number in range(max(labels) + 1))
    folder = Path("made-up")
    images = tuple(
        LabelledImage(folder / categories[label] / f"{number:03d}.png", label)
        for number, label in enumerate(labels)
    )
    return DataSet(folder, categories, images, features, "0" * 64)
