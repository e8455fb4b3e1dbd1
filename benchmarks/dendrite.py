"""How well an enhanced dendrite shows the spines that a person marked; beside the raw stack.

    python benchmarks/dendrite.py RAW.tif MARKS.csv VOXEL_SIZE_Z_Y_X ENHANCED.ome.tif THRESHOLD OUT

A spine is reached if the segmentation, connected to the shaft, comes within 0.6 µm of its marked
tip. False area is what a projection of it along z covers farther than 1 µm from the shaft and from
the straight lines between tips and shaft. The raw stack, interpolated to the same grid, is judged
at all thresholds, so that it can be compared at equal false area and at equal reach. Specks are the
share of all segmented voxels within 1 µm of the marks in projection that lie farther than 2.5 µm
along z from shafts and from these lines. The last two lines are a row of a table, with its head.
"""

import csv
import itertools
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import (
    distance_transform_edt,
    label,
    map_coordinates,
    maximum_filter1d,
    zoom,
)

from tenet.enhance.views import save
from tenet.metrics.widths import fwhm

REACH_UM, WIDE_UM, TALL_UM = 0.6, 1.0, 2.5
TRIED = np.linspace(0.02, 0.98, 49)  # thresholds
PROFILE_UM = 1.5  # half length of the profiles across a shaft

Points = NDArray[np.float64]


def read_marks(path: Path, voxel_size_um: Points) -> tuple[list[Points], Points]:
    """Shafts and spine tips in µm; z is that of the middle of the marked plane."""
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    def points(kind: str) -> Points:
        chosen = [row for row in rows if row["kind"] == kind]
        keys = ("z_plane", "y_px", "x_px")
        return (
            np.array([[float(row[key]) for key in keys] for row in chosen]) + 0.5
        ) * voxel_size_um

    shaft = points("shaft")
    gaps = np.linalg.norm(np.diff(shaft, axis=0), axis=1) > 5
    return np.split(shaft, np.flatnonzero(gaps) + 1), points("spine")


def drawn(lines: list[Points], shape: tuple[int, ...], size_um: Points) -> NDArray[np.bool_]:
    """Voxels on straight lines."""
    mask = np.zeros(shape, dtype=bool)
    for line in lines:
        for start, end in itertools.pairwise(line):
            steps = np.linspace(0, 1, 4 * int(np.abs((end - start) / size_um).max() + 1))[:, None]
            index = ((start + steps * (end - start)) / size_um).astype(int)
            mask[tuple(np.clip(index, 0, np.array(shape) - 1).T)] = True
    return mask


class Judge:
    """What a segmentation (Z, Y, X) of the marked dendrites reaches, and what it adds to them."""

    def __init__(
        self, shafts: list[Points], tips: Points, shape: tuple[int, ...], size_um: Points
    ) -> None:
        self.tips, self.size_um, self.shape = tips, size_um, shape
        self.shaft = drawn(shafts, shape, size_um)
        every = np.concatenate(shafts)
        stalks = [
            np.stack([tip, every[np.linalg.norm(every - tip, axis=1).argmin()]]) for tip in tips
        ]
        marked = self.shaft | drawn(stalks, shape, size_um)
        away = distance_transform_edt(~marked.max(0), sampling=size_um[1:])
        self.elsewhere = away > WIDE_UM
        beside = np.zeros(shape, dtype=np.uint8)
        for number in np.flatnonzero(marked.any((1, 2))):
            away = distance_transform_edt(~marked[number], sampling=size_um[1:])
            beside[number] = away <= WIDE_UM
        planes = 2 * int(TALL_UM / size_um[0]) + 1
        self.near = maximum_filter1d(beside, planes, axis=0, mode="constant") > 0

    def __call__(self, mask: NDArray[np.bool_]) -> tuple[int, float]:
        """Spines reached, and false area in µm²."""
        labels, _ = label(mask, np.ones((3, 3, 3)))
        at_shaft = np.unique(labels[self.shaft & mask])
        connected = np.isin(labels, at_shaft[at_shaft > 0])
        reach = np.ceil(REACH_UM / self.size_um).astype(int)
        reached = 0
        for tip in self.tips:
            centre = (tip / self.size_um).astype(int)
            low = np.maximum(centre - reach, 0)
            z, y, x = (slice(a, b) for a, b in zip(low, centre + reach + 1, strict=True))
            voxels = (np.argwhere(connected[z, y, x]) + low + 0.5) * self.size_um
            if len(voxels) and np.linalg.norm(voxels - tip, axis=1).min() <= REACH_UM:
                reached += 1
        false = (connected.max(0) & self.elsewhere).sum() * self.size_um[1] * self.size_um[2]
        return reached, float(false)

    def specks(self, mask: NDArray[np.bool_]) -> float:
        """Share of the segmented voxels above, below and at the marks that are too far along z."""
        over = mask & ~self.elsewhere
        return float((over & ~self.near).sum() / max(over.sum(), 1))


def widths(volume: NDArray[np.float32], shaft: Points, size_um: Points) -> tuple[float, float]:
    """Median FWHM in µm of a shaft along z, and across it in the plane."""
    step = float(size_um.min()) / 2
    offsets = np.arange(-PROFILE_UM, PROFILE_UM + step, step)
    axial: list[float] = []
    lateral: list[float] = []
    for before, here, after in zip(shaft, shaft[1:], shaft[2:], strict=False):
        along = (after - before)[1:]
        across = np.array([0, -along[1], along[0]]) / np.linalg.norm(along)
        centre = here
        for direction in (across, np.array([1.0, 0, 0])):  # marks are not quite in the middle
            line = map_coordinates(
                volume, ((centre + offsets[:, None] * direction) / size_um - 0.5).T, order=1
            )
            centre = centre + offsets[line.argmax()] * direction
        for direction, found in ((np.array([1.0, 0, 0]), axial), (across, lateral)):
            longer = np.arange(-2 * PROFILE_UM, 2 * PROFILE_UM + step, step)
            line = map_coordinates(
                volume, ((centre + longer[:, None] * direction) / size_um - 0.5).T, order=1
            )
            if line.max() > 0:
                found.append(fwhm(line, step))
    return float(np.nanmedian(axial)), float(np.nanmedian(lateral))


def curve(judge: Judge, volume: NDArray[np.float32]) -> NDArray[np.float64]:
    """Spines reached and false area in µm² at `TRIED` thresholds, shape (thresholds, 2)."""
    return np.array([judge(volume >= threshold) for threshold in TRIED])


def described(name: str, found: NDArray[np.float64], false: float) -> list[str]:
    """What a volume reaches with no more false area than `false`, and at some thresholds."""
    within = found[found[:, 1] <= false, 0]
    points = [
        f"{n:.0f} ({area:.1f} µm²) at {threshold:.2f}"
        for threshold, (n, area) in zip(TRIED[4::5], found[4::5], strict=True)
    ]
    return [
        f"{name}: at most {max(within, default=0):.0f} reached at no more false area, "
        "at any threshold",
        f"{name}: reached (false area) at thresholds: {', '.join(points)}",
    ]


def table_row(
    name: str,
    judge: Judge,
    mask: NDArray[np.bool_],
    raw: NDArray[np.float64],
    thinnest: tuple[float, float],
) -> list[str]:
    """Head and row of a table that compares results."""
    reached, false = judge(mask)
    axial, lateral = thinnest
    needed = min(raw[raw[:, 0] >= reached, 1], default=np.inf)
    head = (
        f"| model | of {len(judge.tips)} spines | false area | raw stack needs | specks | thinnest "
    )
    cells = f"| {name} | {reached} | {false:.1f} µm² | {needed:.1f} µm² | {judge.specks(mask):.1%} "
    return [
        f"{head}dendrite, z / across |",
        f"{cells}| {axial:.2f} / {lateral:.2f} µm = {axial / lateral:.2f} |",
    ]


def main() -> None:
    """Print a table and draw projections."""
    raw_path, marks, *sizes, enhanced_path, threshold, out = sys.argv[1:]
    coarse_um = np.array([float(size) for size in sizes])
    raw = tifffile.imread(raw_path).astype(np.float32)
    shape, brightness = tifffile.imread(enhanced_path)
    scale = shape.shape[0] // raw.shape[0]
    size_um = coarse_um / (scale, 1, 1)
    raw = zoom(raw, (scale, 1, 1), order=1, grid_mode=True, mode="nearest") / raw.max()
    shafts, tips = read_marks(Path(marks), coarse_um)
    judge = Judge(shafts, tips, shape.shape, size_um)

    mask = shape >= float(threshold)
    reached, false = judge(mask)
    print(
        f"{len(tips)} spines; enhanced, threshold {threshold}: {reached} reached, {false:.1f} µm²"
    )
    raw_curve = curve(judge, raw)
    print(*described("raw", raw_curve, false), sep="\n")
    print(*described("enhanced", curve(judge, shape), false), sep="\n")
    measured = {}
    for number, shaft in enumerate(shafts):
        for name, volume in (("raw", raw), ("enhanced", shape * brightness)):
            axial, lateral = measured[name, number] = widths(volume, shaft, size_um)
            print(
                f"dendrite {number}, {name}: FWHM {axial:.2f} µm along z, {lateral:.2f} across, "
                f"ratio {axial / lateral:.2f}"
            )
    thin = min(range(len(shafts)), key=lambda number: measured["raw", number][1])
    name = "/".join(Path(enhanced_path).with_suffix("").parts[-2:])
    table = table_row(name, judge, mask, raw_curve, measured["enhanced", thin])
    print(*table, sep="\n")

    figure, axes = plt.subplots(2, 3, figsize=(12, 8), constrained_layout=True)
    shown = (("raw", raw), ("enhanced", shape * brightness), ("shape", shape))
    for column, (name, volume) in enumerate(shown):
        for row, axis in enumerate((0, 1)):
            panel = axes[row, column]
            others = [n for n in range(3) if n != axis]
            extent = [0, shape.shape[others[1]] * size_um[others[1]]]
            extent += [shape.shape[others[0]] * size_um[others[0]], 0]
            panel.imshow(volume.max(axis), cmap="gray", extent=extent)
            panel.plot(tips[:, others[1]], tips[:, others[0]], "o", mfc="none", mec="#d55e00", ms=5)
            panel.set(title=f"{name}, along {'zyx'[axis]}", xlabel="µm", ylabel="µm")
    save(figure, Path(out), dpi=110)


if __name__ == "__main__":
    main()
