"""Precision, recall and F1 of an answer: Eq. 10–12 of the paper."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MEASURES = ("precision", "recall", "f1")

Counts = NDArray[np.integer] | NDArray[np.float64]
Figures = NDArray[np.float64]


def precision(true_positives: Counts, returned: Counts) -> Figures:
    """Eq. 10: TP / (TP + FP); TP + FP is how many images are returned."""
    return np.divide(true_positives, returned, dtype=np.float64)


def recall(true_positives: Counts, relevant: Counts) -> Figures:
    """Eq. 11: TP / (TP + FN); TP + FN is how many similar images the collection has."""
    return np.divide(true_positives, relevant, dtype=np.float64)


def f1(true_positives: Counts, returned: Counts, relevant: Counts) -> Figures:
    """Eq. 12: 2PR / (P + R), which is 2·TP / (returned + relevant): 0 where P and R are 0."""
    return np.divide(2 * true_positives, np.add(returned, relevant), dtype=np.float64)
