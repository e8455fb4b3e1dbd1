"""Vessels, microglia and somata of random shape; lengths are in µm."""

from dataclasses import dataclass

import numpy as np

from tenet.data.phantoms.paths import (
    course,
    log_uniform,
    random_direction,
    smooth_noise,
    smooth_path,
    tangents,
)
from tenet.data.phantoms.tubes import Piece, Points, Roughness, Tube
from tenet.types import Range


@dataclass(frozen=True)
class VesselLooks:
    """What vessels look like.

    Attributes
    ----------
    diameter_um
        Of the trunk; no branch is thinner than the least of it.
    hollow
        Probability that the wall alone is labelled, and plasma is not.
    wall_um
        Thickness of such a wall.
    branches_per_um
        Branches for each µm; a branch has branches of its own, once.
    """

    diameter_um: Range = (4.0, 10.0)
    hollow: float = 0.5
    wall_um: Range = (0.4, 1.0)
    branches_per_um: float = 0.04


@dataclass(frozen=True)
class CellLooks:
    """What a cell body and its processes look like.

    Attributes
    ----------
    soma_um
        Diameter of the soma.
    processes
        Fewest and most processes that leave it.
    length_um
        Length of a process without its branches.
    thickness_um
        Diameter of a process at the tips and at the soma.
    branches_per_um, generations
        Branches for each µm, and how often a branch branches again.
    turn
        How much a process turns, in radians for each root of a µm.
    nucleus
        Probability that the nucleus is dark.
    """

    soma_um: Range
    processes: tuple[int, int]
    length_um: Range
    thickness_um: Range
    branches_per_um: float
    generations: int
    turn: float
    nucleus: float = 0.0


MICROGLIA = CellLooks((6.0, 10.0), (5, 9), (10.0, 25.0), (0.3, 1.0), 0.15, 2, 0.25)
SOMA = CellLooks((8.0, 15.0), (2, 6), (15.0, 40.0), (0.8, 3.0), 0.03, 1, 0.1, nucleus=0.3)


def draw_vessel(
    size_um: Points, rng: np.random.Generator, looks: VesselLooks | None = None
) -> Piece:
    """Draw a vessel with branches through a volume of some size (z, y, x in µm).

    Examples
    --------
    >>> looks = VesselLooks(hollow=1.0)
    >>> vessel = draw_vessel(np.array([20.0, 20.0, 20.0]), np.random.default_rng(0), looks)
    >>> len(vessel.lumen) == len(vessel.tubes)
    True
    """
    looks = looks or VesselLooks()
    least, radius = looks.diameter_um[0] / 2, log_uniform(looks.diameter_um, rng) / 2
    step = least / 2
    trunk = _vessel(course(size_um, step, 0.08, rng), radius, rng)
    tubes = _with_branches(trunk, looks.branches_per_um, 2, step, 0.08, least, rng)
    wall = log_uniform(looks.wall_um, rng)
    hollow = rng.random() < looks.hollow
    lumen = [Tube(tube.points_um, tube.radii_um - wall) for tube in tubes] if hollow else []
    return Piece(tubes, lumen, Roughness.draw(0.03, 4.0, rng))


def _vessel(path: Points, radius_um: float, rng: np.random.Generator) -> Tube:
    return Tube(path, radius_um * np.exp(0.05 * smooth_noise(len(path), 3, rng)))


def draw_microglia(
    size_um: Points, rng: np.random.Generator, looks: CellLooks = MICROGLIA
) -> Piece:
    """Draw a microglial cell with fine processes, its soma in a volume or somewhat outside of it.

    Examples
    --------
    >>> cell = draw_microglia(np.array([20.0, 20.0, 20.0]), np.random.default_rng(0))
    >>> len(cell.tubes) > 5
    True
    """
    return _cell(size_um, looks, rng)


def draw_soma(size_um: Points, rng: np.random.Generator, looks: CellLooks = SOMA) -> Piece:
    """Draw a cell body with the first of its dendrites, in a volume or somewhat outside of it.

    Examples
    --------
    >>> soma = draw_soma(np.array([20.0, 20.0, 20.0]), np.random.default_rng(0))
    >>> bool(8 <= 2 * soma.tubes[0].radii_um[0] <= 15)
    True
    """
    return _cell(size_um, looks, rng)


def _cell(size_um: Points, looks: CellLooks, rng: np.random.Generator) -> Piece:
    """A soma of three balls, the first of its full size, and processes that taper."""
    radius = rng.uniform(*looks.soma_um) / 2
    centre = rng.uniform(-radius, size_um + radius)
    around = centre + rng.normal(0, 0.2 * radius, (2, 3))
    places = [centre, *around]
    tubes = [
        Tube(place[None], np.array([radius * share]))
        for place, share in zip(places, (1.0, 0.9, 0.8), strict=True)
    ]
    fewest, most = looks.processes
    for _ in range(int(rng.integers(fewest, most, endpoint=True))):
        tubes += _process(centre, radius, looks, rng)
    nucleus = [Tube(centre[None], np.array([0.55 * radius]))]
    return Piece(
        tubes,
        nucleus if rng.random() < looks.nucleus else [],
        Roughness.draw(0.12, 3.0, rng),
    )


def _process(
    centre: Points, soma_radius: float, looks: CellLooks, rng: np.random.Generator
) -> list[Tube]:
    """A process with its branches, from inside of the soma."""
    thin, thick = (thickness / 2 for thickness in looks.thickness_um)
    direction, length = random_direction(rng), rng.uniform(*looks.length_um)
    start = centre + 0.6 * soma_radius * direction
    path = smooth_path(start, direction, 0.4 * soma_radius + length, 0.4, looks.turn, rng)
    root = max(thick * rng.uniform(0.6, 1.0), thin)
    taper = np.linspace(0, 1, len(path))
    tube = Tube(path, root + (thin - root) * taper)
    return _with_branches(
        tube, looks.branches_per_um, looks.generations, 0.4, looks.turn, thin, rng
    )


def _with_branches(
    tube: Tube,
    per_um: float,
    generations: int,
    step_um: float,
    turn: float,
    least_um: float,
    rng: np.random.Generator,
) -> list[Tube]:
    """A tube and its branches, each thinner than its parent and as long as the rest of it."""
    if not generations or len(tube.points_um) < 3:
        return [tube]
    points, radii = tube
    directions = tangents(points)
    found = [tube]
    for root in rng.integers(1, len(points) - 1, rng.poisson(per_um * step_um * len(points))):
        direction = directions[root] + 0.8 * random_direction(rng)
        length = step_um * (len(points) - root) * rng.uniform(0.4, 1.0)
        path = smooth_path(points[root], direction, length, step_um, turn, rng)
        first = max(float(radii[root]) * rng.uniform(0.6, 0.9), least_um)
        last = max(float(radii[-1]) * rng.uniform(0.8, 1.0), least_um)
        branch = Tube(path, np.linspace(first, min(first, last), len(path)))
        found += _with_branches(branch, per_um, generations - 1, step_um, turn, least_um, rng)
    return found
