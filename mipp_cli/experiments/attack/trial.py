"""The attack on uploads of the experiment's own: scheme `paper` falls, the others must not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from mipp_cli.compute.processes import LOCAL, Parallelism
from mipp_cli.experiments.attack.attack import NAME, AttackOptions, run_attack
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.result import Result
from mipp_cli.experiments.base.sampling import draw_sample
from mipp_cli.experiments.base.trial_deployment import scheme_settings, trial_deployment
from mipp_cli.progress import Progress
from mipp_cli.scheme.parameters import DEFAULT_MODULUS_BITS

_SCHEMES = ("paper", "dcr", "mask")


@dataclass(frozen=True)
class AttackTrial:
    """How many images are encrypted under each scheme and attacked, and the size of the moduli."""

    modulus_bits: int = DEFAULT_MODULUS_BITS
    images: int = 10
    seed: int = 1
    parallelism: Parallelism = LOCAL


def attack_every_scheme(
    dataset: DataSet, trial: AttackTrial, sheet: Path, progress: Progress
) -> list[Result]:
    """Encrypt a sample under every scheme, and attack each upload with kmc.pub alone.

    ``sheet`` is where the pictures of the two-time pad go. What the attacks say of EFF/EF and of key
    streams does not depend on the scheme, and stands in the first result alone.
    """
    files = dataset.files(draw_sample(dataset, trial.images, trial.seed))
    results: list[Result] = []
    for setting in scheme_settings(_SCHEMES, [trial.modulus_bits]):
        with trial_deployment(setting, image_names="path") as made:
            upload = made.encrypt("owner", files, "upload", trial.parallelism, progress)
            options = AttackOptions(
                made.kmc_file, dataset.folder, len(files), None if results else sheet, trial.parallelism
            )
            result = run_attack(upload, options, progress)
        said = {claim.where for claim in result.claims[1:]} if results else set()
        claims = [claim for claim in result.claims if claim.where not in said]
        results.append(replace(result, name=f"{NAME}-{setting.scheme}", claims=claims))
    return results
