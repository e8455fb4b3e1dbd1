"""Neuroclear: adversaries teach a generator to make axial planes look like lateral planes.

The stack x is interpolated to isotropic voxels and goes through a 3-D U-Net G. A linear network F
must recover the stack from G(x) (cycle). Four 2-D discriminators compare lateral and axial planes
of G(x) with lateral slices of x, and lateral and axial planes of F(G(x)) with the same planes of x.
Planes of G(x) are projections of a random depth.

This is a reimplementation of the published method in PyTorch. The budget is in the settings. The
game does not keep G from exchanging light and dark, or from moving the image far away, because F
can undo both. A training that ends so is repeated from other first weights, as an author would do.
The record holds the number of repetitions.

References
----------
Park et al., Nat. Commun. 13, 3297 (2022), "Deep learning enables reference-free isotropic
super-resolution for volumetric fluorescence microscopy"; Zhu et al., ICCV 2017, for the cycle;
Isola et al., CVPR 2017, for the discriminators; Mao et al., ICCV 2017, for the squared loss.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from tenet.data.crops import StackCrops
from tenet.errors import TenetError
from tenet.io.atomic import save_json
from tenet.learn.loop import forget, generator_for
from tenet.model.store import stacks_digest
from tenet.networks.convolution import Conv, ZeroPaddedConv
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
from tenet.settings.sections import Section, read_record

FAILED = "failed.json"

LATERAL, XZ, YZ = 2, 3, 4  # axis of (N, C, Z, Y, X) that a plane is perpendicular to


class NeuroclearSettings(LearnedSettings):
    """Training of Neuroclear; the defaults are those of its published code."""

    lr: float = 1e-4
    schedule: Any = "constant"
    beta1: float = 0.1
    crop: int = 108
    channels_3d: tuple[int, ...] = (64, 128, 256)
    linear_channels: int = 64
    discriminator_channels: int = 64
    discriminator_layers: int = 3
    depths: tuple[int, int] = (2, 10)
    cycle_weight: float = 5.0
    #: Most trainings, if results do not show the structures of the image.
    attempts: PositiveInt = 3


class Neuroclear(LearnedBaseline):
    """The generator G, and the networks that G learns from: F and the discriminators."""

    name = "neuroclear"
    settings_type: ClassVar[type[LearnedSettings]] = NeuroclearSettings
    settings: NeuroclearSettings

    def __init__(self, settings: NeuroclearSettings, scale: int, signal_level: float = 1.0) -> None:
        super().__init__(settings, scale, signal_level)
        self.divisor = 2 ** (len(settings.channels_3d) - 1)
        self.sharpen = nn.Sequential(
            _Level(1, settings.channels_3d),
            nn.Conv3d(settings.channels_3d[0], 1, 1),
            nn.Sigmoid(),
        )
        self.blur = linear_network(settings.linear_channels)
        width, layers = settings.discriminator_channels, settings.discriminator_layers
        self.judges = nn.ModuleDict(
            {
                name: discriminator(width, layers)
                for name in ("sharp_lateral", "sharp_axial", "blurred_lateral", "blurred_axial")
            }
        )

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
        """Train on crops, without the PSF, and keep the last weights.

        See `LearnedBaseline.learn`.
        """
        assert isinstance(settings, NeuroclearSettings)
        stacks, ranges = [stack for stack, _ in data], [range_ for _, range_ in data]
        scale, divisor = assumed.scale, 2 ** (len(settings.channels_3d) - 1)
        side = square_crop(stacks, settings.crop, divisor)
        deepest = min(stack.zyx_shape[0] for stack in stacks) * scale
        fine_planes = min(side, deepest) // divisor * divisor
        least = max(settings.depths[1], 2**settings.discriminator_layers * 4)
        if fine_planes < least:
            raise TenetError(
                f"stacks of {deepest} fine planes are too thin for Neuroclear, which needs {least}"
            )
        crops = StackCrops(stacks, ranges, (-(-fine_planes // scale), side, side), augment=True)
        told = f"{scale} {assumed.signal_level}"
        done = _Failed(folder, f"{seed} {settings.model_dump_json()} {stacks_digest(data)} {told}")
        for attempt in range(min(done.count, settings.attempts - 1), settings.attempts):
            first = int(generator_for(seed, attempt).integers(2**31))
            network = cls._initial(settings, assumed, first).to(device)
            task = NeuroclearTask(network, crops, fine_planes)
            fit(network, task, folder, seed=first, data=data, keep_last=True, told=told)
            network.trainings = attempt + 1
            if network.registered or attempt + 1 == settings.attempts:
                break
            done.add()
            forget(folder, network.checkpoint)
        return network

    @classmethod
    def _initial(cls, settings: NeuroclearSettings, assumed: Assumed, seed: int) -> Self:
        """A network with first weights as in the published code, but F starts as the identity.

        With random weights for F, half of the short trainings ended with dark structures from G,
        which F made light again.
        """
        torch.manual_seed(seed)
        network = cls(settings, assumed.scale, assumed.signal_level)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose3d):
                nn.init.normal_(module.weight, 0.0, 0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        with torch.no_grad():
            for layer in network.blur:
                assert isinstance(layer, nn.Conv3d)
                layer.weight += nn.init.dirac_(torch.empty_like(layer.weight))
        return network

    def judge(self, name: str, planes: Tensor) -> Tensor:
        """Judge by a discriminator how real planes (N, 1, rows, columns) look, patch by patch."""
        with self.autocast():
            scores: Tensor = self.judges[name](planes)
        return scores.float()

    def fine_tile(self) -> tuple[int, int]:
        """Tiles at least as large as crops in training, because larger tiles have fewer borders.

        Normalisation takes its statistics from a tile, and so neighbouring tiles differ. A third of
        a tile is therefore blended.
        """
        side = max(self.settings.crop, 160)
        return side, side // 3

    def restore_fine(self, fine: Tensor) -> Tensor:
        """G of a tile."""
        with self.autocast():
            restored: Tensor = self.sharpen(fine)
        return restored.float()


class FailedRecord(Section):
    """``failed.json``: the identity of a training, and the number of its failures."""

    identity: str
    count: Annotated[int, Field(ge=0)]


class _Failed:
    """Number of failed trainings, on disk, so that an interrupted training can continue."""

    def __init__(self, folder: Path, identity: str) -> None:
        self.path, self.identity, self.count = folder / FAILED, identity, 0
        if self.path.exists():
            record = read_record(FailedRecord, self.path)
            self.count = record.count if record.identity == identity else 0

    def add(self) -> None:
        self.count += 1
        save_json(self.path, {"identity": self.identity, "count": self.count})


class _Level(nn.Module):
    """Two convolutions, the levels below at half the size, and two convolutions of both."""

    def __init__(self, before: int, channels: Sequence[int]) -> None:
        super().__init__()
        here, *below = channels
        self.down = _convolutions(before, here)
        self.below: nn.Module | None = None
        if below:
            self.below = nn.Sequential(nn.MaxPool3d(2), _Level(here, below))
            self.raise_ = nn.ConvTranspose3d(below[0], here, 2, stride=2)
            self.up = _convolutions(2 * here, here)

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.down(image)
        if self.below is None:
            return features
        raised: Tensor = self.up(torch.cat([features, self.raise_(self.below(features))], 1))
        return raised


def _convolutions(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [
            ZeroPaddedConv(channels, after),
            nn.InstanceNorm3d(after),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def linear_network(channels: int) -> nn.Sequential:
    """F: convolutions of 7³, 5³, 3³ and three of 1³ voxels, without bias or activation."""
    sizes = (7, 5, 3, 1, 1, 1)
    widths = (1, *[channels] * (len(sizes) - 1), 1)
    return nn.Sequential(
        *(
            Conv(before, after, size, bias=False)
            for before, after, size in zip(widths, widths[1:], sizes, strict=False)
        )
    )


def discriminator(channels: int, layers: int) -> nn.Sequential:
    """PatchGAN for slices (N, 1, rows, columns): 4×4 convolutions, `layers` of them of stride 2."""
    modules: list[nn.Module] = [nn.Conv2d(1, channels, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
    before = channels
    for layer in range(1, layers + 1):
        after = channels * min(2**layer, 8)
        stride = 2 if layer < layers else 1
        modules += [
            nn.Conv2d(before, after, 4, stride, 1),
            nn.InstanceNorm2d(after),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        before = after
    modules.append(nn.Conv2d(before, 1, 4, 1, 1))
    return nn.Sequential(*modules)


def slices(volume: Tensor, axis: int) -> Tensor:
    """All planes of (N, 1, Z, Y, X) that are perpendicular to an axis, as (planes, 1, …)."""
    return volume.movedim(axis, 1).flatten(0, 1)


def projections(volume: Tensor, axis: int, depth: int) -> Tensor:
    """Maximum projections of slabs `depth` planes thick, as (slabs, 1, …)."""
    planes = volume.shape[axis]
    count = planes // depth
    slabs = volume.narrow(axis, 0, count * depth).unflatten(axis, (count, depth))
    return slices(slabs.amax(axis + 1), axis)


def neuroclear_terms(
    model: Neuroclear, image: Tensor, rng: np.random.Generator
) -> dict[str, Tensor]:
    """Terms of both sides on an interpolated crop (N, 1, Z, Y, X); `rng` draws the depths.

    A backward pass of their sum gives to generators and judges each the gradient of its own loss.
    """
    settings = model.settings
    with model.autocast():
        sharp = model.sharpen(image).float()
        again = model.blur(sharp).float()
    low, high = settings.depths
    depth = {axis: int(rng.integers(low, high + 1)) for axis in (LATERAL, XZ, YZ)}
    lateral = slices(image, LATERAL)
    # judge: planes to take for real, planes to distinguish from these
    games = {
        "sharp_lateral": (lateral, [projections(sharp, LATERAL, depth[LATERAL])]),
        "sharp_axial": (lateral, [projections(sharp, a, depth[a]) for a in (XZ, YZ)]),
        "blurred_lateral": (lateral, [slices(again, LATERAL)]),
        "blurred_axial": (
            torch.cat([slices(image, XZ), slices(image, YZ)]),
            [slices(again, XZ), slices(again, YZ)],
        ),
    }
    # The generators' terms have no gradient for the judges, and the judges' terms none for the
    # generators. One backward pass of the sum therefore gives each the gradient of its own loss.
    model.judges.requires_grad_(False)
    terms = {"cycle": settings.cycle_weight * (again - image).abs().mean()}
    for name, (_, fakes) in games.items():
        scores = [(model.judge(name, fake) - 1).square().mean() for fake in fakes]
        terms[f"generator_{name}"] = torch.stack(scores).mean()
    model.judges.requires_grad_(True)
    for name, (real, fakes) in games.items():
        scores = [model.judge(name, fake.detach()).square().mean() for fake in fakes]
        true = (model.judge(name, real) - 1).square().mean()
        terms[f"judge_{name}"] = 0.5 * (true + torch.stack(scores).mean())
    return terms


class NeuroclearTask:
    """Both sides of the game in one loss. Each side has its own parameters and gradients."""

    def __init__(self, network: Neuroclear, crops: StackCrops, side: int) -> None:
        self.model = network
        self.crops, self.side = crops, side

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All weights, with the momentum of adversarial training."""
        betas = (self.model.settings.beta1, 0.999)
        return [{"params": list(self.model.parameters()), "betas": betas}]

    def draw(self, rng: np.random.Generator) -> Tensor:
        """Crops (N, 1, Z, Y, X) in [0, 1]."""
        drawn = self.crops.draw_batch(self.model.settings.batch_size, rng)
        return torch.from_numpy(drawn[:, None])

    def _image(self, drawn: Tensor) -> Tensor:
        image = drawn.to(self.model.device) / self.model.signal_level
        return upsample(image, self.model.scale)[:, :, : self.side]

    def training_terms(
        self, epoch: int, drawn: Tensor, rng: np.random.Generator
    ) -> Mapping[str, Tensor]:
        """All terms on a fresh crop."""
        return neuroclear_terms(self.model, self._image(drawn), rng)

    def validation_terms(self, model: Any) -> Iterator[Mapping[str, Tensor]]:
        """All terms on fixed crops. The terms do not show which weights are best."""
        for index in range(VALIDATION_BATCHES):
            rng = generator_for(1, index)
            yield neuroclear_terms(model, self._image(self.draw(rng)), rng)
