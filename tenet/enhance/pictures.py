"""Pictures for users: the sheet of an enhanced stack, its PSF, and panels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from tenet.enhance.enhance import psf_before_and_after
from tenet.enhance.views import (
    COLOURS,
    GAP,
    STYLE,
    Source,
    bar_length_um,
    extent_um,
    mips,
    orthogonal_views,
    save,
    show_view,
)
from tenet.errors import TenetError, printable
from tenet.io.stack import Stack
from tenet.metrics.widths import fwhm
from tenet.model.trained import TrainedModel
from tenet.types import VoxelSize

#: Line colours "before" and "after" (vermilion and blue of Okabe & Ito, for colour-blind readers).
BEFORE, AFTER = "#D55E00", "#0072B2"


# Point spread functions ---------------------------------------------------------------------------


def psf_widths(psf_zyx: NDArray[Any], voxel_size_um: VoxelSize) -> tuple[float, float]:
    """Axial and lateral full width at half maximum of a PSF, in µm.

    The widths are read from the lines along z and x through the brightest voxel. A width is
    infinite if the grid of the PSF ends above half of the maximum.
    """
    z, y, x = np.unravel_index(int(np.argmax(psf_zyx)), psf_zyx.shape)
    axial = fwhm(psf_zyx[:, y, x], voxel_size_um[0])
    lateral = fwhm(psf_zyx[z, y, :], voxel_size_um[2])
    return axial, lateral


def width_label(axial_um: float, lateral_um: float) -> str:
    """FWHM of a PSF in words."""

    def said(width: float) -> str:
        return f"{width:.2f}" if math.isfinite(width) else "wider than shown"

    return f"FWHM z {said(axial_um)}, x {said(lateral_um)} µm"


def show_psf(axes: Axes, psf_zyx: NDArray[Any], voxel_size_um: VoxelSize, title: str) -> AxesImage:
    """Draw the xz cut through a PSF, with its widths and a bar along z.

    Grey values are the square root of the intensity over its maximum, because the root shows the
    axial tails.
    """
    cut = psf_zyx[:, psf_zyx.shape[1] // 2] / psf_zyx.max()
    z, x = cut.shape[0] * voxel_size_um[0] / 2, cut.shape[1] * voxel_size_um[2] / 2
    bar = bar_length_um(2 * z)
    axes.set(
        xlabel="x",
        ylabel="z",
        xticks=[],
        yticks=[],
        title=f"{title}\n{width_label(*psf_widths(psf_zyx, voxel_size_um))}",
    )
    image = axes.imshow(
        cut,
        cmap=colormaps[COLOURS["brightness"]],
        norm=PowerNorm(0.5, 0, 1),
        extent=(-x, x, z, -z),
        aspect="equal",
    )
    # Beside the cut, as a PSF may be too narrow for a bar and its words.
    axes.plot([1.15 * x] * 2, [z - bar, z], color="black", linewidth=2, clip_on=False)
    axes.text(1.3 * x, z - bar / 2, f"{bar:g} µm", rotation=90, va="center", ha="left")
    axes.set(xlim=(-x, x), ylim=(z, -z))
    return image


def show_psf_profiles(
    axes: Axes, before: NDArray[Any], after: NDArray[Any], voxel_size_um: VoxelSize
) -> None:
    """Draw the profiles of two PSFs along z (solid) and x (dashed), each over its maximum."""
    for psf, name, colour in ((before, "before", BEFORE), (after, "after", AFTER)):
        z, y, x = np.unravel_index(int(np.argmax(psf)), psf.shape)
        for line, step, style, axis in (
            (psf[:, y, x], voxel_size_um[0], "-", "z"),
            (psf[z, y, :], voxel_size_um[2], "--", "x"),
        ):
            position = (np.arange(line.size) - (line.size - 1) / 2) * step
            axes.plot(position, line / psf.max(), style, color=colour, label=f"{name}, {axis}")
    axes.axhline(0.5, color="0.6", linewidth=0.8)
    axes.set(xlabel="distance (µm)", ylabel="PSF / maximum", ylim=(0, 1.05))
    axes.legend(fontsize=9)


def psf_panels(
    figure: Figure,
    place: SubplotSpec,
    before: NDArray[Any],
    after: NDArray[Any],
    voxel_size_um: VoxelSize,
) -> None:
    """Draw a PSF before and after training (xz) and both profiles."""
    grid = place.subgridspec(1, 3, width_ratios=(1, 1, 1.6))
    show_psf(figure.add_subplot(grid[0]), before, voxel_size_um, "PSF before (xz)")
    show_psf(figure.add_subplot(grid[1]), after, voxel_size_um, "PSF after (xz)")
    show_psf_profiles(figure.add_subplot(grid[2]), before, after, voxel_size_um)


@rc_context(STYLE)
def sheet(
    out: Path,
    before: Source,
    after: Path | NDArray[Any],
    *,
    voxel_size_um: VoxelSize,
    fine_voxel_size_um: VoxelSize,
    psf_before: NDArray[Any],
    psf_after: NDArray[Any],
    psf_voxel_size_um: VoxelSize,
    title: str = "",
) -> Path:
    """Draw a stack before and after: its three projections and the PSF.

    Parameters
    ----------
    out : Path
        The picture.
    before : Path, Stack or ndarray
        The raw stack.
    after : Path or ndarray
        The enhanced stack, C, Z, Y, X: shape and brightness.
    voxel_size_um, fine_voxel_size_um : tuple of float
        Voxel sizes of the raw and of the enhanced stack.
    psf_before, psf_after : ndarray
        PSFs (planes, rows, columns): theoretical and learned.
    psf_voxel_size_um : tuple of float
        Voxel size of both PSFs.
    title : str

    Returns
    -------
    Path
        `out`.
    """
    raw = mips(before, voxel_size_um=voxel_size_um)
    shape = mips(after, (0,), voxel_size_um=fine_voxel_size_um)
    light = mips(after, (0, 1), voxel_size_um=fine_voxel_size_um)
    height_um, width_um = extent_um(raw)
    margin_um = raw.xz.shape[0] * voxel_size_um[0] + GAP * max(height_um, width_um)
    views_inches = 4.2 * (height_um + margin_um) / (width_um + margin_um)
    views_inches = min(max(views_inches, 1.5), 12.0)
    figure = Figure(figsize=(13, views_inches + 4.6), layout="constrained")
    rows = figure.add_gridspec(2, 1, height_ratios=(views_inches, 3.5))
    views = rows[0].subgridspec(1, 3)
    orthogonal_views(
        figure.add_subplot(views[0]), raw, title=f"raw, z step {voxel_size_um[0]:.3g} µm"
    )
    orthogonal_views(
        figure.add_subplot(views[1]),
        shape,
        limits=(0, 1),
        colours=COLOURS["shape"],
        title=f"shape (probability), z step {fine_voxel_size_um[0]:.3g} µm",
    )
    orthogonal_views(
        figure.add_subplot(views[2]),
        light,
        colours=COLOURS["brightness"],
        title="shape × brightness",
    )
    psf_panels(figure, rows[1], psf_before, psf_after, psf_voxel_size_um)
    words = f"{title}\nmaximum-intensity projections: xy, xz below, yz right".strip()
    figure.suptitle(words, parse_math=False)  # a name may hold $
    return save(figure, out)


@rc_context(STYLE)
def psf_picture(
    out: Path, before: NDArray[Any], after: NDArray[Any], voxel_size_um: VoxelSize, title: str = ""
) -> Path:
    """Draw a PSF before and after training; see `psf_panels`."""
    figure = Figure(figsize=(12, 4.5), layout="constrained")
    psf_panels(figure, figure.add_gridspec(1, 1)[0], before, after, voxel_size_um)
    if title:
        figure.suptitle(title)
    return save(figure, out)


@dataclass(frozen=True)
class Panel:
    """One view of `panels`: image, pixel height and width in µm, limits, colours and title."""

    image: NDArray[Any]
    pixel_size_um: tuple[float, float]
    limits: tuple[float, float] | None
    colours: str
    title: str
    contour: NDArray[Any] | None = None


@rc_context(STYLE)
def panels(
    out: Path, rows: Sequence[Sequence[Panel]], *, title: str = "", colour_bars: bool = False
) -> Path:
    """Draw rows of views with scale bars and, if wanted, colour bars.

    The outline of a panel's `contour` (a mask of the image's shape) is drawn, if there is one.
    """
    heights = [
        max(
            0.2,
            *(
                p.image.shape[0] * p.pixel_size_um[0] / (p.image.shape[1] * p.pixel_size_um[1])
                for p in row
            ),
        )
        for row in rows
    ]
    columns = max(len(row) for row in rows)
    height = sum(min(4 * ratio, 8) + 0.6 for ratio in heights) + 0.5
    figure = Figure(figsize=(4 * columns, min(height, 24)), layout="constrained")
    grid = figure.add_gridspec(len(rows), columns, height_ratios=heights)
    for i, row in enumerate(rows):
        for j, panel in enumerate(row):
            axes = figure.add_subplot(grid[i, j])
            drawn = show_view(
                axes,
                panel.image,
                panel.pixel_size_um,
                limits=panel.limits,
                colours=panel.colours,
                title=panel.title,
                bar=True,
            )
            mask = panel.contour
            if mask is not None and mask.any() and not mask.all() and min(mask.shape) > 1:
                y = (np.arange(mask.shape[0]) + 0.5) * panel.pixel_size_um[0]
                x = (np.arange(mask.shape[1]) + 0.5) * panel.pixel_size_um[1]
                axes.contour(x, y, mask, levels=[0.5], colors="white", linewidths=0.7)
            if colour_bars:
                figure.colorbar(drawn, ax=axes, shrink=0.8)
    if title:
        figure.suptitle(title)
    return save(figure, out)


def enhanced_sheet(
    out: Path,
    model: TrainedModel,
    stack: Stack,
    enhanced: Path,
    *,
    voxel_size_um: VoxelSize | None = None,
    title: str = "",
) -> Path:
    """Draw the `sheet` of a stack that `enhance_stack` enhanced.

    Parameters
    ----------
    out : Path
        Receives the PNG.
    model : TrainedModel
        The model that enhanced the stack. Its PSF is shown.
    stack : Stack
        The raw stack.
    enhanced : Path
        The file that `enhance_stack` wrote.
    voxel_size_um : tuple of float, optional
        Voxel size of the raw stack along z, y and x in µm; by default that of the file.
    title : str
        Title of the sheet; by default the name of the raw stack's file.

    Raises
    ------
    TenetError
        If the voxel size is not known.
    """
    size_um = voxel_size_um or stack.voxel_size_um
    if size_um is None:
        raise TenetError(f"{stack.path}: it records no voxel size; give z, y, x in µm")
    before, after, psf_size_um = psf_before_and_after(model.network, model.told)
    return sheet(
        out,
        stack,
        enhanced,
        voxel_size_um=size_um,
        fine_voxel_size_um=(size_um[0] / model.params.scale, size_um[1], size_um[2]),
        psf_before=before,
        psf_after=after,
        psf_voxel_size_um=psf_size_um,
        title=title or printable(stack.name),
    )
