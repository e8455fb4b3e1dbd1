"""Simulated ground truth: volumes of known shape and brightness, and their files.

A phantom is a pair of volumes on a fine isotropic grid: *shape*, 1 inside an object and 0
elsewhere, and *brightness*, how much an object emits, in [0, 1]. Where objects overlap the brighter
one counts:

    shape = union of the objects
    brightness = max over the objects present of min(1, exp(N(0, sd)))

Three kinds are drawn here: training phantoms (bent lines and a few solids, elastically deformed),
straight lines at a set angle to the optical axis, and beads. A user's own come in as ``.npz``
files.

Arrays are Z, Y, X. Coordinates count voxels, an integer being the centre of a voxel.
"""

import math
import multiprocessing
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from zarr.codecs import BloscCodec
from zarr.storage import ZipStore

from tenet.errors import TenetError, one_line
from tenet.interruption import end_with_parent
from tenet.io.atomic import replacing, save_json, writing
from tenet.ranges import MOST_VOXELS

SUFFIX = ".zarr.zip"
SET_FILE = "phantoms.json"
#: Lines, beads or cells of a volume, at most.
MOST_OBJECTS = 100_000

Triple = tuple[int, int, int]
Range = tuple[float, float]
Progress = Callable[[int, int], None]

# ---------------------------------------------------------------------------------------------
# Settings
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainingPhantomSettings:
    """Training phantoms; the defaults are the paper's. Lengths are in voxels.

    Attributes
    ----------
    zyx_shape
        Size of the volume.
    n_objects
        Fewest and most objects; the number is drawn uniformly for each volume.
    line_fraction
        Probability that an object is a line. The others are balls, octahedra and cubes alike.
    line_length, line_thickness
        Shortest and longest line; smallest and largest side of its square cross-section.
    line_bend_deg
        Largest angle between the two ends of a line, which is an arc of a circle.
    solid_radius
        Smallest and largest distance from the centre to the surface of a ball, to a corner of an
        octahedron, to a face of a cube.
    elastic_sigma, elastic_spacing
        Standard deviation of the random displacements of an object's control points, and the
        distance between these.
    brightness_log_sd
        Standard deviation of log brightness, before brightness is cut off at 1.

    Raises
    ------
    TenetError
        If a value is out of its range. ``elastic_sigma`` may be a fifth of ``elastic_spacing`` at
        most: stronger deformations tear objects apart.
    """

    zyx_shape: Triple = (1200, 500, 500)
    n_objects: tuple[int, int] = (1500, 2500)
    line_fraction: float = 0.95
    line_length: Range = (120.0, 240.0)
    line_thickness: Range = (7.0, 7.0)
    line_bend_deg: float = 90.0
    solid_radius: Range = (10.0, 30.0)
    elastic_sigma: float = 5.0
    elastic_spacing: float = 30.0
    brightness_log_sd: float = 0.5

    def draw(self, rng: np.random.Generator) -> "DrawnPhantom":
        """See `draw_training_phantom`."""
        return draw_training_phantom(self, rng)

    def __post_init__(self) -> None:
        check_shape(self.zyx_shape)
        _check_range("n_objects", self.n_objects, 0)
        check_value("n_objects", self.n_objects[1], 0, MOST_OBJECTS)
        _check_range("line_length", self.line_length, 1)
        _check_range("solid_radius", self.solid_radius, 1)
        _check_range("line_thickness", self.line_thickness, 1)
        check_value("line_fraction", self.line_fraction, 0, 1)
        check_value("line_bend_deg", self.line_bend_deg, 0, 180)
        check_value("elastic_spacing", self.elastic_spacing, 1)
        check_value("elastic_sigma", self.elastic_sigma, 0, self.elastic_spacing / 5)
        check_value("brightness_log_sd", self.brightness_log_sd, 0)


@dataclass(frozen=True)
class AnglePhantomSettings:
    """Straight lines at one angle to the optical axis. Lengths are in voxels.

    Attributes
    ----------
    zyx_shape
        Size of the volume (500³; the paper's figure shows 900³).
    n_lines, line_length, line_thickness
        Number of lines, shortest and longest line, side of the square cross-section.
    angle_deg
        Angle between the lines and z, in [0, 90], or ``"random"``: uniform in [0, 90] for each
        line. The azimuth about z is uniform.
    brightness_log_sd
        See `TrainingPhantomSettings`.

    Raises
    ------
    TenetError
        If a value is out of its range.
    """

    zyx_shape: Triple = (500, 500, 500)
    n_lines: int = 250
    line_length: Range = (20.0, 40.0)
    line_thickness: float = 7.0
    angle_deg: float | Literal["random"] = "random"
    brightness_log_sd: float = 0.5

    def draw(self, rng: np.random.Generator) -> "DrawnPhantom":
        """See `draw_angle_phantom`."""
        return draw_angle_phantom(self, rng)

    def __post_init__(self) -> None:
        check_shape(self.zyx_shape)
        check_value("n_lines", self.n_lines, 0, MOST_OBJECTS)
        _check_range("line_length", self.line_length, 1)
        check_value("line_thickness", self.line_thickness, 1)
        check_value("brightness_log_sd", self.brightness_log_sd, 0)
        if isinstance(self.angle_deg, str):
            if self.angle_deg != "random":
                raise TenetError(
                    f"phantom setting angle_deg is {self.angle_deg!r}: "
                    "give an angle from 0 to 90 or 'random'"
                )
        else:
            check_value("angle_deg", self.angle_deg, 0, 90)


@dataclass(frozen=True)
class BeadsPhantomSettings:
    """Solid spheres that do not touch one another. Lengths are in µm.

    Attributes
    ----------
    zyx_shape
        Size of the volume in voxels.
    voxel_size_um
        Step of the grid in z, y, x.
    n_beads, diameter_um
        Number and diameter of the beads.
    gap_um
        Least distance between the surfaces of two beads.
    margin_um
        Least distance from the surface of a bead to the border of the volume.
    brightness_log_sd
        See `TrainingPhantomSettings`; 0 makes all beads equally bright (1).

    Raises
    ------
    TenetError
        If a value is out of its range.
    """

    zyx_shape: Triple = (310, 512, 512)
    voxel_size_um: tuple[float, float, float] = (0.05, 0.05, 0.05)
    n_beads: int = 8
    diameter_um: float = 2.0
    gap_um: float = 1.0
    margin_um: float = 1.0
    brightness_log_sd: float = 0.5

    def draw(self, rng: np.random.Generator) -> "DrawnPhantom":
        """See `draw_beads_phantom`."""
        return draw_beads_phantom(self, rng)

    def __post_init__(self) -> None:
        check_shape(self.zyx_shape)
        check_value("n_beads", self.n_beads, 0, MOST_OBJECTS)
        check_value("gap_um", self.gap_um, 0)
        check_value("margin_um", self.margin_um, 0)
        check_value("brightness_log_sd", self.brightness_log_sd, 0)
        if len(self.voxel_size_um) != 3 or not all(0 < s < math.inf for s in self.voxel_size_um):
            raise TenetError(
                f"phantom setting voxel_size_um is {self.voxel_size_um}: "
                "give three sizes above 0 (z, y, x)"
            )
        if not self.diameter_um > 0:
            raise TenetError(f"phantom setting diameter_um is {self.diameter_um}: must be above 0")


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


def check_shape(zyx_shape: Triple) -> None:
    """Refuse a volume without voxels, and one that no memory holds."""
    if len(zyx_shape) != 3 or min(zyx_shape) < 1:
        raise TenetError(
            f"phantom setting zyx_shape is {zyx_shape}: give three sizes of at least 1 (z, y, x)"
        )
    if math.prod(zyx_shape) > MOST_VOXELS:
        raise TenetError(
            f"phantom setting zyx_shape is {zyx_shape}: give at most {MOST_VOXELS:.2g} voxels"
        )


def check_value(name: str, value: float, low: float, high: float = math.inf) -> None:
    """Refuse a setting that is not within its limits."""
    if not (low <= value <= high and math.isfinite(value)):
        bounds = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise TenetError(f"phantom setting {name} is {value}: must be {bounds}")


def _check_range(name: str, bounds: tuple[float, float], low: float) -> None:
    if len(bounds) != 2 or not low <= bounds[0] <= bounds[1] < math.inf:
        raise TenetError(
            f"phantom setting {name} is {bounds}: give the smallest and the largest, "
            f"at least {low:g}, in this order"
        )


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


class _Deformation(NamedTuple):
    """Bend by an angle (rad) between the ends of the first axis, then random displacements."""

    bend: float = 0.0
    elastic_sigma: float = 0.0
    elastic_spacing: float = 30.0


def _object_voxels(
    solid: str,
    half_extents: NDArray[np.floating[Any]],
    deformation: _Deformation,
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


def _draw_brightness(log_sd: float, rng: np.random.Generator) -> np.float32:
    return np.float32(min(1.0, math.exp(rng.normal(0.0, log_sd))))


def _paint(canvas: NDArray[np.float32], voxels: NDArray[np.intp], brightness: np.float32) -> None:
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
        float32 ZYX in [0, 1], above 0 exactly where `shape` is 1.
    attributes
        What was drawn, ready for JSON: the number of objects, and for beads ``centres_zyx``.
    """

    shape: NDArray[np.uint8]
    brightness: NDArray[np.float32]
    attributes: dict[str, Any]


def draw_training_phantom(
    settings: TrainingPhantomSettings, rng: np.random.Generator
) -> DrawnPhantom:
    """Draw bent lines, balls, octahedra and cubes, elastically deformed and randomly rotated.

    Centres are uniform in the volume; the border cuts objects off.

    Parameters
    ----------
    settings
        Size, number and kinds of objects.
    rng
        Source of every random number.

    Returns
    -------
    DrawnPhantom
        With attribute ``n_objects``.
    """
    canvas = np.zeros(math.prod(settings.zyx_shape), dtype=np.float32)
    n_objects = int(rng.integers(settings.n_objects[0], settings.n_objects[1], endpoint=True))
    thinnest, thickest = settings.line_thickness
    max_bend = math.radians(settings.line_bend_deg)
    for _ in range(n_objects):
        if rng.random() < settings.line_fraction:
            solid, bend = "box", rng.uniform(-max_bend, max_bend)
            length, thickness = rng.uniform(*settings.line_length), thinnest
            if thickest > thinnest:
                thickness = rng.uniform(thinnest, thickest)
            extents = np.array([length, thickness, thickness])
        else:
            solid, bend = ("ball", "octahedron", "box")[rng.integers(3)], 0.0
            extents = np.full(3, 2 * rng.uniform(*settings.solid_radius))
        voxels = _object_voxels(
            solid,
            extents / 2,
            _Deformation(bend, settings.elastic_sigma, settings.elastic_spacing),
            Rotation.random(rng=rng).as_matrix(),
            rng.uniform(0.0, settings.zyx_shape) - 0.5,
            settings.zyx_shape,
            rng,
        )
        _paint(canvas, voxels, _draw_brightness(settings.brightness_log_sd, rng))
    return _finish(canvas, settings.zyx_shape, {"n_objects": n_objects})


def draw_angle_phantom(settings: AnglePhantomSettings, rng: np.random.Generator) -> DrawnPhantom:
    """Draw straight lines at the set angle to z, each turned by a random angle about itself.

    Centres are uniform in the volume; the border cuts lines off.

    Parameters
    ----------
    settings
        Size, number of lines and their angle.
    rng
        Source of every random number.

    Returns
    -------
    DrawnPhantom
        With attribute ``n_objects``.
    """
    canvas = np.zeros(math.prod(settings.zyx_shape), dtype=np.float32)
    thickness = settings.line_thickness
    for _ in range(settings.n_lines):
        extents = np.array([rng.uniform(*settings.line_length), thickness, thickness])
        polar = rng.uniform(0.0, 90.0) if settings.angle_deg == "random" else settings.angle_deg
        azimuth, roll = rng.uniform(0.0, 360.0, 2)
        # The axes X, Y, Z of SciPy are our z, y, x: a roll about the line, which lies along z;
        # a tilt away from z; a turn about z.
        rotation = Rotation.from_euler("XZX", [azimuth, polar, roll], degrees=True)
        voxels = _object_voxels(
            "box",
            extents / 2,
            _Deformation(),
            rotation.as_matrix(),
            rng.uniform(0.0, settings.zyx_shape) - 0.5,
            settings.zyx_shape,
            rng,
        )
        _paint(canvas, voxels, _draw_brightness(settings.brightness_log_sd, rng))
    return _finish(canvas, settings.zyx_shape, {"n_objects": settings.n_lines})


def draw_beads_phantom(settings: BeadsPhantomSettings, rng: np.random.Generator) -> DrawnPhantom:
    """Draw solid spheres, wholly inside the volume and apart from one another.

    A voxel belongs to a bead if its centre does. Centres are uniform among the allowed ones.

    Parameters
    ----------
    settings
        Grid, number and size of the beads.
    rng
        Source of every random number.

    Returns
    -------
    DrawnPhantom
        With attributes ``n_objects`` and ``centres_zyx``: for each bead its centre in voxels,
        fractions included.

    Raises
    ------
    TenetError
        If the volume is too small for one bead, or no place is found for all of them.
    """
    size_um = np.asarray(settings.voxel_size_um)
    radius_um = settings.diameter_um / 2
    low = (radius_um + settings.margin_um) / size_um - 0.5
    high = np.asarray(settings.zyx_shape) - 1 - low
    if np.any(low > high):
        raise TenetError(
            f"a bead of {settings.diameter_um:g} µm with margins of {settings.margin_um:g} µm does "
            f"not fit into {settings.zyx_shape} voxels of {settings.voxel_size_um} µm: "
            "raise zyx_shape or lower margin_um"
        )
    centres = np.empty((0, 3))
    attempts = 0
    while len(centres) < settings.n_beads:
        attempts += 1
        if attempts > 1000 * settings.n_beads:
            raise TenetError(
                f"no place for {settings.n_beads} beads of {settings.diameter_um:g} µm in "
                f"{settings.zyx_shape} voxels of {settings.voxel_size_um} µm "
                f"({len(centres)} placed): lower n_beads or gap_um, or raise zyx_shape"
            )
        centre = rng.uniform(low, high)
        distances = np.linalg.norm((centres - centre) * size_um, axis=1)
        if np.all(distances >= settings.diameter_um + settings.gap_um):
            centres = np.vstack([centres, centre])

    canvas = np.zeros(settings.zyx_shape, dtype=np.float32)
    for centre in centres:
        first = np.ceil(centre - radius_um / size_um).astype(int)
        last = np.floor(centre + radius_um / size_um).astype(int)
        box = tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))
        squares = [
            ((np.arange(s.start, s.stop) - c) * step) ** 2
            for s, c, step in zip(box, centre, size_um, strict=True)
        ]
        z2, y2, x2 = np.meshgrid(*squares, indexing="ij", sparse=True)
        brightness = _draw_brightness(settings.brightness_log_sd, rng)
        canvas[box][z2 + y2 + x2 <= radius_um**2] = brightness
    attributes = {"n_objects": settings.n_beads, "centres_zyx": centres.tolist()}
    return _finish(canvas, settings.zyx_shape, attributes)


def _finish(
    canvas: NDArray[np.float32], zyx_shape: Triple, attributes: dict[str, Any]
) -> DrawnPhantom:
    brightness = canvas.reshape(zyx_shape)
    return DrawnPhantom((brightness > 0).view(np.uint8), brightness, attributes)


# ---------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------

_FORMAT = "tenet-phantom-1"
_SHAPE_BIT = 0x8000
_BRIGHTNESS_STEPS = 0x7FFF
# A crop of 240 × 112 × 112 touches few chunks, each of which costs more to call for than to
# decompress; and a volume is one file.
_CHUNKS = (120, 64, 64)


class Phantom:
    """A phantom on disk, read by crops; made by `open_phantom`.

    Attributes
    ----------
    path
        The file.
    zyx_shape
        Size of the volume.
    voxel_size_um
        Step of the grid in z, y, x in µm, or None: a phantom that is not tied to any length.
    attributes
        What the maker of the phantom noted.
    """

    def __init__(
        self,
        path: Path,
        zyx_shape: Triple,
        voxel_size_um: tuple[float, float, float] | None,
        attributes: dict[str, Any],
    ) -> None:
        self.path = path
        self.zyx_shape = zyx_shape
        self.voxel_size_um = voxel_size_um
        self.attributes = attributes
        self._array: Any = None
        self._opened_by = 0

    def read(self, z: slice, y: slice, x: slice) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Read a crop; only the chunks that it touches are loaded.

        Parameters
        ----------
        z, y, x
            The crop, in voxels.

        Returns
        -------
        shape
            uint8, 0 or 1.
        brightness
            float32 in [0, 1], exact to 1.6e-5 (it is stored in 32767 steps).

        Raises
        ------
        TenetError
            If the file is damaged there.
        """
        # Processes that share an open file would move each other's position in it.
        if self._array is None or self._opened_by != os.getpid():
            self._array = _open_zip(self.path)
            self._opened_by = os.getpid()
        # Archive, codec and array meet damaged data with whatever they run into.
        try:
            packed = self._array[z, y, x]
        except Exception as error:
            raise TenetError(
                f"phantom {self.path} is damaged ({one_line(error)}): make it anew"
            ) from error
        shape = (packed >> 15).astype(np.uint8)
        packed &= _BRIGHTNESS_STEPS
        return shape, packed.astype(np.float32) / np.float32(_BRIGHTNESS_STEPS)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_array": None}

    def __repr__(self) -> str:
        return f"Phantom({str(self.path)!r}, zyx_shape={self.zyx_shape})"


def save_phantom(
    path: Path | str,
    shape: NDArray[np.integer[Any] | np.bool_],
    brightness: NDArray[np.floating[Any]],
    *,
    voxel_size_um: tuple[float, float, float] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Phantom:
    """Store a phantom as one file: a Zarr array (version 3) in an uncompressed zip.

    A voxel is 16 bits, the shape in the highest and brightness × 32767, rounded, in the others, in
    chunks compressed without loss. So brightness is exact to 1.6e-5.

    Parameters
    ----------
    path
        Where to; the name ends in ``.zarr.zip``. An older file is replaced. The file takes its
        name only when it is complete.
    shape
        ZYX, values 0 and 1.
    brightness
        ZYX, finite, in [0, 1].
    voxel_size_um
        Step of the grid in z, y, x.
    attributes
        Anything worth noting that JSON can hold.

    Returns
    -------
    Phantom
        The stored phantom.

    Raises
    ------
    TenetError
        If the name or the volumes are not as described.
    """
    path = Path(path)
    if not path.name.endswith(SUFFIX):
        raise TenetError(f"phantom file {path}: the name must end in {SUFFIX}")
    _check_volumes(shape, brightness, str(path))
    chunks = tuple(min(c, n) for c, n in zip(_CHUNKS, shape.shape, strict=True))
    with replacing(path) as temporary, ZipStore(temporary, mode="w") as store:
        array: Any = zarr.create_array(
            store,
            shape=shape.shape,
            dtype="uint16",
            chunks=chunks,
            compressors=BloscCodec(cname="lz4", clevel=5, shuffle="noshuffle"),
            attributes={
                "format": _FORMAT,
                "voxel_size_um": None if voxel_size_um is None else list(voxel_size_um),
                "attributes": dict(attributes or {}),
            },
        )
        for start in range(0, shape.shape[0], chunks[0]):
            slab = slice(start, start + chunks[0])
            packed = np.rint(brightness[slab].astype(np.float32) * _BRIGHTNESS_STEPS).astype(
                np.uint16
            )
            packed[shape[slab] != 0] |= _SHAPE_BIT
            array[slab] = packed
    return open_phantom(path)


def open_phantom(path: Path | str) -> Phantom:
    """Open a phantom stored by `save_phantom`.

    Parameters
    ----------
    path
        The ``.zarr.zip`` file.

    Returns
    -------
    Phantom
        To be read by crops.

    Raises
    ------
    TenetError
        If the file is missing or is no phantom.
    """
    path = Path(path)
    array = _open_zip(path)
    header = dict(array.attrs)
    if header.get("format") != _FORMAT or array.ndim != 3 or array.dtype != np.uint16:
        raise TenetError(f"{path} is no phantom of this format ({_FORMAT}): make it anew")
    size = header["voxel_size_um"]
    z, y, x = array.shape
    return Phantom(path, (z, y, x), None if size is None else tuple(size), header["attributes"])


def open_phantoms(folder: Path | str) -> list[Phantom]:
    """Open all phantoms of a folder, sorted by name.

    Parameters
    ----------
    folder
        Folder with ``.zarr.zip`` files.

    Returns
    -------
    list of Phantom
        At least one.

    Raises
    ------
    TenetError
        If there is no phantom in it, or one cannot be opened.
    """
    folder = Path(folder)
    paths = _phantom_files(folder)
    if not paths:
        if any(folder.glob("*.npz")):
            raise TenetError(f"{folder} holds .npz files only: import them as phantoms first")
        raise TenetError(f"no phantoms (*{SUFFIX}) in {folder}: make or import some first")
    return [open_phantom(path) for path in paths]


def import_phantoms(
    npz_folder: Path | str,
    out_folder: Path | str,
    *,
    voxel_size_um: tuple[float, float, float] | None = None,
) -> list[Phantom]:
    """Store a user's own phantoms, one ``.npz`` each, in the form that training reads.

    Parameters
    ----------
    npz_folder
        Folder with ``*.npz``, each with the arrays ``shape`` (ZYX, 0 and 1) and ``brightness``
        (ZYX, finite, in [0, 1]).
    out_folder
        Where to; ``name.npz`` becomes ``name.zarr.zip``.
    voxel_size_um
        Step of the grid in z, y, x, if it is known.

    Returns
    -------
    list of Phantom
        The stored phantoms, sorted by name.

    Raises
    ------
    TenetError
        If there are none, a file cannot be read, or an array is missing or not as described.
    """
    npz_folder, out_folder = Path(npz_folder), Path(out_folder)
    paths = sorted(npz_folder.glob("*.npz"))
    if not paths:
        raise TenetError(f"no .npz files to import in {npz_folder}: check the folder")
    phantoms = []
    for path in paths:
        try:
            with np.load(path, allow_pickle=False) as arrays:
                missing = {"shape", "brightness"} - set(arrays.files)
                if missing:
                    raise TenetError(
                        f"{path} lacks the array {' and '.join(sorted(missing))}: "
                        f"it holds {', '.join(arrays.files) or 'nothing'}"
                    )
                shape, brightness = arrays["shape"], arrays["brightness"]
        except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
            raise TenetError(f"cannot read {path} as .npz without pickles: {error}") from error
        _check_volumes(shape, brightness, str(path))
        phantoms.append(
            save_phantom(
                out_folder / f"{path.stem}{SUFFIX}",
                shape,
                brightness,
                voxel_size_um=voxel_size_um,
                attributes={"imported_from": path.name},
            )
        )
    return phantoms


def _phantom_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob(f"*{SUFFIX}") if not p.name.startswith("."))


def _open_zip(path: Path) -> Any:
    if not path.is_file():
        raise TenetError(f"phantom {path} not found: make or import it first")
    try:
        return zarr.open_array(ZipStore(path, mode="r"), mode="r")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise TenetError(f"cannot read {path} as a phantom: {error}") from error


def _check_volumes(shape: NDArray[Any], brightness: NDArray[Any], where: str) -> None:
    if shape.ndim != 3 or 0 in shape.shape:
        raise TenetError(f"{where}: shape has the dimensions {shape.shape}, must be Z, Y, X")
    if brightness.shape != shape.shape:
        raise TenetError(
            f"{where}: shape {shape.shape} and brightness {brightness.shape} differ in size"
        )
    if shape.dtype.kind not in "bui" or shape.min() < 0 or shape.max() > 1:
        raise TenetError(f"{where}: shape must be of integers 0 and 1 only")
    # Comparisons with NaN are false, so that it is refused too.
    if brightness.dtype.kind != "f" or not (brightness.min() >= 0 and brightness.max() <= 1):
        raise TenetError(f"{where}: brightness must be of finite floating numbers from 0 to 1")


# ---------------------------------------------------------------------------------------------
# Sets
# ---------------------------------------------------------------------------------------------


def generate_set(
    settings: PhantomSettings,
    out_folder: Path | str,
    *,
    count: int,
    seed: int,
    draws: Sequence[int] | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[Phantom]:
    """Draw and store phantoms ``00``, ``01``, …, and note the settings in ``phantoms.json``.

    Volume i is drawn from the seed (`seed`, `draws`[i]), so that it depends neither on `workers`
    nor on `count`. ``phantoms.json`` is written last: where it is, the set is complete.

    Parameters
    ----------
    settings
        What is drawn.
    out_folder
        Where to. Volumes of the same names are replaced.
    count
        Number of volumes, at least 1.
    seed
        At least 0.
    draws
        A number for each volume, at least 0; by default 0, 1, …
    workers
        Number of processes, each of which holds one volume in memory (about 6 bytes a voxel).
    progress
        Called with the numbers of volumes done and of all, in the calling process.

    Returns
    -------
    list of Phantom
        The set, in order.

    Raises
    ------
    TenetError
        If a number is out of its range, the folder holds phantoms that are not of this set, or a
        volume cannot be drawn.
    """
    draws = range(count) if draws is None else draws
    if len(draws) != count:
        raise TenetError(f"{len(draws)} draws for a set of {count} phantoms: give one for each")
    lowest = min(draws, default=0)
    for name, number, least in (
        ("count", count, 1),
        ("seed", seed, 0),
        ("draw", lowest, 0),
        ("workers", workers, 1),
    ):
        if number < least:
            raise TenetError(f"{name} of a set of phantoms is {number}: must be at least {least}")
    out_folder = Path(out_folder)
    digits = max(2, len(str(count - 1)))
    paths = [out_folder / f"{index:0{digits}d}{SUFFIX}" for index in range(count)]
    strangers = set(_phantom_files(out_folder)) - set(paths)
    if strangers:
        raise TenetError(
            f"{out_folder} holds {min(strangers).name}, which is not of this set of {count}: "
            "remove it or choose another folder"
        )
    set_file = out_folder / SET_FILE
    with writing(set_file):
        out_folder.mkdir(parents=True, exist_ok=True)
        set_file.unlink(missing_ok=True)

    def report(done: int) -> None:
        if progress is not None:
            progress(done, count)

    if workers == 1:
        for done, (path, draw) in enumerate(zip(paths, draws, strict=True), start=1):
            _generate(settings, path, seed, draw)
            report(done)
    else:
        # Fresh processes: forking one that has threads can deadlock.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(
            min(workers, count), mp_context=context, initializer=end_with_parent
        ) as pool:
            jobs = [
                pool.submit(_generate, settings, path, seed, draw)
                for path, draw in zip(paths, draws, strict=True)
            ]
            try:
                for done, job in enumerate(as_completed(jobs), start=1):
                    job.result()
                    report(done)
            except BrokenProcessPool:
                raise TenetError(
                    f"{out_folder}: a process that drew phantoms was killed; is memory short? "
                    "take fewer workers"
                ) from None
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    phantoms = [open_phantom(path) for path in paths]
    record = {
        "kind": type(settings).__name__,
        "settings": asdict(settings),
        "volumes": [{"file": p.path.name, **p.attributes} for p in phantoms],
    }
    save_json(set_file, record)
    return phantoms


def _generate(settings: PhantomSettings, path: Path, seed: int, number: int) -> None:
    drawn = settings.draw(np.random.default_rng([seed, number]))
    save_phantom(
        path,
        drawn.shape,
        drawn.brightness,
        voxel_size_um=getattr(settings, "voxel_size_um", None),
        attributes={"seed": [seed, number], **drawn.attributes},
    )
