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

    def factor(self, axes_um: Sequence[Points]) -> NDArray[np.float32]:
        """Factor on the radius at the nodes of a grid, between 1 − `strength` and 1 + `strength`.

        A wave is a product of waves along the axes.
        """
        z, y, x = (
            np.exp(1j * self.waves_per_um[:, axis, None] * at) for axis, at in enumerate(axes_um)
        )
        z *= (np.exp(1j * self.phases) * self.strength / len(self.phases))[:, None]
        total: NDArray[np.complex128] = np.einsum("kz,ky,kx->zyx", z, y, x, optimize=True)
        return (1 + total.real).astype(np.float32)


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
    found = [
        _piece_voxels(tube, index, np.asarray(voxel_size_um), zyx_shape, roughness)
        for tube in tubes
        for index in range(max(len(tube.points_um) - 1, 1))
    ]
    voxels = [np.zeros(0, np.intp), *(piece[0] for piece in found)]
    shares = [np.zeros(0, np.float32), *(piece[1] for piece in found)]
    return np.concatenate(voxels), np.concatenate(shares)


_NOTHING = np.zeros(0, np.intp), np.zeros(0, np.float32)


def _piece_voxels(
    tube: Tube, index: int, size_um: Points, zyx_shape: Triple, roughness: Roughness | None
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """One straight piece of a tube, searched for in its bounding box."""
    points, radii = tube.points_um[index : index + 2], tube.radii_um[index : index + 2]
    least = thinnest_um((size_um[0], size_um[1], size_um[2]))
    reach = max(float(radii.max()), least) * (1 + (roughness.strength if roughness else 0))
    first = np.maximum(np.ceil((points.min(0) - reach) / size_um - 0.5), 0).astype(int)
    last = np.minimum(np.floor((points.max(0) + reach) / size_um - 0.5), np.subtract(zyx_shape, 1))
    if np.any(first > last):
        return _NOTHING
    axes = [
        (np.arange(a, int(b) + 1) + 0.5) * s for a, b, s in zip(first, last, size_um, strict=True)
    ]
    distance, radius = _distance_and_radius(axes, points, radii)
    if roughness is not None:
        radius = radius * roughness.factor(axes)
    inside = distance <= np.maximum(radius, np.float32(least))
    z, y, x = (at + start for at, start in zip(np.nonzero(inside), first, strict=True))
    share = np.ones(len(z), np.float32)
    if radii.min() < 2 * least:
        thin = np.broadcast_to(radius, inside.shape)[inside]
        share = np.minimum(thin / np.float32(least), 1) ** 2
    return (z * zyx_shape[1] + y) * zyx_shape[2] + x, share


def _distance_and_radius(
    axes: Sequence[Points], points: Points, radii: Points
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Distance of grid nodes from a straight line, and the radius at its nearest point."""
    way = (points[-1] - points[0]).astype(np.float32)
    z, y, x = np.meshgrid(
        *((at - p).astype(np.float32) for at, p in zip(axes, points[0], strict=True)),
        indexing="ij",
        sparse=True,
    )
    squared = z * z + y * y + x * x
    length2 = np.float32(way @ way)
    if not length2:
        return np.sqrt(squared), np.full((1, 1, 1), radii[0], np.float32)
    along = z * way[0] + y * way[1] + x * way[2]
    t = np.clip(along / length2, 0, 1)
    squared += t * (t * length2 - 2 * along)
    radius = np.float32(radii[0]) + t * np.float32(radii[-1] - radii[0])
    return np.sqrt(np.maximum(squared, 0)), radius


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
