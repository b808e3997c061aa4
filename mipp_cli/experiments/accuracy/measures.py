"""How good answers are: Eq. 10 to 12 of the first images, and three measures that look at ranks.

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
"""Measures of the first k images returned; the others look at the whole ranking."""

Figures = NDArray[np.float64]
Hits = NDArray[np.bool_]


def measures(
    true_positives: NDArray[np.integer] | Figures, returned: NDArray[np.int64], relevant: NDArray[np.int64]
) -> dict[str, Figures]:
    """Eq. 10–12: precision TP / (TP + FP), recall TP / (TP + FN), and F1, 2PR / (P + R).

    TP + FP is how many images are returned, TP + FN how many similar ones the collection has.
    """
    return {
        PRECISION: true_positives / returned,
        RECALL: true_positives / relevant,
        F1: 2 * true_positives / (returned + relevant),  # and so 0 where P and R are 0
    }


def ranking_measures(hits: Hits, returned: int) -> dict[str, Figures]:
    """Return every measure of some queries, each of shape (q,).

    ``hits``, shape (q, n), says of each rank whether the image there is relevant; all images are ranked, and
    every query has a relevant one. Precision, recall, F1 and nDCG are of the first ``returned`` images.
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

    Of R relevant images at the ranks i: 1/R · Σ (relevant ones up to i) / i. ``hits`` is (q, n), returns
    (q,). Source: Manning, Raghavan and Schütze, Introduction to Information Retrieval, 2008, Eq. 8.8.
    """
    ranks = np.arange(1, hits.shape[1] + 1)
    precisions = np.where(hits, np.cumsum(hits, axis=1) / ranks, 0.0)
    return np.asarray(precisions.sum(axis=1) / hits.sum(axis=1))


def discounted_gains(hits: Hits, returned: int) -> Figures:
    """Return nDCG at ``returned``: Σ 1/log2(1 + i) over relevant ranks i ≤ k, over the most that it can be.

    The most is Σ over i ≤ min(k, R). ``hits`` is (q, n), returns (q,). Source: Järvelin and Kekäläinen,
    Cumulated gain-based evaluation of IR techniques, ACM TOIS 20 (2002), with the discount log2(1 + i) of
    Manning, Raghavan and Schütze, 2008, Eq. 8.9; theirs is log2 i from rank 2 on.
    """
    discounts = 1 / np.log2(np.arange(2, hits.shape[1] + 2))[:returned]
    ideal = np.cumsum(discounts)[np.minimum(hits.sum(axis=1), len(discounts)) - 1]
    return np.asarray(np.where(hits[:, :returned], discounts, 0.0).sum(axis=1) / ideal)


def r_precisions(hits: Hits) -> Figures:
    """R-precision: the share of relevant images among the first R, of R relevant ones.

    ``hits`` is (q, n), returns (q,). Source: Manning, Raghavan and Schütze, 2008, section 8.4.
    """
    relevant = hits.sum(axis=1)
    up_to = np.cumsum(hits, axis=1)[np.arange(len(hits)), relevant - 1]
    return np.asarray(up_to / relevant)


def chance_measures(relevant: NDArray[np.int64], images: int, returned: int) -> dict[str, Figures]:
    """Return what each measure is on average if ``images`` are ranked at random; computed and not drawn.

    ``relevant``, shape (q,), says how many of them are relevant. A rank holds a relevant image with
    probability R/n. In average precision, one at rank i has (i − 1)·(R − 1)/(n − 1) others before it on
    average, which makes 1/n · Σ (1 + (i − 1)·(R − 1)/(n − 1)) / i. The others are linear in the hits.
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
    """Return what a measure is called, with the number of images that it is of, as in precision at 10."""
    name = measure.replace(F1, "F1")
    return f"{name} at {returned}" if measure in OF_THE_FIRST else name


def joined(parts: list[Mapping[str, Figures]]) -> dict[str, Figures]:
    """Return the figures of all queries, from those of some at a time."""
    return {measure: np.concatenate([part[measure] for part in parts]) for measure in parts[0]}
