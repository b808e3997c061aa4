"""Answers under scheme `exact`, through every hand-off of the commands' own code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mipp_cli.experiments.trial_deployment import TrialDeployment
from mipp_cli.roles.answer import decrypt_answer
from mipp_cli.roles.cloud_candidates import collect
from mipp_cli.roles.cloud_search import search
from mipp_cli.roles.collection import ImageFile
from mipp_cli.roles.kmc_rank import rank
from mipp_cli.roles.kmc_reencrypt import reencrypt
from mipp_cli.roles.user import EXACT_CANDIDATES, make_query


def exact_answers(
    trial: TrialDeployment, cloud: Path, pictures: Sequence[ImageFile]
) -> list[list[tuple[str, float]]]:
    """Ask for each picture, and return names and EucDis of what the user decrypts, nearest first."""
    root = trial.root
    query, candidates, selection = root / "query.h5", root / "candidates.h5", root / "selection.h5"
    make_query(trial.user, pictures, query, candidates=EXACT_CANDIDATES)
    search(cloud, query, candidates)
    rank(trial.kmc, candidates, selection)
    collect(cloud, selection, root / "results.h5")
    reencrypt(trial.kmc, root / "results.h5", root / "reencrypted.h5")
    _, written = decrypt_answer(trial.user, root / "reencrypted.h5", root / "answer", top=EXACT_CANDIDATES)
    answers: dict[str, list[tuple[str, float]]] = {picture.name: [] for picture in pictures}
    for match in written:
        answers[match.query].append((match.image_id, match.distance))
    return list(answers.values())
