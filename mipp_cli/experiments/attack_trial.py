"""The attack on uploads of the experiment's own: scheme `paper` falls, the others must not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from mipp_cli.experiments.attack import AttackOptions, run_attack
from mipp_cli.experiments.dataset import DataSet
from mipp_cli.experiments.result import Result
from mipp_cli.experiments.settings import SchemeSetting, draw_sample, image_files
from mipp_cli.experiments.trial_deployment import make_trial_deployment
from mipp_cli.roles.directory import KMC_FILE
from mipp_cli.roles.progress import Progress
from mipp_cli.roles.workers import LOCAL, Workplace


@dataclass(frozen=True)
class AttackTrial:
    """Which schemes are attacked, and how many images of the data set are encrypted under each."""

    settings: tuple[SchemeSetting, ...]
    images: int = 10
    seed: int = 1
    workplace: Workplace = LOCAL


def attack_every_scheme(
    dataset: DataSet, trial: AttackTrial, sheet: Path, progress: Progress
) -> list[Result]:
    """Encrypt a sample under each setting, and attack the upload with kmc.pub alone.

    ``sheet`` is where the pictures of the two-time pad go.
    """
    files = image_files(dataset, draw_sample(dataset, trial.images, trial.seed))
    results: list[Result] = []
    for setting in trial.settings:
        with TemporaryDirectory(prefix="mipp-experiment-") as folder:
            made = make_trial_deployment(Path(folder), setting.scheme, setting.modulus_bits, image_ids="path")
            upload = made.encrypt("owner", files, "upload", trial.workplace, progress)
            options = AttackOptions(
                made.kmc / KMC_FILE, dataset.folder, len(files), None if results else sheet, trial.workplace
            )
            result = run_attack(upload, options, progress)
        results.append(replace(result, name=f"attack-{setting.label.replace(' ', '-')}"))
    return results
