"""Segmentations against the truth, with the same measures and thresholds for all methods."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tenet.data.phantoms.store import open_phantoms
from tenet.errors import TenetError
from tenet.io.stack import Stack
from tenet.metrics.segmentation import average_precision, dice, iou
from tenet.metrics.thresholds import threshold_grid, threshold_sweep
from tenet.paper.evaluate.definitions import (
    FIXED_THRESHOLD,
    has_fixed_threshold,
    published_quantity,
)
from tenet.paper.evaluate.tables import (
    MOST_MISSING_PLANES,
    PREDICTION,
    SWEEP_COLUMNS,
    columns_of,
    folders_in,
    frame_of,
    methods_in,
    open_prediction,
    read_threshold,
)

# Segmentation -------------------------------------------------------------------------------------


def evaluate_segmentation(
    experiment: str,
    predictions: Path,
    phantoms: Path,
    methods: Sequence[str] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare segmentations with the phantoms that the images were simulated from.

    Parameters
    ----------
    experiment : str
        Name for the tables.
    predictions : Path
        The experiment's folder: ``{method}/{part}/NN.ome.tif`` and ``{method}/settings.json``.
    phantoms : Path
        Folder with the truth, ``NN.zarr.zip``. Each phantom must have been predicted by every
        method in every part. The last planes of a phantom that no coarse plane covers are left out.
    methods : sequence of str, optional
        By default all that there are.

    Returns
    -------
    table : DataFrame
        `COLUMNS`. Quantities: iou and dice at the method's threshold, average_precision,
        oracle_iou (the best in hindsight), the threshold itself, and of TENET the IoU of what is
        above the paper's fixed threshold (iou_published_thr0.5).
    sweep : DataFrame
        `SWEEP_COLUMNS`. Quantities iou and dice at the thresholds of `threshold_grid`.

    Raises
    ------
    TenetError
        If a prediction or a threshold is missing, or a prediction has another size than its
        phantom.
    """
    truths = open_phantoms(phantoms)
    names = [phantom.path.name.split(".")[0] for phantom in truths]
    methods = methods_in(predictions, methods)
    parts = sorted({f.name for method in methods for f in folders_in(predictions / method)})
    if not parts:
        raise TenetError(f"{predictions}: no method has a folder of predictions; predict first")
    rows: list[dict[str, Any]] = []
    sweeps: list[pd.DataFrame] = []
    for method in methods:
        threshold = read_threshold(predictions / method, predictions)
        stacks = {
            (part, name): open_prediction(predictions / method / part / f"{name}{PREDICTION}")
            for part in parts
            for name in names
        }
        highest = max(float(slab.max()) for s in stacks.values() for _, slab in s.slabs())
        grid = threshold_grid(max(highest, 0.0))
        for name, phantom in zip(names, truths, strict=True):
            whole, _ = phantom.read(slice(None), slice(None), slice(None))
            for part in parts:
                stack = stacks[part, name]
                truth = _covered(whole, stack, phantom.path)
                score = stack.read()
                table = threshold_sweep(score, truth, grid)
                found = score >= np.float32(threshold)
                values = {
                    "iou": iou(found, truth),
                    "dice": dice(found, truth),
                    "average_precision": average_precision(score, truth),
                    "oracle_iou": float(table["iou"].max()),
                    "threshold": threshold,
                }
                if has_fixed_threshold(method):
                    by_paper = iou(score > FIXED_THRESHOLD, truth)
                    values[published_quantity("iou", FIXED_THRESHOLD)] = by_paper
                about = columns_of(experiment, part, method, name)
                rows += [about | {"quantity": q, "value": v} for q, v in values.items()]
                long = table.melt("threshold", var_name="quantity", value_name="value")
                sweeps.append(long.assign(**about))
    return frame_of(rows), pd.concat(sweeps, ignore_index=True)[list(SWEEP_COLUMNS)]


def _covered(truth: NDArray[np.uint8], stack: Stack, phantom: Path) -> NDArray[np.uint8]:
    """The part of a phantom that the prediction covers."""
    missing = truth.shape[0] - stack.zyx_shape[0]
    if truth.shape[1:] != stack.zyx_shape[1:] or not 0 <= missing <= MOST_MISSING_PLANES:
        raise TenetError(
            f"{stack.path} has the shape {stack.zyx_shape}, {phantom} {truth.shape}: it is not "
            "what the image was simulated from; predict again"
        )
    return truth[: stack.zyx_shape[0]]
