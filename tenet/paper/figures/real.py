"""The bench of real structures: pictures of a condition, and the measures of every method."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tenet.paper.real.structures import Scene
from tenet.types import VoxelSize

LABELS = {
    "tenet": ("TENET", "#0072B2"),
    "box": ("TENET, model of every microscope", "#009E73"),
    "pretrained": ("TENET, not fine-tuned", "#56B4E9"),
    "rltv": ("RLTV, PSF as told", "#D55E00"),
    "rltv_found": ("RLTV, PSF that TENET found", "#E69F00"),
    "rltv_true": ("RLTV, true PSF", "#CC79A7"),
    "raw": ("Raw stack, interpolated", "black"),
}
QUANTITIES = {
    "iou": "IoU",
    "tips_reached": "share of spine tips within 0.35 µm",
    "false_share": "share farther than 0.3 µm from the truth",
}


def condition_figure(
    title: str,
    scene: Scene,
    scores: Mapping[str, tuple[NDArray[np.float32], float]],
    voxel_size_um: VoxelSize,
) -> Figure:
    """Draw projections along y and z: truth, the score of each method, and what is segmented.

    Parameters
    ----------
    scores : mapping of str to (ndarray, float)
        Score and threshold of each method.
    """
    columns = len(scores) + 1
    figure, axes = plt.subplots(
        2, columns, figsize=(1.9 * columns, 4.4), constrained_layout=True, squeeze=False
    )
    for row, axis in enumerate((1, 0)):
        _projection(axes[row, 0], np.sqrt(scene.light), None, axis, voxel_size_um)
        for column, (score, threshold) in enumerate(scores.values(), start=1):
            _projection(axes[row, column], score, threshold, axis, voxel_size_um)
        for panel in axes[row]:
            panel.plot(scene.tips_um[:, 2], scene.tips_um[:, 1 - axis], ".", ms=2, color="#56B4E9")
    for panel, name in zip(axes[0], ["Truth", *scores], strict=True):
        panel.set_title(LABELS[name][0] if name in LABELS else name)
    figure.suptitle(f"{title}: simulated; along y and along z, in µm")
    return figure


def _projection(
    panel: Axes,
    volume: np.ndarray,
    threshold: float | None,
    axis: int,
    voxel_size_um: VoxelSize,
) -> None:
    """Draw the maximum along y (1) or z (0), with the outline of what is segmented."""
    flat = volume.max(axis)
    size = voxel_size_um[0] if axis else voxel_size_um[1]
    extent = (0, flat.shape[1] * voxel_size_um[2], flat.shape[0] * size, 0)
    panel.imshow(flat, cmap="gray", extent=extent, vmax=np.quantile(flat, 0.998) + 1e-9)
    if threshold is not None and 0 < (flat >= threshold).mean() < 1:
        outline = (flat >= threshold).astype(float)
        panel.contour(
            outline, [0.5], colors="#D55E00", linewidths=0.5, extent=extent, origin="upper"
        )


def real_figure(table: pd.DataFrame) -> Figure:
    """Draw the measures of every method by kind and beam: means and 95 % intervals.

    Parameters
    ----------
    table : DataFrame
        As `tenet.paper.real.summary.summary` by kind, beam and method gives it.
    """
    places = list(dict.fromkeys(zip(table["kind"], table["beam"], strict=True)))
    methods = [name for name in LABELS if (table["method"] == name).any()]
    figure, axes = plt.subplots(
        1,
        len(QUANTITIES),
        sharey=True,
        figsize=(7.2, 0.9 + 0.42 * len(places)),
        constrained_layout=True,
    )
    for panel, (quantity, label) in zip(axes, QUANTITIES.items(), strict=True):
        chosen = table[table["quantity"] == quantity]
        found = {(r["kind"], r["beam"], r["method"]): r for _, r in chosen.iterrows()}
        for shift, method in enumerate(methods):
            rows = [(n, found[*p, method]) for n, p in enumerate(places) if (*p, method) in found]
            y = [n + 0.8 * (shift + 0.5) / len(methods) - 0.4 for n, _ in rows]
            value, low, high = (np.array([r[k] for _, r in rows]) for k in ("value", "low", "high"))
            bars = np.nan_to_num(np.array([value - low, high - value]).reshape(2, -1))
            name, colour = LABELS[method]
            panel.errorbar(value, y, xerr=bars, fmt="o", ms=3, color=colour, label=name)
        panel.set(xlabel=label, xlim=(0, None))
    names = [f"{kind}, {beam.replace('_', ', ')}" for kind, beam in places]
    axes[0].set(yticks=range(len(places)), yticklabels=names, ylim=(len(places) - 0.5, -0.5))
    figure.legend(*axes[0].get_legend_handles_labels(), ncols=3, loc="outside lower center")
    figure.suptitle("Simulated stacks of real structures; mean and 95 % interval over structures")
    return figure
