"""Random numbers of experiments, from a seed: never for cryptography, which draws from the system alone."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from mipp_cli.errors import InvalidRequestError


class Purpose(IntEnum):
    """What is drawn, each from a generator of its own, so that what one draws does not move the others."""

    QUERIES = 1
    BOOTSTRAP = 2
    SAMPLES = 3
    LEAKAGE_QUERIES = 101
    LINKED_PICTURES = 102
    WATCHED_QUERIES = 103
    SELECTION_TIES = 104
    DECOYS = 105
    GROUPS = 106
    GROUP_TIES = 107
    TIMED_ORDER = 108
    TIMED_QUERIES = 109
    FEWER_NUMBERS = 110


def generator(seed: int, purpose: Purpose) -> np.random.Generator:
    """Return the generator of a seed for one purpose."""
    if seed < 0:
        raise InvalidRequestError("a seed is not negative", hint="give 0 or more")
    return np.random.default_rng([seed, purpose])
