"""How well a segmentation covers the truth."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenet.errors import TenetError
from tenet.metrics.thresholds import chunks, require_same_shape


def iou(mask: NDArray[Any], truth: NDArray[Any]) -> float:
    """Intersection over union of two masks; 1 when both are empty.

    Parameters
    ----------
    mask, truth
        Masks of one shape; anything that is not zero is foreground.

    Returns
    -------
    float
        |A ∩ B| / |A ∪ B|, in [0, 1].

    Raises
    ------
    TenetError
        If the shapes differ.
    """
    require_same_shape(mask, truth)
    union = np.count_nonzero(np.logical_or(mask, truth))
    return np.count_nonzero(np.logical_and(mask, truth)) / union if union else 1.0


def dice(mask: NDArray[Any], truth: NDArray[Any]) -> float:
    """Dice coefficient 2|A ∩ B| / (|A| + |B|) of two masks; 1 when both are empty.

    See `iou` for parameters and errors.
    """
    require_same_shape(mask, truth)
    total = np.count_nonzero(mask) + np.count_nonzero(truth)
    return 2 * np.count_nonzero(np.logical_and(mask, truth)) / total if total else 1.0


def average_precision(score: NDArray[Any], truth: NDArray[Any]) -> float:
    """Average precision Σ (Rₙ − Rₙ₋₁) Pₙ over falling thresholds.

    Scores that agree to one part in 8192 (13 bits of mantissa) count as tied. So one pass over the
    volume is enough, for any non-negative range of scores and without sorting, because the leading
    bits of a non-negative float, read as an integer, rise with its value.

    Parameters
    ----------
    score
        Non-negative scores of any shape.
    truth
        Mask of the same shape.

    Returns
    -------
    float
        In [0, 1]. For scores that are all alike it is the fraction of foreground.

    Raises
    ------
    TenetError
        If the shapes differ, a score is negative or not finite, or the truth is empty.
    """
    dropped_bits = 10
    n_bins = 1 << (31 - dropped_bits)
    counts = np.zeros((2, n_bins), dtype=np.int64)  # background, foreground
    for values, positive in chunks(score, truth):
        # Adding zero turns -0.0, whose sign bit is set, into 0.0.
        bins = (values + np.float32(0)).view(np.uint32) >> dropped_bits
        total = np.bincount(bins, minlength=n_bins)
        hits = np.bincount(bins[positive], minlength=n_bins)
        counts[0] += total - hits
        counts[1] += hits
    n_positive = int(counts[1].sum())
    if n_positive == 0:
        raise TenetError("average precision needs some foreground in the truth; this one is empty")
    occupied = np.flatnonzero(counts.any(axis=0))[::-1]
    background, foreground = counts[:, occupied]
    true_positives = np.cumsum(foreground)
    precision = true_positives / (true_positives + np.cumsum(background))
    return float(np.sum(foreground * precision) / n_positive)
