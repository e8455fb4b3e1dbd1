"""Evaluation of tissue without a truth: widths of thin structures, and shapes of cells.

If the tissue is simulated, the phantoms are the truth, which is in the tables beside the methods as
``truth``. The folders of predictions are those of `tenet.paper.evaluate.segmentation`.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import peak_local_max

from tenet.data.folds import every_stack
from tenet.data.phantoms.store import SUFFIX as PHANTOM
from tenet.data.phantoms.store import open_phantom
from tenet.errors import TenetError
from tenet.io.open import open_stack
from tenet.io.stack import Stack
from tenet.metrics.segmentation import dice, iou
from tenet.paper.evaluate.tables import COLUMNS, PREDICTION, read_threshold
from tenet.paper.morphology import CELL_COLUMNS, distances_um, label_cells, measure_cells
from tenet.types import VoxelSize

RAW, TRUTH = "raw", "truth"
CELL_TABLE_COLUMNS = ("experiment", "method", "image", *CELL_COLUMNS, "tumour_distance_um")
#: Quantities of cells that are summarised.
CELL_QUANTITIES = (*CELL_COLUMNS[4:12], "tumour_distance_um")
Projections = dict[str, NDArray[Any]]

# Half length of a line through a point, in voxels of the fine grid.
_REACH_YX, _REACH_Z = 20, 48
# Scores that are read at once; a slab of a compressed file costs its opening.
_SLAB_BYTES = 2**28
# Standard deviation, in lateral voxels, of the average across a line.
_ACROSS = 2.0


# Profiles -----------------------------------------------------------------------------------------


def evaluate_profiles(
    experiment: str,
    predictions: Path,
    data: Path,
    methods: Sequence[str],
    *,
    phantoms: Path | None = None,
    points: int = 24,
) -> pd.DataFrame:
    """Measure the width of thin structures, along z and across, in the raw stack and in results.

    Points are chosen in the raw stack alone, at thin structures that stand out (`thin_places`).
    Lines through each point along z, y and x are averaged over a few voxels across, because of the
    noise. A width is taken at half of the peak's height over the lowest tenth of the line. The
    narrower of y and x counts, because the other line may run along a process.

    Parameters
    ----------
    experiment : str
        Name for the table.
    predictions : Path
        The experiment's folder, with a sub-folder for each method.
    data : Path
        Raw stacks, or folders of them.
    methods : sequence of str
    phantoms : Path, optional
        Folder of the phantoms of simulated stacks, for IoU, Dice and rows of ``truth``.
    points : int
        Points per stack.

    Returns
    -------
    DataFrame
        `tables.COLUMNS`: fwhm_z_um, fwhm_lateral_um and their ratio, axial_ratio, at each
        point (``roi``); iou and dice for each stack, if the truth is known.

    Raises
    ------
    TenetError
        If a prediction is missing, or a stack has no voxel size or no thin structure.
    """
    rows: list[dict[str, Any]] = []
    for raw, target in every_stack(data, predictions):
        relative = target.relative_to(predictions)
        part = str(relative.parent) if relative.parent != Path() else ""
        name = relative.name.removesuffix(PREDICTION)
        about = {"experiment": experiment, "part": part, "image": name}
        stacks = {m: _prediction(predictions / m / relative) for m in methods}
        fine = next(iter(stacks.values()))
        scale = round(fine.zyx_shape[0] / raw.zyx_shape[0])
        places = thin_places(raw, points)
        for method, volume, size_um in _volumes(raw, stacks, phantoms, name, scale):
            for roi, (z, y, x) in enumerate(places):
                at_z = z if method == RAW else z * scale + (scale - 1) / 2
                axial, lateral = _widths(volume, (at_z, y, x), size_um)
                found = {
                    "fwhm_z_um": axial,
                    "fwhm_lateral_um": lateral,
                    "axial_ratio": axial / lateral,
                }
                rows += [
                    about | {"method": method, "roi": roi, "quantity": q, "value": v}
                    for q, v in found.items()
                ]
        if phantoms is not None:
            shape = _truth(phantoms, name)
            for method, stack in stacks.items():
                mask = _segmented(stack, read_threshold(predictions / method, predictions))
                for quantity, measure in (("iou", iou), ("dice", dice)):
                    value = measure(mask, shape[: mask.shape[0]])
                    rows.append(
                        about | {"method": method, "roi": "", "quantity": quantity, "value": value}
                    )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def thin_places(raw: Stack, points: int) -> NDArray[np.intp]:
    """Places (plane, row, column) of bright and thin structures in a raw stack.

    Raises
    ------
    TenetError
        If there is none.
    """
    if raw.voxel_size_um is None:
        raise TenetError(f"{raw.path}: it records no voxel size")
    image = raw.read()
    # A structure of a few pixels stands out of its surroundings; a soma and noise do not.
    narrow, wide = (
        ndimage.gaussian_filter(image, (0.7, 2, 2)),
        ndimage.gaussian_filter(image, (0.7, 6, 6)),
    )
    border = [min(12, n // 6) for n in image.shape[1:]]
    inside = np.zeros(image.shape, dtype=np.int32)
    edge = max(1, image.shape[0] // 8)
    inside[edge:-edge, border[0] : -border[0], border[1] : -border[1]] = 1
    places: NDArray[np.intp] = peak_local_max(
        narrow - wide, min_distance=4, threshold_rel=0.1, labels=inside, num_peaks=points
    )
    if len(places) == 0:
        raise TenetError(f"{raw.path}: there is nothing thin and bright in it to measure")
    return places


def _widths(
    volume: NDArray[np.float32], at: Sequence[float], size_um: VoxelSize
) -> tuple[float, float]:
    """Axial width, and the narrower lateral width, of the brightest structure near a point."""
    reach = (max(6, round(_REACH_Z * size_um[2] / size_um[0])), _REACH_YX, _REACH_YX)
    box = _around(at, reach)
    crop = volume[box]
    middle = [c - part.start for c, part in zip(at, box, strict=True)]
    # Averaged over the same length along z as across, if planes are not coarser.
    blur = [_ACROSS * size_um[2] / step for step in size_um]
    smooth = ndimage.gaussian_filter(crop, blur)
    near = _around(middle, (max(1, round(6 * size_um[2] / size_um[0])), 3, 3))
    peak = np.unravel_index(int(smooth[near].argmax()), smooth[near].shape)
    centre = [int(p) + part.start for p, part in zip(peak, near, strict=True)]
    widths = []
    for axis in range(3):
        # Blurred across the line, and not along the line.
        across = ndimage.gaussian_filter(crop, [0 if i == axis else b for i, b in enumerate(blur)])
        place: list[Any] = list(centre)
        place[axis] = slice(None)
        widths.append(_width(across[tuple(place)], centre[axis]) * size_um[axis])
    z, y, x = widths
    return z, float(np.fmin(y, x))


def _around(at: Sequence[float], reach: Sequence[int]) -> tuple[slice, slice, slice]:
    z, y, x = (
        slice(max(round(c) - r, 0), round(c) + r + 1) for c, r in zip(at, reach, strict=True)
    )
    return z, y, x


def _width(line: NDArray[np.float32], centre: int) -> float:
    """Width in samples at half of the height of the peak next to a sample; NaN without a peak."""
    start = max(centre - 1, 0)
    peak = start + int(line[start : centre + 2].argmax())
    base = float(np.quantile(line, 0.1))
    height = float(line[peak]) - base
    if not height > 0:
        return float("nan")
    below = (line - base) / height < 0.5
    sides = []
    for side in (below[peak:], below[peak::-1]):
        first = np.flatnonzero(side)
        if first.size == 0:
            return float("nan")
        sides.append(int(first[0]))
    after, before = sides
    share = [
        (0.5 - (line[i] - base) / height) / max((line[j] - line[i]) / height, 1e-9)
        for i, j in ((peak + after, peak + after - 1), (peak - before, peak - before + 1))
    ]
    return float(after - share[0] + before - share[1])


def _volumes(
    raw: Stack, stacks: Mapping[str, Stack], phantoms: Path | None, name: str, scale: int
) -> Iterator[tuple[str, NDArray[np.float32], VoxelSize]]:
    """The raw stack, the truth and the results of the methods, with their voxel sizes."""
    assert raw.voxel_size_um is not None
    yield RAW, raw.read(), raw.voxel_size_um
    z, y, x = raw.voxel_size_um
    if phantoms is not None:
        yield TRUTH, _truth(phantoms, name).astype(np.float32), (z / scale, y, x)
    for method, stack in stacks.items():
        yield method, stack.read(), (z / scale, y, x)


# Cells --------------------------------------------------------------------------------------------


def evaluate_cells(
    experiment: str,
    predictions: Path,
    tumour: Path | None,
    methods: Sequence[str],
    *,
    phantoms: Path | None = None,
    tumour_phantoms: Path | None = None,
    threads: int = 1,
) -> tuple[pd.DataFrame, pd.DataFrame, Projections]:
    """Divide segmentations into cells and measure each, and its distance to the tumour.

    Parameters
    ----------
    experiment : str
        Name for the tables.
    predictions : Path
        The experiment's folder, with a sub-folder for each method.
    tumour : Path, optional
        Folder of one method's predictions of the tumour's channel, with the same names of images.
        The distances of every method's cells are those to this one tumour.
    methods : sequence of str
    phantoms, tumour_phantoms : Path, optional
        Folders of the phantoms of simulated stacks, for rows of ``truth``, IoU and Dice.
    threads : int
        As in `label_cells`.

    Returns
    -------
    table : DataFrame
        `tables.COLUMNS`, for each image: the number of cells; the means of the quantities
        of `measure_cells`, and of the distance to the tumour, over cells that no border cuts; iou
        and dice, if the truth is known.
    cells : DataFrame
        `CELL_TABLE_COLUMNS`: every cell.
    projections : dict of str to ndarray
        ``METHOD_cells_z`` and ``METHOD_cells_y``, numbers of the cells of the first image projected
        along an axis, and ``METHOD_tumour_z`` and ``METHOD_tumour_y``: for a figure.

    Raises
    ------
    TenetError
        If a prediction or a threshold is missing.
    """
    rows: list[dict[str, Any]] = []
    cells: list[pd.DataFrame] = []
    projections: Projections = {}
    for method in methods:
        folder = predictions / method
        threshold = read_threshold(folder, predictions)
        paths = sorted(folder.rglob(f"*{PREDICTION}"))
        if not paths:
            raise TenetError(f"{folder}: there are no predictions in it; predict first")
        for path in paths:
            relative = path.relative_to(folder)
            name = relative.name.removesuffix(PREDICTION)
            stack = _prediction(path)
            mask = _segmented(stack, threshold)
            other = None
            if tumour is not None:
                at = read_threshold(tumour, tumour.parent)
                other = _segmented(_prediction(tumour / relative), at)
            masks: dict[str, tuple[NDArray[Any], NDArray[Any] | None]] = {method: (mask, other)}
            if phantoms is not None:
                shape = _truth(phantoms, name)[: mask.shape[0]]
                for quantity, measure in (("iou", iou), ("dice", dice)):
                    rows.append(
                        {"method": method, "image": name, "quantity": quantity}
                        | {"value": measure(mask, shape)}
                    )
                if method == methods[0]:
                    beside = (
                        _truth(tumour_phantoms, name)[: mask.shape[0]] if tumour_phantoms else None
                    )
                    masks[TRUTH] = (shape > 0, beside)
            assert stack.voxel_size_um is not None
            for which, (inside, near) in masks.items():
                labels = label_cells(inside, stack.voxel_size_um, threads=threads)
                table = _cells(labels, near, stack.voxel_size_um)
                if path == paths[0]:
                    for axis, letter in ((0, "z"), (1, "y")):
                        projections[f"{which}_cells_{letter}"] = labels.max(axis=axis)
                        if near is not None:
                            flat = np.asarray(near.any(axis=axis))
                            projections[f"{which}_tumour_{letter}"] = flat
                cells.append(table.assign(experiment=experiment, method=which, image=name))
                whole = table[~table["touches_border"].astype(bool)]
                found = {"cells": float(len(table))} | {
                    quantity: float(whole[quantity].mean()) for quantity in CELL_QUANTITIES
                }
                rows += [
                    {"method": which, "image": name, "quantity": q, "value": v}
                    for q, v in found.items()
                ]
    table = pd.DataFrame(rows).assign(experiment=experiment, part="", roi="")
    every = pd.concat(cells, ignore_index=True)
    return table[list(COLUMNS)], every[list(CELL_TABLE_COLUMNS)], projections


def _cells(
    labels: NDArray[np.int32], tumour: NDArray[Any] | None, size_um: VoxelSize
) -> pd.DataFrame:
    table = measure_cells(labels, size_um)
    away = np.full(len(table), np.nan)
    if tumour is not None and len(table):
        centres = table[["z_um", "y_um", "x_um"]].to_numpy(dtype=float)
        away = distances_um(centres, tumour, size_um)
    return table.assign(tumour_distance_um=away)


# Files --------------------------------------------------------------------------------------------


def _prediction(path: Path) -> Stack:
    if not path.exists():
        raise TenetError(f"{path}: this prediction is missing; predict again")
    stack = open_stack(path, channel=0)
    if stack.voxel_size_um is None:
        raise TenetError(f"{path}: it records no voxel size; predict again")
    return stack


def _segmented(stack: Stack, threshold: float) -> NDArray[np.bool_]:
    """Voxels whose scores reach a threshold, a byte each; scores are read some planes at a time."""
    mask = np.empty(stack.zyx_shape, dtype=bool)
    for start, slab in stack.slabs(_SLAB_BYTES):
        np.greater_equal(slab, np.float32(threshold), out=mask[start : start + len(slab)])
    return mask


def _truth(phantoms: Path, name: str) -> NDArray[np.uint8]:
    shape, _ = open_phantom(phantoms / f"{name}{PHANTOM}").read(*[slice(None)] * 3)
    return shape
