"""The threshold of a segmentation: what it gives at each, and the one that is best.

Apart from the measures that only evaluations use, because every training ends with the choice of a
threshold: a change here trains anew.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tenet.errors import TenetError

#: Elements counted at a time, so that a large volume needs no large temporaries.
CHUNK = 1 << 22


def threshold_grid(highest_score: float = 1.0) -> NDArray[np.float64]:
    """Thresholds at which methods are compared.

    Steps of 1/200 from 0 to 1, then, if there are scores above 1, 100 geometric steps up to the
    highest. Where every score is below ½ the 200 steps reach the highest score instead of 1.

    Parameters
    ----------
    highest_score
        The largest score of all volumes that are compared, not negative.

    Returns
    -------
    ndarray
        Rising thresholds from 0; the last is at least `highest_score`.

    Examples
    --------
    >>> threshold_grid()[:3]
    array([0.   , 0.005, 0.01 ])
    """
    if not np.isfinite(highest_score) or highest_score < 0:
        raise TenetError(
            f"scores must be finite and not negative, but the highest is {highest_score}"
        )
    linear_end = highest_score if 0 < highest_score < 0.5 else 1.0
    grid = np.arange(201) / 200 * linear_end
    if highest_score <= 1:
        return grid
    return np.concatenate([grid, np.geomspace(1, highest_score, 101)[1:]])


def threshold_sweep(
    score: NDArray[Any], truth: NDArray[Any], thresholds: ArrayLike | None = None
) -> pd.DataFrame:
    """IoU and Dice of ``score >= threshold`` at many thresholds, from one pass over the volume.

    Parameters
    ----------
    score
        Non-negative scores of any shape. They are compared as float32.
    truth
        Mask of the same shape.
    thresholds
        Rising thresholds; by default `threshold_grid` of the highest score.

    Returns
    -------
    DataFrame
        Columns ``threshold``, ``iou``, ``dice``, one row per threshold.

    Raises
    ------
    TenetError
        If the shapes differ, a score is negative or not finite, or the thresholds do not rise.

    Examples
    --------
    >>> truth = np.array([0, 1, 1, 0], bool)
    >>> score = np.array([0.1, 0.9, 0.4, 0.6])
    >>> threshold_sweep(score, truth, [0.2, 0.5, 0.8]).round(3)
       threshold    iou   dice
    0        0.2  0.667  0.800
    1        0.5  0.333  0.500
    2        0.8  0.500  0.667
    """
    if thresholds is None:
        thresholds = threshold_grid(float(np.max(score, initial=0)))
    grid = np.asarray(thresholds, dtype=np.float64)
    if grid.ndim != 1 or grid.size == 0 or np.any(np.diff(grid) <= 0):
        raise TenetError("thresholds must be a list of rising numbers, with at least one")
    # A threshold is rounded as the scores are: a score stored as 0.7 reaches the threshold 0.7.
    edges = grid.astype(np.float32)
    n_bins = grid.size + 1
    counts = np.zeros((2, n_bins), dtype=np.int64)  # background, foreground
    for values, positive in chunks(score, truth):
        # Bin k holds the scores that reach the first k thresholds and no more.
        bins = np.searchsorted(edges, values, side="right")
        bins += n_bins * positive
        counts += np.bincount(bins, minlength=2 * n_bins).reshape(2, n_bins)
    false_positives, true_positives = np.cumsum(counts[:, :0:-1], axis=1)[:, ::-1]
    n_positive = counts[1].sum()
    union = n_positive + false_positives
    total = n_positive + true_positives + false_positives
    return pd.DataFrame(
        {
            "threshold": grid,
            "iou": np.where(union > 0, true_positives / np.maximum(union, 1), 1.0),
            "dice": np.where(total > 0, 2 * true_positives / np.maximum(total, 1), 1.0),
        }
    )


class ThresholdChoice(NamedTuple):
    """A threshold, the mean IoU it reaches, and the table it was read from.

    Examples
    --------
    >>> truth = np.array([0, 1, 1, 0], bool)
    >>> score = np.array([0.1, 0.9, 0.6, 0.4])
    >>> best_threshold([(score, truth)]).iou
    1.0
    """

    threshold: float
    iou: float
    table: pd.DataFrame


def best_threshold(
    pairs: Iterable[tuple[NDArray[Any], NDArray[Any]]],
    thresholds: ArrayLike | None = None,
    weights: Sequence[float] | None = None,
) -> ThresholdChoice:
    """Choose the threshold of the highest mean IoU over several volumes.

    Given held-out phantoms, this is how every method's threshold is chosen.

    Parameters
    ----------
    pairs
        (score, truth) of each phantom. With `thresholds` given, they are read once, one at a time.
    thresholds
        Rising thresholds; by default `threshold_grid` of the highest score of all.
    weights
        Of each phantom in the means; by default all count alike.

    Returns
    -------
    ThresholdChoice
        If several thresholds do equally well, the middle one: a score of zeros and ones gets
        about ½. The table has the means over volumes.

    Raises
    ------
    TenetError
        As `threshold_sweep`, and if there are no pairs.

    Examples
    --------
    >>> truth = np.array([0, 1, 1, 0], bool)
    >>> score = np.array([0.1, 0.9, 0.6, 0.4])
    >>> choice = best_threshold([(score, truth)])
    >>> choice.threshold, choice.iou
    (0.5, 1.0)
    """
    if thresholds is None:
        pairs = list(pairs)
        highest = max((float(np.max(score, initial=0)) for score, _ in pairs), default=0.0)
        thresholds = threshold_grid(highest)
    tables = [threshold_sweep(score, truth, thresholds) for score, truth in pairs]
    if not tables:
        raise TenetError("choosing a threshold needs at least one (score, truth) pair")
    values = np.average([table.to_numpy() for table in tables], axis=0, weights=weights)
    mean_table = tables[0].assign(iou=values[:, 1], dice=values[:, 2])
    mean_iou = mean_table["iou"].to_numpy()
    best = np.flatnonzero(mean_iou >= mean_iou.max() - 1e-12)
    row = int(best[(len(best) - 1) // 2])
    return ThresholdChoice(
        float(mean_table["threshold"].iloc[row]), float(mean_iou[row]), mean_table
    )


def oracle_iou(
    score: NDArray[Any], truth: NDArray[Any], thresholds: ArrayLike | None = None
) -> ThresholdChoice:
    """Best IoU in hindsight: the threshold is chosen on the very volume that is scored.

    An upper bound for a method, never its result. See `best_threshold`.

    Examples
    --------
    >>> truth = np.array([0, 1, 1, 0], bool)
    >>> score = np.array([0.1, 0.9, 0.4, 0.6])
    >>> round(oracle_iou(score, truth).iou, 3)
    0.667
    """
    return best_threshold([(score, truth)], thresholds)


def require_same_shape(first: NDArray[Any], second: NDArray[Any]) -> None:
    """Refuse a prediction and a truth of two shapes."""
    if np.shape(first) != np.shape(second):
        raise TenetError(
            f"prediction and truth must have one shape, got {np.shape(first)} and "
            f"{np.shape(second)}"
        )


def chunks(
    score: NDArray[Any], truth: NDArray[Any]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """Score (checked, float32) and truth, flat, a part at a time."""
    require_same_shape(score, truth)
    flat_score, flat_truth = np.ravel(score), np.ravel(truth)
    for start in range(0, flat_score.size, CHUNK):
        values = flat_score[start : start + CHUNK].astype(np.float32)
        if not (np.isfinite(values).all() and values.min() >= 0):
            raise TenetError("scores must be finite and not negative; clip or rescale them first")
        yield values, flat_truth[start : start + CHUNK].astype(bool)
