"""Random numbers of experiments, from a seed: never for cryptography, which draws from the system alone."""

from __future__ import annotations

import numpy as np

QUERIES = 1
BOOTSTRAP = 2
SAMPLES = 3


def generator(seed: int, purpose: int) -> np.random.Generator:
    """Return the generator of a seed for one purpose, so that what one draws does not move the others."""
    return np.random.default_rng([seed, purpose])
