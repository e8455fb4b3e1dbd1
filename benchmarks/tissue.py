"""Whether drawn dendrites are like real ones: both measured in one way.

    python benchmarks/tissue.py EM_DENDRITES.npz [PICTURE.png]

EM_DENDRITES.npz holds `labels` (axes x, y, z, a number for each piece) and `voxel_size_xyz_um`. As
many dendrites are drawn as there are pieces, on the same grid, one in each volume. A piece's shaft
is the path through the thickest of it from one of its ends to the other, as thick as the balls
that fit there; a spine is what leaves the shaft by 0.35 to 4 µm along the piece and holds 0.02 µm³.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects, label
from skimage.graph import MCP_Geometric
from skimage.morphology import skeletonize

from tenet.data.phantoms.neurites import draw_dendrite
from tenet.data.phantoms.tubes import tube_voxels
from tenet.enhance.views import save

LEAST_UM, MOST_UM, LEAST_UM3 = 0.35, 4.0, 0.02  # reach and volume of what counts as a spine
THIN_UM = 0.3
BORDER_UM = 0.3

Mask = NDArray[np.bool_]


class Looks(NamedTuple):
    """Measures of one piece; lengths in µm."""

    shaft_length: float
    shaft_diameter: float
    diameter_spread: float
    reaches: NDArray[np.float64]
    volumes: NDArray[np.float64]
    thin_share: float
    width_share: NDArray[np.float64]


def farthest(cost: NDArray[np.float64], size: NDArray[np.float64], start: NDArray[np.intp]):
    """Costs of all voxels from some of them, and the search that they come from."""
    search = MCP_Geometric(cost, sampling=tuple(size), fully_connected=True)
    costs, _ = search.find_costs([tuple(int(i) for i in at) for at in start])
    return np.where(np.isfinite(costs), costs, -1), search


def measured(mask: Mask, size: NDArray[np.float64]) -> Looks | None:
    """Measures of the largest part of a mask, None if its shaft is shorter than 4 µm."""
    parts, n = label(mask, np.ones((3, 3, 3)))
    if not n:
        return None
    mask = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    box = find_objects(mask.astype(np.uint8))[0]
    low = np.array([s.start for s in box])
    full = np.array(mask.shape)
    mask = np.pad(mask[box], 1)
    # What the border of the volume cuts goes on beyond the border.
    grown = np.pad(mask[1:-1, 1:-1, 1:-1], 1, mode="edge")
    depth = distance_transform_edt(grown, sampling=size)
    plain = np.where(mask, 1.0, np.inf)
    thick = np.where(mask, 1 / np.maximum(depth, size.min() / 2) ** 2, np.inf)
    middle = np.array(np.unravel_index(np.where(mask, depth, 0).argmax(), mask.shape))
    one = np.array(np.unravel_index(farthest(plain, size, middle[None])[0].argmax(), mask.shape))
    other = np.array(np.unravel_index(farthest(plain, size, one[None])[0].argmax(), mask.shape))
    path = np.array(farthest(thick, size, one[None])[1].traceback(other))
    steps = np.linalg.norm(np.diff(path, axis=0) * size, axis=1)
    diameters = 2 * depth[tuple(path.T)]
    # The ends of the path may lie in a spine: where it is far thinner than elsewhere.
    shaft = np.flatnonzero(diameters > 0.5 * np.median(diameters))
    path, diameters = path[shaft[0] : shaft[-1] + 1], diameters[shaft[0] : shaft[-1] + 1]
    length = float(steps[shaft[0] : shaft[-1]].sum())
    if length < 4:
        return None
    core = shaft_of(path, diameters / 2, mask.shape, size) & mask
    away, _ = farthest(plain, size, np.argwhere(core))
    spines, n = label(away > LEAST_UM, np.ones((3, 3, 3)))
    reaches, volumes = [], []
    for index, part in enumerate(find_objects(spines), start=1):
        inside = spines[part] == index
        reach = float(away[part][inside].max())
        ends = np.argwhere(inside) + [s.start for s in part] + low - 1
        at_edge = np.any((ends <= BORDER_UM / size) | (ends >= full - 1 - BORDER_UM / size))
        volume = float(inside.sum() * np.prod(size))
        if reach <= MOST_UM and volume >= LEAST_UM3 and not at_edge:
            reaches.append(reach)
            volumes.append(volume)
    bones = skeletonize(mask)
    near = distance_transform_edt(~bones, sampling=size)[mask] <= THIN_UM
    return Looks(
        length,
        float(np.median(diameters)),
        float(np.std(np.log(diameters))),
        np.array(reaches),
        np.array(volumes),
        float(near.mean()),
        2 * depth[bones],
    )


def shaft_of(path, radii, shape, size) -> Mask:
    """Balls of some radii along a path."""
    core = np.zeros(shape, dtype=bool)
    for at, radius in zip(path[::2], radii[::2], strict=True):
        radius = 1.15 * radius
        first = np.maximum(np.ceil(at - radius / size), 0).astype(int)
        last = np.minimum(np.floor(at + radius / size) + 1, shape).astype(int)
        box = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
        squares = [
            ((np.arange(a, b) - c) * s) ** 2
            for a, b, c, s in zip(first, last, at, size, strict=True)
        ]
        z, y, x = np.meshgrid(*squares, indexing="ij", sparse=True)
        core[box] |= z + y + x <= radius**2
    return core


def drawn(shape: tuple[int, ...], size: NDArray[np.float64], number: int) -> Mask:
    """A dendrite alone in a volume."""
    rng = np.random.default_rng([30, number])
    piece = draw_dendrite(shape * size, rng)
    mask = np.zeros(shape, dtype=bool)
    mask.reshape(-1)[tube_voxels(piece.tubes, tuple(size), shape, piece.roughness)[0]] = True
    return mask


def row(name: str, looks: list[Looks]) -> str:
    """Median and quartiles over pieces, or over all spines."""

    def quartiles(values) -> str:
        low, middle, high = np.percentile(values, [25, 50, 75])
        return f"{middle:.2f} ({low:.2f} to {high:.2f})"

    volumes = np.concatenate([one.volumes for one in looks])
    cells = [
        f"{name}, {len(looks)} pieces, {sum(len(one.reaches) for one in looks)} spines",
        quartiles([one.shaft_diameter for one in looks]),
        quartiles([one.diameter_spread for one in looks]),
        quartiles([len(one.reaches) / one.shaft_length for one in looks]),
        quartiles(np.concatenate([one.reaches for one in looks])),
        quartiles(volumes),
        quartiles([one.thin_share for one in looks]),
        quartiles(np.concatenate([one.width_share for one in looks])),
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table, and draw projections of both."""
    with np.load(sys.argv[1], allow_pickle=False) as file:
        labels, size = file["labels"], file["voxel_size_xyz_um"]
    real = [labels == number for number in np.unique(labels)[1:]]
    ours = [drawn(labels.shape, size, number) for number in range(len(real))]
    print(
        "| | shaft, µm | its spread (log) | spines for each µm | reach, µm | volume, µm³ | "
        f"volume within {THIN_UM} µm of the medial axis | width along it, µm |\n|---|" + 7 * "---|"
    )
    for name, masks in (("electron microscopy", real), ("drawn", ours)):
        print(row(name, [one for mask in masks if (one := measured(mask, size))]))
    if len(sys.argv) > 2:
        picture(real, ours, size, Path(sys.argv[2]))


def picture(real: list[Mask], ours: list[Mask], size: NDArray[np.float64], path: Path) -> None:
    """Thickness along z and along y: six real pieces above six drawn ones."""
    figure, axes = plt.subplots(4, 6, figsize=(15, 10), constrained_layout=True)
    for rows, masks in ((axes[:2], real), (axes[2:], ours)):
        for column, mask in enumerate(masks[:6]):
            for panel, axis in zip(rows[:, column], (2, 1), strict=True):
                thickness = np.minimum(mask.sum(axis) * size[axis], 1.5)
                other = 1 if axis == 2 else 2
                edges = [0, mask.shape[other] * size[other], mask.shape[0] * size[0], 0]
                panel.imshow(thickness, cmap="gray", extent=edges)
        rows[0, 0].set_title("electron microscopy, along z" if masks is real else "drawn")
    save(figure, path, dpi=60)


if __name__ == "__main__":
    main()
