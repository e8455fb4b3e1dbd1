"""Spiny dendrites and axons with boutons, of random shape; lengths are in µm.

What is drawn follows electron microscopy of mouse cortex: `benchmarks/tissue.py` compares them.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tenet.data.phantoms.paths import (
    aside,
    course,
    log_uniform,
    smooth_noise,
    smooth_path,
    tangents,
)
from tenet.data.phantoms.tubes import Piece, Points, Roughness, Tube
from tenet.types import Range


@dataclass(frozen=True)
class DendriteLooks:
    """What dendrites look like; a range is drawn from uniformly on a logarithmic scale.

    Attributes
    ----------
    shaft_um
        Diameter of the shaft.
    spines_per_um
        Spines for each µm of shaft.
    spine_length_um, length_log_sd, length_limits_um
        Median length of a spine from the shaft's surface to the tip, standard deviation of its
        logarithm, and its limits.
    head_um, head_log_sd, head_limits_um
        The same of the diameter of heads.
    neck_um
        Diameter of necks.
    stubby, headless
        Share of the spines without a neck, and without a head.
    branching
        Probability that a dendrite has a branch.
    """

    shaft_um: Range = (0.3, 2.0)
    spines_per_um: Range = (0.5, 2.0)
    spine_length_um: float = 1.9
    length_log_sd: float = 0.5
    length_limits_um: Range = (0.5, 3.5)
    head_um: float = 0.6
    head_log_sd: float = 0.35
    head_limits_um: Range = (0.3, 1.0)
    neck_um: Range = (0.1, 0.2)
    stubby: float = 0.15
    headless: float = 0.07
    branching: float = 0.2


@dataclass(frozen=True)
class AxonLooks:
    """What axons look like.

    Attributes
    ----------
    thickness_um
        Diameter between boutons.
    bouton_um
        Diameter of boutons.
    spacing_um
        From one bouton to the next.
    """

    thickness_um: Range = (0.15, 0.3)
    bouton_um: Range = (0.5, 1.0)
    spacing_um: Range = (3.0, 6.0)


def draw_dendrite(
    size_um: Points, rng: np.random.Generator, looks: DendriteLooks | None = None
) -> Piece:
    """Draw a dendrite with spines through a volume of some size (z, y, x in µm).

    Examples
    --------
    >>> dendrite = draw_dendrite(np.array([20.0, 20.0, 20.0]), np.random.default_rng(0))
    >>> len(dendrite.tips_um) == len(dendrite.spine_lengths_um) > 0
    True
    """
    looks = looks or DendriteLooks()
    radius = log_uniform(looks.shaft_um, rng) / 2
    shafts = [_shaft(course(size_um, 0.35, 0.12, rng), radius, rng)]
    if rng.random() < looks.branching:
        shafts.append(_branch(shafts[0], size_um, rng))
    density = log_uniform(looks.spines_per_um, rng)
    spines = [spine for shaft in shafts for spine in _spines(shaft, density, looks, rng)]
    return Piece(
        tubes=[*shafts, *(tube for spine in spines for tube in spine.tubes)],
        roughness=Roughness.draw(0.4, 1.0, rng, waves=6),
        tips_um=[spine.tip_um for spine in spines],
        spine_lengths_um=[spine.length_um for spine in spines],
    )


def _shaft(path: Points, radius_um: float, rng: np.random.Generator) -> Tube:
    return Tube(path, radius_um * np.exp(0.2 * smooth_noise(len(path), 3, rng)))


def _branch(shaft: Tube, size_um: Points, rng: np.random.Generator) -> Tube:
    """A thinner shaft that leaves another one by 30 to 70 degrees."""
    points, radii = shaft
    root = int(rng.integers(len(points)))
    along = tangents(points)[root] * rng.choice((-1, 1))
    angle = math.radians(rng.uniform(30, 70))
    direction = math.cos(angle) * along + math.sin(angle) * aside(along, rng)
    path = smooth_path(points[root], direction, 1.2 * float(size_um.max()), 0.35, 0.12, rng)
    return _shaft(path, float(radii[root]) * rng.uniform(0.6, 0.9), rng)


class Spine(NamedTuple):
    """A spine, its tip, and how far it reaches from the surface of its shaft."""

    tubes: list[Tube]
    tip_um: Points
    length_um: float


def _spines(
    shaft: Tube, density: float, looks: DendriteLooks, rng: np.random.Generator
) -> list[Spine]:
    """Spines at places that are independent of one another."""
    points, radii = shaft
    if len(points) < 3:
        return []
    length = float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
    directions = tangents(points)
    spines = []
    for index in rng.integers(1, len(points) - 1, rng.poisson(density * length)):
        between = rng.random()
        root = (1 - between) * points[index] + between * points[index + 1]
        outward = aside(directions[index], rng)
        spines.append(_spine(root, outward, directions[index], float(radii[index]), looks, rng))
    return spines


def _spine(
    root: Points,
    outward: Points,
    along: Points,
    shaft_radius: float,
    looks: DendriteLooks,
    rng: np.random.Generator,
) -> Spine:
    """A spine that leaves a shaft more or less straight."""
    kind = rng.random()
    stubby, headless = kind < looks.stubby, kind > 1 - looks.headless
    shortest, longest = looks.length_limits_um
    spread = math.exp(rng.normal(0, looks.length_log_sd))
    length = float(np.clip(looks.spine_length_um * spread, shortest, longest))
    head = float(looks.head_um * math.exp(rng.normal(0, looks.head_log_sd)))
    head = float(np.clip(head, *looks.head_limits_um)) / 2
    neck = log_uniform(looks.neck_um, rng) / 2
    if stubby:
        length = rng.uniform(shortest, 2 * shortest)
    surface = root + outward * shaft_radius
    leaning = outward + rng.normal(0, 0.35) * along + rng.normal(0, 0.15, 3)
    end = neck if headless or not stubby else head
    course_um = max(length - end, 0.1)
    path = smooth_path(surface, leaning, course_um, 0.12, 0.25, rng)
    at = np.linspace(0, course_um, len(path))
    if stubby:
        radii = np.linspace(0.7, 1.0, len(path)) * head
    else:
        radii = neck * (1 + rng.uniform(0.5, 1.5) * np.exp(-at / 0.3))
        if not headless:
            radii = np.maximum(radii, _head(at, length, head, rng))
    last = path[-1] - path[-2]
    tip = path[-1] + radii[-1] * last / np.linalg.norm(last)
    foot = Tube(np.stack([root + outward * 0.6 * shaft_radius, surface]), radii[[0, 0]])
    return Spine([foot, Tube(path, radii)], tip, length)


def _head(at_um: Points, length_um: float, radius_um: float, rng: np.random.Generator) -> Points:
    """Radii of a head, an ellipsoid 1 to 2 times as long as wide that ends at the tip."""
    half = min(radius_um * rng.uniform(1.0, 2.0), length_um / 2)
    off = (at_um - (length_um - half)) / half
    radii: Points = radius_um * np.sqrt(np.maximum(1 - off**2, 0))
    return radii


def draw_axon(size_um: Points, rng: np.random.Generator, looks: AxonLooks | None = None) -> Piece:
    """Draw an axon with boutons through a volume of some size (z, y, x in µm).

    Examples
    --------
    >>> axon = draw_axon(np.array([20.0, 20.0, 20.0]), np.random.default_rng(0))
    >>> bool(axon.tubes[0].radii_um.min() < 0.2)
    True
    """
    looks = looks or AxonLooks()
    path = course(size_um, 0.2, 0.22, rng)
    radii = np.full(len(path), log_uniform(looks.thickness_um, rng) / 2)
    at = 0.2 * np.arange(len(path))
    place = rng.uniform(0, looks.spacing_um[1])
    while place < at[-1]:
        radius = rng.uniform(*looks.bouton_um) / 2
        half = radius * rng.uniform(1.0, 1.8)
        radii = np.maximum(radii, radius * np.sqrt(np.maximum(1 - ((at - place) / half) ** 2, 0)))
        place += rng.uniform(*looks.spacing_um)
    return Piece([Tube(path, radii)], roughness=Roughness.draw(0.15, 1.0, rng))
