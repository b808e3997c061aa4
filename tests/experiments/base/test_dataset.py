"""Reading data sets, good and bad."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mipp_cli.compute.processes import Parallelism
from mipp_cli.errors import InvalidRequestError, UnreadableImageError
from mipp_cli.experiments.base.dataset import load_dataset
from tests.support.deployment import feature_of
from tests.support.small_datasets import INLINE, draw_dataset


def test_every_image_has_its_category_and_its_codes(drawn: Path) -> None:
    dataset = load_dataset(drawn, parallelism=INLINE)
    assert dataset.categories == ("diagonal", "flat", "upright")
    assert len(dataset) == 18
    for image, label, codes in zip(dataset.images, dataset.labels, dataset.features, strict=True):
        assert image.name.split("/")[0] == dataset.categories[label]
        assert np.array_equal(codes, feature_of(image.path))
    assert list(dataset.names) == sorted(dataset.names)
    assert dataset.labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6


def test_two_processes_describe_as_one(drawn: Path) -> None:
    here, there = (load_dataset(drawn, parallelism=Parallelism(jobs=jobs)) for jobs in (1, 2))
    assert np.array_equal(here.features, there.features)
    assert here.digest == there.digest


def test_the_digest_covers_names_and_contents(tmp_path: Path) -> None:
    folder = draw_dataset(tmp_path / "set", images=2)
    before = load_dataset(folder, parallelism=INLINE).digest
    first = folder / "flat" / "00.png"
    first.rename(folder / "flat" / "09.png")
    renamed = load_dataset(folder, parallelism=INLINE).digest
    (folder / "flat" / "09.png").write_bytes((folder / "flat" / "01.png").read_bytes())
    changed = load_dataset(folder, parallelism=INLINE).digest
    assert len({before, renamed, changed}) == 3


@pytest.mark.parametrize(("wanted", "kept"), [(["flat", "upright"], 2), (["2"], 2), (["3"], 3)])
def test_some_categories_are_searched(drawn: Path, wanted: list[str], kept: int) -> None:
    dataset = load_dataset(drawn, parallelism=INLINE, collection_categories=wanted)
    assert len(dataset.categories) == kept
    assert len(dataset) == 6 * kept


@pytest.mark.parametrize("wanted", [["round"], ["1"], ["4"], ["flat"]])
def test_categories_that_cannot_be_searched_are_refused(drawn: Path, wanted: list[str]) -> None:
    with pytest.raises(InvalidRequestError):
        load_dataset(drawn, parallelism=INLINE, collection_categories=wanted)


def test_a_folder_without_folders_is_refused(drawn: Path) -> None:
    with pytest.raises(InvalidRequestError, match="no folders"):
        load_dataset(drawn / "flat", parallelism=INLINE)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        load_dataset(tmp_path / "nowhere", parallelism=INLINE)


def test_one_category_is_refused(tmp_path: Path, drawn: Path) -> None:
    (tmp_path / "flat").symlink_to(drawn / "flat")
    with pytest.raises(InvalidRequestError, match="one category only, 'flat'"):
        load_dataset(tmp_path, parallelism=INLINE)


def test_an_empty_category_is_refused(tmp_path: Path) -> None:
    folder = draw_dataset(tmp_path / "set", images=2)
    (folder / "nothing").mkdir()
    with pytest.raises(InvalidRequestError, match="holds no images") as caught:
        load_dataset(folder, parallelism=INLINE)
    assert caught.value.path == str(folder / "nothing")


def test_an_unreadable_picture_is_refused_or_left_out(tmp_path: Path) -> None:
    folder = draw_dataset(tmp_path / "set", images=2)
    (folder / "flat" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(UnreadableImageError) as caught:
        load_dataset(folder, parallelism=INLINE)
    assert caught.value.path == str(folder / "flat" / "broken.png")
    dataset = load_dataset(folder, parallelism=INLINE, skip_unreadable=True)
    assert len(dataset) == 6
    assert "broken.png" in dataset.skipped[0]


def test_a_category_of_unreadable_pictures_is_refused(tmp_path: Path) -> None:
    folder = draw_dataset(tmp_path / "set", images=2)
    (folder / "ruins").mkdir()
    (folder / "ruins" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(InvalidRequestError, match="'ruins' has no image that can be read"):
        load_dataset(folder, parallelism=INLINE, skip_unreadable=True)


def test_features_of_a_file_take_the_place_of_edge_histograms(drawn: Path, tmp_path: Path) -> None:
    codes = np.arange(18 * 5, dtype=np.uint8).reshape(18, 5)
    np.save(tmp_path / "own.npy", codes)
    dataset = load_dataset(drawn, parallelism=INLINE, features_file=tmp_path / "own.npy")
    assert np.array_equal(dataset.features, codes)
    assert dataset.digest != load_dataset(drawn, parallelism=INLINE).digest
    np.save(tmp_path / "own.npy", codes + 1)
    assert (
        load_dataset(drawn, parallelism=INLINE, features_file=tmp_path / "own.npy").digest != dataset.digest
    )
    np.save(tmp_path / "own.npy", codes[:-1])
    with pytest.raises(InvalidRequestError, match="17 rows for 18 images"):
        load_dataset(drawn, parallelism=INLINE, features_file=tmp_path / "own.npy")


def test_rows_of_images_that_are_left_out_are_left_out_too(tmp_path: Path) -> None:
    folder = draw_dataset(tmp_path / "set", images=2)
    (folder / "flat" / "00.png").write_bytes(b"no picture")
    codes = np.arange(6 * 4, dtype=np.uint8).reshape(6, 4)
    np.save(tmp_path / "own.npy", codes)
    dataset = load_dataset(
        folder, parallelism=INLINE, skip_unreadable=True, features_file=tmp_path / "own.npy"
    )
    assert np.array_equal(dataset.features, np.delete(codes, 2, axis=0))
