"""Storage is measured on real containers."""

from __future__ import annotations

from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.trial_deployment import SampleOptions, scheme_settings
from mipp_cli.experiments.cost.storage import COLLECTION, FEATURES, INDEX, run_storage
from tests.support.small_datasets import INLINE

SMALL = tuple(scheme_settings(("mask", "dcr"), (1024,)))


def test_storage_is_measured_and_says_what_is_multiplied(dataset: DataSet) -> None:
    (result,) = run_storage(dataset, SampleOptions(SMALL, images=3, parallelism=INLINE))
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
