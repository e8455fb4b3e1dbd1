"""The one protocol by which every method is scored.

Segmentation is scored by intersection over union and Dice at a threshold chosen on held-out
phantoms, by average precision, and by the best threshold in hindsight, which is always named
*oracle*. Beads are scored by the shape of their central component. Intervals come from a bootstrap
over images.

A voxel is foreground where ``score >= threshold``. Arrays are Z, Y, X.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, optimize
from skimage import measure

from tenet.errors import TenetError

BEAD_DIAMETER_UM = 2.0
BEAD_VOLUME_UM3 = 4 / 3 * np.pi * (BEAD_DIAMETER_UM / 2) ** 3

_CHUNK = 1 << 22  # elements counted at a time, so that a large volume needs no large temporaries


# ---------------------------------------------------------------------------------------------
# Segmentation
# ---------------------------------------------------------------------------------------------


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
    _require_same_shape(mask, truth)
    union = np.count_nonzero(np.logical_or(mask, truth))
    return np.count_nonzero(np.logical_and(mask, truth)) / union if union else 1.0


def dice(mask: NDArray[Any], truth: NDArray[Any]) -> float:
    """Dice coefficient 2|A ∩ B| / (|A| + |B|) of two masks; 1 when both are empty.

    See `iou` for parameters and errors.
    """
    _require_same_shape(mask, truth)
    total = np.count_nonzero(mask) + np.count_nonzero(truth)
    return 2 * np.count_nonzero(np.logical_and(mask, truth)) / total if total else 1.0


def average_precision(score: NDArray[Any], truth: NDArray[Any]) -> float:
    """Average precision Σ (Rₙ − Rₙ₋₁) Pₙ over falling thresholds.

    Scores that agree to one part in 8192 (13 bits of mantissa) count as tied. That makes one pass
    over the volume enough, for any non-negative range of scores and without sorting: the leading
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
    for values, positive in _chunks(score, truth):
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
    for values, positive in _chunks(score, truth):
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
    """A threshold, the mean IoU it reaches, and the table it was read from."""

    threshold: float
    iou: float
    table: pd.DataFrame


def best_threshold(
    pairs: Iterable[tuple[NDArray[Any], NDArray[Any]]], thresholds: ArrayLike | None = None
) -> ThresholdChoice:
    """Choose the threshold of the highest mean IoU over several volumes.

    Given held-out phantoms, this is how every method's threshold is chosen.

    Parameters
    ----------
    pairs
        (score, truth) of each phantom. With `thresholds` given, they are read once, one at a time.
    thresholds
        Rising thresholds; by default `threshold_grid` of the highest score of all.

    Returns
    -------
    ThresholdChoice
        If several thresholds do equally well, the middle one: a score of zeros and ones gets
        about ½. The table has the means over volumes.

    Raises
    ------
    TenetError
        As `threshold_sweep`, and if there are no pairs.
    """
    if thresholds is None:
        pairs = list(pairs)
        highest = max((float(np.max(score, initial=0)) for score, _ in pairs), default=0.0)
        thresholds = threshold_grid(highest)
    tables = [threshold_sweep(score, truth, thresholds) for score, truth in pairs]
    if not tables:
        raise TenetError("choosing a threshold needs at least one (score, truth) pair")
    mean_table = pd.concat(tables).groupby("threshold", as_index=False, sort=True).mean()
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
    """
    return best_threshold([(score, truth)], thresholds)


# ---------------------------------------------------------------------------------------------
# Beads
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BeadMetrics:
    """Shape of one bead.

    Attributes
    ----------
    volume_um3
        Voxels of the mask times the voxel's volume.
    sphericity
        Wadell's π^(1/3) (6V)^(2/3) / A; see `sphericity`.
    z_xy_ratio
        Axial over lateral extent from second moments; see `z_xy_ratio`.
    z_xy_box_ratio
        The same from the bounding box; see `z_xy_box_ratio`.
    total_loss
        |V/V₀ − 1| + |sphericity − 1| + |z/xy − 1| with V₀ the volume of a 2 µm sphere.
    offset_zyx
        Centroid minus expected centre, in voxels of the grid (the registration error).
        NaN for an empty mask.

    Notes
    -----
    A bead that was missed (empty mask) has volume, sphericity and ratios 0, thus the loss 3.
    """

    volume_um3: float
    sphericity: float
    z_xy_ratio: float
    z_xy_box_ratio: float
    total_loss: float
    offset_zyx: tuple[float, float, float]


def measure_bead(
    score_zyx: NDArray[Any],
    threshold: float,
    voxel_size_um: Sequence[float],
    *,
    expected_centre_zyx: Sequence[float] | None = None,
    definition: Literal["central", "published"] = "central",
) -> BeadMetrics:
    """Measure the bead in a region of interest.

    Parameters
    ----------
    score_zyx
        Scores on the fine grid, shape (Z, Y, X).
    threshold
        A voxel is foreground where its score reaches this.
    voxel_size_um
        Voxel size (z, y, x) in µm.
    expected_centre_zyx
        Where the bead should be, in voxels; by default the middle of the region, (n − 1)/2.
    definition
        ``"central"``, the protocol: the component chosen by `central_component`, its surface
        smoothed by one voxel. ``"published"``: every voxel of the region that reaches the
        threshold, specks included, and the staircase surface of the mask as it is.

    Returns
    -------
    BeadMetrics
    """
    mask = np.asarray(score_zyx) >= threshold
    if definition == "central":
        mask = central_component(mask, voxel_size_um, centre_zyx=expected_centre_zyx)
        smoothing_voxels = 1.0
    elif definition == "published":
        smoothing_voxels = 0.0
    else:
        raise TenetError(f"unknown bead definition {definition!r}: choose 'central' or 'published'")
    volume = volume_um3(mask, voxel_size_um)
    roundness = sphericity(mask, voxel_size_um, smoothing_voxels=smoothing_voxels)
    ratio = z_xy_ratio(mask, voxel_size_um)
    return BeadMetrics(
        volume_um3=volume,
        sphericity=roundness,
        z_xy_ratio=ratio,
        z_xy_box_ratio=z_xy_box_ratio(mask, voxel_size_um),
        total_loss=bead_loss(volume, roundness, ratio),
        offset_zyx=registration_offset(mask, expected_centre_zyx),
    )


def central_component(
    mask_zyx: NDArray[Any],
    voxel_size_um: Sequence[float],
    *,
    centre_zyx: Sequence[float] | None = None,
    radius_um: float = BEAD_DIAMETER_UM / 2,
) -> NDArray[np.bool_]:
    """Select the connected component that fills most of a ball around the centre.

    Voxels are connected through their faces. A component that does not come within `radius_um` of
    the centre is not taken for the bead; if none does, the result is empty.

    Parameters
    ----------
    mask_zyx
        Mask, shape (Z, Y, X).
    voxel_size_um
        Voxel size (z, y, x) in µm.
    centre_zyx
        Centre in voxels; by default the middle, (n − 1)/2.
    radius_um
        Radius of the ball in µm.

    Returns
    -------
    ndarray of bool
        Mask of the one component.
    """
    spacing = _voxel_size(voxel_size_um)
    mask = _mask_zyx(mask_zyx)
    centre = _centre(mask.shape, centre_zyx)
    labels, n_components = ndimage.label(mask)
    if n_components == 0:
        return mask
    distance_squared = sum(
        ((axis - c) * h) ** 2
        for axis, c, h in zip(np.ogrid[tuple(map(slice, mask.shape))], centre, spacing, strict=True)
    )
    # Half a voxel more, so that the ball holds a voxel on every grid.
    near = distance_squared <= (radius_um + spacing.max() / 2) ** 2
    votes = np.bincount(labels[near], minlength=n_components + 1)
    votes[0] = 0
    if not votes.any():
        return np.zeros_like(mask)
    return labels == votes.argmax()


def volume_um3(mask_zyx: NDArray[Any], voxel_size_um: Sequence[float]) -> float:
    """Volume of a mask: its voxels times the voxel's volume, in µm³."""
    return float(np.count_nonzero(_mask_zyx(mask_zyx)) * np.prod(_voxel_size(voxel_size_um)))


def sphericity(
    mask_zyx: NDArray[Any], voxel_size_um: Sequence[float], *, smoothing_voxels: float = 1.0
) -> float:
    """Wadell sphericity π^(1/3) (6V)^(2/3) / A of a mask; 1 for a sphere.

    V and A are those of the closed marching-cubes surface. On a mask as it is, that surface is a
    staircase with about 8 % too much area, so that even a perfect ball gets 0.92. The protocol
    therefore smooths the mask by a Gaussian of one voxel and takes the surface at ½: a ball of 5 to
    20 voxels in radius then gets 0.99 to 1.00, and no surface can get more than 1, as volume and
    area are of the same surface.

    Parameters
    ----------
    mask_zyx
        Mask, shape (Z, Y, X). It is padded, so that surfaces close at the border.
    voxel_size_um
        Voxel size (z, y, x) in µm.
    smoothing_voxels
        Standard deviation of the Gaussian, in voxels; 0 takes the mask as it is (published).

    Returns
    -------
    float
        In [0, 1]; 0 for an empty mask. What is too thin to survive the smoothing altogether is
        measured without it.
    """
    spacing = _voxel_size(voxel_size_um)
    mask = _mask_zyx(mask_zyx)
    if not mask.any():
        return 0.0
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    margin = 2 + int(np.ceil(4 * smoothing_voxels))
    binary = np.pad(mask[box], margin).astype(np.float32)
    field = ndimage.gaussian_filter(binary, smoothing_voxels) if smoothing_voxels > 0 else binary
    if field.max() <= 0.5:
        field = binary
    vertices, faces, _, _ = measure.marching_cubes(field, 0.5, spacing=tuple(spacing))
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    volume = abs(np.sum(a * np.cross(b, c))) / 6
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2
    return float(np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / area)


def surface_um2(mask_zyx: NDArray[Any], voxel_size_um: Sequence[float]) -> float:
    """Surface of a mask of any shape by Crofton's formula: how often lines cross it.

    Lines through the centres of voxels in 13 directions, each direction with the share of the
    sphere that is nearest to it. Nothing is smoothed, so that thin processes keep their surface,
    and no staircase is counted.

    Parameters
    ----------
    mask_zyx
        Mask, shape (Z, Y, X). Beyond its border all is 0.
    voxel_size_um
        Voxel size (z, y, x) in µm.

    Returns
    -------
    float
        µm²; 0 for an empty mask.

    References
    ----------
    Ohser & Mücklich, Statistical Analysis of Microstructures in Materials Science (Wiley, 2000),
    chapter 4.
    """
    size = np.asarray(_voxel_size(voxel_size_um))
    mask = np.pad(_mask_zyx(mask_zyx), 1)
    steps = _neighbours()
    total = 0.0
    for step, share in zip(steps, _shares_of_sphere(tuple(map(float, size))), strict=True):
        pairs = list(zip(step, mask.shape, strict=True))
        here = tuple(slice(max(0, -d), n - max(0, d)) for d, n in pairs)
        there = tuple(slice(max(0, d), n - max(0, -d)) for d, n in pairs)
        crossings = int(np.count_nonzero(mask[here] != mask[there]))
        total += share * crossings / float(np.linalg.norm(step * size))
    # There is a line of each direction for every size.prod() / |step| of area across it.
    return 2 * float(size.prod()) * total


def _neighbours() -> list[tuple[int, ...]]:
    """Steps to one of each two opposite neighbours of a voxel: 13."""
    return [step for step in itertools.product((-1, 0, 1), repeat=3) if step > (0, 0, 0)]


@cache
def _shares_of_sphere(size: tuple[float, ...], points: int = 20_000) -> NDArray[np.float64]:
    """Share of the sphere that is nearest to each step between neighbours or its opposite."""
    directions = np.array(_neighbours()) * size
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    # Evenly spread points: Fibonacci's spiral.
    height = 1 - (2 * np.arange(points) + 1) / points
    angle = np.pi * (1 + 5**0.5) * np.arange(points)
    across = np.sqrt(1 - height**2)
    sphere = np.stack([height, across * np.cos(angle), across * np.sin(angle)], axis=1)
    nearest = np.abs(sphere @ unit.T).argmax(axis=1)
    shares: NDArray[np.float64] = np.bincount(nearest, minlength=len(unit)) / points
    return shares


def z_xy_ratio(mask_zyx: NDArray[Any], voxel_size_um: Sequence[float]) -> float:
    """Axial over lateral extent of a mask, from second moments: the protocol's z/xy ratio.

    √var(z) / √((var(y) + var(x))/2) of the foreground's positions in µm, each variance with the
    h²/12 of a voxel's own width. An ellipsoid along the axes gets exactly the ratio of its
    semi-axes. A few stray voxels, which set the whole bounding box, hardly matter here.

    Returns
    -------
    float
        0 for an empty mask.
    """
    spacing = _voxel_size(voxel_size_um)
    positions = np.argwhere(_mask_zyx(mask_zyx))
    if positions.size == 0:
        return 0.0
    variance = positions.var(axis=0) * spacing**2 + spacing**2 / 12
    return float(np.sqrt(variance[0] / variance[1:].mean()))


def z_xy_box_ratio(mask_zyx: NDArray[Any], voxel_size_um: Sequence[float]) -> float:
    """Height of the bounding box over the mean of its two widths, in µm; 0 for an empty mask."""
    spacing = _voxel_size(voxel_size_um)
    positions = np.argwhere(_mask_zyx(mask_zyx))
    if positions.size == 0:
        return 0.0
    extent = (np.ptp(positions, axis=0) + 1) * spacing
    return float(extent[0] / extent[1:].mean())


def bead_loss(volume_um3: float, sphericity: float, z_xy_ratio: float) -> float:
    """Total loss |V/V₀ − 1| + |sphericity − 1| + |z/xy − 1| of a 2 µm bead, V₀ = 4π/3 µm³."""
    return abs(volume_um3 / BEAD_VOLUME_UM3 - 1) + abs(sphericity - 1) + abs(z_xy_ratio - 1)


def registration_offset(
    mask_zyx: NDArray[Any], expected_centre_zyx: Sequence[float] | None = None
) -> tuple[float, float, float]:
    """Centroid of a mask minus where it should be, (z, y, x) in voxels.

    Parameters
    ----------
    mask_zyx
        Mask, shape (Z, Y, X).
    expected_centre_zyx
        In voxels; by default the middle, (n − 1)/2.

    Returns
    -------
    tuple of float
        NaN for an empty mask.
    """
    mask = _mask_zyx(mask_zyx)
    centre = _centre(mask.shape, expected_centre_zyx)
    if not mask.any():
        return (np.nan, np.nan, np.nan)
    z, y, x = (float(value) for value in np.argwhere(mask).mean(axis=0) - centre)
    return (z, y, x)


def gaussian_fwhm(
    intensity_zyx: NDArray[Any], centre_zyx: Sequence[float], voxel_size_um: Sequence[float]
) -> tuple[float, float, float]:
    """Full widths at half maximum of Gaussians fitted to the three lines through a point.

    Each line is fitted by a·exp(−(u − u₀)²/2σ²) + c with free a, u₀, σ and offset c;
    the width is 2√(2 ln 2) σ.

    Parameters
    ----------
    intensity_zyx
        Intensities, shape (Z, Y, X).
    centre_zyx
        The point in voxels, e.g. the centroid of the bead; rounded to the nearest voxel.
    voxel_size_um
        Voxel size (z, y, x) in µm.

    Returns
    -------
    tuple of float
        Widths along z, y, x in µm; NaN where the line is flat, the fit does not converge, or the
        width is more than the line's length.

    Raises
    ------
    TenetError
        If the point lies outside of the volume.
    """
    volume = np.asarray(intensity_zyx, dtype=np.float64)
    spacing = _voxel_size(voxel_size_um)
    if volume.ndim != 3:
        raise TenetError(f"expected a volume (Z, Y, X), got shape {volume.shape}")
    centre = np.round(_centre(volume.shape, centre_zyx)).astype(int)
    if np.any(centre < 0) or np.any(centre >= volume.shape):
        raise TenetError(f"the point {tuple(centre_zyx)} is outside of the volume {volume.shape}")
    widths = []
    for axis in range(3):
        line: list[Any] = list(centre)
        line[axis] = slice(None)
        widths.append(_fitted_fwhm(volume[tuple(line)], int(centre[axis])) * spacing[axis])
    z, y, x = (float(width) for width in widths)
    return (z, y, x)


def _fitted_fwhm(profile: NDArray[np.float64], centre: int) -> float:
    """FWHM, in samples, of a Gaussian with offset fitted to a profile."""
    if profile.size < 4 or not np.ptp(profile) > 0:
        return float("nan")

    def gaussian(
        u: NDArray[np.float64], height: float, middle: float, sigma: float, offset: float
    ) -> NDArray[np.float64]:
        return height * np.exp(-((u - middle) ** 2) / (2 * sigma**2)) + offset

    positions = np.arange(profile.size, dtype=np.float64)
    above_half = np.count_nonzero(profile > (profile.min() + profile.max()) / 2)
    start = (np.ptp(profile), float(centre), max(above_half / 2.355, 0.5), profile.min())
    lower = (0.0, -0.5, 0.1, -np.inf)
    upper = (np.inf, profile.size - 0.5, 4.0 * profile.size, np.inf)
    try:
        fit, _ = optimize.curve_fit(gaussian, positions, profile, p0=start, bounds=(lower, upper))
    except RuntimeError:  # scipy's word for no convergence
        return float("nan")
    width = float(2 * np.sqrt(2 * np.log(2)) * fit[2])
    # Of a flat top only part of a far too wide Gaussian is fitted: that is no measurement.
    return width if width <= profile.size else float("nan")


# ---------------------------------------------------------------------------------------------
# Widths and intervals
# ---------------------------------------------------------------------------------------------


def fwhm(profile: ArrayLike, spacing: float) -> float:
    """Full width at half maximum of a sampled profile, such as a line through a PSF.

    The half maximum, counted from zero, is crossed by linear interpolation on either side of the
    highest sample.

    Parameters
    ----------
    profile
        Samples of a non-negative profile with one peak.
    spacing
        Distance between samples.

    Returns
    -------
    float
        Width in the unit of `spacing`; infinite if the profile is cut off above half its maximum.

    Raises
    ------
    TenetError
        If the profile is not one-dimensional or has no positive sample.
    """
    samples = np.asarray(profile, dtype=np.float64)
    if samples.ndim != 1 or samples.size == 0 or not samples.max() > 0:
        raise TenetError("a width needs a one-dimensional profile with a positive sample")
    peak = int(samples.argmax())
    half = samples[peak] / 2

    def distance_to_half(side: NDArray[np.float64]) -> float:
        below = np.flatnonzero(side < half)
        if below.size == 0:
            return float("inf")
        after = int(below[0])
        return after - (half - side[after]) / (side[after - 1] - side[after])

    return spacing * (distance_to_half(samples[peak:]) + distance_to_half(samples[peak::-1]))


class Interval(NamedTuple):
    """A mean and the bounds of its confidence interval."""

    value: float
    low: float
    high: float


def bootstrap_interval(
    values: ArrayLike,
    clusters: Sequence[Any] | NDArray[Any] | None = None,
    *,
    rng: np.random.Generator,
    confidence: float = 0.95,
    n_resamples: int = 2000,
) -> Interval:
    """Mean and its percentile bootstrap interval, resampling whole clusters.

    Beads of one image share its optics and its noise: resampling beads would pretend to more
    independent observations than there are, so images are resampled.

    Parameters
    ----------
    values
        One number per observation.
    clusters
        The cluster (image) of each observation; by default each is its own.
    rng
        Source of the resamples.
    confidence
        Level of the interval, in (0, 1).
    n_resamples
        Number of bootstrap samples.

    Returns
    -------
    Interval
        The mean of all values, and the bounds; the bounds are NaN when there is only one
        cluster, which says nothing of the spread between clusters.

    Raises
    ------
    TenetError
        If there are no values, one is not finite, or the numbers of values and clusters differ.
    """
    observations = np.asarray(values, dtype=np.float64)
    if observations.ndim != 1 or observations.size == 0 or not np.isfinite(observations).all():
        raise TenetError("a bootstrap interval needs a list of finite values, with at least one")
    labels = np.arange(observations.size) if clusters is None else np.asarray(clusters)
    if labels.shape != observations.shape:
        raise TenetError(
            f"each value needs a cluster, but there are {observations.size} values and "
            f"{labels.size} clusters"
        )
    _, group, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    value = float(observations.mean())
    if len(sizes) == 1:
        return Interval(value, float("nan"), float("nan"))
    sums = np.bincount(group, observations)

    def of_resamples(drawn: NDArray[np.intp], axis: int) -> NDArray[np.float64]:
        return np.asarray(sums[drawn].sum(axis) / sizes[drawn].sum(axis))

    # Half a second of imports that most commands can do without.
    from scipy import stats

    interval = stats.bootstrap(
        (np.arange(len(sizes)),),
        of_resamples,
        n_resamples=n_resamples,
        vectorized=True,
        confidence_level=confidence,
        method="percentile",
        rng=rng,
    ).confidence_interval
    return Interval(value, float(interval.low), float(interval.high))


# ---------------------------------------------------------------------------------------------
# Checks
# ---------------------------------------------------------------------------------------------


def _require_same_shape(first: NDArray[Any], second: NDArray[Any]) -> None:
    if np.shape(first) != np.shape(second):
        raise TenetError(
            f"prediction and truth must have one shape, got {np.shape(first)} and "
            f"{np.shape(second)}"
        )


def _chunks(
    score: NDArray[Any], truth: NDArray[Any]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """Score (checked, float32) and truth, flat, a part at a time."""
    _require_same_shape(score, truth)
    flat_score, flat_truth = np.ravel(score), np.ravel(truth)
    for start in range(0, flat_score.size, _CHUNK):
        values = flat_score[start : start + _CHUNK].astype(np.float32)
        if not (np.isfinite(values).all() and values.min() >= 0):
            raise TenetError("scores must be finite and not negative; clip or rescale them first")
        yield values, flat_truth[start : start + _CHUNK].astype(bool)


def _mask_zyx(mask: NDArray[Any]) -> NDArray[np.bool_]:
    result = np.asarray(mask).astype(bool)
    if result.ndim != 3:
        raise TenetError(f"expected a mask (Z, Y, X), got shape {result.shape}")
    return result


def _voxel_size(voxel_size_um: Sequence[float]) -> NDArray[np.float64]:
    spacing = np.asarray(voxel_size_um, dtype=np.float64)
    if spacing.shape != (3,) or not np.all(spacing > 0):
        raise TenetError(f"a voxel size is three positive numbers (z, y, x), got {voxel_size_um}")
    return spacing


def _centre(shape_zyx: tuple[int, ...], centre_zyx: Sequence[float] | None) -> NDArray[np.float64]:
    if centre_zyx is None:
        return (np.asarray(shape_zyx, dtype=np.float64) - 1) / 2
    centre = np.asarray(centre_zyx, dtype=np.float64)
    if centre.shape != (3,):
        raise TenetError(f"a centre is three numbers (z, y, x), got {centre_zyx}")
    return centre
