"""Three kinds of phantoms: the settings of each, with their ranges, and how it is drawn."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tenet.data.phantoms.checks import MOST_OBJECTS, check_range, check_shape, check_value
from tenet.data.phantoms.objects import (
    Deformation,
    DrawnPhantom,
    draw_brightness,
    object_voxels,
    paint,
)
from tenet.errors import TenetError
from tenet.types import Range, Triple

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

    Examples
    --------
    >>> settings = TrainingPhantomSettings(zyx_shape=(24, 40, 40), n_objects=(3, 5))
    >>> settings.line_thickness  # voxels
    (7.0, 7.0)
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
        """See `draw_training_phantom`.

        Examples
        --------
        >>> settings = TrainingPhantomSettings(zyx_shape=(24, 40, 40), n_objects=(3, 5))
        >>> phantom = settings.draw(np.random.default_rng(0))
        >>> phantom.shape.shape, phantom.brightness.dtype
        ((24, 40, 40), dtype('float32'))
        """
        return draw_training_phantom(self, rng)

    def __post_init__(self) -> None:
        check_shape(self.zyx_shape)
        check_range("n_objects", self.n_objects, 0)
        check_value("n_objects", self.n_objects[1], 0, MOST_OBJECTS)
        check_range("line_length", self.line_length, 1)
        check_range("solid_radius", self.solid_radius, 1)
        check_range("line_thickness", self.line_thickness, 1)
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

    Examples
    --------
    >>> AnglePhantomSettings(zyx_shape=(40, 40, 40), angle_deg=45.0).line_length  # voxels
    (20.0, 40.0)
    """

    zyx_shape: Triple = (500, 500, 500)
    n_lines: int = 250
    line_length: Range = (20.0, 40.0)
    line_thickness: float = 7.0
    angle_deg: float | Literal["random"] = "random"
    brightness_log_sd: float = 0.5

    def draw(self, rng: np.random.Generator) -> "DrawnPhantom":
        """See `draw_angle_phantom`.

        Examples
        --------
        >>> settings = AnglePhantomSettings(zyx_shape=(40, 40, 40), n_lines=2, angle_deg=45.0)
        >>> settings.draw(np.random.default_rng(0)).attributes
        {'n_objects': 2}
        """
        return draw_angle_phantom(self, rng)

    def __post_init__(self) -> None:
        check_shape(self.zyx_shape)
        check_value("n_lines", self.n_lines, 0, MOST_OBJECTS)
        check_range("line_length", self.line_length, 1)
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

    Examples
    --------
    >>> BeadsPhantomSettings(zyx_shape=(62, 102, 102), n_beads=1).diameter_um
    2.0
    """

    zyx_shape: Triple = (310, 512, 512)
    voxel_size_um: tuple[float, float, float] = (0.05, 0.05, 0.05)
    n_beads: int = 8
    diameter_um: float = 2.0
    gap_um: float = 1.0
    margin_um: float = 1.0
    brightness_log_sd: float = 0.5

    def draw(self, rng: np.random.Generator) -> "DrawnPhantom":
        """See `draw_beads_phantom`.

        Examples
        --------
        >>> settings = BeadsPhantomSettings((40, 40, 40), (0.1, 0.1, 0.1), n_beads=1)
        >>> phantom = settings.draw(np.random.default_rng(0))
        >>> round(float(phantom.shape.sum()) * 0.1**3, 1)  # µm³
        4.2
        """
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

    Examples
    --------
    >>> settings = TrainingPhantomSettings(zyx_shape=(24, 40, 40), n_objects=(3, 5))
    >>> phantom = draw_training_phantom(settings, np.random.default_rng(0))
    >>> phantom.shape.shape
    (24, 40, 40)
    """
    canvas = np.zeros(math.prod(settings.zyx_shape), dtype=np.float32)
    n_objects = int(rng.integers(settings.n_objects[0], settings.n_objects[1], endpoint=True))
    for _ in range(n_objects):
        draw = line_voxels if rng.random() < settings.line_fraction else solid_voxels
        paint(canvas, draw(settings, rng), draw_brightness(settings.brightness_log_sd, rng))
    return _finish(canvas, settings.zyx_shape, {"n_objects": n_objects})


def line_voxels(settings: TrainingPhantomSettings, rng: np.random.Generator) -> NDArray[np.intp]:
    """Flat indices of the voxels of a bent and deformed line at a random place."""
    max_bend = math.radians(settings.line_bend_deg)
    bend = rng.uniform(-max_bend, max_bend)
    thinnest, thickest = settings.line_thickness
    length, thickness = rng.uniform(*settings.line_length), thinnest
    if thickest > thinnest:
        thickness = rng.uniform(thinnest, thickest)
    return _deformed("box", np.array([length, thickness, thickness]), bend, settings, rng)


def solid_voxels(settings: TrainingPhantomSettings, rng: np.random.Generator) -> NDArray[np.intp]:
    """Flat indices of the voxels of a deformed ball, octahedron or cube at a random place."""
    solid = ("ball", "octahedron", "box")[rng.integers(3)]
    return _deformed(solid, np.full(3, 2 * rng.uniform(*settings.solid_radius)), 0.0, settings, rng)


def _deformed(
    solid: str,
    extents: NDArray[np.float64],
    bend: float,
    settings: TrainingPhantomSettings,
    rng: np.random.Generator,
) -> NDArray[np.intp]:
    """A solid, elastically deformed and rotated, anywhere in the volume."""
    return object_voxels(
        solid,
        extents / 2,
        Deformation(bend, settings.elastic_sigma, settings.elastic_spacing),
        Rotation.random(rng=rng).as_matrix(),
        rng.uniform(0.0, settings.zyx_shape) - 0.5,
        settings.zyx_shape,
        rng,
    )


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

    Examples
    --------
    >>> settings = AnglePhantomSettings(zyx_shape=(40, 40, 40), n_lines=2, angle_deg=45.0)
    >>> draw_angle_phantom(settings, np.random.default_rng(0)).attributes["n_objects"]
    2
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
        voxels = object_voxels(
            "box",
            extents / 2,
            Deformation(),
            rotation.as_matrix(),
            rng.uniform(0.0, settings.zyx_shape) - 0.5,
            settings.zyx_shape,
            rng,
        )
        paint(canvas, voxels, draw_brightness(settings.brightness_log_sd, rng))
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

    Examples
    --------
    >>> settings = BeadsPhantomSettings((40, 40, 40), (0.1, 0.1, 0.1), n_beads=1)
    >>> phantom = draw_beads_phantom(settings, np.random.default_rng(0))
    >>> len(phantom.attributes["centres_zyx"])
    1
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
        brightness = draw_brightness(settings.brightness_log_sd, rng)
        canvas[box][z2 + y2 + x2 <= radius_um**2] = brightness
    attributes = {"n_objects": settings.n_beads, "centres_zyx": centres.tolist()}
    return _finish(canvas, settings.zyx_shape, attributes)


def _finish(
    canvas: NDArray[np.float32], zyx_shape: Triple, attributes: dict[str, Any]
) -> DrawnPhantom:
    brightness = canvas.reshape(zyx_shape)
    return DrawnPhantom((brightness > 0).view(np.uint8), brightness, attributes)
