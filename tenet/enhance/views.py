"""Projections of a volume, drawn with a scale bar."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from tenet.errors import TenetError
from tenet.io.atomic import replacing
from tenet.io.open import open_stack
from tenet.io.stack import Stack
from tenet.types import VoxelSize

Source = Path | Stack | NDArray[Any]

#: Colour maps for raw intensities, for the shape channel and for brightness.
COLOURS = {"intensity": "gray", "shape": "viridis", "brightness": "magma"}

STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "image.origin": "upper",
    "pdf.fonttype": 42,
}


# Projections --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Projections:
    """Maximum-intensity projections of a volume.

    Attributes
    ----------
    xy, xz, yz : ndarray of float32
        Projections along z, y and x, with the shapes (Y, X), (Z, X) and (Z, Y).
    voxel_size_um : tuple of float
        Voxel size along z, y and x.
    """

    xy: NDArray[np.float32]
    xz: NDArray[np.float32]
    yz: NDArray[np.float32]
    voxel_size_um: VoxelSize

    @property
    def limits(self) -> tuple[float, float]:
        """Values of black and white; see `levels`."""
        return levels(self.xy)


def levels(image: NDArray[Any]) -> tuple[float, float]:
    """Values that are drawn black and white: the lowest, and the 99.9th percentile of an image."""
    low, high = float(image.min()), float(np.percentile(image, 99.9))
    return low, high if high > low else low + 1.0


def mips(
    source: Source,
    channels: Sequence[int] = (),
    *,
    voxel_size_um: VoxelSize | None = None,
    planes: slice | None = None,
) -> Projections:
    """Project a volume along its three axes, reading it slab by slab.

    Parameters
    ----------
    source : Path, Stack or ndarray
        A file, an open stack, or an array in Z, Y, X (C, Z, Y, X with `channels`).
    channels : sequence of int
        Channels of a file or an array; not needed if there is only one. The product of several
        channels is projected, such as shape times brightness.
    voxel_size_um : tuple of float, optional
        Voxel size along z, y and x in µm; by default that of the file.
    planes : slice, optional
        Planes to project; all by default.

    Returns
    -------
    Projections

    Raises
    ------
    TenetError
        If a file cannot be read, or the voxel size is not known.
    """
    if isinstance(source, Path):
        readers: list[Stack | NDArray[Any]] = [open_stack(source, channel=c) for c in channels]
        readers = readers or [open_stack(source)]
    elif isinstance(source, Stack):
        readers = [source]
    else:
        readers = [source[c] for c in channels] or [source]
    first = readers[0]
    if isinstance(first, Stack):
        zyx_shape, voxel_size_um = first.zyx_shape, voxel_size_um or first.voxel_size_um
        if voxel_size_um is None:
            raise TenetError(f"{first.path}: it records no voxel size; give z, y, x in µm")
    else:
        zyx_shape = first.shape
        if voxel_size_um is None:
            raise TenetError("an array has no voxel size: give z, y, x in µm")
    start, stop, _ = (planes or slice(None)).indices(zyx_shape[0])
    if stop <= start:
        raise TenetError(f"there are no planes {start} to {stop} in {zyx_shape[0]}")
    xy = np.full(zyx_shape[1:], -np.inf, dtype=np.float32)
    xz = np.empty((stop - start, zyx_shape[2]), dtype=np.float32)
    yz = np.empty((stop - start, zyx_shape[1]), dtype=np.float32)
    for plane, slab in _slabs(readers, start, stop, zyx_shape):
        here = slice(plane - start, plane - start + len(slab))
        np.maximum(xy, slab.max(axis=0), out=xy)
        xz[here], yz[here] = slab.max(axis=1), slab.max(axis=2)
    return Projections(xy, xz, yz, voxel_size_um)


def _slabs(
    readers: Sequence[Stack | NDArray[Any]],
    start: int,
    stop: int,
    zyx_shape: tuple[int, ...],
    max_bytes: int = 2**24,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Read groups of whole planes, and multiply the planes of all readers."""
    step = max(1, max_bytes // (4 * zyx_shape[1] * zyx_shape[2]))
    for plane in range(start, stop, step):
        z = slice(plane, min(plane + step, stop))
        slab = _read(readers[0], z)
        for reader in readers[1:]:
            slab = slab * _read(reader, z)
        yield plane, slab


def _read(reader: Stack | NDArray[Any], z: slice) -> NDArray[np.float32]:
    return reader.read(z=z) if isinstance(reader, Stack) else reader[z].astype(np.float32)


# Views --------------------------------------------------------------------------------------------


def show_view(
    axes: Axes,
    image: NDArray[Any],
    pixel_size_um: tuple[float, float],
    *,
    limits: tuple[float, float] | None = None,
    colours: str = COLOURS["intensity"],
    title: str = "",
    bar: bool = False,
) -> AxesImage:
    """Draw an image in µm, so that its aspect ratio is the physical one.

    Parameters
    ----------
    axes : Axes
    image : ndarray
        Rows and columns.
    pixel_size_um : tuple of float
        Height and width of a pixel.
    limits : tuple of float, optional
        Values of the darkest and the lightest colour.
    colours : str
        Name of a colour map.
    title : str
    bar : bool
        Whether to draw a scale bar.

    Returns
    -------
    AxesImage
        For a colour bar.
    """
    rows, columns = image.shape
    low, high = limits or (None, None)
    drawn = axes.imshow(
        image,
        cmap=colormaps[colours],
        vmin=low,
        vmax=high,
        extent=(0, columns * pixel_size_um[1], rows * pixel_size_um[0], 0),
        aspect="equal",
    )
    axes.set_axis_off()
    if title:
        axes.set_title(title)
    if bar:
        scale_bar(axes)
    return drawn


def bar_length_um(width_um: float) -> float:
    """Return the longest of 1, 2, 5 × 10ᵏ µm that is at most a third of a width."""
    power = 10.0 ** math.floor(math.log10(width_um / 3))
    return max(step * power for step in (1, 2, 5) if step * power <= width_um / 3 * (1 + 1e-9))


def scale_bar(axes: Axes, length_um: float | None = None) -> float:
    """Draw a labelled scale bar on axes in µm; returns its length.

    The bar is in the lower right corner, or below a view that is too flat for the bar.
    """
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    width, height = right - left, abs(top - bottom)
    length = bar_length_um(width) if length_um is None else length_um
    inside = height > 0.25 * width
    downwards = 1 if bottom > top else -1
    end = right - (0.04 * width if inside else 0)
    level = bottom + downwards * (-0.05 * height if inside else 0.03 * width)
    colour, rim = ("white", "black") if inside else ("black", "white")
    axes.plot(
        [end - length, end],
        [level, level],
        color=colour,
        linewidth=2.5,
        solid_capstyle="butt",
        # A rim keeps the label legible on every colour map.
        path_effects=[patheffects.withStroke(linewidth=4, foreground=rim)],
        clip_on=False,
    )
    axes.annotate(
        f"{length:g} µm",
        (end - length / 2, level),
        xytext=(0, 4 if inside else -4),
        textcoords="offset points",
        color=colour,
        ha="center",
        va="bottom" if inside else "top",
        path_effects=[patheffects.withStroke(linewidth=2, foreground=rim)],
        annotation_clip=False,
    )
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    return length


#: Space between the three views, as a share of the larger side of xy.
GAP = 0.03


def orthogonal_views(
    axes: Axes,
    projections: Projections,
    *,
    limits: tuple[float, float] | None = None,
    colours: str = COLOURS["intensity"],
    title: str = "",
) -> AxesImage:
    """Draw xy, with xz under it and yz beside it, all in one system of axes and at one scale."""
    z_um, y_um, x_um = projections.voxel_size_um
    limits = limits or projections.limits
    height, width = extent_um(projections)
    depth = projections.xz.shape[0] * z_um
    gap = GAP * max(height, width)
    drawn = show_view(
        axes, projections.xy, (y_um, x_um), limits=limits, colours=colours, title=title, bar=True
    )
    for view, (left, upper), (across, down) in (
        (projections.xz, (0.0, height + gap), (width, depth)),
        (projections.yz.T, (width + gap, 0.0), (depth, height)),
    ):
        axes.imshow(
            view,
            cmap=colormaps[colours],
            vmin=limits[0],
            vmax=limits[1],
            extent=(left, left + across, upper + down, upper),
            aspect="equal",
        )
    axes.set_xlim(0, width + gap + depth)
    axes.set_ylim(height + gap + depth, 0)
    return drawn


def extent_um(projections: Projections) -> tuple[float, float]:
    """Height and width of the xy view in µm."""
    rows, columns = projections.xy.shape
    return rows * projections.voxel_size_um[1], columns * projections.voxel_size_um[2]


# Whole pictures -----------------------------------------------------------------------------------


def save(figure: Figure, path: Path, *, dpi: int = 150) -> Path:
    """Write a figure (.png, .pdf, .svg). The file takes its name only when the file is complete.

    Raises
    ------
    TenetError
        If the file cannot be written.
    """
    path = Path(path)
    kind = path.suffix.removeprefix(".") or "png"
    # Without a date, equal figures give equal files.
    metadata = {"CreationDate": None} if kind == "pdf" else None
    with replacing(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=dpi, metadata=metadata)
    return path
