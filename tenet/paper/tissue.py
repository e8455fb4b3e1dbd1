"""Stand-ins for tissue: neurons, and microglia around a tumour.

Cells are made of balls along branching random walks: a soma, and processes that taper, turn and
branch. The cells look like the structures of the paper's figures, and are no model of an animal.
Lengths are in µm. Brightness falls with depth, because light is scattered.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tenet.data.phantoms.checks import MOST_OBJECTS, check_shape, check_value
from tenet.data.phantoms.objects import DrawnPhantom
from tenet.errors import TenetError
from tenet.types import Range, Triple


@dataclass(frozen=True)
class Cell:
    """Looks of the cells of one kind. Lengths are in µm.

    Attributes
    ----------
    soma_radius : (float, float)
        Smallest and largest.
    processes : (int, int)
        Fewest and most processes that leave a soma.
    process_length : (float, float)
        Shortest and longest, without its branches.
    process_radius : (float, float)
        Radius at the soma and at the tip.
    branches_per_um : float
        Branches for each µm of process; a branch has at most two generations of its own.
    turn_deg_per_um : float
        Standard deviation of the change of direction.
    spines_per_um : float
        Balls of 0.5 µm beside the process.
    outside_um : float
        How far outside of the volume a soma may lie, whose processes may reach into the volume.
    """

    soma_radius: Range
    processes: tuple[int, int]
    process_length: Range
    process_radius: Range
    branches_per_um: float
    turn_deg_per_um: float
    spines_per_um: float = 0.0
    outside_um: float = 0.0


CELLS = {
    "neurons": Cell((5.0, 8.0), (4, 7), (60.0, 160.0), (1.4, 0.5), 0.012, 4.0, 0.15, 12.0),
    "microglia": Cell((3.5, 5.0), (5, 8), (15.0, 30.0), (1.3, 0.7), 0.06, 14.0),
    "tumour": Cell((5.0, 8.0), (0, 0), (0.0, 0.0), (1.0, 1.0), 0.0, 0.0),
}


@dataclass(frozen=True)
class TissuePhantomSettings:
    """A volume of tissue with cells of one kind.

    Attributes
    ----------
    kind : {"neurons", "microglia", "tumour"}
        The tumour's cells lie densely in a ball in a corner of the volume. Microglia lie outside of
        the ball, and are more numerous near the ball.
    zyx_shape : tuple of int
        Size of the volume in voxels.
    voxel_size_um : tuple of float
        Step of the grid in z, y, x.
    n_cells : int
        Number of somata; of neurons some lie outside of the volume.
    scattering_length_um : float
        Depth at which brightness has fallen to 1/e.
    brightness_log_sd : float
        Standard deviation of the log of a cell's brightness.

    Raises
    ------
    TenetError
        If a value is out of its range.
    """

    kind: Literal["neurons", "microglia", "tumour"]
    zyx_shape: Triple
    voxel_size_um: tuple[float, float, float]
    n_cells: int = 4
    scattering_length_um: float = 150.0
    brightness_log_sd: float = 0.3

    def __post_init__(self) -> None:
        if self.kind not in CELLS:
            raise TenetError(f"phantom setting kind is {self.kind!r}: one of {', '.join(CELLS)}")
        if min(self.zyx_shape) < 8 or self.n_cells < 1 or min(self.voxel_size_um) <= 0:
            raise TenetError("tissue needs at least 8 voxels a side, a voxel size and a cell")
        check_shape(self.zyx_shape)
        check_value("n_cells", self.n_cells, 1, MOST_OBJECTS)
        if not self.scattering_length_um > 0 or self.brightness_log_sd < 0:
            raise TenetError("tissue needs a scattering length above 0 and no negative spread")

    def draw(self, rng: np.random.Generator) -> DrawnPhantom:
        """Draw the volume; its attributes are ``n_objects`` and the centres ``somata_zyx``."""
        return _draw(self, rng)


def tumour_um(zyx_shape: Triple, voxel_size_um: tuple[float, float, float]) -> tuple[Any, float]:
    """Centre (z, y, x) and radius in µm of the ball where the tumour lies."""
    size = np.array(zyx_shape) * np.array(voxel_size_um)
    return size * (0.5, 0.28, 0.28), float(0.26 * size[1:].min())


class _Ball(NamedTuple):
    centre_um: NDArray[np.float64]
    radius_um: float


def _draw(settings: TissuePhantomSettings, rng: np.random.Generator) -> DrawnPhantom:
    voxel = np.array(settings.voxel_size_um)
    canvas = np.zeros(settings.zyx_shape, dtype=np.float32)
    centres = _somata(settings, rng)
    for centre in centres:
        brightness = min(1.0, math.exp(rng.normal(-0.2, settings.brightness_log_sd)))
        for ball in _cell(CELLS[settings.kind], centre, rng):
            _paint_ball(canvas, ball.centre_um / voxel - 0.5, ball.radius_um / voxel, brightness)
    depth = (np.arange(settings.zyx_shape[0]) + 0.5) * voxel[0]
    canvas *= np.exp(-depth / settings.scattering_length_um)[:, None, None].astype(np.float32)
    found = {"n_objects": len(centres), "somata_zyx": (centres / voxel - 0.5).tolist()}
    return DrawnPhantom((canvas > 0).view(np.uint8), canvas, found)


def _somata(settings: TissuePhantomSettings, rng: np.random.Generator) -> NDArray[np.float64]:
    """Places of somata, apart from one another."""
    size = np.array(settings.zyx_shape) * np.array(settings.voxel_size_um)
    reach, beyond = CELLS[settings.kind].soma_radius[1], CELLS[settings.kind].outside_um
    least = 0.5 * reach - beyond
    middle, radius = tumour_um(settings.zyx_shape, settings.voxel_size_um)
    apart = (1.3 if settings.kind == "tumour" else 3.0) * reach
    placed: list[NDArray[np.float64]] = []
    for _ in range(2000 * settings.n_cells):
        if len(placed) == settings.n_cells:
            break
        if settings.kind == "tumour":
            step = rng.normal(size=3)
            at = middle + step / np.linalg.norm(step) * (radius - reach) * rng.random() ** (1 / 3)
        else:
            at = rng.uniform(-beyond, size + beyond)
        outside = float(np.linalg.norm(at - middle)) - radius
        if settings.kind == "microglia" and (
            outside < reach or rng.random() > math.exp(-outside / (2 * radius))
        ):
            continue
        if (at < least).any() or (at > size - least).any():
            continue
        if all(float(np.linalg.norm(at - other)) >= apart for other in placed):
            placed.append(at)
    if len(placed) < settings.n_cells:
        raise TenetError(
            f"no room for {settings.n_cells} cells ({settings.kind}) in {settings.zyx_shape} "
            f"voxels, only for {len(placed)}: fewer cells, or a larger volume"
        )
    return np.array(placed)


def _cell(cell: Cell, centre: NDArray[np.float64], rng: np.random.Generator) -> list[_Ball]:
    """The balls of a cell."""
    radius = rng.uniform(*cell.soma_radius)
    # A soma is no perfect ball, but three balls, a little apart.
    balls = [
        _Ball(centre + rng.normal(scale=0.25 * radius, size=3), radius * share)
        for share in (1.0, 0.85, 0.75)
    ]
    fewest, most = cell.processes
    for _ in range(int(rng.integers(fewest, most + 1))):
        direction = rng.normal(size=3)
        length = rng.uniform(*cell.process_length)
        balls += _process(cell, centre, direction, length, cell.process_radius[0], 2, rng)
    return balls


def _process(
    cell: Cell,
    start: NDArray[np.float64],
    direction: NDArray[np.float64],
    length: float,
    radius: float,
    generations: int,
    rng: np.random.Generator,
) -> list[_Ball]:
    """A process with its branches and spines."""
    step, tip = 0.35, cell.process_radius[1]
    steps = max(int(length / step), 1)
    turn = math.radians(cell.turn_deg_per_um) * math.sqrt(step)
    balls, at = [], start.copy()
    direction = direction / np.linalg.norm(direction)
    for index in range(steps):
        direction = direction + rng.normal(scale=turn, size=3)
        direction /= np.linalg.norm(direction)
        at = at + step * direction
        here = radius + (tip - radius) * index / steps
        balls.append(_Ball(at, here))
        if rng.random() < cell.spines_per_um * step:
            aside = np.cross(direction, rng.normal(size=3))
            aside /= max(float(np.linalg.norm(aside)), 1e-9)
            balls += [_Ball(at + aside * (here + out), 0.5) for out in (0.4, 0.9)]
        if generations and rng.random() < cell.branches_per_um * step:
            aside = np.cross(direction, rng.normal(size=3))
            aside /= max(float(np.linalg.norm(aside)), 1e-9)
            rest = (length - index * step) * rng.uniform(0.4, 0.8)
            balls += _process(
                cell, at, direction + aside, rest, max(0.8 * here, tip), generations - 1, rng
            )
    return balls


def _paint_ball(
    canvas: NDArray[np.float32],
    centre: NDArray[np.float64],
    radius: NDArray[np.float64],
    brightness: float,
) -> None:
    """Paint an ellipsoid, in voxels; voxels outside of the volume are left out."""
    nearest = np.round(centre).astype(int)
    offsets = _offsets(*(round(float(r), 1) for r in radius))
    voxels = nearest + offsets
    inside = ((voxels >= 0) & (voxels < canvas.shape)).all(axis=1)
    z, y, x = voxels[inside].T
    canvas[z, y, x] = np.maximum(canvas[z, y, x], np.float32(brightness))


@lru_cache(maxsize=512)
def _offsets(rz: float, ry: float, rx: float) -> NDArray[np.intp]:
    """Voxels of an ellipsoid around the origin; at least the origin itself."""
    reach = [math.floor(r) for r in (rz, ry, rx)]
    grid = np.mgrid[tuple(slice(-n, n + 1) for n in reach)].reshape(3, -1).T
    radii = np.maximum((rz, ry, rx), 0.5)
    kept: NDArray[np.intp] = grid[((grid / radii) ** 2).sum(axis=1) <= 1]
    return kept
