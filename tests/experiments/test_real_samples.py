"""What is really encrypted: the check of Sim, storage, and the attack on uploads made for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.accuracy import equality_check
from mipp_cli.experiments.accuracy.equality_check import EqualityOptions, check_equality
from mipp_cli.experiments.attack.trial import AttackTrial, attack_every_scheme
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.settings import SchemeSetting, draw_sample, scheme_settings
from mipp_cli.experiments.timing.storage import COLLECTION, FEATURES, INDEX, StorageOptions, run_storage
from mipp_cli.progress import silent
from tests.experiments.conftest import INLINE

SMALL = tuple(scheme_settings(("mask", "dcr"), (1024,)))


def test_sim_over_ciphertexts_equals_newdis_over_plain_codes(dataset: DataSet) -> None:
    result = check_equality(dataset, EqualityOptions(SMALL, parallelism=INLINE))
    assert [row["scheme"] for row in result.observations] == ["mask", "dcr"]
    for row in result.observations:
        assert row["images"] == 18
        assert row["pairs"] == 5 * 18
        assert row["largest_difference"] == 0
        assert row["orders_equal"]
    assert "every Sim equals NewDis to the last bit" in result.notes[0]


def test_the_check_finds_sims_that_differ(dataset: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(features: np.ndarray, query: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        return np.zeros(len(features))

    monkeypatch.setattr(equality_check, "new_distances", wrong)
    result = check_equality(dataset, EqualityOptions(SMALL[:1], parallelism=INLINE))
    assert float(result.observations[0]["largest_difference"] or 0) > 0
    assert "DIFFER" in result.notes[0]


def test_a_sample_below_fifty_images_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="too small"):
        EqualityOptions(SMALL, images=49)


def test_samples_come_from_the_seed(dataset: DataSet) -> None:
    drawn = [draw_sample(dataset, 5, seed).tolist() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert draw_sample(dataset, 500, 1).tolist() == list(range(18))


def test_every_scheme_is_set_with_every_modulus() -> None:
    settings = scheme_settings(("mask", "paper"), (1024, 2048))
    assert settings == [
        SchemeSetting("mask", None), SchemeSetting("paper", 1024), SchemeSetting("paper", 2048),
    ]  # fmt: skip
    with pytest.raises(InvalidRequestError, match="no scheme 'rot13'"):
        scheme_settings(("rot13",), (1024,))


def test_storage_is_measured_and_says_what_is_multiplied(dataset: DataSet) -> None:
    (result,) = run_storage(dataset, StorageOptions(SMALL, images=3, parallelism=INLINE))
    found = {(row["scheme"], row["what"], row["images"]): row for row in result.observations}
    for scheme, number in (("mask", 4), ("dcr", 256)):
        measured = found[scheme, FEATURES, 3]
        multiplied = found[scheme, FEATURES, COLLECTION]
        assert measured["bytes"] == 3 * 2 * 80 * number
        assert measured["how"] == "measured"
        assert multiplied["bytes"] == COLLECTION * 2 * 80 * number
        assert multiplied["how"] == "multiplied by 10000/3"
        assert "measured" in str(found[scheme, INDEX, COLLECTION]["how"])
    assert found["mask", INDEX, COLLECTION]["bytes"] == found["dcr", INDEX, COLLECTION]["bytes"]
    assert [claim.where for claim in result.claims] == ["Table 3", "Table 3"]


def test_scheme_paper_falls_and_the_others_do_not(dataset: DataSet, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    trial = AttackTrial(1024, images=2, parallelism=INLINE)
    results = {each.name: each for each in attack_every_scheme(dataset, trial, sheet, silent)}
    assert list(results) == ["attack-paper", "attack-dcr", "attack-mask"]
    assert "All is recovered" in results["attack-paper"].claims[0].measured
    for name in ("attack-dcr", "attack-mask"):
        assert "Nothing is recovered" in results[name].claims[0].measured
        assert len(results[name].claims) == 1
    assert sheet.exists()
