"""Known shapes, hand-made scores and simple statistics."""

import numpy as np
import pytest

from tenet.errors import TenetError
from tenet.metrics.gaussian_widths import gaussian_fwhm
from tenet.metrics.intervals import bootstrap_interval
from tenet.metrics.segmentation import average_precision, dice, iou
from tenet.metrics.shapes import (
    BEAD_VOLUME_UM3,
    central_component,
    measure_bead,
    sphericity,
    z_xy_ratio,
)
from tenet.metrics.thresholds import best_threshold, oracle_iou, threshold_grid, threshold_sweep
from tenet.metrics.widths import fwhm


def ellipsoid(semi_axes_um, voxel_size_um, *, shape=None, centre=None):
    """Mask of an ellipsoid along the axes, and the volume that holds it with a little room."""
    semi_axes, spacing = np.asarray(semi_axes_um), np.asarray(voxel_size_um)
    if shape is None:
        shape = 2 * np.ceil(semi_axes / spacing).astype(int) + 7
    centre = (np.asarray(shape) - 1) / 2 if centre is None else np.asarray(centre)
    grid = np.ogrid[tuple(map(slice, shape))]
    parts = zip(grid, centre, spacing, semi_axes, strict=True)
    return sum(((g - c) * h / a) ** 2 for g, c, h, a in parts) <= 1


# --- segmentation --------------------------------------------------------------------------------


def test_overlap_by_hand():
    mask = np.array([1, 1, 1, 0, 0, 0], dtype=bool)
    truth = np.array([0, 1, 1, 1, 1, 0], dtype=bool)
    assert iou(mask, truth) == pytest.approx(2 / 5)
    assert dice(mask, truth) == pytest.approx(4 / 7)
    nothing = np.zeros(6, dtype=bool)
    assert iou(nothing, nothing) == dice(nothing, nothing) == 1.0
    assert iou(mask, nothing) == dice(mask, nothing) == 0.0
    with pytest.raises(TenetError, match="one shape"):
        iou(mask, truth[:5])


def test_average_precision_by_hand():
    # The example of scikit-learn's documentation: 0.8333.
    score, truth = np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])
    assert average_precision(score, truth) == pytest.approx(5 / 6)
    # Ties are one step: precision 2/3 for both positives at 0.5, then 3/5 for the last.
    score, truth = np.array([0.5, 0.5, 0.5, 0.2, 0.1]), np.array([1, 1, 0, 0, 1])
    assert average_precision(score, truth) == pytest.approx((2 * 2 / 3 + 3 / 5) / 3)
    assert average_precision(np.full(8, 7.0), np.arange(8) < 2) == pytest.approx(0.25)


def test_average_precision_equals_the_sorted_sum_whatever_the_range():
    rng = np.random.default_rng(1)
    truth = rng.random(5000) < 0.1
    score = rng.gamma(2.0, size=5000) + 2.0 * truth
    order = np.argsort(-score)
    hits = truth[order]
    expected = np.mean((np.cumsum(hits) / np.arange(1, 5001))[hits])
    for factor in (1e-6, 1.0, 1e6):
        assert average_precision(score * factor, truth) == pytest.approx(expected, abs=1e-3)
    assert average_precision(truth * 1.0, truth) == 1.0


def test_scores_that_cannot_be_ranked_are_refused():
    truth = np.array([True, False])
    for bad in ([0.5, -0.1], [0.5, np.nan], [np.inf, 0.0]):
        with pytest.raises(TenetError, match="finite and not negative"):
            average_precision(np.array(bad), truth)
        with pytest.raises(TenetError, match="finite and not negative"):
            threshold_sweep(np.array(bad), truth, [0.5])
    with pytest.raises(TenetError, match="empty"):
        average_precision(np.array([0.5, 0.1]), np.array([False, False]))
    assert average_precision(np.array([-0.0, 0.5]), ~truth) == 1.0


def test_sweep_equals_thresholding_each_time(monkeypatch):
    monkeypatch.setattr(
        "tenet.metrics.thresholds.CHUNK", 100
    )  # several chunks, the last one shorter
    rng = np.random.default_rng(2)
    truth = rng.random((7, 8, 9)) < 0.3
    score = np.round(rng.random((7, 8, 9)) * 0.6 + 0.4 * truth, 2).astype(np.float32)
    thresholds = np.arange(0, 101) / 100  # the scores lie on the thresholds themselves
    table = threshold_sweep(score, truth, thresholds)
    for row in table.itertuples():
        mask = score >= np.float32(row.threshold)
        assert row.iou == pytest.approx(iou(mask, truth))
        assert row.dice == pytest.approx(dice(mask, truth))
    with pytest.raises(TenetError, match="rising"):
        threshold_sweep(score, truth, [0.5, 0.2])


@pytest.mark.parametrize("highest", [0.0, 0.02, 0.9, 1.0, 300.0])
def test_grid_rises_to_the_highest_score(highest):
    grid = threshold_grid(highest)
    assert np.all(np.diff(grid) > 0)
    assert grid[0] == 0
    assert grid[-1] >= highest or grid[-1] == pytest.approx(highest)


def test_threshold_is_best_on_the_mean_and_oracle_on_the_one():
    # One volume separates at 0.3, the other at 0.5; between the two means, 0.5 loses less.
    truth = np.array([0, 0, 0, 1, 1, 1, 1, 1], dtype=bool)
    first = np.array([0.1, 0.1, 0.1, 0.3, 0.9, 0.9, 0.9, 0.9])
    second = np.array([0.4, 0.4, 0.4, 0.6, 0.9, 0.9, 0.9, 0.9])
    choice = best_threshold([(first, truth), (second, truth)], [0.2, 0.5, 0.8])
    assert choice.threshold == 0.5
    assert choice.iou == pytest.approx((4 / 5 + 1) / 2)
    assert choice.table["iou"].tolist() == pytest.approx([(1 + 5 / 8) / 2, 0.9, 0.8])
    # The first counts four times as much, and 0.2 is right for it.
    weighted = best_threshold([(first, truth), (second, truth)], [0.2, 0.5, 0.8], weights=[4, 1])
    assert weighted.threshold == 0.2
    assert weighted.iou == pytest.approx((4 * 1 + 5 / 8) / 5)
    oracle = oracle_iou(first, truth)
    assert oracle.iou == 1.0
    assert 0.1 < oracle.threshold <= 0.3
    # Every threshold in (0, 1] cuts a binary score alike: the middle is taken.
    assert oracle_iou(truth * 1.0, truth).threshold == pytest.approx(0.5, abs=0.01)
    with pytest.raises(TenetError, match="at least one"):
        best_threshold([])


# --- beads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", [(0.05, 0.05, 0.05), (0.1, 0.05, 0.05), (0.1, 0.1, 0.1)])
def test_ideal_bead(spacing):
    ball = ellipsoid((1, 1, 1), spacing)
    bead = measure_bead(ball.astype(np.float32), 0.5, spacing)
    assert bead.volume_um3 == pytest.approx(BEAD_VOLUME_UM3, rel=0.015)
    assert 0.985 < bead.sphericity <= 1
    assert bead.z_xy_ratio == pytest.approx(1, abs=0.01)
    assert bead.total_loss < 0.03
    assert bead.offset_zyx == pytest.approx((0, 0, 0), abs=1e-9)


def test_surface_of_a_ball_as_it_is_has_eight_percent_too_much_area():
    ball = ellipsoid((1, 1, 1), (0.05,) * 3)
    staircase = sphericity(ball, (0.05,) * 3, smoothing_voxels=0)
    assert staircase == pytest.approx(0.92, abs=0.01)


def test_cube_and_spheroid_have_their_sphericity():
    cube = np.ones((60, 60, 60), dtype=bool)  # reaches the border: its surface must close
    ideal = (np.pi / 6) ** (1 / 3)
    # Faces along the grid have no staircase; the smoothing rounds the edges a little.
    assert sphericity(cube, (0.1,) * 3, smoothing_voxels=0) == pytest.approx(ideal, rel=0.01)
    assert sphericity(cube, (0.1,) * 3) == pytest.approx(ideal, rel=0.03)
    long, short = 1.7, 0.8
    eccentricity = np.sqrt(1 - (short / long) ** 2)
    area = 2 * np.pi * short**2 * (1 + long / (short * eccentricity) * np.arcsin(eccentricity))
    volume = 4 / 3 * np.pi * long * short**2
    expected = np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / area
    spheroid = ellipsoid((long, short, short), (0.05,) * 3)
    assert sphericity(spheroid, (0.05,) * 3) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("spacing", [(0.05, 0.05, 0.05), (0.15, 0.05, 0.1)])
def test_ratio_of_an_ellipsoid_is_that_of_its_axes(spacing):
    mask = ellipsoid((2.0, 0.8, 0.8), spacing)
    assert z_xy_ratio(mask, spacing) == pytest.approx(2.5, rel=0.02)
    # A column of single voxels doubles the height and hardly moves the moments.
    stray = np.pad(mask, ((20, 20), (0, 0), (0, 0)))
    stray[:, mask.shape[1] // 2, mask.shape[2] // 2] = True
    assert z_xy_ratio(stray, spacing) == pytest.approx(2.5, rel=0.1)


def test_specks_do_not_count():
    spacing = (0.1, 0.1, 0.1)
    shape, centre = (41, 41, 41), (19, 21, 20)
    score = ellipsoid((1, 1, 1), spacing, shape=shape, centre=centre).astype(np.float32)
    alone = measure_bead(score, 0.5, spacing)
    score[0, 0, 0] = score[2:4, 2, 38] = score[39, 39, 39] = 1
    assert measure_bead(score, 0.5, spacing) == alone
    assert alone.offset_zyx == pytest.approx((-1, 1, 0), abs=1e-6)


def test_the_central_component_is_the_bead_and_not_the_speck_at_the_very_centre():
    shell = ellipsoid((1, 1, 1), (0.1,) * 3) & ~ellipsoid(
        (0.5, 0.5, 0.5), (0.1,) * 3, shape=ellipsoid((1, 1, 1), (0.1,) * 3).shape
    )
    mask = shell.copy()
    mask[tuple(n // 2 for n in mask.shape)] = True
    assert np.array_equal(central_component(mask, (0.1,) * 3), shell)


def test_a_missed_bead_costs_three():
    score = np.zeros((21, 21, 21))
    score[0, 0, 0] = 1  # far from the centre: not the bead
    bead = measure_bead(score, 0.5, (0.2, 0.2, 0.2))
    assert (bead.volume_um3, bead.sphericity, bead.z_xy_ratio) == (0, 0, 0)
    assert bead.total_loss == 3
    assert np.isnan(bead.offset_zyx).all()


def test_a_single_voxel_can_be_measured():
    score = np.zeros((5, 5, 5))
    score[2, 2, 2] = 1
    bead = measure_bead(score, 0.5, (0.3, 0.1, 0.1))
    assert bead.volume_um3 == pytest.approx(0.003)
    assert bead.z_xy_ratio == pytest.approx(3)
    assert 0 < bead.sphericity < 1


def test_gaussian_fit_finds_width_offset_and_flat_lines():
    spacing = np.array((0.2, 0.05, 0.05))
    sigma = np.array((0.9, 0.3, 0.25))
    centre = np.array((15.3, 24.6, 25.2))
    grid = np.ogrid[:31, :51, :51]
    parts = zip(grid, centre, spacing, sigma, strict=True)
    exponent = sum(((g - c) * h / s) ** 2 for g, c, h, s in parts)
    rng = np.random.default_rng(3)
    intensity = 0.2 + 0.7 * np.exp(-exponent / 2) + 0.005 * rng.standard_normal((31, 51, 51))
    assert gaussian_fwhm(intensity, centre, spacing) == pytest.approx(
        tuple(2.3548 * sigma), rel=0.03
    )
    assert np.isnan(gaussian_fwhm(np.ones((9, 9, 9)), (4, 4, 4), spacing)).all()
    u = np.arange(-4, 5)[:, None]
    top = np.ones((9, 9, 9)) - 1e-3 * u**2  # a piece of a wide top, falling off along y
    assert np.isnan(gaussian_fwhm(top, (4, 4, 4), spacing)[1])
    with pytest.raises(TenetError, match="outside"):
        gaussian_fwhm(intensity, (40, 2, 2), spacing)


# --- widths and intervals ------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.0, 0.37])
def test_width_of_a_gaussian_and_of_a_triangle(shift):
    positions = np.arange(-100, 101) * 0.05 - shift * 0.05
    assert fwhm(np.exp(-(positions**2) / 2), 0.05) == pytest.approx(2.35482, rel=1e-3)
    assert fwhm([0, 1, 2, 3, 2, 1, 0], 2.0) == pytest.approx(6.0)
    assert fwhm([3, 2, 1, 0], 1.0) == np.inf  # cut off at its peak
    with pytest.raises(TenetError, match="positive"):
        fwhm(np.zeros(5), 1.0)


def test_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(4)
    covered = []
    for _ in range(100):
        values = rng.normal(3.0, 1.0, size=40)
        interval = bootstrap_interval(values, rng=rng, confidence=0.9, n_resamples=200)
        assert interval.low < interval.value == values.mean() < interval.high
        covered.append(interval.low <= 3.0 <= interval.high)
    assert 0.8 <= np.mean(covered) <= 0.97


def test_values_alike_within_images_count_as_one_observation():
    rng = np.random.default_rng(5)
    image_means = rng.normal(size=12)
    values, images = np.repeat(image_means, 25), np.repeat(np.arange(12), 25)
    naive = bootstrap_interval(values, rng=np.random.default_rng(0))
    clustered = bootstrap_interval(values, images, rng=np.random.default_rng(0))
    assert clustered.value == naive.value
    ratio = (clustered.high - clustered.low) / (naive.high - naive.low)
    assert ratio == pytest.approx(5, rel=0.2)  # √25
    expected = 2 * 1.96 * image_means.std() / np.sqrt(12)
    assert clustered.high - clustered.low == pytest.approx(expected, rel=0.15)


def test_clusters_of_unequal_size_are_drawn_whole_and_repeatably():
    values, images = np.arange(20.0), np.repeat(list("abcd"), (2, 3, 5, 10))

    def run(seed):
        rng = np.random.default_rng(seed)
        return bootstrap_interval(values, images, rng=rng, n_resamples=20_000)

    assert run(0) == run(0)
    assert run(0).value == 9.5
    groups, rng = [values[images == name] for name in "abcd"], np.random.default_rng(1)
    means = [
        np.concatenate([groups[i] for i in rng.integers(4, size=4)]).mean() for _ in range(20_000)
    ]
    assert (run(0).low, run(0).high) == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.3)
    lone = bootstrap_interval(values, np.zeros(20), rng=np.random.default_rng(0))
    assert lone.value == 9.5
    assert np.isnan([lone.low, lone.high]).all()
    for bad in ([], [1.0, np.nan]):
        with pytest.raises(TenetError, match="finite"):
            bootstrap_interval(bad, rng=np.random.default_rng(0))
    with pytest.raises(TenetError, match="cluster"):
        bootstrap_interval([1.0, 2.0], [0], rng=np.random.default_rng(0))
