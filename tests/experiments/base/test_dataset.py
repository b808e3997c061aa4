"""Reading data sets, good and bad."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mipp_cli.compute.processes import Parallelism
from mipp_cli.descriptors.describer import Describer, Prepared
from mipp_cli.descriptors.edge_histogram import edge_histogram
from mipp_cli.errors import InvalidRequestError, UnreadableImageError
from mipp_cli.experiments.accuracy.orders import by_vectors
from mipp_cli.experiments.base.dataset import load_datasets
from mipp_cli.experiments.base.describing import features_of, open_sources
from mipp_cli.scheme.descriptor import EDGES, Codes, Descriptor
from tests.experiments.patch_model import patch_model
from tests.support.deployment import feature_of
from tests.support.small_datasets import INLINE, draw_dataset, load_dataset


def test_every_image_has_its_category_and_its_codes(drawn: Path) -> None:
    dataset = load_dataset(drawn)
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
    before = load_dataset(folder).digest
    first = folder / "flat" / "00.png"
    first.rename(folder / "flat" / "09.png")
    renamed = load_dataset(folder).digest
    (folder / "flat" / "09.png").write_bytes((folder / "flat" / "01.png").read_bytes())
    changed = load_dataset(folder).digest
    assert len({before, renamed, changed}) == 3


@pytest.mark.parametrize(("wanted", "kept"), [(["flat", "upright"], 2), (["2"], 2), (["3"], 3)])
def test_some_categories_are_searched(drawn: Path, wanted: list[str], kept: int) -> None:
    dataset = load_dataset(drawn, collection_categories=wanted)
    assert len(dataset.categories) == kept
    assert len(dataset) == 6 * kept


def test_categories_may_have_any_name(tmp_path: Path) -> None:
    folder = draw_dataset(tmp_path / "set", images=2)
    (folder / "flat").rename(folder / "Ro\N{COMBINING DIAERESIS}ntgen")
    (folder / "upright").rename(folder / os.fsdecode(b"R\xf6ntgen"))
    found = load_dataset(folder, collection_categories=["Röntgen", os.fsdecode(b"R\xf6ntgen")])
    assert found.categories == ("Ro\N{COMBINING DIAERESIS}ntgen", "R\\xf6ntgen")
    assert found.labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("wanted", [["round"], ["1"], ["4"], ["flat"]])
def test_categories_that_cannot_be_searched_are_refused(drawn: Path, wanted: list[str]) -> None:
    with pytest.raises(InvalidRequestError):
        load_dataset(drawn, collection_categories=wanted)


def test_a_folder_without_folders_is_refused(drawn: Path) -> None:
    with pytest.raises(InvalidRequestError, match="no subfolders"):
        load_dataset(drawn / "flat")


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        load_dataset(tmp_path / "nowhere")


def test_one_category_is_refused(tmp_path: Path, drawn: Path) -> None:
    (tmp_path / "flat").symlink_to(drawn / "flat")
    with pytest.raises(InvalidRequestError, match="only one category, 'flat'"):
        load_dataset(tmp_path)


def test_an_empty_category_is_refused(tmp_path: Path) -> None:
    folder = draw_dataset(tmp_path / "set", images=2)
    (folder / "nothing").mkdir()
    with pytest.raises(InvalidRequestError, match="contains no images") as caught:
        load_dataset(folder)
    assert caught.value.path == str(folder / "nothing")


def test_an_unreadable_picture_is_refused_or_left_out(tmp_path: Path) -> None:
    folder = draw_dataset(tmp_path / "set", images=2)
    (folder / "flat" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(UnreadableImageError) as caught:
        load_dataset(folder)
    assert caught.value.path == str(folder / "flat" / "broken.png")
    dataset = load_dataset(folder, skip_unreadable=True)
    assert len(dataset) == 6
    assert "broken.png" in dataset.skipped[0]


def test_a_category_of_unreadable_pictures_is_refused(tmp_path: Path) -> None:
    folder = draw_dataset(tmp_path / "set", images=2)
    (folder / "ruins").mkdir()
    (folder / "ruins" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(InvalidRequestError, match="'ruins' has no image that can be read"):
        load_dataset(folder, skip_unreadable=True)


def test_features_of_a_file_take_the_place_of_edge_histograms(drawn: Path, tmp_path: Path) -> None:
    codes = np.arange(18 * 5, dtype=np.uint8).reshape(18, 5)
    file = tmp_path / "own.npy"
    np.save(file, codes)
    dataset = load_dataset(drawn, f"features:{file}")
    assert np.array_equal(dataset.features, codes)
    assert dataset.vectors is None
    assert dataset.label == "features:own"
    assert (dataset.described.descriptor.l, dataset.described.descriptor.levels) == (5, 256)
    edges = load_dataset(drawn)
    assert dataset.digest == edges.digest
    assert dataset.described.identity != edges.described.identity
    np.save(file, codes + 1)
    assert load_dataset(drawn, f"features:{file}").described.identity != dataset.described.identity
    np.save(file, codes[:-1])
    with pytest.raises(InvalidRequestError, match="17 rows for 18 images"):
        load_dataset(drawn, f"features:{file}")


def test_floats_of_a_file_are_quantised(drawn: Path, tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).normal(size=(18, 5)).astype(np.float32)
    np.save(tmp_path / "own.npy", vectors)
    dataset = load_dataset(drawn, f"features:{tmp_path / 'own.npy'}")
    assert dataset.vectors is not None
    assert np.array_equal(dataset.vectors, vectors)
    assert np.array_equal(dataset.features, Descriptor("own", 5, 256, "l2").quantised(vectors)[0])
    vectors[3, 2] = np.nan
    np.save(tmp_path / "own.npy", vectors)
    with pytest.raises(InvalidRequestError, match=r"row 3, of the image 'diagonal/03\.png'"):
        load_dataset(drawn, f"features:{tmp_path / 'own.npy'}")


@pytest.mark.filterwarnings("error")
def test_floats_of_any_size_keep_their_direction(drawn: Path, tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).normal(size=(18, 5))
    sizes = np.tile([1e300, 1.0, 1e-300], 6)[:, np.newaxis]
    np.save(tmp_path / "own.npy", vectors * sizes)
    dataset = load_dataset(drawn, f"features:{tmp_path / 'own.npy'}")
    assert dataset.vectors is not None
    alike = [
        (vectors[row] @ dataset.vectors[row]) / np.linalg.norm(dataset.vectors[row]) for row in range(18)
    ]
    assert np.allclose(alike, np.linalg.norm(vectors, axis=1))
    queries = np.arange(18)
    expected = by_vectors(vectors.astype(np.float32), dataset.names).orders(queries)
    assert np.array_equal(by_vectors(dataset.vectors, dataset.names).orders(queries), expected)


def test_several_descriptors_share_images(drawn: Path, tmp_path: Path) -> None:
    codes = np.arange(18 * 5, dtype=np.uint8).reshape(18, 5)
    np.save(tmp_path / "own.npy", codes)
    model = patch_model(tmp_path / "tiny")
    names = ("edge-histogram", f"features:{tmp_path / 'own.npy'}", f"model:{model}")
    for jobs in (1, 2):
        edges, own, network = load_datasets(drawn, names, parallelism=Parallelism(jobs=jobs))
        assert [each.label for each in (edges, own, network)] == [
            "edge-histogram", "features:own", "model:tiny",
        ]  # fmt: skip
        assert edges.images == own.images == network.images
        assert np.array_equal(edges.features, load_dataset(drawn).features)
        assert np.array_equal(own.features, codes)
        assert network.vectors is not None
        assert np.array_equal(network.features, network.described.descriptor.quantised(network.vectors)[0])
        assert network.edgeless == 0


def test_a_model_gives_the_numbers_that_its_pictures_have(drawn: Path, tmp_path: Path) -> None:
    """The tiny model means over patches of 4 × 4 pixels of a picture resized to 16 × 16."""
    dataset = load_dataset(drawn, f"model:{patch_model(tmp_path / 'tiny')}")
    assert dataset.vectors is not None
    assert dataset.vectors.shape == (18, 48)
    with Image.open(dataset.images[0].path) as picture:
        small = np.asarray(picture.convert("RGB").resize((16, 16), Image.Resampling.BILINEAR)) / 255
    means = small.reshape(4, 4, 4, 4, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
    assert np.allclose(dataset.vectors[0], (means.ravel() - 0.5) / 0.5, atol=1e-5)


def test_a_picture_that_a_model_cannot_describe_is_unreadable(tmp_path: Path) -> None:
    """A black picture is all zeros to a model that takes off no mean, and has no direction."""
    folder = draw_dataset(tmp_path / "set", images=2)
    Image.new("RGB", (20, 20)).save(folder / "flat" / "black.png")
    names = ("edge-histogram", f"model:{patch_model(tmp_path / 'tiny', mean=0.0)}")
    with pytest.raises(UnreadableImageError, match="not finite or all zeros") as caught:
        load_datasets(folder, names, parallelism=INLINE)
    assert caught.value.path == str(folder / "flat" / "black.png")
    for dataset in load_datasets(folder, names, parallelism=INLINE, skip_unreadable=True):
        assert len(dataset) == len(dataset.features) == 6
        assert "black.png" in dataset.skipped[0]


class OneProcessOnly:
    """Describes in threads of this process, as a model on a device does, and remembers in which."""

    in_threads = True

    def __init__(self) -> None:
        self.descriptor = EDGES
        self.threads: list[int] = []

    def check(self) -> None:
        """Do nothing: there is no device."""

    def travelling(self) -> Describer:
        """Refuse to leave."""
        raise AssertionError

    def __reduce__(self) -> str:
        raise AssertionError

    def prepare(self, picture: Image.Image) -> Prepared:
        """Return codes."""
        self.threads.append(threading.get_ident())
        return edge_histogram(picture)

    def codes(self, prepared: Sequence[Prepared]) -> list[Codes | UnreadableImageError]:
        """Return what was prepared."""
        return [*prepared]


def test_what_owns_a_device_describes_in_threads(drawn: Path) -> None:
    dataset, describer = load_dataset(drawn), OneProcessOnly()
    (edges,) = open_sources(("edge-histogram",), dataset.images)
    sources = [replace(edges, describer=describer)]
    found = [*features_of(dataset.images, sources, Parallelism(jobs=2))]
    codes = [each[2][0].codes for each in found if not isinstance(each, UnreadableImageError)]
    assert np.array_equal(codes, dataset.features)
    assert len(describer.threads) == 18
    assert threading.get_ident() not in describer.threads


def test_a_device_is_of_models_alone(drawn: Path, tmp_path: Path) -> None:
    model = f"model:{patch_model(tmp_path / 'tiny')}"
    with pytest.raises(InvalidRequestError, match="no image model to run on cuda"):
        load_datasets(drawn, ("edge-histogram", "colour-edge"), device="cuda")
    images = load_dataset(drawn).images
    edges, network = open_sources(("edge-histogram", model), images, "cuda")
    assert edges.describer is not None
    assert not edges.describer.in_threads
    assert network.describer is not None
    assert network.describer.in_threads
    assert "run on cuda" in network.described.about
    (plain,) = open_sources((model,), images)
    assert plain.described.identity != network.described.identity


def test_two_models_of_one_name_are_told_apart(drawn: Path, tmp_path: Path) -> None:
    models = [patch_model(tmp_path / each / "tiny") for each in ("a", "b")]
    datasets = load_datasets(drawn, [f"model:{each}" for each in models], parallelism=INLINE)
    assert [each.label for each in datasets] == ["model:tiny", "model:tiny (2)"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("edge-histogram", "edge-histogram"), "given twice"),
        (("rot13",), "'rot13' is not a descriptor"),
        (("model:",), "'model:' is not a descriptor"),
    ],
)
def test_what_is_no_descriptor_is_refused(drawn: Path, names: tuple[str, ...], said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said):
        load_datasets(drawn, names, parallelism=INLINE)


def test_rows_of_images_that_are_left_out_are_left_out_too(tmp_path: Path) -> None:
    folder = draw_dataset(tmp_path / "set", images=2)
    (folder / "flat" / "00.png").write_bytes(b"no picture")
    codes = np.arange(6 * 4, dtype=np.uint8).reshape(6, 4)
    np.save(tmp_path / "own.npy", codes)
    dataset = load_dataset(folder, skip_unreadable=True, descriptor=f"features:{tmp_path / 'own.npy'}")
    assert np.array_equal(dataset.features, np.delete(codes, 2, axis=0))
