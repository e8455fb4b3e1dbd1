"""NeurIPSF: a trainable PSF, a small network over axial distance and radius."""

from typing import Any, Literal

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor, nn

from tenet.errors import TenetError
from tenet.physics.optics import RadialPSF, centred, lookup_radii, radii_px

PSFSampling = Literal["lookup", "continuous"]

#: How much longer than its grid the continuous PSF is fitted along z, so that it may be shortened
#: by as much; across, the square root of that.
SPARE = 1.5


class NeurIPSF(nn.Module):
    """Implicit PSF over (|z|, r), fitted to a model PSF and then adapted with the data.

    BatchNorm(2) -> linear 2 -> 40 -> sigmoid -> BatchNorm -> linear 40 -> 1 -> sigmoid. The first
    coordinate is |z| as a fraction of the half depth; the second runs from -1 on the axis to 1 at
    the largest radius. Batch normalisation is frozen after the fit, so that the PSF does not depend
    on where else it is evaluated.

    Parameters
    ----------
    zyx_shape : tuple of int
        Fine PSF grid: planes, rows and columns.
    voxel_size_um : tuple of float
        Step of the fine grid along z, y, x.
    scale : int
        Fine planes per coarse plane.
    hidden : int
        Units of the hidden layer.
    sampling : {"lookup", "continuous"}
        ``"lookup"`` is the published parameterisation: `size_z // s` planes one coarse step apart,
        repeated to fine planes by nearest neighbour, and pixels that take the nearest of
        `lookup_radii` radial samples (no pixel lies halfway between two). ``"continuous"``
        evaluates the network at every fine plane and radius. The network is then fitted at every
        other plane and every half pixel, because between radii that are a pixel apart it could take
        any value, and `SPARE` times as far.

    Attributes
    ----------
    log_stretch : Parameter, 0-dimensional, or None
        Logarithm of how much longer the PSF is along z than that of the network. Across, the PSF is
        wider by the square root of that factor. So widths go with 1/NA² and 1/NA, as those of a
        paraxial objective do (Born & Wolf, Principles of Optics, section 8.8). A few stacks
        determine this number, but not each weight of the network. Two free widths could explain any
        stack by fat objects and a slim PSF. The published PSF has no such number.
    """

    coordinates: Tensor
    volume_coordinates: Tensor
    plane_index: Tensor
    radius_index: Tensor

    def __init__(
        self,
        zyx_shape: tuple[int, int, int],
        voxel_size_um: tuple[float, float, float],
        scale: int,
        *,
        hidden: int = 40,
        sampling: PSFSampling = "continuous",
    ) -> None:
        super().__init__()
        self.zyx_shape = zyx_shape
        self.hidden = hidden
        self.voxel_size_um = voxel_size_um
        self.layers = nn.Sequential(
            nn.BatchNorm1d(2),
            nn.Linear(2, hidden),
            nn.Sigmoid(),
            nn.BatchNorm1d(hidden),
            nn.Linear(hidden, 1),
            nn.Sigmoid(),
        )
        size_z, size_y, size_x = zyx_shape
        radius_px = radii_px(size_y, size_x)
        if sampling == "lookup":
            n_radii = lookup_radii(size_y, size_x)
        else:
            n_radii = int(np.ceil(np.hypot(size_y // 2, size_x // 2))) + 1
        self.r_um = np.arange(n_radii) * voxel_size_um[2]
        self._radius_um = float(self.r_um[-1]) or 1.0
        if sampling == "lookup":
            planes = max(size_z // scale, 1)
            volume_z_um = self.z_um = centred(planes, scale * voxel_size_um[0])
            plane_index = _nearest(planes, size_z)
            radii, radius_index = np.arange(n_radii), np.rint(radius_px).astype(np.int64)
        else:
            # The PSF is even in z: one half is evaluated, both are used.
            volume_z_um, plane_index = np.unique(
                np.abs(centred(size_z, voxel_size_um[0])).round(9), return_inverse=True
            )
            radii, radius_index = np.unique(radius_px, return_inverse=True)
        self._depth_um = float(np.abs(volume_z_um).max()) or 1.0
        if sampling == "continuous":
            self.z_um = np.arange(0, SPARE * self._depth_um, 2 * voxel_size_um[0])
            self.r_um = np.arange(0, SPARE**0.5 * self._radius_um, voxel_size_um[2] / 2)

        def constant(name: str, value: Tensor) -> None:
            self.register_buffer(name, value, persistent=False)

        constant("coordinates", self._coordinates(self.z_um, self.r_um))
        volume_radii_um = radii * voxel_size_um[2]
        constant("volume_coordinates", self._coordinates(volume_z_um, volume_radii_um))
        constant("plane_index", torch.from_numpy(plane_index))
        constant("radius_index", torch.from_numpy(radius_index.reshape(size_y, size_x)))
        self.log_stretch = nn.Parameter(torch.zeros(())) if sampling == "continuous" else None
        self.eval()

    def train(self, mode: bool = True) -> "NeurIPSF":
        """Switch mode, but leave batch normalisation frozen: only `fit` moves its statistics."""
        return super().train(False)

    def _coordinates(self, z_um: np.ndarray, r_um: np.ndarray) -> Tensor:
        z, r = np.abs(z_um) / self._depth_um, 2 * r_um / self._radius_um - 1
        grid = np.stack(np.broadcast_arrays(z[:, None], r[None]), -1)
        return torch.from_numpy(np.ascontiguousarray(grid, dtype=np.float32))

    def _evaluate(self, coordinates: Tensor) -> Tensor:
        planes, radii, _ = coordinates.shape
        return self.layers(coordinates.reshape(-1, 2)).reshape(planes, radii)

    def radial(self) -> Tensor:
        """The network itself on the planes `z_um` and radii `r_um`, shape (planes, radii).

        The result is neither normalised nor stretched, because ℒ_PSF holds on to the form and
        leaves the widths free.
        """
        return self._evaluate(self.coordinates)

    def target(self, model: RadialPSF) -> Tensor:
        """Model PSF on the planes `z_um` and radii `r_um`, shape (planes, radii), at most 1."""
        table = torch.from_numpy(model(self.z_um, self.r_um).astype(np.float32))
        return table.to(self.coordinates.device)

    def forward(self) -> Tensor:
        """PSF on the fine grid, shape `zyx_shape`, sum 1."""
        coordinates = self.volume_coordinates
        if self.log_stretch is not None:
            origin = coordinates.new_tensor([0.0, -1.0])  # focus and axis
            narrower = torch.stack([-self.log_stretch, -self.log_stretch / 2]).exp()
            coordinates = origin + (coordinates - origin) * narrower
        volume = self._evaluate(coordinates)[:, self.radius_index][self.plane_index]
        return volume / volume.sum()

    def fit(
        self,
        model: RadialPSF,
        rng: np.random.Generator,
        *,
        target_error: float = 1e-5,
        steps: int = 2000,
        attempts: int = 5,
    ) -> float:
        """Fit to a model PSF until the mean squared error is at most `target_error`.

        161 weights and a few thousand residuals are a job for Levenberg–Marquardt (Marquardt, SIAM
        J. Appl. Math. 11, 431, 1963), which needs some tens of steps where RProp needs thousands.
        Starts again from new weights when `steps` do not suffice.

        Parameters
        ----------
        model : callable
            `psf(z_um, r_um)` -> (planes, radii).
        rng : numpy.random.Generator
            Draws the initial weights.
        target_error : float
            Mean squared error to reach, of a PSF whose maximum is 1.
        steps : int
            Most steps of one attempt.
        attempts : int
            How often to start before giving up.

        Returns
        -------
        float
            The error reached.

        Raises
        ------
        TenetError
            If no attempt reaches `target_error`.
        """
        target = self.target(model).double().cpu().numpy().ravel()
        points = self.coordinates.reshape(-1, 2).double().cpu().numpy()
        mean, variance = points.mean(0), points.var(0)
        variance[variance == 0] = 1  # of a coordinate that has but one value
        standard = (points - mean) / np.sqrt(variance)
        best = float("inf")
        for _ in range(attempts):
            weights, error = _levenberg_marquardt(
                standard, target, self.hidden, rng, target_error, steps
            )
            best = min(best, error)
            if error <= target_error:
                self._load(weights, mean, variance)
                return error
        raise TenetError(
            f"the PSF network reached an error of {best:.2g}, not {target_error:g}, in {attempts} "
            f"attempts of {steps} steps: raise nipsf_loss_target or num_iter_psf_pretrain"
        )

    @torch.no_grad()
    def _load(self, weights: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> None:
        """Set the layers to fitted weights; normalisation is that of the input points."""
        layers: list[Any] = list(self.layers)
        inputs, first, _, hidden, last, _ = layers
        for norm, centre, spread in ((inputs, mean, variance), (hidden, 0.0, 1.0)):
            norm.reset_parameters()
            norm.running_mean.copy_(torch.as_tensor(centre))
            norm.running_var.copy_(torch.as_tensor(spread) - norm.eps)
        n = self.hidden
        first.weight.copy_(torch.from_numpy(weights[: 2 * n].reshape(n, 2)))
        first.bias.copy_(torch.from_numpy(weights[2 * n : 3 * n]))
        last.weight.copy_(torch.from_numpy(weights[None, 3 * n : 4 * n]))
        last.bias.fill_(weights[-1])


def _nearest(planes: int, size_z: int) -> np.ndarray:
    """Which of `planes` each of `size_z` planes repeats.

    The choice is that of PyTorch in float32, as in the published code: where a fine plane lies on
    the border of two, rounding may give the one or the other.
    """
    coarse = torch.arange(planes, dtype=torch.float32)[None, None]
    return nn.functional.interpolate(coarse, size_z)[0, 0].long().numpy()


def _levenberg_marquardt(
    points: np.ndarray,
    target: np.ndarray,
    hidden: int,
    rng: np.random.Generator,
    target_error: float,
    steps: int,
) -> tuple[np.ndarray, float]:
    """Fit sigmoid(v · sigmoid(W p + b) + c) to `target`; returns (W, b, v, c) and the error."""
    weights = np.concatenate(
        [rng.normal(size=3 * hidden), rng.normal(size=hidden) / np.sqrt(hidden), np.zeros(1)]
    )

    def evaluate(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        first, bias = weights[: 2 * hidden].reshape(hidden, 2), weights[2 * hidden : 3 * hidden]
        activity = expit(points @ first.T + bias)
        output = expit(activity @ weights[3 * hidden : 4 * hidden] + weights[-1])
        return activity, output, float(np.mean((output - target) ** 2))

    damping = 1e-3
    activity, output, error = evaluate(weights)
    for _ in range(steps):
        if error <= target_error:
            break
        slope = (output * (1 - output))[:, None]
        inner = slope * weights[3 * hidden : 4 * hidden] * activity * (1 - activity)
        jacobian = np.concatenate(
            [
                (inner[:, :, None] * points[:, None]).reshape(len(points), -1),
                inner,
                slope * activity,
                slope,
            ],
            axis=1,
        )
        curvature, gradient = jacobian.T @ jacobian, jacobian.T @ (output - target)
        while damping < 1e8:
            step = np.linalg.solve(curvature + damping * np.eye(len(gradient)), gradient)
            trial = evaluate(weights - step)
            if trial[2] < error:
                break
            damping *= 4
        else:
            break
        weights = weights - step
        activity, output, error = trial
        damping = max(damping / 3, 1e-9)
    return weights, error
