"""Begin a life, in whichever scheme."""

from __future__ import annotations

from pathlib import Path

from tests.soak.exact_life import ExactLife
from tests.soak.life import Life
from tests.support.deployment import SCHEMES


def begin(root: Path, seed: int, scheme: str) -> Life:
    """Return a life at its beginning; in scheme `exact` its seed says how large groups are."""
    if scheme == "exact":
        return ExactLife(root, seed, "--scheme", scheme, "--group-size", str(1 + seed % 4))
    return Life(root, seed, *SCHEMES[scheme])
