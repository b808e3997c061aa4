"""Small data sets: features whose answers are known, and drawn pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mipp_cli.compute.processes import Parallelism
from mipp_cli.experiments.base.dataset import DataSet, load_datasets
from mipp_cli.images.collection import ImageFile
from tests.support.deployment import picture

INLINE = Parallelism(jobs=1)
ANGLES = {"diagonal": 0.7, "flat": 1.5, "upright": 0.0}


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


def load_dataset(folder: Path, descriptor: str = "edge-histogram", **options: Any) -> DataSet:
    """Describe the pictures in a folder by one descriptor, in this process unless told otherwise."""
    (dataset,) = load_datasets(folder, (descriptor,), **{"parallelism": INLINE, **options})
    return dataset


def of_features(features: NDArray[np.uint8], labels: list[int]) -> DataSet:
    """Make a data set of features alone; its pictures, c0/000.png and so on, are not there."""
    folder = Path("nowhere")
    categories = tuple(f"c{number}" for number in range(max(labels) + 1))
    names = [f"c{label}/{number:03d}.png" for number, label in enumerate(labels)]
    images = tuple(ImageFile(folder / name, name) for name in names)
    return DataSet(folder, categories, images, np.array(labels), features, "0" * 64)


def apart(images: int = 40) -> DataSet:
    """Two categories that their sums tell apart: few edges, and many."""
    random = np.random.default_rng(5)
    low, high = random.integers(0, 2, (images // 2, 80)), random.integers(5, 8, (images // 2, 80))
    labels = [0] * (images // 2) + [1] * (images // 2)
    return of_features(np.concatenate([low, high]).astype(np.uint8), labels)


def flat_and_steep(images: int = 40) -> DataSet:
    """Two categories with the same mean, one flat: Sim puts the flat one first for every query."""
    random = np.random.default_rng(7)
    flat, steep = random.integers(3, 5, (images // 2, 80)), 7 * random.integers(0, 2, (images // 2, 80))
    labels = [0] * (images // 2) + [1] * (images // 2)
    return of_features(np.concatenate([flat, steep]).astype(np.uint8), labels)


def alike(images: int = 90) -> DataSet:
    """Three categories whose features are all the same."""
    return of_features(np.full((images, 80), 3, dtype=np.uint8), [3 * n // images for n in range(images)])


def unrelated(images: int = 200) -> DataSet:
    """Two categories whose features have nothing to do with them."""
    random = np.random.default_rng(6)
    features = random.integers(0, 8, (images, 80)).astype(np.uint8)
    return of_features(features, random.integers(0, 2, images).tolist())


def of_pictures(folder: Path, images: int = 6) -> DataSet:
    """Draw two categories of so many pictures each, and load them."""
    for number, category in enumerate(("one", "two")):
        (folder / category).mkdir(parents=True)
        for image in range(images):
            picture(100 * number + image).save(folder / category / f"{image}.png")
    return load_dataset(folder)
