"""Smooth random paths, and other draws that objects of tissue are made from; lengths are in µm."""

import math

import numpy as np

from tenet.data.phantoms.tubes import Points
from tenet.types import Range

#: What lies farther outside of the volume is not drawn.
BEYOND_UM = 4.0


def log_uniform(bounds: Range, rng: np.random.Generator) -> float:
    """Draw a number whose logarithm is uniform."""
    low, high = bounds
    return float(low * (high / low) ** rng.random())


def course(size_um: Points, step_um: float, turn: float, rng: np.random.Generator) -> Points:
    """A path (n, 3) through a random point of a volume, cut off outside of it."""
    middle, direction = rng.uniform(0, size_um), random_direction(rng)
    length = 1.2 * float(np.linalg.norm(size_um))
    ways = []
    for way in (-direction, direction):
        path = smooth_path(middle, way, length, step_um, turn, rng)
        outside = np.any((path < -BEYOND_UM) | (path > size_um + BEYOND_UM), axis=1)
        ways.append(path[: int(np.argmax(outside)) if outside.any() else len(path)])
    return np.concatenate([ways[0][:0:-1], ways[1]])


def smooth_path(
    start_um: Points,
    direction: Points,
    length_um: float,
    step_um: float,
    turn: float,
    rng: np.random.Generator,
) -> Points:
    """Points of a path that turns at random, (n, 3) in µm, `start_um` first.

    The direction wanders as a Brownian motion does: after s µm it is off by about turn · √s rad
    along each axis.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> path = smooth_path(np.zeros(3), np.array([1.0, 0, 0]), 10.0, 0.5, 0.1, rng)
    >>> path.shape, round(float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum()), 6)
    ((21, 3), 10.0)
    """
    steps = max(math.ceil(length_um / step_um), 1)
    step = length_um / steps
    walk = np.cumsum(rng.normal(0, turn * math.sqrt(step), (steps, 3)), axis=0)
    directions = direction / np.linalg.norm(direction) + walk
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-9)
    return start_um + np.concatenate([np.zeros((1, 3)), np.cumsum(directions * step, axis=0)])


def random_direction(rng: np.random.Generator) -> Points:
    """A unit vector, all directions alike."""
    direction = rng.normal(size=3)
    unit: Points = direction / np.linalg.norm(direction)
    return unit


def smooth_noise(n: int, correlation: float, rng: np.random.Generator) -> Points:
    """Normal numbers (n,) that change over `correlation` steps."""
    width = math.ceil(3 * correlation)
    kernel = np.exp(-0.5 * (np.arange(-width, width + 1) / max(correlation, 1e-9)) ** 2)
    white = rng.normal(size=n + 2 * width)
    noise: Points = np.convolve(white, kernel / np.linalg.norm(kernel), mode="valid")
    return noise


def tangents(points: Points) -> Points:
    """Unit vectors along a path (n, 3)."""
    gradient = np.gradient(points, axis=0)
    unit: Points = gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-9)
    return unit


def aside(along: Points, rng: np.random.Generator) -> Points:
    """A unit vector at right angles to another."""
    while True:
        aside = np.cross(along, rng.normal(size=3))
        length = float(np.linalg.norm(aside))
        if length > 1e-3:
            unit: Points = aside / length
            return unit
