"""Seeded random numbers for experiments; never for cryptography, which only uses the operating system's."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from mipp_cli.errors import InvalidRequestError


class Purpose(IntEnum):
    """The purpose of random numbers; each has its own generator, so that they do not affect each other."""

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
        raise InvalidRequestError("the seed is negative", hint="give --seed 0 or more")
    return np.random.default_rng([seed, purpose])
