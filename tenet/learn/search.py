"""Search for the microscope that explains a stack best."""

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator
from scipy.spatial.distance import cdist

from tenet.learn.microscopes import Candidate, Widths, microscope, widths
from tenet.settings.own_stack import with_psf_grid
from tenet.settings.schema import ModelParams

#: Ranges of a `Candidate`. Lengths are from 0.4 to 2.7 times that told, fills from 0.45 up.
LEAST = Candidate(-0.9, 0.0, -0.3)
MOST = Candidate(1.0, Candidate.tails_of(0.45), 0.3)
#: Distances in the coordinates of a `Candidate` that matter alike, and how much farther than what
#: was tried the next try may be, in these units.
UNIT, FARTHER, STEPS_IN_UNIT = np.array([0.15, 0.6, 0.08]), 2.0, 6
#: Least distance of two tries, and the largest of a try from the best one, in these units.
APART, NEAR = 0.35, 2.5
#: Most candidates that are tried without and with spherical aberration.
MOST_EVEN, MOST_TRIED = 8, 20
#: How many standard errors better than the microscope as told something must be.
SURE = 2.0
#: Draws of the parts of a stack with which the search is done again.
DRAWS = 400
#: Saturated share of voxels from which a warning is given.
MOST_SATURATED = 0.05

#: Losses of the parts of a stack, in the order of the parts.
Losses = Callable[[Candidate], Sequence[float]]


class Estimate(NamedTuple):
    """A number with its standard error, and the ends of what explains the stack as well."""

    value: float
    error: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, as_good: NDArray[np.float64]) -> "Estimate":
        """From the numbers that other draws of the parts lead to; 95 % of them are inside."""
        error = float(np.sqrt(np.square(as_good - value).mean()))
        low, high = np.percentile(as_good, [2.5, 97.5])
        return cls(value, error, min(value, float(low)), max(value, float(high)))


class Found(NamedTuple):
    """The microscope that explains a stack best.

    Attributes
    ----------
    candidate : Candidate
        The microscope as told, where nothing is better by `SURE` standard errors.
    gain, standard_error : float
        Gain in loss over the microscope as told.
    length, tails, spherical : Estimate
        Its coordinates.
    as_good : ndarray, shape (candidates, 3)
        Candidates that other draws of the parts lead to (bootstrap; Efron, Ann. Statist. 7, 1,
        1979).
    tried : list of (Candidate, float)
        What was tried, and the mean loss.
    """

    candidate: Candidate
    gain: float
    standard_error: float
    length: Estimate
    tails: Estimate
    spherical: Estimate
    as_good: NDArray[np.float64]
    tried: list[tuple[Candidate, float]]

    @property
    def best(self) -> Candidate:
        """The best of what was tried."""
        return min(self.tried, key=lambda tried: tried[1])[0]


def search(losses_of: Losses, told: Candidate) -> Found:
    """Find the candidate whose mean loss is least, with few tries.

    After a star of tries about the microscope as told, each try is where a smooth surface through
    all losses is least, first without spherical aberration and then with it.

    Parameters
    ----------
    losses_of : callable
        Losses of the same parts of a stack, at least two, by a candidate.
    told : Candidate
        The start.
    """
    seen: dict[Candidate, NDArray[np.float64]] = {}

    def attempt(candidate: Candidate) -> None:
        candidate = _within(candidate)
        if candidate not in seen:
            seen[candidate] = np.asarray(losses_of(candidate), dtype=float)

    for candidate in _star(told):
        attempt(candidate)
    _descend(seen, attempt, [0, 1], MOST_EVEN)
    best = _best(seen)
    for spherical in (-0.12, 0.12):
        attempt(best._replace(spherical=best.spherical + spherical))
    axes = [0, 1, 2]
    _descend(seen, attempt, axes, MOST_TRIED)
    return _found(seen, told, axes)


def _star(told: Candidate) -> list[Candidate]:
    lengths = [told, *(told._replace(length=told.length + step) for step in (-0.3, 0.3))]
    gaussian, between = MOST.tails, 0.55 * MOST.tails
    return [
        *lengths,
        told._replace(tails=between),
        told._replace(length=told.length + 0.3, tails=between),
        told._replace(tails=gaussian),
    ]


def _within(candidate: Candidate) -> Candidate:
    limits = zip(candidate, LEAST, MOST, strict=True)
    return Candidate(*(round(float(min(max(value, low), high)), 4) for value, low, high in limits))


def _best(seen: dict[Candidate, NDArray[np.float64]]) -> Candidate:
    return min(seen, key=lambda candidate: float(seen[candidate].mean()))


def _descend(
    seen: dict[Candidate, NDArray[np.float64]],
    attempt: Callable[[Candidate], None],
    axes: list[int],
    most: int,
) -> None:
    """Try where the surface is least, but not beside what was tried, until there are so many."""
    while len(seen) < most:
        mesh = _mesh(seen, axes)
        surface = _surface(seen, axes)(mesh[:, axes] / UNIT[axes]).mean(1)
        tried = np.array(list(seen))
        apart = cdist(mesh / UNIT, tried / UNIT).min(1)
        far = np.linalg.norm((mesh - np.array(_best(seen))) / UNIT, axis=1)
        free = (apart > APART) & (far < NEAR)
        before = len(seen)
        if free.any():
            attempt(Candidate(*mesh[free][int(surface[free].argmin())]))
        if len(seen) == before:
            break


def _mesh(seen: dict[Candidate, NDArray[np.float64]], axes: list[int]) -> NDArray[np.float64]:
    """Candidates (n, 3) in and near the box of those that were tried."""
    tried = np.array(list(seen))
    along = []
    for axis in range(3):
        low, high = tried[:, axis].min(), tried[:, axis].max()
        if axis in axes:
            low = max(low - FARTHER * UNIT[axis], LEAST[axis])
            high = min(high + FARTHER * UNIT[axis], MOST[axis])
            along.append(
                np.linspace(low, high, 2 + round((high - low) / UNIT[axis] * STEPS_IN_UNIT))
            )
        else:
            along.append(np.array([_best(seen)[axis]]))
    return np.stack(np.meshgrid(*along, indexing="ij"), -1).reshape(-1, 3)


def _surface(
    seen: dict[Candidate, NDArray[np.float64]], axes: list[int]
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Smooth losses of all parts, over the axes in units of `UNIT`."""
    return _smooth(np.array(list(seen))[:, axes] / UNIT[axes], np.array(list(seen.values())))


def _smooth(
    points: NDArray[np.float64], values: NDArray[np.float64]
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """A quadratic, as flat as few points allow, and cubic functions about the points for the rest.

    Parameters
    ----------
    points : ndarray, shape (points, axes)
    values : ndarray, shape (points, columns)

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[-1.0], [0.0], [1.0], [2.0]])
    >>> round(_smooth(x, x**2)(np.array([[1.5]])).item(), 2)
    2.25
    """
    centre = points.mean(0)

    def terms(at: NDArray[np.float64]) -> NDArray[np.float64]:
        x = at - centre
        pairs = [x[:, i] * x[:, j] for i in range(x.shape[1]) for j in range(i, x.shape[1])]
        return np.column_stack([np.ones(len(x)), x, *pairs])

    design = terms(points)
    ridge = np.diag([0.0] + [1e-3] * (design.shape[1] - 1)) ** 2
    level = values.mean(0)
    weights = np.linalg.solve(design.T @ design + ridge, design.T @ (values - level))
    rest = RBFInterpolator(points, values - level - design @ weights, kernel="cubic", degree=1)
    return lambda at: level + terms(at) @ weights + rest(at)


def _found(seen: dict[Candidate, NDArray[np.float64]], told: Candidate, axes: list[int]) -> Found:
    mesh = _mesh(seen, axes)
    # Between the tries the surface is known, beyond them it is a guess.
    mesh = mesh[cdist(mesh / UNIT, np.array(list(seen)) / UNIT).min(1) <= 1.5 * APART]
    parts = _surface(seen, axes)(mesh[:, axes] / UNIT[axes])  # (candidates, parts)
    least = int(parts.mean(1).argmin())
    best = Candidate(*(float(value) for value in mesh[least]))
    n = parts.shape[1]
    rng = np.random.default_rng(0)
    draws = rng.multinomial(n, np.full(n, 1 / n), DRAWS).T / n
    as_good = mesh[(parts @ draws).argmin(0)]
    # What is least on the mesh may lie anywhere in a step of it.
    step = UNIT[axes] / STEPS_IN_UNIT
    as_good[:, axes] += rng.uniform(-0.5, 0.5, (DRAWS, len(axes))) * step
    as_good = np.clip(as_good, LEAST, MOST)
    gain, gain_error = _differences((seen[_within(told)] - parts[least])[None])
    sure = bool(gain[0] > SURE * gain_error[0])
    chosen = best if sure else told
    length, tails, spherical = (Estimate.of(chosen[axis], as_good[:, axis]) for axis in range(3))
    return Found(
        chosen,
        float(gain[0]) if sure else 0.0,
        float(gain_error[0]),
        length,
        tails,
        spherical,
        as_good,
        [(candidate, float(loss.mean())) for candidate, loss in seen.items()],
    )


def _differences(losses_: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means over parts, the last axis, and their standard errors."""
    return losses_.mean(-1), losses_.std(-1, ddof=1) / math.sqrt(losses_.shape[-1])


class Result(NamedTuple):
    """The microscope found in a stack, and what is written about it."""

    params: ModelParams
    record: dict[str, Any]
    messages: list[str]

    def say(self) -> None:
        """Print what was found, and warnings on the error stream."""
        for message in self.messages:
            warns = message.startswith(("warning", "note"))
            print(message, file=sys.stderr if warns else sys.stdout, flush=True)


def search_microscope(
    losses_by: Callable[[ModelParams], Sequence[float]],
    losses_of_nothing: Sequence[float],
    told: ModelParams,
    saturated: float,
) -> Result:
    """Find the microscope that explains stacks best.

    Parameters
    ----------
    losses_by : callable
        Losses of the same parts of stacks, at least two, by a microscope.
    losses_of_nothing : sequence of float
        Losses of these parts by an explanation without structure.
    told : ModelParams
        The microscope as told.
    saturated : float
        Share of the voxels that are saturated.

    Returns
    -------
    Result
        `params` are those found, with a PSF grid that holds the PSF; or those told, where the
        stacks do not tell.
    """
    tried: dict[Candidate, Widths] = {}
    explained: dict[Candidate, Sequence[float]] = {}

    def losses_of(candidate: Candidate) -> Sequence[float]:
        params = microscope(told, candidate)
        tried[candidate] = widths(params)
        explained[candidate] = losses_by(params)
        loss = np.mean(explained[candidate])
        print(f"{_text(tried[candidate])}: loss {loss:.4f}", flush=True)
        return explained[candidate]

    start = Candidate(0.0, Candidate.tails_of(told.fill), told.spherical)
    found = search(losses_of, start)
    seen, error = _differences((np.array(losses_of_nothing) - explained[found.best])[None])
    if seen[0] <= SURE * error[0]:
        found = found._replace(candidate=start, gain=0.0)
    return _result(found, told, tried, saturated)


def _result(
    found: Found,
    told: ModelParams,
    tried: dict[Candidate, Widths],
    cut: float,
) -> Result:
    params = microscope(told, found.candidate) if found.gain else told
    if found.gain:
        params = with_psf_grid(params)
    own = widths(params)
    estimates = _estimates(found, own, tried)
    messages = [_sentence(params, estimates), *_warnings(found, cut)]
    record = {
        "NA": params.NA,
        "fill": params.fill,
        "spherical_waves": params.spherical,
        **{name: estimate._asdict() for name, estimate in estimates.items()},
        "gain": found.gain,
        "standard_error": found.standard_error,
        "saturated": cut,
        "messages": messages,
        "tried": [
            {**candidate._asdict(), **tried[candidate]._asdict(), "loss": loss}
            for candidate, loss in found.tried
        ],
    }
    return Result(params, record, messages)


def _estimates(found: Found, own: Widths, tried: dict[Candidate, Widths]) -> dict[str, Estimate]:
    """Widths of the microscope found, from surfaces through those of what was tried."""
    points = np.array(list(tried))
    axes = [axis for axis in range(3) if np.ptp(points[:, axis]) > 0]
    logs = np.log(np.array(list(tried.values())))
    surface = _smooth(points[:, axes] / UNIT[axes], logs)
    as_good = np.exp(surface(found.as_good[:, axes] / UNIT[axes]))
    names = ("axial_fwhm_um", "lateral_fwhm_um", "line_fwhm_um", "tail_share")
    estimates = {
        name: Estimate.of(value, as_good[:, n])
        for n, (name, value) in enumerate(zip(names, own, strict=True))
    }
    return estimates | {"spherical": found.spherical, "tails": found.tails}


def _text(own: Widths) -> str:
    return (
        f"PSF {own.axial:.2f} by {own.lateral:.2f} µm, {100 * own.tail:.0f} % of a line's light "
        "beyond two half widths"
    )


def _sentence(params: ModelParams, estimates: dict[str, Estimate]) -> str:
    """What was found, in one line."""
    axial, lateral, tail, spherical = (
        estimates[name] for name in ("axial_fwhm_um", "lateral_fwhm_um", "tail_share", "spherical")
    )
    rayleigh = 1 / (2 * math.sqrt(math.sqrt(2) - 1) if params.photons == 2 else 2)
    fill = "even" if params.fill is None else f"{params.fill:.2f}"
    tails = estimates["tails"]
    fills = [Candidate(0, end).fill for end in (tails.high, tails.low)]
    low, high = (f"{end:.2f}" if end else "even" for end in fills)
    return (
        f"PSF found: z_R {rayleigh * axial.value:.2f} ± {rayleigh * axial.error:.2f} µm, FWHM "
        f"{axial.value:.2f} ± {axial.error:.2f} by {lateral.value:.2f} ± {lateral.error:.2f} µm, "
        f"NA {params.NA:.2f} with fill {fill} ({low} to {high}), spherical "
        f"{params.spherical:.2f} ± {spherical.error:.2f} waves, {100 * tail.value:.1f} ± "
        f"{100 * tail.error:.1f} % of a line's light beyond two half widths"
    )


def _warnings(found: Found, cut: float) -> list[str]:
    """What cannot be trusted."""
    messages = []
    if not found.gain:
        messages.append(
            "note: no PSF explains the stack better than the one told (or than no structure at "
            f"all) by {SURE:g} standard errors: the PSF as told is kept"
        )
    if found.gain and _at_end(found.candidate.length, LEAST.length, MOST.length):
        times, least, most = (math.exp(place.length) for place in (found.candidate, LEAST, MOST))
        messages.append(
            f"warning: the PSF found is {times:.2g} times as long as the one told, the end of what "
            f"was looked at ({least:.1f} to {most:.1f} times): check voxel size, NA and wavelength"
        )
    if found.gain and _at_end(found.candidate.spherical, LEAST.spherical, MOST.spherical):
        messages.append(
            f"warning: the spherical aberration found, {found.candidate.spherical:.2f} waves, is "
            f"the end of what was looked at ({LEAST.spherical:g} to {MOST.spherical:g}): it may be "
            "stronger"
        )
    if cut > MOST_SATURATED:
        messages.append(
            f"warning: {100 * cut:.0f} % of the voxels are saturated: neither the brightness there "
            "nor the PSF found can be trusted"
        )
    return messages


def _at_end(value: float, least: float, most: float) -> bool:
    return value <= least + 1e-3 or value >= most - 1e-3
