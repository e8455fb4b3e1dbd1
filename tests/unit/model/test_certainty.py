"""How sure a model is: what its probabilities mean, and the map of its errors."""

import numpy as np
import pytest

from tenet.model.certainty import BINS, Certainty, Counts


def volumes(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are too high: what has p is inside with a probability of p²."""
    rng = np.random.default_rng(seed)
    probability = rng.random((40, 60, 60), dtype=np.float32)
    return probability, (rng.random(probability.shape) < probability**2).astype(np.uint8)


def measured(threshold: float = 0.6) -> Certainty:
    counts = Counts()
    assert len(list(counts.seen([volumes(0), volumes(1)]))) == 2
    return Certainty(threshold, tuple(counts.shares()))


def test_probabilities_mean_what_was_counted() -> None:
    centres = (np.arange(BINS) + 0.5) / BINS
    np.testing.assert_allclose(measured().shares, centres**2, atol=0.02)


def test_expected_errors_are_the_errors_made() -> None:
    """On other volumes, in all, and for the surest and the least sure tenth of the voxels."""
    certainty = measured()
    probability, truth = volumes(2)
    wrong = certainty.wrong(probability)
    made = (probability >= certainty.threshold) != (truth > 0)
    assert wrong.dtype == np.float32
    assert wrong.mean() == pytest.approx(made.mean(), abs=0.005)
    low, high = np.quantile(wrong, [0.1, 0.9])
    for chosen in (wrong <= low, wrong >= high):
        assert wrong[chosen].mean() == pytest.approx(made[chosen].mean(), abs=0.02)
    assert made[wrong <= low].mean() < 0.02 < 0.4 < made[wrong >= high].mean()


def test_shares_rise_and_no_bin_is_empty() -> None:
    counts = Counts()
    probability = np.array([[[0.1, 0.9, 0.91, 1.0]]], np.float32)
    list(counts.seen([(probability, np.array([[[1, 0, 1, 1]]], np.uint8))]))
    shares = np.array(counts.shares())
    assert (np.diff(shares) >= 0).all()
    assert ((shares >= 0) & (shares <= 1)).all()
