"""Descriptors compared: orders against slow ones, what is measured, and the checks on encrypted samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.accuracy import exact_check
from mipp_cli.experiments.accuracy.coarser import BITS, DIMENSIONS, coarser, quantised
from mipp_cli.experiments.accuracy.descriptors import DIFFERENCES, DescriptorsOptions, run_descriptors
from mipp_cli.experiments.accuracy.equality_check import EqualityOptions
from mipp_cli.experiments.accuracy.exact_check import check_descriptors
from mipp_cli.experiments.accuracy.orders import by_exact, by_vectors, rankers
from mipp_cli.experiments.base.dataset import DataSet, load_datasets
from mipp_cli.experiments.base.describing import Described
from mipp_cli.experiments.base.methods import cloud_sim, euclidean
from mipp_cli.experiments.base.result import Result, where
from mipp_cli.experiments.base.sampling import QueryChoice
from mipp_cli.experiments.base.trial_deployment import scheme_settings
from mipp_cli.scheme.descriptor import Descriptor
from mipp_cli.scheme.similarity import euclidean_distances, new_distances
from tests.experiments.patch_model import patch_model
from tests.support.small_datasets import INLINE, alike

EVERY = DescriptorsOptions(QueryChoice(None, None, 1), returned=5)
MASK = EqualityOptions(tuple(scheme_settings(("mask",), (1024,))), parallelism=INLINE)


@pytest.fixture(scope="module")
def described(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> list[DataSet]:
    """The drawn pictures by edges, by the tiny model, and by codes of 256 levels from a file."""
    folder = tmp_path_factory.mktemp("descriptors")
    np.save(folder / "own.npy", np.random.default_rng(3).integers(0, 256, (18, 12)).astype(np.uint8))
    names = ("edge-histogram", f"model:{patch_model(folder / 'tiny')}", f"features:{folder / 'own.npy'}")
    return load_datasets(drawn, names, parallelism=INLINE)


@pytest.fixture(scope="module")
def compared(described: list[DataSet]) -> dict[str, Result]:
    """What comes of all queries, by the result's name."""
    return {result.name: result for result in run_descriptors(described, EVERY)}


def test_orders_of_codes_and_of_sim_are_those_of_the_methods(described: list[DataSet]) -> None:
    """But for ties, of which each has its own."""
    queries = np.arange(18)
    for dataset in described:
        codes, ties = dataset.features, dataset.ties
        by = {ranker.name: ranker.orders(queries) for ranker in rankers(dataset)}
        for name, method, distances in (
            ("codes", euclidean(codes, ties), euclidean_distances),
            ("exact", euclidean(codes, ties), euclidean_distances),
            ("sim", cloud_sim(codes, ties), new_distances),
        ):
            for query, order in zip(queries.tolist(), by[name], strict=True):
                far = distances(codes, codes[query])
                assert sorted([*order, query]) == queries.tolist()
                assert far[order].tolist() == far[method.order(query)].tolist()


def test_vectors_are_ordered_by_the_angle_between_them() -> None:
    vectors = np.array([[1, 0, 0], [9, 1, 0], [1, 1, 0], [-1, 0, 0], [0.5, 0, 0]], dtype=np.float32)
    assert by_vectors(vectors, "abcde").orders(np.array([0])).tolist() == [[4, 1, 2, 3]]


def constant() -> DataSet:
    """Pictures that a descriptor does not tell apart, by real numbers, too."""
    own = Described("constant", Descriptor("own", 80, 256))
    return replace(alike(), vectors=np.ones((90, 80), dtype=np.float32), described=own)


def test_a_descriptor_that_tells_nothing_is_worth_chance() -> None:
    """Names begin with the category: in their order, what ties would be ranked by it."""
    found = {result.name: result.observations for result in run_descriptors([constant()], EVERY)}
    (chance,) = where(found["descriptors"], method="chance", measure="mAP")
    for name in ("descriptors", BITS, DIMENSIONS):
        for row in where(found[name], measure="mAP"):
            assert row["mean"] == pytest.approx(chance["mean"], abs=0.02)
    assert {row["conclusion"] for row in found[DIFFERENCES]} == {"no difference shown"}


def test_the_kmcs_code_orders_by_distance_with_ties_by_a_hash() -> None:
    pairs = np.repeat(np.arange(9, dtype=np.uint8), 2)[:, None].repeat(4, axis=1)
    orders = by_exact(pairs, "abcdefghijklmnopqr").orders(np.arange(18))
    for query, order in enumerate(orders.tolist()):
        assert sorted([*order, query]) == list(range(18))
        distances = [abs(row // 2 - query // 2) for row in order]
        assert distances == sorted(distances)
    assert any(row > other for order in orders.tolist() for row, other in pairwise(order)
               if row // 2 == other // 2)  # fmt: skip


def test_every_descriptor_is_measured_by_every_distance(compared: dict[str, Result]) -> None:
    rows = compared["descriptors"].observations
    found = list(dict.fromkeys((row["descriptor"], row["method"]) for row in rows))
    assert found == [
        ("edge-histogram", "codes"), ("edge-histogram", "exact"), ("edge-histogram", "sim"),
        ("model:tiny", "vectors"), ("model:tiny", "codes"), ("model:tiny", "exact"), ("model:tiny", "sim"),
        ("features:own", "codes"), ("features:own", "exact"), ("features:own", "sim"),
        ("chance", "chance"),
    ]  # fmt: skip
    assert {row["queries"] for row in rows} == {18}
    assert {row["measure"] for row in rows} == {
        "precision at 5", "recall at 5", "F1 at 5", "mAP", "nDCG at 5", "R-precision",
    }  # fmt: skip


def test_precision_is_that_of_a_slow_implementation(
    compared: dict[str, Result], described: list[DataSet]
) -> None:
    """It lies between what comes out if ties are broken as badly as can be, and as well."""
    for dataset in described:
        shares: dict[bool, list[float]] = {True: [], False: []}
        for query in range(18):
            far = ((dataset.features.astype(int) - dataset.features[query].astype(int)) ** 2).sum(axis=1)
            right = dataset.labels == dataset.labels[query]
            for last, found in shares.items():  # right ones last, or first
                order = sorted(set(range(18)) - {query}, key=lambda row: (far[row], right[row] == last))
                found.append(float(right[order[:5]].mean()))
        (row,) = where(
            compared["descriptors"].observations,
            descriptor=dataset.label, method="codes", measure="precision at 5",
        )  # fmt: skip
        assert np.mean(shares[True]) - 1e-9 <= row["mean"] <= np.mean(shares[False]) + 1e-9
        assert np.mean(shares[False]) - np.mean(shares[True]) < 0.05


def test_differences_say_what_follows(compared: dict[str, Result]) -> None:
    rows = compared[DIFFERENCES].observations
    for row in rows:
        better = {True: row["first"], False: row["second"]}
        expected = "no difference shown" if row["low"] <= 0 <= row["high"] else (
            f"{better[row['mean'] > 0]} is better"
        )  # fmt: skip
        assert row["conclusion"] == expected
    assert {(row["first"], row["second"]) for row in rows if row["descriptor"] == "model:tiny"} == {
        ("vectors before quantisation", "codes (Eq. 7)"),
        ("codes (Eq. 7)", "KMC's own code (Eq. 7)"),
        ("codes (Eq. 7)", "cloud's Sim (Eq. 9)"),
        ("model:tiny", "edge-histogram"),
    }


def places(result: Result, axis: str, descriptor: str) -> list[int]:
    return list(dict.fromkeys(row[axis] for row in where(result.observations, descriptor=descriptor)))


def test_bits_and_dimensions_are_of_what_can_be_smaller(compared: dict[str, Result]) -> None:
    bits, dimensions = compared[BITS], compared[DIMENSIONS]
    assert places(bits, "bits", "edge-histogram") == []
    assert places(bits, "bits", "model:tiny") == [1, 2, 3, 4, 5, 6, 7, 8, 32]
    assert places(bits, "bits", "features:own") == [1, 2, 3, 4, 5, 6, 7, 8]
    assert places(dimensions, "dimension", "model:tiny") == [8, 16, 32, 48]
    assert places(dimensions, "dimension", "features:own") == [8, 12]


def test_full_size_is_the_descriptor_itself(compared: dict[str, Result]) -> None:
    for descriptor, size in (("model:tiny", 48), ("features:own", 12)):
        (whole,) = where(
            compared["descriptors"].observations, descriptor=descriptor, method="codes", measure="mAP"
        )
        (bits,) = where(compared[BITS].observations, descriptor=descriptor, bits=8, measure="mAP")
        (numbers,) = where(
            compared[DIMENSIONS].observations, descriptor=descriptor, dimension=size, measure="mAP"
        )
        assert bits["mean"] == numbers["mean"] == pytest.approx(whole["mean"])


def test_codes_become_coarser_by_equal_steps() -> None:
    codes = np.arange(256, dtype=np.uint8)
    assert coarser(codes, 256, 4).tolist() == [0] * 64 + [1] * 64 + [2] * 64 + [3] * 64
    assert coarser(codes, 256, 256).tolist() == codes.tolist()


def test_vectors_without_direction_get_the_codes_of_zero() -> None:
    vectors = np.array([[0, 0, 0], [1, 0, -1]], dtype=np.float32)
    codes = quantised(vectors, 16)
    assert codes[0].tolist() == [8, 8, 8]
    assert np.array_equal(codes[1:], Descriptor("own", 3, 16, "l2").quantised(vectors[1:])[0])


def test_the_same_seed_gives_the_same_figures(compared: dict[str, Result], described: list[DataSet]) -> None:
    again = {result.name: result for result in run_descriptors(described, EVERY)}
    assert {name: each.observations for name, each in again.items()} == {
        name: each.observations for name, each in compared.items()
    }


def test_more_images_than_there_are_cannot_be_returned(described: list[DataSet]) -> None:
    with pytest.raises(InvalidRequestError, match="18 images cannot be returned"):
        run_descriptors(described, DescriptorsOptions(EVERY.queries, 18))
    with pytest.raises(InvalidRequestError):
        DescriptorsOptions(EVERY.queries, 0)


@pytest.mark.slow
def test_encrypted_samples_agree_under_every_descriptor(described: list[DataSet]) -> None:
    exact, sums = check_descriptors(described, MASK)
    labels = [dataset.label for dataset in described]
    for result in (exact, sums):
        assert [row["descriptor"] for row in result.observations] == labels
        for row in result.observations:
            assert row["images"] == 18
            assert row["queries"] == 5
            assert row["largest_difference"] == 0
            assert row["orders_equal"]
    assert {row["matches"] for row in exact.observations} == {5 * 18}
    assert "every distance equals EucDis" in exact.notes[0]
    assert sum("every Sim equals NewDis" in note for note in sums.notes) == 3
    for result in (exact, sums):
        brought = [note for note in result.notes if "in features files" in note]
        assert [note.partition(": ")[0] for note in brought] == ["model:tiny", "features:own"]
        assert "own:48:256" in brought[0]
        assert "the model itself is not run there" in brought[0]


def test_the_check_finds_distances_that_differ(
    described: list[DataSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(features: Sequence[object], query: object) -> np.ndarray:
        return np.arange(float(len(features)))

    monkeypatch.setattr(exact_check, "euclidean_distances", wrong)
    result, _ = check_descriptors(described[:1], MASK)
    assert not result.observations[0]["orders_equal"]
    assert "DIFFER" in result.notes[0]


def test_the_check_finds_distances_that_are_no_numbers(
    described: list[DataSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        exact_check, "euclidean_distances", lambda features, _: np.full(len(features), np.nan)
    )
    result, _ = check_descriptors(described[:1], MASK)
    assert not result.observations[0]["distances_equal"]
    assert "DIFFER" in result.notes[0]
