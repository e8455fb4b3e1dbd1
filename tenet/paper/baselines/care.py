"""CARE for isotropic stacks: a 2-D network learns to undo the axial blur from lateral slices.

Lateral slices are sharp. The slices are blurred along one lateral axis by the axial profile of the
PSF, sampled every s-th pixel and interpolated back, and then look like axial slices. A U-Net learns
to undo this. The U-Net is then applied to the axial slices xz and yz, and both results are
combined.

A reimplementation in PyTorch of the published method; the budget is in its settings.

References
----------
Weigert et al., Nat. Methods 15, 1090 (2018), "Content-aware image restoration"; isotropic
restoration, with the parameters of its published code (csbdeep).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tenet.data.crops import StackCrops
from tenet.errors import TenetError
from tenet.learn.loop import generator_for
from tenet.paper.baselines.learned import (
    VALIDATION_BATCHES,
    Assumed,
    Data,
    LearnedBaseline,
    LearnedSettings,
    fit,
    square_crop,
    upsample,
)
from tenet.physics.noise import NoiseModel


class CARESettings(LearnedSettings):
    """Training of CARE; the defaults are those of its published code."""

    batch_size: int = 16
    lr: float = 4e-4
    crop: int = 128
    channels_2d: tuple[int, ...] = (32, 64, 128)
    kernel: int = 5


class CARE(LearnedBaseline):
    """2-D residual U-Net with two 5×5 convolutions in each level, and its use on volumes."""

    name = "care"
    settings_type: ClassVar[type[LearnedSettings]] = CARESettings
    settings: CARESettings

    def __init__(self, settings: CARESettings, scale: int, signal_level: float = 1.0) -> None:
        super().__init__(settings, scale, signal_level)
        self.divisor = 2 ** (len(settings.channels_2d) - 1)
        self.level = _Level(1, settings.channels_2d, settings.kernel)
        self.last = nn.Conv2d(settings.channels_2d[0], 1, 1)

    @classmethod
    def learn(
        cls,
        settings: LearnedSettings,
        data: Data,
        assumed: Assumed,
        folder: Path,
        *,
        device: torch.device,
        seed: int = 0,
    ) -> Self:
        """Train on the lateral slices; see `LearnedBaseline.learn`."""
        assert isinstance(settings, CARESettings)
        torch.manual_seed(seed)
        network = cls(settings, assumed.scale, assumed.signal_level).to(device)
        stacks, ranges = [stack for stack, _ in data], [range_ for _, range_ in data]
        side = square_crop(stacks, settings.crop, network.divisor)
        step = math.lcm(network.divisor, assumed.scale)
        rows = side // step * step
        if rows == 0:
            raise TenetError(
                f"slices of {side} pixels are too small for a scale of {assumed.scale}: "
                "CARE needs larger stacks"
            )
        crops = StackCrops(stacks, ranges, (1, side, side), augment=True)
        task = CARETask(network, crops, rows, assumed)
        fit(network, task, folder, seed=seed, data=data, told=assumed.digest())
        return network

    def forward(self, image: Tensor) -> Tensor:
        """Restore slices (N, 1, rows, columns) whose rows are too coarse."""
        with self.autocast():
            change = self.last(self.level(image))
        return image + change.float()

    def fine_tile(self) -> tuple[int, int]:
        """Neighbouring tiles share twice the reach of the network."""
        reach = sum(
            2 ** (depth + 1) * (self.settings.kernel - 1) * (2 if depth < 2 else 1)
            for depth in range(len(self.settings.channels_2d))
        )
        return 256 + reach, reach

    def restore_fine(self, fine: Tensor) -> Tensor:
        """Geometric mean of the restored xz and yz planes; negative values count as 0."""
        volume = fine[0, 0]
        xz = self._slices(volume.movedim(1, 0)).movedim(0, 1)
        yz = self._slices(volume.movedim(2, 0)).movedim(0, 2)
        return (xz.clamp_min(0) * yz.clamp_min(0)).sqrt()[None, None]

    def _slices(self, slices: Tensor) -> Tensor:
        """Restore (slices, rows, columns), a few at a time."""
        at_once = max(1, 2**20 // slices[0].numel())
        return torch.cat([self(part[:, None])[:, 0] for part in slices.split(at_once)])


class _Level(nn.Module):
    """Two convolutions, the levels below at half the size, and two convolutions of both."""

    def __init__(self, before: int, channels: Sequence[int], kernel: int) -> None:
        super().__init__()
        here, *below = channels
        self.down = _convolutions(before, here, here, kernel)
        self.below = _Level(here, below, kernel) if below else None
        if below:
            # As in the published code, the way up gets back to the channels of the level above.
            self.up = _convolutions(here + below[0], here, here, kernel)

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.down(image)
        if self.below is None:
            return features
        deeper = self.below(functional.max_pool2d(features, 2))
        deeper = functional.interpolate(deeper, scale_factor=2.0, mode="nearest")
        raised: Tensor = self.up(torch.cat([features, deeper], 1))
        return raised


def _convolutions(before: int, between: int, after: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, between, kernel, padding=kernel // 2),
        nn.ReLU(inplace=True),
        nn.Conv2d(between, after, kernel, padding=kernel // 2),
        nn.ReLU(inplace=True),
    )


def axial_profile(psf: Tensor) -> Tensor:
    """Line through the middle of a PSF (planes, rows, columns) along z, with sum 1."""
    line = psf[:, psf.shape[1] // 2, psf.shape[2] // 2]
    return line / line.sum()


def as_axial(slices: Tensor, profile: Tensor, scale: int, noise: NoiseModel | None) -> Tensor:
    """Make lateral slices look like axial ones: blurred and coarse along their rows.

    Parameters
    ----------
    slices : Tensor, shape (N, 1, rows, columns)
        Rows a multiple of `scale`.
    profile : Tensor, shape (planes,)
        Axial profile on the fine grid; as many planes as centre it (odd for an odd `scale`).
    scale : int
        Fine voxels per coarse one.
    noise : NoiseModel, optional
        Noise that is drawn after sampling, because blurring has averaged the noise of the slice
        away.

    Returns
    -------
    Tensor, shape (N, 1, rows, columns)
        Slices that are interpolated back to the grid of `slices`, without a shift.
    """
    around = (len(profile) - scale) // 2
    if around < 0:
        extra = -around
        profile, around = functional.pad(profile, (extra, extra)), 0
    padded = functional.pad(slices, (0, 0, around, around), mode="replicate")
    coarse = functional.conv2d(padded, profile.flip(0)[None, None, :, None], stride=(scale, 1))
    if noise is not None:
        coarse = noise.sample(coarse)
    return upsample(coarse, scale)


class CARETask:
    """Mean absolute error of restored slices."""

    def __init__(self, network: CARE, crops: StackCrops, rows: int, assumed: Assumed) -> None:
        self.model = network
        self.crops, self.rows = crops, rows
        self.profile = axial_profile(assumed.psf.detach()).to(network.device)
        self.noise = assumed.noise.to(network.device)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All weights."""
        return [{"params": list(self.model.parameters())}]

    def draw(self, rng: np.random.Generator) -> Tensor:
        """Slices (N, 1, rows, columns) in [0, 1]."""
        drawn = self.crops.draw_batch(self.model.settings.batch_size, rng)
        return torch.from_numpy(drawn[:, :, : self.rows])

    def _terms(self, model: CARE, drawn: Tensor) -> Mapping[str, Tensor]:
        sharp = drawn.to(model.device)
        with torch.no_grad():
            blurred = as_axial(sharp, self.profile, model.scale, self.noise) / model.signal_level
        return {"absolute_error": (model(blurred) - sharp / model.signal_level).abs().mean()}

    def training_terms(
        self, epoch: int, drawn: Tensor, rng: np.random.Generator
    ) -> Mapping[str, Tensor]:
        """The error on fresh slices."""
        return self._terms(self.model, drawn)

    def validation_terms(self, model: Any) -> Iterator[Mapping[str, Tensor]]:
        """The error on fixed slices, with fixed noise."""
        for index in range(VALIDATION_BATCHES):
            with torch.random.fork_rng():
                torch.manual_seed(index)
                yield self._terms(model, self.draw(generator_for(1, index)))
