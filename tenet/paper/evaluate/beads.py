"""Beads, whose size and shape are known: volume, roundness and elongation of each."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tenet.data.phantoms.store import SUFFIX as PHANTOM
from tenet.data.phantoms.store import open_phantom
from tenet.errors import TenetError
from tenet.io.open import open_stack
from tenet.io.records import read_table
from tenet.io.stack import Stack
from tenet.metrics.gaussian_widths import gaussian_fwhm
from tenet.metrics.shapes import measure_bead
from tenet.paper.evaluate.definitions import published_measures
from tenet.paper.evaluate.tables import (
    BEAD_QUANTITIES,
    PREDICTION,
    PROBABILITIES,
    SWEEP_COLUMNS,
    SWEEP_SHARES,
    columns_of,
    folders_in,
    frame_of,
    methods_in,
    read_threshold,
)
from tenet.types import VoxelSize

#: Columns of a table of beads. The evaluation needs the fold as well.
ROI_COLUMNS = ("roi", "image", "z", "y", "x")
#: Rows that agree in these are of one bead.
PLACE = ["image", "z", "y", "x"]

# Beads --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Region:
    """A region around a bead: crop of the fine grid, and the bead's expected centre in it."""

    crop: tuple[slice, slice, slice]
    centre_zyx: tuple[float, float, float]


def bead_region(
    centre_zyx: Sequence[float],
    fine_zyx_shape: Sequence[int],
    scale: int,
    planes: int = 24,
    width: int | None = None,
) -> Region:
    """Region of interest around a bead, clipped at the borders of the image.

    Parameters
    ----------
    centre_zyx : sequence of float
        Centre in coarse planes and pixels.
    fine_zyx_shape : sequence of int
        Size of the image on the fine grid.
    scale : int
        Fine planes per coarse plane; coarse plane i is centred on fine plane i·s + (s − 1)/2.
    planes : int
        Height in coarse planes.
    width : int, optional
        Width in pixels: by default 128, or half of a smaller image's shorter side.

    Returns
    -------
    Region

    Raises
    ------
    TenetError
        If the centre is outside of the image.
    """
    width = width or min(128, min(fine_zyx_shape[1:]) // 2)
    crop, expected = [], []
    for at, half, fine_size, step in zip(
        centre_zyx,
        (planes // 2, width // 2, width // 2),
        fine_zyx_shape,
        (scale, 1, 1),
        strict=True,
    ):
        size = fine_size // step
        if not -0.5 <= at <= size - 0.5:
            raise TenetError(
                f"the bead at {tuple(centre_zyx)} (plane, row, column) lies outside of its image, "
                f"which is {tuple(fine_zyx_shape)} on the fine grid: is it the right table of ROIs?"
            )
        start, stop = max(int(at) - half, 0), min(int(at) + half, size)
        crop.append(slice(start * step, stop * step))
        expected.append((at - start) * step + (step - 1) / 2)
    return Region((crop[0], crop[1], crop[2]), (expected[0], expected[1], expected[2]))


def read_rois(
    rois: Path | pd.DataFrame, *, folds: bool = True, repeated: bool = False
) -> pd.DataFrame:
    """Read a table of beads: roi, image, z, y, x (coarse planes, pixels) and, with `folds`, fold.

    Columns of numbers are checked in a file, and not in a table in memory. Of rows with the same
    image and the same centre the first is kept, unless `repeated` asks for all.

    Raises
    ------
    TenetError
        If the table cannot be read, is empty or lacks a column.
    """
    columns = (*ROI_COLUMNS, "fold") if folds else ROI_COLUMNS
    if isinstance(rois, Path):
        rois = read_table(rois, numbers=columns)
    elif missing := sorted({*columns} - {*rois.columns}):
        raise TenetError(f"the table of ROIs lacks the columns {', '.join(missing)}")
    return rois if repeated else rois.drop_duplicates(PLACE, ignore_index=True)


def evaluate_beads(
    experiment: str,
    predictions: Path,
    rois: Path,
    scale: int,
    methods: Sequence[str] | None = None,
    *,
    folds: Sequence[int] | None = None,
    voxel_size_um: VoxelSize | None = None,
    phantoms: Path | None = None,
    planes: int = 24,
    width: int | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure every bead in the predictions of every method.

    If a method has one model per fold, a bead is measured in the predictions of its own fold
    (``{method}/fold{K}``), because the model of that fold has not seen the image. Otherwise the
    bead is measured in ``{method}/all``.

    Parameters
    ----------
    experiment : str
        Name for the tables.
    predictions : Path
        The experiment's folder; image NN of the table is ``…/NN.ome.tif``, whatever its zeros.
    rois : Path
        The beads; see `read_rois`.
    scale : int
        Fine planes per coarse plane.
    methods : sequence of str, optional
        By default all that there are.
    folds : sequence of int, optional
        Only the beads of these folds, for every method; by default all.
    voxel_size_um : tuple of float, optional
        Voxel size (z, y, x) that all predictions must have; by default that of the first.
    phantoms : Path, optional
        Folder of the phantoms that the images were simulated from. Phantoms hold the exact centres
        of the beads, whereas the table holds whole coarse planes. Offsets are then exact too.
    planes, width : int
        Size of a region; see `bead_region`.

    Returns
    -------
    table : DataFrame
        `COLUMNS`; `part` is the fold. Quantities: those of `BeadMetrics`, the Gaussian
        FWHM of the scores along z, y and x through the bead's centroid (fwhm_z_um, …; NaN where
        no Gaussian fits; of an ideal bead 1.7 to 2.0 µm, as a Gaussian is not a box and the region
        is finite), the offset from the expected centre in fine voxels (offset_z, …; NaN for
        a missed bead), the threshold, and the four of `BEAD_QUANTITIES` by the paper's definitions
        at the paper's thresholds; see `published_measures`. By those alone a bead that the table
        lists twice counts twice.
    sweep : DataFrame
        `SWEEP_COLUMNS`, for `BEAD_QUANTITIES` at 19 thresholds from 5 to 95 % of the range of
        scores: [0, 1] for probabilities, else up to the highest score in any of the regions.

    Raises
    ------
    TenetError
        If a prediction, a threshold or the table is missing or wrong.
    """
    listed = read_rois(rois, repeated=True)
    names = {place: list(group["roi"]) for place, group in listed.groupby(PLACE)}
    table = read_rois(listed)
    if folds is not None:
        table = table[table["fold"].isin(folds)]
        if table.empty:
            raise TenetError(f"{rois}: no bead is in the folds {sorted(folds)}")
    rows: list[dict[str, Any]] = []
    sweep: list[dict[str, Any]] = []
    for method in methods_in(predictions, methods):
        top = 1.0
        if method not in PROBABILITIES:
            beads = _beads(predictions / method, table, scale, phantoms, planes, width)
            top = max(float(bead.score.max()) for bead in beads)
        grid = SWEEP_SHARES * (top if top > 0 else 1.0)
        for part, roi, stack, score, centre in _beads(
            predictions / method, table, scale, phantoms, planes, width
        ):
            voxel_size_um = voxel_size_um or stack.voxel_size_um
            if not _same_size(stack.voxel_size_um, voxel_size_um):
                raise TenetError(
                    f"{stack.path} has voxels of {stack.voxel_size_um} µm, not {voxel_size_um}: "
                    "predict again with the model of this experiment"
                )
            assert voxel_size_um is not None
            about = columns_of(experiment, part, method, str(roi["image"]), roi["roi"])
            threshold = read_threshold(predictions / method / part, predictions)
            values = _measure(score, threshold, voxel_size_um, centre)
            rows += [about | {"quantity": q, "value": v} for q, v in values.items()]
            by_paper = published_measures(method, score, voxel_size_um)
            for name in names[tuple(roi[column] for column in PLACE)]:
                rows += [
                    about | {"roi": name, "quantity": q, "value": v} for q, v in by_paper.items()
                ]
            for at in grid:
                bead = measure_bead(score, at, voxel_size_um, expected_centre_zyx=centre)
                sweep += [
                    about | {"threshold": at, "quantity": q, "value": getattr(bead, q)}
                    for q in BEAD_QUANTITIES
                ]
    return frame_of(rows), pd.DataFrame(sweep, columns=list(SWEEP_COLUMNS))


def _measure(
    score: NDArray[np.float32],
    threshold: float,
    voxel_size_um: VoxelSize,
    centre: tuple[float, float, float],
) -> dict[str, float]:
    """All quantities of one bead."""
    bead = measure_bead(score, threshold, voxel_size_um, expected_centre_zyx=centre)
    offset = np.asarray(bead.offset_zyx)
    through = np.where(np.isfinite(offset), np.asarray(centre) + offset, centre)
    through = np.clip(through, 0, np.asarray(score.shape) - 1)
    widths = gaussian_fwhm(score, through.tolist(), voxel_size_um)
    return (
        {quantity: getattr(bead, quantity) for quantity in BEAD_QUANTITIES}
        | {f"fwhm_{axis}_um": width for axis, width in zip("zyx", widths, strict=True)}
        | {f"offset_{axis}": float(by) for axis, by in zip("zyx", offset, strict=True)}
        | {"threshold": threshold}
    )


class _Bead(NamedTuple):
    """A row of the table, where its prediction is, the scores around it and its centre in them."""

    part: str
    roi: dict[Any, Any]
    stack: Stack
    score: NDArray[np.float32]
    centre_zyx: tuple[float, float, float]


def _beads(
    folder: Path,
    rois: pd.DataFrame,
    scale: int,
    phantoms: Path | None,
    planes: int,
    width: int | None,
) -> Iterator[_Bead]:
    by_fold = any(re.fullmatch(r"fold\d+", f.name) for f in folders_in(folder))
    for roi in rois.to_dict("records"):
        part = f"fold{roi['fold']}" if by_fold else "all"
        stack = find_image(folder / part, int(roi["image"]))
        centre = true_centre(phantoms, roi, scale)
        region = bead_region(centre, stack.zyx_shape, scale, planes, width)
        yield _Bead(part, roi, stack, stack.read(*region.crop), region.centre_zyx)


def true_centre(
    phantoms: Path | None, roi: Mapping[Any, Any], scale: int
) -> tuple[float, float, float]:
    """Centre of a bead in coarse planes and pixels, from its phantom or else from the table.

    Parameters
    ----------
    phantoms : Path, optional
        Folder of phantoms with the centres of their beads (``centres_zyx``, on the fine grid).
    roi : mapping
        A row of the table of beads.
    scale : int
        Fine planes per coarse plane.
    """
    noted = (float(roi["z"]), float(roi["y"]), float(roi["x"]))
    path = phantoms and phantoms / f"{int(roi['image']):02d}{PHANTOM}"
    if not path or not path.exists():
        return noted
    centres = np.asarray(open_phantom(path).attributes.get("centres_zyx", ()), dtype=float)
    if centres.size == 0:
        return noted
    centres = (centres - ((scale - 1) / 2, 0, 0)) / (scale, 1, 1)
    distances = np.abs(centres - noted)
    nearest = int(distances.max(axis=1).argmin())
    if distances[nearest].max() > 1:
        raise TenetError(f"{path} has no bead at {noted}, where the table has one: simulate again")
    z, y, x = (float(value) for value in centres[nearest])
    return z, y, x


def _same_size(first: VoxelSize | None, second: VoxelSize | None) -> bool:
    return first is not None and second is not None and np.allclose(first, second, rtol=0.01)


def find_image(folder: Path, number: int, suffixes: Sequence[str] = (PREDICTION,)) -> Stack:
    """Open the image of a folder whose name ends in a number, whatever its leading zeros.

    Raises
    ------
    TenetError
        If there is none, or more than one.
    """
    found = [
        f
        for suffix in suffixes
        for f in sorted(folder.glob(f"*{suffix}"))
        if (digits := re.search(r"(\d+)$", f.name.removesuffix(suffix)))
        and int(digits[1]) == number
    ]
    if len(found) != 1:
        raise TenetError(
            f"{folder}: {len(found) or 'no'} images of number {number} "
            f"({number:02d}{suffixes[0]}): predict it, or leave one"
        )
    return open_stack(found[0], channel=0)
