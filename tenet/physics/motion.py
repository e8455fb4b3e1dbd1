"""Misaligned stacks: every plane is shifted in y and x, as when the sample moves between planes.

The displacement of plane t, in pixels, for y and for x independently, is

    d(t) = b·t + A·cos(ω·t + φ) + ε(t) / ν,    its mean over the planes removed,

a drift, a periodic motion (breathing, heartbeat) and a jitter, with, once a stack and axis,
b ~ N(0, σ_b), A ~ Γ(α_A, 1), ω ~ Γ(α_ω, 1), φ ~ U(0, 2π), ν ~ Γ(α_ν, 1), and for every plane
ε ~ N(0, 1).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tenet.errors import TenetError


class MotionParameters(NamedTuple):
    """Hyper-parameters of the motion at one moment of training.

    Attributes
    ----------
    b_sigma
        Standard deviation σ_b of the drift, in pixels a plane.
    amp_alpha, omega_alpha
        Shapes α_A and α_ω of the amplitude in pixels and the angular frequency in radians a plane;
        at 0 both are 0.
    noise_inv_var_alpha
        Shape α_ν, above 0, of the divisor of the jitter: the larger, the less jitter.
    """

    b_sigma: float
    amp_alpha: float
    omega_alpha: float
    noise_inv_var_alpha: float


@dataclass(frozen=True)
class MotionSettings:
    """How the motion grows while training; the defaults are the published ones.

    Attributes
    ----------
    b_sigma, amp_alpha, omega_alpha
        (min, max): the value at epoch 0 and from `max_step` on. See `MotionParameters`.
    noise_inv_var_alpha
        (min, max): here the value at epoch 0 is the *largest*, as it reduces the jitter.
    max_step
        Number of epochs in which the motion grows, linearly; 0: at full strength at once.
    max_displacement
        No plane moves farther, in pixels along an axis: 1/ν has no finite variance for α_ν ≤ 2.

    Raises
    ------
    TenetError
        If a value is out of its range.
    """

    b_sigma: tuple[float, float] = (0.0, 0.2)
    amp_alpha: tuple[float, float] = (0.0, 2.0)
    omega_alpha: tuple[float, float] = (0.0, 2.0)
    noise_inv_var_alpha: tuple[float, float] = (2.0, 10.0)
    max_step: int = 60
    max_displacement: float = 16.0

    def __post_init__(self) -> None:
        for name in MotionParameters._fields:
            bounds = getattr(self, name)
            if len(bounds) != 2 or not 0 <= bounds[0] <= bounds[1] < math.inf:
                raise TenetError(
                    f"motion setting {name} is {bounds}: give (min, max), both at least 0"
                )
        if self.noise_inv_var_alpha[0] == 0:
            raise TenetError("motion setting noise_inv_var_alpha: its min must be above 0")
        if self.max_step < 0:
            raise TenetError(f"motion setting max_step is {self.max_step}: must be at least 0")
        if not 0 < self.max_displacement < math.inf:
            raise TenetError(
                f"motion setting max_displacement is {self.max_displacement}: must be above 0"
            )

    def at(self, step: int) -> MotionParameters:
        """Hyper-parameters at an epoch.

        Parameters
        ----------
        step
            Epoch, from 0; after `max_step` nothing changes any more.

        Returns
        -------
        MotionParameters
            Interpolated linearly.
        """
        grown = min(max(step, 0) / self.max_step, 1.0) if self.max_step else 1.0

        def between(first: float, last: float) -> float:
            return (1 - grown) * first + grown * last

        return MotionParameters(
            between(*self.b_sigma),
            between(*self.amp_alpha),
            between(*self.omega_alpha),
            between(*reversed(self.noise_inv_var_alpha)),
        )


def draw_displacement(
    n_planes: int,
    parameters: MotionParameters,
    rng: np.random.Generator,
    *,
    max_displacement: float = MotionSettings.max_displacement,
) -> Tensor:
    """Draw the displacement of every plane of a stack.

    Parameters
    ----------
    n_planes
        Number of planes of the (coarse) stack.
    parameters
        Strength of the motion, from `MotionSettings.at`.
    rng
        Source of every random number.
    max_displacement
        Bound in pixels. A motion that exceeds it is scaled down as a whole, along that axis, so
        that its mean stays 0.

    Returns
    -------
    Tensor
        float32 (n_planes, 2): y and x in pixels, each of mean 0, on the CPU.
    """
    plane = np.arange(n_planes)[:, None]
    drift = rng.normal(0.0, parameters.b_sigma, 2)
    amplitude = rng.standard_gamma(parameters.amp_alpha, 2)
    omega = rng.standard_gamma(parameters.omega_alpha, 2)
    phase = rng.uniform(0.0, 2 * np.pi, 2)
    # ν can come out so near to 0 that ε/ν overflows; this bound changes nothing of note.
    nu = np.maximum(rng.standard_gamma(parameters.noise_inv_var_alpha, 2), 1e-6)
    jitter = rng.standard_normal((n_planes, 2)) / nu
    displacement = drift * plane + amplitude * np.cos(omega * plane + phase) + jitter
    displacement -= displacement.mean(axis=0)
    largest = np.abs(displacement).max(axis=0, initial=0.0)
    displacement *= max_displacement / np.maximum(largest, max_displacement)
    return torch.from_numpy(displacement.astype(np.float32))


def shift_planes(volume: Tensor, displacement: Tensor) -> Tensor:
    """Move what every plane shows by its displacement, with bilinear interpolation.

    What lay at (y, x) of plane t lies at (y, x) + displacement[t] afterwards. The border is
    replicated. Shifts by whole pixels are exact. Differentiable in both arguments.

    Parameters
    ----------
    volume
        (N, C, Z, Y, X), floating, on any device.
    displacement
        (Z, 2): y and x in pixels; the same for every stack and channel of the batch.

    Returns
    -------
    Tensor
        (N, C, Z, Y, X) of the volume's type and device.

    Raises
    ------
    TenetError
        If the sizes do not match.
    """
    if volume.ndim != 5 or displacement.shape != (volume.shape[2], 2):
        raise TenetError(
            f"cannot shift a volume {tuple(volume.shape)} by displacements "
            f"{tuple(displacement.shape)}: (N, C, Z, Y, X) and (Z, 2) are needed"
        )
    displacement = displacement.to(volume.device)
    # A shift that is the same all over a plane is separable: first along y, then along x.
    volume = _shift_axis(volume, displacement[:, 0, None, None], axis=3)
    return _shift_axis(volume, displacement[:, 1, None, None], axis=4)


def fit_displacement(
    image: Tensor,
    template: Tensor,
    start: Tensor | None = None,
    *,
    expected_px: float = 2.0,
    steps: int = 4,
) -> Tensor:
    """Find the displacement of each plane that lays it on the same plane of a template.

    Gauss-Newton steps on Σ (shifted image − template)² / σ² + |d|² / `expected_px`², σ² the mean
    square of what is left in the plane: where a plane shows nothing, it stays where it is.

    Parameters
    ----------
    image, template
        (Z, Y, X), with the same intensities.
    start
        (Z, 2), y and x in pixels, to begin from; by default 0.
    expected_px
        Standard deviation of displacements that are to be expected.
    steps
        Number of steps.

    Returns
    -------
    Tensor
        (Z, 2): y and x in pixels, for `shift_planes`.

    Raises
    ------
    TenetError
        If the sizes differ.
    """
    if image.ndim != 3 or image.shape != template.shape:
        raise TenetError(
            f"cannot lay {tuple(image.shape)} on {tuple(template.shape)}: both must be (Z, Y, X)"
        )
    displacement = image.new_zeros(len(image), 2) if start is None else start.clone()
    inner = (slice(None), slice(1, -1), slice(1, -1))
    prior = torch.eye(2, device=image.device) / expected_px**2
    for _ in range(steps):
        moved = shift_planes(image[None, None], displacement)[0, 0]
        left = (moved - template)[inner].flatten(1)  # (Z, pixels)
        # Moving a plane by d changes it by -d · gradient.
        slope = -torch.stack(
            [(moved.roll(-1, axis) - moved.roll(1, axis))[inner].flatten(1) / 2 for axis in (1, 2)],
            dim=-1,
        )  # (Z, pixels, 2)
        weight = 1 / left.square().mean(1).clamp_min(1e-12)
        curvature = slope.mT @ slope * weight[:, None, None] + prior
        gradient = (slope.mT @ left[..., None])[..., 0] * weight[:, None] + displacement @ prior
        displacement = displacement - torch.linalg.solve(curvature, gradient)
    return displacement


def _shift_axis(volume: Tensor, displacement: Tensor, axis: int) -> Tensor:
    """Shift by displacement (Z, 1, 1) along an axis: a mean of two shifts by whole pixels."""
    whole = displacement.detach().floor()
    fraction = (displacement - whole).to(volume.dtype)  # (Z, 1, 1), in [0, 1)
    size = volume.shape[axis]
    pixel = torch.arange(size, device=volume.device).unsqueeze(-1 if axis == 3 else 0)
    source = pixel - whole.long()  # (Z, Y, 1) or (Z, 1, X)

    def take(index: Tensor) -> Tensor:
        return torch.take_along_dim(volume, index.clamp(0, size - 1)[None, None], dim=axis)

    return (1 - fraction) * take(source) + fraction * take(source - 1)
