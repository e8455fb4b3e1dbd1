"""Tubes of changing thickness along a path, drawn voxel by voxel; lengths are in µm.

A tube is the union of balls along a path of straight pieces, whose radius changes linearly from
point to point. A voxel belongs to the tube if its centre does. Voxel i spans i to i + 1 times the
voxel size along each axis.

A tube thinner than the grid can show is drawn just thick enough to stay in one piece, and dimmer,
so that its light is that of its true thickness.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tenet.types import Triple, VoxelSize

Points = NDArray[np.float64]


class Tube(NamedTuple):
    """Balls along a path; a tube of one point is a ball.

    Attributes
    ----------
    points_um
        Centres (n, 3) along z, y, x.
    radii_um
        Radius at each of them, (n,).
    """

    points_um: Points
    radii_um: Points


class Roughness(NamedTuple):
    """Plane waves by which the radius of an object differs from place to place.

    Attributes
    ----------
    waves_per_um
        Wave vectors (k, 3), in radians for each µm.
    phases
        Their phases (k,), in radians.
    strength
        Greatest relative change of a radius.
    """

    waves_per_um: Points
    phases: Points
    strength: float

    @classmethod
    def draw(
        cls, strength: float, wavelength_um: float, rng: np.random.Generator, waves: int = 4
    ) -> "Roughness":
        """Draw waves of random direction and of 0.7 to 1.4 times a wavelength."""
        direction = rng.normal(size=(waves, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        lengths = wavelength_um * rng.uniform(0.7, 1.4, (waves, 1))
        phases = rng.uniform(0, 2 * np.pi, waves)
        return cls(2 * np.pi / lengths * direction, phases, strength)

    def factor(self, zyx_um: Points) -> NDArray[np.float32]:
        """Factor on the radius at points (n, 3), between 1 − `strength` and 1 + `strength`."""
        waves = np.sin((zyx_um @ self.waves_per_um.T + self.phases).astype(np.float32))
        factor: NDArray[np.float32] = 1 + np.float32(self.strength) * waves.mean(1)
        return factor


def thinnest_um(voxel_size_um: VoxelSize) -> float:
    """Least radius of a tube that stays in one piece: half the diagonal of the largest face.

    Examples
    --------
    >>> round(thinnest_um((0.125, 0.12, 0.12)), 3)
    0.087
    """
    return math.hypot(*sorted(voxel_size_um)[1:]) / 2


def tube_voxels(
    tubes: Sequence[Tube],
    voxel_size_um: VoxelSize,
    zyx_shape: Triple,
    roughness: Roughness | None = None,
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Flat indices, some of them repeated, of the voxels of tubes, and their share of light.

    Parameters
    ----------
    tubes
        What is drawn.
    voxel_size_um
        Step of the grid in z, y, x.
    zyx_shape
        Size of the volume in voxels; what lies outside is left out.
    roughness
        Changes the radii from place to place.

    Returns
    -------
    voxels, share
        The share is 1, and (radius / least radius)² where a tube is thinner than `thinnest_um`.

    Examples
    --------
    >>> ball = Tube(np.full((1, 3), 2.0), np.array([1.0]))
    >>> voxels, share = tube_voxels([ball], (0.1, 0.1, 0.1), (40, 40, 40))
    >>> round(len(voxels) * 0.1**3, 1), float(share.min())  # µm³
    (4.2, 1.0)
    """
    size_um, strength = np.asarray(voxel_size_um), roughness.strength if roughness else 0.0
    least = thinnest_um(voxel_size_um)
    lines = _lines(tubes)
    reach = np.maximum(lines.radii_um.max(1), least)[:, None] * (1 + strength)
    first = np.ceil((lines.ends_um.min(1) - reach) / size_um - 0.5)
    last = np.floor((lines.ends_um.max(1) + reach) / size_um - 0.5)
    first = np.maximum(first, 0).astype(np.intp)
    last = np.minimum(last, np.subtract(zyx_shape, 1)).astype(np.intp)
    seen = np.all(first <= last, axis=1)
    lines, first, last = _Lines(*(part[seen] for part in lines)), first[seen], last[seen]
    reach = reach[seen]
    # Lines whose boxes are alike are searched at once.
    boxes, box_of = np.unique(-(-(last - first + 1) // 4) * 4, axis=0, return_inverse=True)
    voxels, shares = [np.zeros(0, np.intp)], [np.zeros(0, np.float32)]
    for number, box in enumerate(boxes):
        alike = np.flatnonzero(box_of.ravel() == number)
        for part in np.array_split(alike, math.ceil(len(alike) * math.prod(box) / _AT_ONCE)):
            some = _Lines(*(ends[part] for ends in lines))
            (z, y, x), distance, radius = _near(some, first[part], box, size_um, reach[part])
            if roughness is not None:
                surface = np.abs(distance - radius) <= strength * radius
                at = np.stack([z[surface], y[surface], x[surface]], axis=1)
                radius[surface] *= roughness.factor((at + 0.5) * size_um)
            inside = distance <= np.maximum(radius, np.float32(least))
            for index, n in zip((z, y, x), zyx_shape, strict=True):
                inside &= index < n
            voxels.append(((z * zyx_shape[1] + y) * zyx_shape[2] + x)[inside])
            shares.append(np.minimum(radius[inside] / np.float32(least), 1) ** 2)
    return np.concatenate(voxels), np.concatenate(shares)


#: Voxels that are looked at in one go.
_AT_ONCE = 2**18


class _Lines(NamedTuple):
    """Straight pieces of tubes: ends (n, 2, 3), and radii there (n, 2)."""

    ends_um: Points
    radii_um: Points


def _lines(tubes: Sequence[Tube]) -> _Lines:
    """The pieces of all tubes; a ball is a piece of length 0."""
    ends, radii = [np.zeros((0, 2, 3))], [np.zeros((0, 2))]
    for points, of_tube in tubes:
        if len(points) == 1:
            points, of_tube = np.repeat(points, 2, axis=0), np.repeat(of_tube, 2)
        ends.append(np.stack([points[:-1], points[1:]], axis=1))
        radii.append(np.stack([of_tube[:-1], of_tube[1:]], axis=1))
    return _Lines(np.concatenate(ends), np.concatenate(radii))


def _near(
    lines: _Lines,
    first: NDArray[np.intp],
    box: NDArray[np.intp],
    size_um: Points,
    reach_um: Points,
) -> tuple[list[NDArray[np.intp]], NDArray[np.float32], NDArray[np.float32]]:
    """Voxels (z, y, x) within reach of lines, their distances, and radii at the nearest points."""
    starts = lines.ends_um[:, 0]
    way = (lines.ends_um[:, 1] - starts).astype(np.float32)
    axes = []
    for axis, n in enumerate(box):
        at = (first[:, axis, None] + np.arange(n) + 0.5) * size_um[axis] - starts[:, axis, None]
        shape = [len(at), 1, 1, 1]
        shape[axis + 1] = n
        axes.append(at.astype(np.float32).reshape(shape))
    z, y, x = axes
    way_z, way_y, way_x = way.T[:, :, None, None, None]
    squared = z * z + y * y + x * x
    length2 = (way**2).sum(1)[:, None, None, None]
    along = z * way_z + y * way_y + x * way_x
    t = np.clip(along / np.maximum(length2, np.float32(1e-12)), 0, 1)
    squared += t * (t * length2 - 2 * along)
    near = squared <= (reach_um.astype(np.float32) ** 2)[:, :, None, None]
    line, *zyx = np.nonzero(near)
    first_radius, last_radius = lines.radii_um.astype(np.float32)[line].T
    radius = first_radius + t[near] * (last_radius - first_radius)
    voxels = [index + first[line, axis] for axis, index in enumerate(zyx)]
    return voxels, np.sqrt(np.maximum(squared[near], 0)), radius


@dataclass(frozen=True)
class Piece:
    """An object of tissue.

    Attributes
    ----------
    tubes : list of Tube
        What is filled.
    lumen : list of Tube
        What is left empty in it.
    roughness : Roughness, optional
        Of its surface.
    tips_um, spine_lengths_um : list
        Tip of each spine (z, y, x), and how far the spine reaches from the shaft's surface, along
        its own course.
    """

    tubes: list[Tube]
    lumen: list[Tube] = field(default_factory=list)
    roughness: Roughness | None = None
    tips_um: list[Points] = field(default_factory=list)
    spine_lengths_um: list[float] = field(default_factory=list)


def piece_voxels(
    piece: Piece, voxel_size_um: VoxelSize, zyx_shape: Triple
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Flat indices of the voxels of an object of tissue without its lumen, and share of light."""
    voxels, share = tube_voxels(piece.tubes, voxel_size_um, zyx_shape, piece.roughness)
    if piece.lumen:
        empty, _ = tube_voxels(piece.lumen, voxel_size_um, zyx_shape)
        full = ~np.isin(voxels, empty)
        voxels, share = voxels[full], share[full]
    return voxels, share
