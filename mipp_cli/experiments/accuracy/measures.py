"""Quality measures: Eq. 10 to 12 on the first images, and three measures that depend on ranks.

Relevance is binary: an image is relevant to a query if it is of the query's category.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

PRECISION, RECALL, F1 = "precision", "recall", "f1"
MEAN_AVERAGE_PRECISION, NDCG, R_PRECISION = "mAP", "nDCG", "R-precision"
OF_THE_FIRST: Final = (PRECISION, RECALL, F1, NDCG)
"""Measures of the first k images returned; the others use the whole ranking."""

Figures = NDArray[np.float64]
Hits = NDArray[np.bool_]


def measures(
    true_positives: NDArray[np.integer] | Figures, returned: NDArray[np.int64], relevant: NDArray[np.int64]
) -> dict[str, Figures]:
    """Eq. 10–12: precision TP / (TP + FP), recall TP / (TP + FN), and F1, 2PR / (P + R).

    TP + FP is the number of images returned, TP + FN the number of similar images in the collection.
    """
    return {
        PRECISION: true_positives / returned,
        RECALL: true_positives / relevant,
        F1: 2 * true_positives / (returned + relevant),  # 0 if P and R are 0
    }


def ranking_measures(hits: Hits, returned: int) -> dict[str, Figures]:
    """Return every measure for some queries, each of shape (q,).

    ``hits``, shape (q, n), says for each rank whether its image is relevant; all images are ranked, and every
    query has a relevant one. Precision, recall, F1 and nDCG use the first ``returned`` images.
    """
    relevant = hits.sum(axis=1)
    first = hits[:, :returned].sum(axis=1)
    return {
        **measures(first, np.full(len(hits), returned), relevant),
        MEAN_AVERAGE_PRECISION: average_precisions(hits),
        NDCG: discounted_gains(hits, returned),
        R_PRECISION: r_precisions(hits),
    }


def average_precisions(hits: Hits) -> Figures:
    """Average precision, whose mean over queries is mAP: the mean of the precisions at relevant images.

    For R relevant images at ranks i: 1/R · Σ (relevant ones up to i) / i. ``hits`` is (q, n); returns (q,).
    Source: Manning, Raghavan and Schütze, Introduction to Information Retrieval, 2008, Eq. 8.8.
    """
    ranks = np.arange(1, hits.shape[1] + 1)
    precisions = np.where(hits, np.cumsum(hits, axis=1) / ranks, 0.0)
    return np.asarray(precisions.sum(axis=1) / hits.sum(axis=1))


def discounted_gains(hits: Hits, returned: int) -> Figures:
    """Return nDCG at ``returned``: Σ 1/log2(1 + i) over relevant ranks i ≤ k, divided by its maximum.

    The maximum is the sum over i ≤ min(k, R). ``hits`` is (q, n); returns (q,). Source: Järvelin and
    Kekäläinen, Cumulated gain-based evaluation of IR techniques, ACM TOIS 20 (2002), with the discount log2(1
    + i) of Manning, Raghavan and Schütze, 2008, Eq. 8.9; theirs is log2 i from rank 2 on.
    """
    discounts = 1 / np.log2(np.arange(2, hits.shape[1] + 2))[:returned]
    ideal = np.cumsum(discounts)[np.minimum(hits.sum(axis=1), len(discounts)) - 1]
    return np.asarray(np.where(hits[:, :returned], discounts, 0.0).sum(axis=1) / ideal)


def r_precisions(hits: Hits) -> Figures:
    """R-precision: the share of relevant images among the first R, where R images are relevant.

    ``hits`` is (q, n), returns (q,). Source: Manning, Raghavan and Schütze, 2008, section 8.4.
    """
    relevant = hits.sum(axis=1)
    up_to = np.cumsum(hits, axis=1)[np.arange(len(hits)), relevant - 1]
    return np.asarray(up_to / relevant)


def chance_measures(relevant: NDArray[np.int64], images: int, returned: int) -> dict[str, Figures]:
    """Return the expected value of each measure if ``images`` are ranked at random, computed exactly.

    ``relevant``, shape (q,), is the number of relevant images. A rank has a relevant image with probability
    R/n. In average precision, (i − 1)·(R − 1)/(n − 1) others are expected before one at rank i, which gives
    1/n · Σ (1 + (i − 1)·(R − 1)/(n − 1)) / i. The other measures are linear in the hits.
    """
    share = relevant / images
    ranks = np.arange(1, images + 1)
    among_others = (relevant - 1) / max(1, images - 1)
    discounts = 1 / np.log2(ranks + 1)
    gained = np.cumsum(discounts)
    first = min(returned, images)
    return {
        **measures(share * returned, np.full(len(relevant), returned), relevant),
        MEAN_AVERAGE_PRECISION: (1 / ranks).mean() + among_others * (1 - 1 / ranks).mean(),
        NDCG: share * gained[first - 1] / gained[np.minimum(relevant, first) - 1],
        R_PRECISION: share,
    }


def measure_label(measure: str, returned: int) -> str:
    """Return the label of a measure, with its number of images, such as precision at 10."""
    name = measure.replace(F1, "F1")
    return f"{name} at {returned}" if measure in OF_THE_FIRST else name


def joined(parts: list[Mapping[str, Figures]]) -> dict[str, Figures]:
    """Concatenate the figures of batches of queries."""
    return {measure: np.concatenate([part[measure] for part in parts]) for measure in parts[0]}
