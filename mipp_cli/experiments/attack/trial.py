"""The attack on uploads of the experiment's own: scheme `paper` falls, the others must not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mipp_cli.experiments.attack.attack import NAME, AttackOptions, run_attack
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.result import Result
from mipp_cli.experiments.base.trial_deployment import SampleOptions, trial_deployment
from mipp_cli.progress import Progress

ATTACKED = ("paper", "dcr", "mask")
"""The schemes: the first must be the one that falls."""


def attack_every_scheme(
    dataset: DataSet, sample: SampleOptions, sheet: Path, progress: Progress
) -> list[Result]:
    """Encrypt a sample under every scheme, and attack each upload with kmc.pub alone.

    ``sheet`` is where the pictures of the two-time pad go. What the attacks say of EFF/EF and of key
    streams does not depend on the scheme, and stands in the first result alone.
    """
    files = dataset.files(sample.draw(dataset))
    results: list[Result] = []
    for setting in sample.settings:
        with trial_deployment(setting, sample.parallelism, progress, image_names="path") as made:
            upload = made.encrypt("owner", files, "upload")
            picture = None if results else sheet
            options = AttackOptions(made.kmc_file, dataset.folder, len(files), picture, sample.parallelism)
            result = run_attack(upload, options, progress)
        said = {claim.where for claim in result.claims[1:]} if results else set()
        claims = [claim for claim in result.claims if claim.where not in said]
        results.append(replace(result, name=f"{NAME}-{setting.scheme}", claims=claims))
    return results
