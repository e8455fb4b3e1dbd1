"""NeurIPSF: a trainable PSF, a model PSF and a small network over axial distance and radius."""

import math
from typing import Any, Literal, cast

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor, nn

from tenet.errors import TenetError
from tenet.physics.optics import RadialPSF, centred, lookup_radii, radii_px

PSFSampling = Literal["lookup", "continuous"]

#: How much farther than its grid the continuous PSF is known along z, so that it may be shortened
#: by as much; across, the square root of that.
SPARE = 1.5
#: Radii of the table of the continuous PSF for each pixel; between them it is linear.
RADII_PER_PIXEL = 8


class NeurIPSF(nn.Module):
    """Implicit PSF over z and r, which starts as a model PSF and is then adapted with the data.

    Its network is BatchNorm(2) -> linear 2 -> 40 -> sigmoid -> BatchNorm -> linear 40 -> 1 ->
    sigmoid. The first coordinate is |z| as a fraction of the half depth; the second runs from -1 on
    the axis to 1 at the largest radius. Batch normalisation is frozen after the fit, so that the
    PSF does not depend on where else it is evaluated.

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
        ``"lookup"`` is the published parameterisation: the network, fitted to the model PSF, on
        `size_z // s` planes one coarse step apart, repeated to fine planes by nearest neighbour,
        and pixels that take the nearest of `lookup_radii` radial samples (no pixel lies halfway
        between two). ``"continuous"`` has a value at every fine plane and radius: the model PSF,
        from a table that reaches `SPARE` times as far as the grid, times twice the network, which
        is 1/2 before it learns. A network fitted to the model errs by a thousandth of its maximum,
        which in the tails is more than their light, and they have many voxels. What is asymmetric
        along z is the model; the network is even.

    Attributes
    ----------
    log_stretch : Parameter, 0-dimensional, or None
        Logarithm of how much longer the PSF is along z than its model. Across, the PSF is
        wider by the square root of that factor. So widths go with 1/NA² and 1/NA, as those of a
        paraxial objective do (Born & Wolf, Principles of Optics, section 8.8). A few stacks
        determine this number, but not each weight of the network. Two free widths could explain any
        stack by fat objects and a slim PSF. The published PSF has no such number.
    table : Tensor, shape (planes, radii), or None
        The model PSF from -z to z, and from the axis on. The published PSF has no table.
    """

    coordinates: Tensor
    volume_coordinates: Tensor
    plane_index: Tensor
    radius_index: Tensor
    table: Tensor | None

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
        #: What the network does, under a name of its own: with "lookup" it is the PSF.
        self._network = "layers" if sampling == "lookup" else "correction"
        layers = nn.Sequential(
            nn.BatchNorm1d(2),
            nn.Linear(2, hidden),
            nn.Sigmoid(),
            nn.BatchNorm1d(hidden),
            nn.Linear(hidden, 1),
            nn.Sigmoid(),
        )
        self.add_module(self._network, layers)
        if sampling == "continuous":
            for last in layers[4].parameters():
                nn.init.zeros_(last)
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
            # The network is even in z: one half is evaluated, both are used.
            volume_z_um, plane_index = np.unique(
                np.abs(centred(size_z, voxel_size_um[0])).round(9), return_inverse=True
            )
            radii, radius_index = np.unique(radius_px, return_inverse=True)
        self._depth_um = float(np.abs(volume_z_um).max()) or 1.0
        table = None
        if sampling == "continuous":
            self.z_um = np.arange(0, SPARE * self._depth_um, 2 * voxel_size_um[0])
            self.r_um = np.arange(0, SPARE**0.5 * self._radius_um, voxel_size_um[2] / 2)
            planes = 2 * math.ceil(SPARE * self._depth_um / voxel_size_um[0]) + 1
            n_radii = math.ceil(SPARE**0.5 * self._radius_um / voxel_size_um[2] * RADII_PER_PIXEL)
            self._table_z_um = centred(planes, voxel_size_um[0])
            self._table_r_um = np.arange(n_radii + 1) * voxel_size_um[2] / RADII_PER_PIXEL
            table = torch.ones(planes, n_radii + 1)

        def constant(name: str, value: Tensor | None) -> None:
            self.register_buffer(name, value, persistent=False)

        constant("table", table)
        constant("coordinates", self._coordinates(self.z_um, self.r_um))
        self._volume_z_um = centred(size_z, voxel_size_um[0])
        self._volume_r_um = radii * voxel_size_um[2]
        constant("volume_coordinates", self._coordinates(volume_z_um, self._volume_r_um))
        constant("plane_index", torch.from_numpy(plane_index))
        constant("radius_index", torch.from_numpy(radius_index.reshape(size_y, size_x)))
        self.log_stretch = nn.Parameter(torch.zeros(())) if sampling == "continuous" else None
        self.eval()

    def train(self, mode: bool = True) -> "NeurIPSF":
        """Switch mode, but leave batch normalisation frozen: only `fit` moves its statistics."""
        return super().train(False)

    @property
    def network(self) -> nn.Sequential:
        """The network: the PSF itself (`layers`), or its correction (`correction`)."""
        return cast(nn.Sequential, self.get_submodule(self._network))

    def _coordinates(self, z_um: np.ndarray, r_um: np.ndarray) -> Tensor:
        z, r = np.abs(z_um) / self._depth_um, 2 * r_um / self._radius_um - 1
        grid = np.stack(np.broadcast_arrays(z[:, None], r[None]), -1)
        return torch.from_numpy(np.ascontiguousarray(grid, dtype=np.float32))

    def _evaluate(self, coordinates: Tensor) -> Tensor:
        planes, radii, _ = coordinates.shape
        return self.network(coordinates.reshape(-1, 2)).reshape(planes, radii)

    def _model(self, z_um: np.ndarray, r_um: np.ndarray, narrower: Tensor) -> Tensor:
        """The table between its samples, of a PSF narrower by two factors, along z and across."""
        assert self.table is not None

        def positions(um: np.ndarray, samples_um: np.ndarray, factor: Tensor) -> Tensor:
            step_um = samples_um[1] - samples_um[0]
            return (factor.new_tensor(um) * factor - samples_um[0]) / step_um

        planes = _between(self.table, positions(z_um, self._table_z_um, narrower[0]))
        return _between(planes.mT, positions(r_um, self._table_r_um, narrower[1])).mT

    def tabulate(self, model: RadialPSF) -> None:
        """Take a model for what the network corrects; the published PSF needs none."""
        if self.table is not None:
            values = model(self._table_z_um, self._table_r_um)
            self.table.copy_(torch.from_numpy(values / values.max()))

    def radial(self) -> Tensor:
        """The PSF on the planes `z_um` and radii `r_um`, shape (planes, radii).

        The result is neither normalised nor stretched, because ℒ_PSF holds on to the form and
        leaves the widths free.
        """
        network = self._evaluate(self.coordinates)
        if self.table is None:
            return network
        return 2 * network * self._model(self.z_um, self.r_um, self.table.new_ones(2))

    def target(self, model: RadialPSF) -> Tensor:
        """Model PSF on the planes `z_um` and radii `r_um`, shape (planes, radii), at most 1."""
        table = torch.from_numpy(model(self.z_um, self.r_um).astype(np.float32))
        return table.to(self.coordinates.device)

    def forward(self) -> Tensor:
        """PSF on the fine grid, shape `zyx_shape`, sum 1."""
        if self.log_stretch is None:
            values = self._evaluate(self.volume_coordinates)[:, self.radius_index]
            volume = values[self.plane_index]
        else:
            origin = self.coordinates.new_tensor([0.0, -1.0])  # focus and axis
            narrower = torch.stack([-self.log_stretch, -self.log_stretch / 2]).exp()
            coordinates = origin + (self.volume_coordinates - origin) * narrower
            factor = self._evaluate(coordinates)[self.plane_index]
            model = self._model(self._volume_z_um, self._volume_r_um, narrower)
            volume = (factor * model)[:, self.radius_index]
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
        """Start from a model PSF.

        The continuous PSF tabulates it. The published one is fitted until the mean squared error is
        at most `target_error`: 161 weights and a few thousand residuals are a job for
        Levenberg–Marquardt (Marquardt, SIAM J. Appl. Math. 11, 431, 1963), which needs some tens of
        steps where RProp needs thousands. Starts again from new weights when `steps` do not
        suffice.

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
            The error reached, on the planes `z_um` and radii `r_um`.

        Raises
        ------
        TenetError
            If no attempt reaches `target_error`.
        """
        points = self.coordinates.reshape(-1, 2).double().cpu().numpy()
        mean, variance = points.mean(0), points.var(0)
        variance[variance == 0] = 1  # of a coordinate that has but one value
        if self.table is not None:
            weights = np.concatenate([rng.normal(size=3 * self.hidden), np.zeros(self.hidden + 1)])
            self._load(weights, mean, variance)
            self.tabulate(model)
            return float((self.radial() - self.target(model)).detach().square().mean())
        target = self.target(model).double().cpu().numpy().ravel()
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
        layers: list[Any] = list(self.network)
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


def _between(samples: Tensor, positions: Tensor) -> Tensor:
    """Rows of `samples` at fractional indices: linear between two, constant beyond the ends."""
    last = len(samples) - 1
    positions = positions.clamp(0, last)
    below = positions.detach().floor().clamp_max(max(last - 1, 0)).long()
    share = (positions - below)[:, None]
    return torch.lerp(samples[below], samples[(below + 1).clamp_max(last)], share)


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
