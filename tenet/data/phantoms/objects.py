"""Single objects, drawn voxel by voxel into a volume."""

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tenet.types import Triple


class PhantomSettings(Protocol):
    """What a volume is drawn from: a dataclass with a size that can draw itself."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def zyx_shape(self) -> Triple:
        """Size of the volume in voxels."""
        ...

    def draw(self, rng: np.random.Generator) -> "DrawnPhantom":
        """Draw a volume; every random number comes from `rng`."""
        ...


# ---------------------------------------------------------------------------------------------
# Objects
# ---------------------------------------------------------------------------------------------

# Distance between the points by which an object is sampled. Any ball of diameter 1 must contain a
# point (then every voxel whose centre is in the object is found), which a cubic lattice of step
# 0.577 fulfils; the rest is reserve for stretching.
_STEP = 0.5

# Whether a point of local coordinates r, |coordinate| / half extent along axis 1, is in the solid.
_SOLIDS: dict[str, Callable[[NDArray[np.float32]], NDArray[np.bool_]]] = {
    "box": lambda r: r.max(axis=1) <= 1,
    "ball": lambda r: np.einsum("uajk,uajk->ujk", r, r) <= 1,
    "octahedron": lambda r: r.sum(axis=1) <= 1,
}


class Deformation(NamedTuple):
    """Bend by an angle (rad) between the ends of the first axis, then random displacements."""

    bend: float = 0.0
    elastic_sigma: float = 0.0
    elastic_spacing: float = 30.0


def object_voxels(
    solid: str,
    half_extents: NDArray[np.floating[Any]],
    deformation: Deformation,
    rotation: NDArray[np.floating[Any]],
    centre_zyx: NDArray[np.floating[Any]],
    zyx_shape: Triple,
    rng: np.random.Generator,
) -> NDArray[np.intp]:
    """Flat indices, some of them repeated, of the voxels whose centre is in a deformed solid.

    The object is a free-form deformation (Sederberg & Parry, SIGGRAPH 1986): a lattice of control
    points around it is bent to an arc, displaced at random, rotated and moved, and cubic B-splines
    carry every point of the object along. Points of a dense lattice find the voxels; for each the
    centre of its voxel is taken back into the undeformed object, by the rotation there alone (the
    way is under 0.9 voxel, so the strain matters little), and must lie inside.
    """
    bend, sigma, spacing = deformation
    extents = 2 * half_extents
    curvature = bend / extents[0]
    # The outside of the arc is stretched: sample it more densely.
    steps = (_STEP / (1 + abs(curvature) * half_extents[1]), _STEP, _STEP)
    local = [_cell_centres(e, step) for e, step in zip(extents, steps, strict=True)]
    nodes = [_control_points(e, spacing) for e in extents]

    u, v, w = np.meshgrid(*nodes, indexing="ij")
    turn = curvature * u
    chord = np.sinc(turn / 2 / np.pi) * u
    # A spline runs inside of its control points: on a circle, at (2 + cos) / 3 of their distance
    # from its centre, 1 / curvature away. Move them outwards by as much.
    angle = curvature * spacing
    outwards = 3 / (2 + math.cos(angle))
    shift = curvature * spacing**2 / 2 * np.sinc(angle / 2 / np.pi) ** 2 / (2 + math.cos(angle))
    control = np.stack(
        [
            outwards * (chord * np.cos(turn / 2) - v * np.sin(turn)),
            outwards * (chord * np.sin(turn / 2) + v * np.cos(turn)) - shift,
            w,
        ]
    )
    control += rng.normal(0.0, sigma, control.shape)
    control = np.einsum("ab,buvw->auvw", rotation, control) + centre_zyx[:, None, None, None]

    spline_u, spline_v, spline_w = (
        _cubic_b_splines(q, n, spacing) for q, n in zip(local, nodes, strict=True)
    )
    n_u, n_v, n_w = map(len, local)
    across = np.einsum("jv,kw,auvw->uajk", spline_v, spline_w, control, optimize=True)
    points = spline_u @ across.astype(np.float32).reshape(len(across), -1)
    points = points.reshape(n_u, 3, n_v * n_w)
    voxels = np.rint(points)

    turn = curvature * local[0]
    frame = np.zeros((n_u, 3, 3))  # columns: the object's own axes there
    frame[:, 0, 0] = frame[:, 1, 1] = np.cos(turn)
    frame[:, 1, 0] = np.sin(turn)
    frame[:, 0, 1] = -frame[:, 1, 0]
    frame[:, 2, 2] = 1
    to_local = np.swapaxes(rotation @ frame, 1, 2).astype(np.float32)
    np.subtract(voxels, points, out=points)
    centres = (to_local @ points).reshape(n_u, 3, n_v, n_w)
    centres[:, 0] += local[0].astype(np.float32)[:, None, None]
    centres[:, 1] += local[1].astype(np.float32)[:, None]
    centres[:, 2] += local[2].astype(np.float32)
    np.abs(centres, out=centres)
    centres /= half_extents.astype(np.float32)[:, None, None]
    inside = _SOLIDS[solid](centres).reshape(n_u, n_v * n_w)

    z, y, x = (voxels[:, axis][inside].astype(np.intp) for axis in range(3))
    seen = np.ones(len(z), dtype=bool)
    for index, size in zip((z, y, x), zyx_shape, strict=True):
        seen &= (index >= 0) & (index < size)
    return ((z * zyx_shape[1] + y) * zyx_shape[2] + x)[seen]


def _cell_centres(extent: float, step: float) -> NDArray[np.floating[Any]]:
    """Centres of the fewest equal cells, at most `step` long, that fill `extent` around 0."""
    n = math.ceil(extent / step)
    return (np.arange(n) + 0.5) * (extent / n) - extent / 2


def _control_points(extent: float, spacing: float) -> NDArray[np.floating[Any]]:
    """Control points of a uniform cubic B-spline over at least `extent` around 0."""
    intervals = math.ceil(extent / spacing)
    return (np.arange(intervals + 3) - (intervals + 2) / 2) * spacing


def _cubic_b_splines(
    positions: NDArray[np.floating[Any]], nodes: NDArray[np.floating[Any]], spacing: float
) -> NDArray[np.float32]:
    """Weights (position, control point) of the uniform cubic B-spline; rows sum to 1."""
    t = (positions - nodes[1]) / spacing
    first = np.clip(t.astype(np.intp), 0, len(nodes) - 4)
    f = t - first
    weights = np.stack(
        [(1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3], axis=1
    )
    matrix = np.zeros((len(t), len(nodes)), dtype=np.float32)
    np.put_along_axis(matrix, first[:, None] + np.arange(4), weights.astype(np.float32) / 6, axis=1)
    return matrix


def draw_brightness(log_sd: float, rng: np.random.Generator) -> np.float32:
    """Draw the brightness of an object, min(1, exp(N(0, `log_sd`²)))."""
    return np.float32(min(1.0, math.exp(rng.normal(0.0, log_sd))))


def paint(canvas: NDArray[np.float32], voxels: NDArray[np.intp], brightness: np.float32) -> None:
    """Raise voxels of a canvas, given by flat index, to the brightness of an object."""
    canvas[voxels] = np.maximum(canvas[voxels], brightness)


# ---------------------------------------------------------------------------------------------
# Phantoms
# ---------------------------------------------------------------------------------------------


class DrawnPhantom(NamedTuple):
    """A phantom in memory.

    Attributes
    ----------
    shape
        uint8 ZYX, 1 in the objects.
    brightness
        float32 ZYX, at least 0; above 0 where `shape` is 1, and beside it in objects that are seen
        but too dim to be labelled.
    attributes
        What was drawn, ready for JSON: the number of objects, and for beads ``centres_zyx``.
    """

    shape: NDArray[np.uint8]
    brightness: NDArray[np.float32]
    attributes: dict[str, Any]
