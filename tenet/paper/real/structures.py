"""Real structures with exact truth: dendrites from electron microscopy, and a tree of vessels.

The files are no part of the project: MICrONS pinky40 (microns-explorer.org) by way of
seung-lab/compresso, and VesSAP (Todorov et al., Nat. Methods 17, 442, 2020).
"""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label

from tenet.errors import TenetError
from tenet.io.records import read_table
from tenet.types import VoxelSize

Mask = NDArray[np.bool_]
Volume = NDArray[np.float32]

#: Decades over which the brightness of the pieces of a stack is drawn.
DECADES = 1.2
#: Dark space above and below the pieces, in µm: room for the light along z.
MARGIN_UM = 2.0
#: Dendrites in a stack, from and to.
PIECES = (3, 5)
#: Capillaries of the tree are 3 to 9 voxels wide. With this voxel they are 1 to 3 µm wide, thinner
#: than those of a mouse.
VESSEL_VOXEL_UM = 0.35
_VESSEL_SIZE_UM = (20.0, 16.4, 16.4)
_LEAST_VESSEL_SHARE = 0.02
_HEADER = 352  # bytes of a NIfTI-1 file before its voxels


@dataclass(frozen=True)
class Scene:
    """Structures on the fine grid of a microscope.

    Attributes
    ----------
    shape : ndarray of bool, shape (Z, Y, X)
        The truth: voxels of which structures cover at least half.
    light : ndarray of float32, shape (Z, Y, X)
        Brightness times the share that is covered, in [0, 1].
    tips_um : ndarray, shape (spines, 3)
        Tips of spines along z, y and x, from the volume's corner.
    """

    shape: Mask
    light: Volume
    tips_um: NDArray[np.float64]


@dataclass(frozen=True)
class Dendrites:
    """Labelled dendrites and the tips of their spines; along any three axes, as `turned` leaves it.

    Attributes
    ----------
    labels : ndarray of uint8
        0 is background, every other number a dendrite.
    voxel_size_um : tuple of float
        Along the axes of `labels`.
    tips_um : dict of int to ndarray, shape (spines, 3)
        Tips of each dendrite, from the corner, without those that the border cuts.
    """

    labels: NDArray[np.uint8]
    voxel_size_um: VoxelSize
    tips_um: dict[int, NDArray[np.float64]]

    @classmethod
    def read(cls, labels: Path, tips: Path) -> "Dendrites":
        """Read the labels (npz, axes x, y, z) and the table of tips (CSV).

        Raises
        ------
        TenetError
            If a file is missing or lacks what is read from it.
        """
        try:
            with np.load(labels, allow_pickle=False) as arrays:
                volume, size = arrays["labels"], arrays["voxel_size_xyz_um"]
        except (OSError, EOFError, KeyError, ValueError, BadZipFile) as error:
            raise TenetError(f"cannot read dendrites of {labels}: {error}") from error
        axes = [f"{axis}_um" for axis in "xyz"]
        table = read_table(tips, numbers=axes, whole=("piece", "at_edge"))
        whole = table[table["at_edge"] == 0]
        pieces = [int(n) for n in np.unique(volume) if n]
        found = {n: whole.loc[whole["piece"] == n, axes].to_numpy(float) for n in pieces}
        x, y, z = map(float, size)
        return cls(volume, (x, y, z), found)

    def turned(self, axes: Sequence[int], flips: Sequence[bool]) -> "Dendrites":
        """Take the axes in another order, and turn some round.

        Examples
        --------
        >>> labels = np.zeros((4, 6, 8), np.uint8)
        >>> labels[3, 0, 0] = 1
        >>> cube = Dendrites(labels, (0.1, 0.2, 0.5), {1: np.array([[0.3, 0.1, 0.2]])})
        >>> turned = cube.turned((2, 1, 0), (False, False, True))
        >>> turned.voxel_size_um, turned.labels[0, 0, 0], turned.tips_um[1].round(1)
        ((0.5, 0.2, 0.1), np.uint8(1), array([[0.2, 0.1, 0.1]]))
        """
        labels = self.labels.transpose(axes)
        first, second, third = (self.voxel_size_um[axis] for axis in axes)
        size_um = (first, second, third)
        extent = np.array(labels.shape) * size_um
        tips = {
            number: np.where(flips, extent - points[:, axes], points[:, axes])
            for number, points in self.tips_um.items()
        }
        flipped = np.flip(labels, tuple(axis for axis, flip in enumerate(flips) if flip))
        return replace(self, labels=flipped, voxel_size_um=size_um, tips_um=tips)

    def scene(self, rng: np.random.Generator, fine_um: VoxelSize, scale: int) -> Scene:
        """Draw some dendrites, how they lie and how bright each is, and put them on a fine grid."""
        axes = [int(axis) for axis in rng.permutation(3)]
        dendrites = self.turned(axes, [bool(flip) for flip in rng.integers(2, size=3)])
        count = rng.integers(PIECES[0], PIECES[1] + 1)
        chosen = [int(n) for n in rng.choice(list(self.tips_um), count, replace=False)]
        brightness = np.zeros(256, np.float32)
        brightness[chosen] = drawn_brightness(rng, len(chosen))
        light = covered(brightness[dendrites.labels], dendrites.voxel_size_um, fine_um)
        mask = (brightness > 0)[dendrites.labels].astype(np.float32)
        shape = covered(mask, dendrites.voxel_size_um, fine_um) >= 0.5
        tips = np.concatenate([dendrites.tips_um[n] for n in chosen])
        inside = (tips < np.array(shape.shape) * fine_um).all(1)
        return with_margin(Scene(shape, light, tips[inside]), fine_um, scale)


def drawn_brightness(rng: np.random.Generator, count: int) -> Volume:
    """Brightness of pieces, even on a logarithmic scale of `DECADES`; the brightest has 1."""
    brightness = 10 ** -rng.uniform(0, DECADES, count)
    return (brightness / brightness.max()).astype(np.float32)


def covered(volume: Volume, voxel_size_um: VoxelSize, fine_um: VoxelSize) -> Volume:
    """Mean of a volume over each voxel of another grid that begins at the same corner.

    Only whole voxels of the new grid are made.

    Examples
    --------
    >>> volume = np.array([1, 1, 0, 0, 0, 0], np.float32)[:, None, None]
    >>> covered(volume, (0.2, 1.0, 1.0), (0.3, 1.0, 1.0)).ravel().round(2)
    array([1.  , 0.33, 0.  , 0.  ], dtype=float32)
    """
    for axis in range(3):
        weights = _overlaps(volume.shape[axis], voxel_size_um[axis], fine_um[axis])
        volume = np.moveaxis(np.tensordot(weights, volume, (1, axis)), 0, axis)
    return volume


def _overlaps(count: int, size: float, fine: float) -> Volume:
    """Share of each fine voxel that lies in each of `count` voxels, shape (fine, count)."""
    edges = np.arange(count + 1) * size
    starts = np.arange(int(count * size / fine + 1e-9))[:, None] * fine
    inside = np.clip(edges[None], starts, starts + fine)
    return (np.diff(inside, axis=1) / fine).astype(np.float32)


def with_margin(scene: Scene, fine_um: VoxelSize, scale: int) -> Scene:
    """Add dark planes above and below, in all a whole number of coarse planes."""
    above = round(MARGIN_UM / fine_um[0])
    below = above + -(len(scene.shape) + 2 * above) % scale
    padding = ((above, below), (0, 0), (0, 0))
    tips = scene.tips_um + np.array([above * fine_um[0], 0, 0])
    return Scene(np.pad(scene.shape, padding), np.pad(scene.light, padding), tips)


def read_vessels(path: Path) -> Mask:
    """Read a label volume in NIfTI-1 of unsigned bytes, compressed or not.

    Raises
    ------
    TenetError
        If the file is missing or is none.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise TenetError(f"cannot read vessels of {path}: {error}") from error
    header = np.frombuffer(data[:_HEADER], "<i2")
    if len(data) < _HEADER or header[0] != 348 or header[20] != 3 or header[35] != 2:
        raise TenetError(f"{path} is no NIfTI-1 file of one volume of unsigned bytes")
    shape = tuple(int(n) for n in header[21:24])
    voxels = np.frombuffer(data, np.uint8, offset=_HEADER)
    if voxels.size != np.prod(shape):
        raise TenetError(f"{path} is cut short: {voxels.size} of {np.prod(shape)} voxels")
    return voxels.reshape(shape, order="F") > 0


def vessel_scene(tree: Mask, rng: np.random.Generator, fine_um: VoxelSize, scale: int) -> Scene:
    """Draw a part of a tree of vessels, how it lies and how bright each vessel is.

    Raises
    ------
    TenetError
        If the tree is smaller than the part, or a hundred parts hold next to nothing.
    """
    axes, flips = [int(axis) for axis in rng.permutation(3)], rng.integers(2, size=3)
    tree = np.flip(tree.transpose(axes), tuple(axis for axis in range(3) if flips[axis]))
    size = [int(length / VESSEL_VOXEL_UM) for length in _VESSEL_SIZE_UM]
    room = np.array(tree.shape, dtype=np.int64) - np.array(size, dtype=np.int64)
    for _ in range(100 if room.min() > 0 else 0):
        corner = rng.integers(room)
        part: Any = tree[tuple(slice(a, a + n) for a, n in zip(corner, size, strict=True))]
        if part.mean() >= _LEAST_VESSEL_SHARE:
            break
    else:
        raise TenetError(f"no part of {size} voxels of these vessels holds enough of them")
    numbers, count = label(part, np.ones((3, 3, 3)))
    brightness = np.append(np.zeros(1, np.float32), drawn_brightness(rng, count))
    voxel_size_um = (VESSEL_VOXEL_UM,) * 3
    smooth = gaussian_filter(covered(part.astype(np.float32), voxel_size_um, fine_um), 2.0)
    light = gaussian_filter(covered(brightness[numbers], voxel_size_um, fine_um), 2.0)
    shape = smooth >= 0.5
    light = np.where(shape, light / np.maximum(smooth, 1e-6), 0).astype(np.float32)
    return with_margin(Scene(shape, light, np.zeros((0, 3))), fine_um, scale)
