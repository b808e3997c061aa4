"""The attack on uploads made for it."""

from __future__ import annotations

from pathlib import Path

from mipp_cli.experiments.attack.trial import ATTACKED, attack_every_scheme
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.trial_deployment import SampleOptions, scheme_settings
from mipp_cli.progress import silent
from tests.support.small_datasets import INLINE

SMALL = tuple(scheme_settings(("mask", "dcr"), (1024,)))


def test_scheme_paper_falls_and_the_others_do_not(dataset: DataSet, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    trial = SampleOptions(tuple(scheme_settings(ATTACKED, (1024,))), images=2, parallelism=INLINE)
    results = {each.name: each for each in attack_every_scheme(dataset, trial, sheet, silent)}
    assert list(results) == ["attack-paper", "attack-dcr", "attack-mask"]
    assert "All is recovered" in results["attack-paper"].claims[0].measured
    for name in ("attack-dcr", "attack-mask"):
        assert "Nothing is recovered" in results[name].claims[0].measured
        assert len(results[name].claims) == 1
    assert sheet.exists()
