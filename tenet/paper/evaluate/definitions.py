"""The paper's own definitions: where its methods are cut, and how its beads are measured.

The paper's figures 2 and 3 and its supplement are compared with a run by these definitions. The
project's own figures use those of `tenet.metrics`.
"""

import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure

from tenet.metrics.shapes import volume_um3

#: V₀ of the paper's total loss: the volume of a 2 µm bead in µm³ with π to three digits.
BEAD_VOLUME_UM3 = 4.187
#: What stands between the name of a quantity and the paper's threshold.
PUBLISHED_DEFINITION = "_published_thr"


class PaperMethod(NamedTuple):
    """How the paper cuts the scores of one of its methods.

    Attributes
    ----------
    name
        The paper's name.
    thresholds
        Shares of the range at which the paper states measures of beads.
    end
        Upper end of the range. ``"region"``: the highest score of each region of interest.
        ``"one"``: 1. A probability ends there. So does Neuroclear's sigmoid: the paper wrote
        Neuroclear's results as 16-bit images and cut them at a share of 65535, the value of a
        score of 1, whatever the highest score of an image is.
    """

    name: str
    thresholds: tuple[float, ...]
    end: Literal["one", "region"]


#: The methods that the paper has numbers of, by the names here.
PAPER_METHODS = {
    "tenet": PaperMethod("TENET", (0.5, 0.8), "one"),
    "tenet_published": PaperMethod("TENET", (0.5, 0.8), "one"),
    "rltv_paper": PaperMethod("RLTV", (0.2,), "region"),
    "care": PaperMethod("CARE", (0.5,), "region"),
    "neuroclear": PaperMethod("Neuroclear", (0.7,), "one"),
}
#: Where figure 2 cuts TENET's probability. Of all others it takes the best threshold of each image.
FIXED_THRESHOLD = 0.5


def has_fixed_threshold(method: str) -> bool:
    """Whether the paper's figure 2 cuts a method's scores at `FIXED_THRESHOLD`."""
    return method in PAPER_METHODS and PAPER_METHODS[method].name == "TENET"


def published_quantity(quantity: str, threshold: float) -> str:
    """Name of a quantity by the paper's definition, as in the tables of a run.

    Examples
    --------
    >>> published_quantity("sphericity", 0.8)
    'sphericity_published_thr0.8'
    """
    return f"{quantity}{PUBLISHED_DEFINITION}{threshold:g}"


def split_quantity(name: str) -> tuple[str, str]:
    """The quantity itself, and the ending that says by which definition (or nothing).

    Examples
    --------
    >>> split_quantity("sphericity_published_thr0.8")
    ('sphericity', '_published_thr0.8')
    >>> split_quantity("sphericity")
    ('sphericity', '')
    """
    ending = re.search(rf"{PUBLISHED_DEFINITION}[\d.]+$", name)
    start = ending.start() if ending else len(name)
    return name[:start], name[start:]


def published_measures(
    method: str, score_zyx: NDArray[Any], voxel_size_um: Sequence[float]
) -> dict[str, float]:
    """All measures of one bead by the paper's definitions, at each of the paper's thresholds.

    Parameters
    ----------
    method : str
        Name of the method here.
    score_zyx : ndarray, shape (Z, Y, X)
        Scores of the region of interest on the fine grid.
    voxel_size_um : sequence of float
        Voxel size (z, y, x) in µm.

    Returns
    -------
    dict of str to float
        By `published_quantity`: volume_um3, sphericity, z_xy_ratio and total_loss, see
        `measure_published_bead`; nothing for a method that is not the paper's.
    """
    paper = PAPER_METHODS.get(method)
    if paper is None:
        return {}
    end = float(np.max(score_zyx)) if paper.end == "region" else 1.0
    return {
        published_quantity(quantity, share): value
        for share in paper.thresholds
        for quantity, value in measure_published_bead(score_zyx, share * end, voxel_size_um).items()
    }


def measure_published_bead(
    score_zyx: NDArray[Any], threshold: float, voxel_size_um: Sequence[float]
) -> dict[str, float]:
    """Measure the bead in a region of interest as the paper does.

    Every voxel of the region above the threshold counts, specks included.

    Parameters
    ----------
    score_zyx : ndarray, shape (Z, Y, X)
        Scores on the fine grid.
    threshold : float
        A voxel is foreground where its score is above this.
    voxel_size_um : sequence of float
        Voxel size (z, y, x) in µm.

    Returns
    -------
    dict of str to float
        volume_um3, V: foreground voxels times the voxel's volume.
        sphericity: π^(1/3) (6V)^(2/3) / A; see `published_surface_um2` for A. V and A are not of
        one body, so that the value may exceed 1.
        z_xy_ratio: see `published_z_xy_ratio`.
        total_loss: |V/4.187 − 1| + |sphericity − 1| + |z/xy − 1|.
        Without foreground all but the loss are 0, and the loss is 3.

    Notes
    -----
    `resources/bead_metrics_per_roi.csv` holds the paper's measures of single beads: every loss
    there follows from this formula, every volume is a whole number of voxels, and every ratio is
    that of a whole number of planes and a whole number of pixels.

    Examples
    --------
    >>> z, y, x = np.mgrid[-25:26, -25:26, -25:26] * 0.05
    >>> radius = np.sqrt(z**2 + y**2 + x**2)
    >>> score = np.clip(0.5 + (1 - radius) / 0.1, 0, 1)  # a ball of 2 µm with a soft border
    >>> bead = measure_published_bead(score, 0.5, (0.05, 0.05, 0.05))
    >>> round(bead["sphericity"], 3)
    0.998
    """
    score = np.asarray(score_zyx)
    mask = score > threshold
    volume = volume_um3(mask, voxel_size_um)
    area = published_surface_um2(score, threshold, voxel_size_um)
    roundness = np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / area if area > 0 else 0.0
    ratio = published_z_xy_ratio(mask, voxel_size_um)
    loss = abs(volume / BEAD_VOLUME_UM3 - 1) + abs(roundness - 1) + abs(ratio - 1)
    return {
        "volume_um3": volume,
        "sphericity": float(roundness),
        "z_xy_ratio": ratio,
        "total_loss": float(loss),
    }


def published_surface_um2(
    score_zyx: NDArray[Any], threshold: float, voxel_size_um: Sequence[float]
) -> float:
    """Area of the marching-cubes surface of the scores themselves at a threshold, in µm².

    The surface lies between voxels where the scores reach the threshold, and is open where the
    foreground touches the border of the region. 0 where no score is above the threshold, or all
    are.
    """
    score = np.asarray(score_zyx)
    mask = score > threshold
    if not mask.any() or mask.all():
        return 0.0
    # No cube without foreground holds a part of the surface.
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    around = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
    try:
        vertices, faces, _, _ = measure.marching_cubes(
            score[around], threshold, spacing=tuple(map(float, voxel_size_um))
        )
    except (RuntimeError, ValueError):  # the foreground fills the only planes that there are
        return 0.0
    return float(measure.mesh_surface_area(vertices, faces))


def published_z_xy_ratio(mask_zyx: NDArray[Any], voxel_size_um: Sequence[float]) -> float:
    """Height over 2√(A/π), with A the area of the largest lateral slice; 0 for an empty mask.

    The height is that of all planes with foreground, whether or not there are empty planes between
    them. A speck off the bead therefore adds one plane, not its distance.

    Examples
    --------
    >>> bead = np.zeros((120, 31, 31), bool)
    >>> bead[45:76] = True  # 31 planes
    >>> bead[0, 15, 15] = True  # a speck
    >>> round(published_z_xy_ratio(bead, (1, 1, 1)) / published_z_xy_ratio(bead[1:], (1, 1, 1)), 3)
    1.032
    """
    mask = np.asarray(mask_zyx).astype(bool)
    if not mask.any():
        return 0.0
    size_z, size_y, size_x = voxel_size_um
    height = np.count_nonzero(mask.any(axis=(1, 2))) * size_z
    area = mask.sum(axis=(1, 2)).max() * size_y * size_x
    return float(height / (2 * np.sqrt(area / np.pi)))
