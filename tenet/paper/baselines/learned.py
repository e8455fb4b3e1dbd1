"""Crops, thresholds, files and tiles of the baselines that learn from raw stacks."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt
from scipy import ndimage
from skimage.registration import phase_cross_correlation
from torch import Tensor, nn
from torch.nn import functional

from tenet.enhance.restore import restore_array
from tenet.enhance.tiles import Tile, tile_plan
from tenet.errors import TenetError
from tenet.io.atomic import save_json, writing
from tenet.io.intensities import IntensityRange, normalise
from tenet.io.records import read_json_object
from tenet.io.stack import Stack
from tenet.learn.loop import Plan, Task, train
from tenet.metrics.thresholds import best_threshold
from tenet.model.store import MODEL, digest, digest_of, save_tensors, software, stacks_digest
from tenet.model.weights import read_weights
from tenet.networks.convolution import half_precision
from tenet.physics.noise import NoiseModel
from tenet.settings.published import PublishedTrainLoop, without_published
from tenet.settings.schema import Optimisation, validated
from tenet.settings.sections import Section, read_record
from tenet.types import Triple

Data = Sequence[tuple[Stack, IntensityRange]]
SETTINGS = "settings.json"
VALIDATION_BATCHES = 8
# Stacks by which results are registered, and the range of a real shift in fine voxels. A smaller
# shift is noise. A larger shift is beyond the reach of every network here, and the images have
# nothing in common.
_REGISTERED, _LEAST_SHIFT, _MOST_SHIFT = 8, 0.1, 7


class LearnedSettings(Optimisation):
    """Training of a baseline: the budget that tables state."""

    steps_per_epoch: int = 400
    warmup_epochs: int = 0


class BaselineRecord(Section):
    """``settings.json``. Entries that are not named here are for people.

    `weights` is the SHA-256 of the weights beside the file. `identity` is that of all inputs of the
    weights and the threshold, and `checkpoint` that of all inputs of the checkpoint.
    """

    method: str
    scale: PositiveInt
    settings: dict[str, Any]
    threshold: float = 0.5
    normalisation: Literal["none", "minmax", "percentile"] = "percentile"
    voxel_size_um: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    weights: str | None = None
    identity: str | None = None
    checkpoint: str | None = None


def upsample(image: Tensor, scale: int) -> Tensor:
    """Interpolate (N, 1, Z, …) linearly to Z·s planes.

    Coarse plane i lies in the middle of its fine planes, as with `align_corners=False`.
    """
    planes, *rest = image.shape[2:]
    flat = image.reshape(*image.shape[:3], -1)
    size = (planes * scale, flat.shape[3])
    fine = functional.interpolate(flat, size, mode="bilinear", align_corners=False)
    return fine.reshape(*image.shape[:2], planes * scale, *rest)


class Assumed(NamedTuple):
    """The nominal microscope of a method, which is that of TENET.

    Attributes
    ----------
    scale : int
        s, fine planes per coarse plane.
    psf : Tensor, shape (planes, rows, columns)
        On the fine grid, sum 1.
    noise : NoiseModel
    signal_level : float
        Intensity scale: the brightest signal has this intensity, and is 1 for the network.
    """

    scale: int
    psf: Tensor
    noise: NoiseModel
    signal_level: float = 1.0

    def digest(self) -> str:
        """Digest of this microscope, which differs from that of any other microscope."""
        whole = hashlib.sha256(self.psf.cpu().numpy().tobytes())
        for value in self.noise.state_dict().values():
            whole.update(value.cpu().numpy().tobytes())
        return whole.hexdigest()


class LearnedBaseline(nn.Module):
    """A restoration of tiles with weights of its own; see `tenet.enhance.restore.Restorer`."""

    name: ClassVar[str]
    channels: ClassVar[tuple[str, ...]] = ("intensity",)
    settings_type: ClassVar[type[LearnedSettings]]

    #: Fine voxels that divide the sides of a tile.
    divisor: int = 4
    #: Number of tiles that are restored at once.
    workers: int = 1

    def __init__(self, settings: LearnedSettings, scale: int, signal_level: float = 1.0) -> None:
        super().__init__()
        self.settings = settings
        self.scale = scale
        self.signal_level: Tensor
        self.register_buffer("signal_level", torch.tensor(signal_level))
        self.shift_zyx: Tensor
        self.register_buffer("shift_zyx", torch.zeros(3))
        self.registered = False
        self.correlation = math.nan
        self.trainings = 1
        self.checkpoint: str | None = None

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
        """Train on raw stacks alone.

        Parameters
        ----------
        settings : LearnedSettings
            Of the method's `settings_type`.
        data : sequence of (Stack, IntensityRange)
            Raw stacks, each with the intensities that become 0 and 1.
        assumed : Assumed
        folder : Path
            Receives checkpoint and history while it trains.
        device : torch.device
        seed : int
            Number that all random draws follow from.

        Returns
        -------
        LearnedBaseline
            In evaluation mode.

        Raises
        ------
        TenetError
            If a stack is too small.
        """
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def autocast(self) -> torch.autocast:
        """Compute in half precision inside, if the settings say so and half precision is fast."""
        return half_precision(self.device, self.settings.precision == "bfloat16")

    def fine_tile(self) -> tuple[int, int]:
        """Most fine voxels along each side of a tile, and fine voxels that neighbours share."""
        raise NotImplementedError

    def restore_fine(self, fine: Tensor) -> Tensor:
        """Restore an interpolated tile (1, 1, Z·s, Y, X), in which 1 is the brightest signal."""
        raise NotImplementedError

    def tiles(self, zyx_shape: Triple) -> list[Tile]:
        """Cut a stack, on the coarse grid."""
        side, overlap = self.fine_tile()
        align = math.lcm(self.divisor, self.scale) // self.scale
        overlap_z = -(-overlap // self.scale)
        tile_z = max(side // self.scale, overlap_z + max(overlap_z, align) + align)
        shape = (tile_z, side, side)
        alignment = (align, self.divisor, self.divisor)
        return tile_plan(zyx_shape, shape, (overlap_z, overlap, overlap), alignment)

    @torch.inference_mode()
    def restore(self, shown_zyx: NDArray[np.float32], tile: Tile) -> NDArray[np.float32]:
        """Restore a tile (Z, Y, X) in [0, 1], shown without context, to (1, Z·s, Y, X)."""
        planes, rows, columns = shown_zyx.shape
        shown = torch.from_numpy(shown_zyx).to(self.device)[None, None] / self.signal_level
        fine = upsample(shown, self.scale)
        padding = [(0, -n % self.divisor) for n in (planes * self.scale, rows, columns)]
        flat = [amount for pair in reversed(padding) for amount in pair]
        padded = functional.pad(fine, flat, mode="replicate")
        restored = self.restore_fine(padded)[0, :, : planes * self.scale, :rows, :columns]
        volume = (restored.clamp_min(0).float() * self.signal_level).cpu().numpy()
        if self.shift_zyx.any():
            move = (0.0, *self.shift_zyx.tolist())
            volume = ndimage.shift(volume, move, order=1, mode="nearest")
        return np.asarray(volume)

    def register(self, images: Sequence[NDArray[np.float32]]) -> None:
        """Measure the shift of the results, and undo the shift in all later results.

        An adversarial game does not keep a result in the place of the image, because F can undo a
        shift by G. The shift of the highest correlation with the interpolated image is measured.
        The median over images is undone. If the shift is too large, or the correlation is negative,
        then the result does not show the structures of the image. No shift is undone in this case,
        and the log and ``settings.json`` say so.

        Parameters
        ----------
        images : sequence of ndarray
            Stacks (Z, Y, X) in [0, 1], on the coarse grid.
        """
        self.shift_zyx.zero_()
        shifts, likeness = [], []
        for image in images:
            fine = upsample(torch.from_numpy(image)[None, None], self.scale)[0, 0].numpy()
            restored = restore_array(self, image)[0]
            shift, _, _ = phase_cross_correlation(
                fine, restored, upsample_factor=20, normalization=None
            )
            shifts.append(shift)
            small = np.abs(shift).max() < _MOST_SHIFT
            back = ndimage.shift(restored, shift, order=1, mode="nearest") if small else restored
            if fine.std() > 0 and back.std() > 0:
                likeness.append(np.corrcoef(fine.ravel(), back.ravel())[0, 1])
        median = torch.from_numpy(np.median(shifts, axis=0)).float()
        self.correlation = float(np.median(likeness)) if likeness else 0.0
        self.registered = self.correlation > 0 and bool(median.abs().max() < _MOST_SHIFT)
        if not self.registered:
            print(
                f"warning: {self.name}: no registration: its results fit the images best when "
                f"shifted by {median.tolist()} fine voxels, and have a correlation with them of "
                f"{self.correlation:.2f}; it needs more training"
            )
        else:
            self.shift_zyx.copy_(median.where(median.abs() > _LEAST_SHIFT, 0.0))

    def save(self, folder: Path, record: dict[str, Any]) -> None:
        """Write the weights, and then the settings, which complete the model."""
        content = {
            "method": self.name,
            "scale": self.scale,
            "settings": self.settings.model_dump(mode="json"),
            "parameters": sum(p.numel() for p in self.parameters()),
            "registered": self.registered,
            "trainings": self.trainings,
            "checkpoint": self.checkpoint,
            "shift_zyx": self.shift_zyx.tolist(),
            "correlation_with_image": None if math.isnan(self.correlation) else self.correlation,
        }
        with writing(folder):  # settings of older weights are removed first
            (folder / SETTINGS).unlink(missing_ok=True)
        save_tensors(folder / MODEL, self.state_dict())
        content["weights"] = digest(folder / MODEL)
        save_json(folder / SETTINGS, content | record | {"software": software()})

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> tuple[Self, dict[str, Any]]:
        """Read a baseline that `save` wrote.

        Returns
        -------
        (LearnedBaseline, dict)
            The baseline in evaluation mode, and the record beside it.

        Raises
        ------
        TenetError
            If a file is missing, damaged or of another method, or a weight is not finite.
        """
        path = folder / SETTINGS
        try:
            found = read_record(BaselineRecord, path)
        except TenetError as error:
            raise TenetError(f"{error}; train again") from None
        if found.method != cls.name:
            raise TenetError(f"{folder} holds {found.method}, not {cls.name}")
        # Earlier versions also wrote keys of a training loop without effect.
        settings, _ = without_published(found.settings, PublishedTrainLoop)
        network = cls(validated(cls.settings_type, settings, str(path)), found.scale)
        weights = read_weights(folder / MODEL)
        if (wrong := _unusable(weights)) is not None:
            raise TenetError(f"{folder / MODEL}: {wrong}; train again")
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise TenetError(f"{folder / MODEL} does not fit its settings ({reason})") from None
        if found.weights is not None and found.weights != digest(folder / MODEL):
            raise TenetError(
                f"{path} does not belong to the weights in {MODEL}: train again, or copy the whole "
                "folder"
            )
        record = {**read_json_object(path), **found.model_dump()}
        return network.to(device).eval(), record


def _unusable(weights: Mapping[str, Any]) -> str | None:
    """Fault of the first weight that is not a tensor of finite floats, or None."""
    for name, value in weights.items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return f"{name} is no tensor of floating-point numbers"
        if not bool(value.isfinite().all()):
            return f"{name} is not finite"
    return None


def fit(
    network: LearnedBaseline,
    task: Task,
    folder: Path,
    *,
    seed: int,
    data: Data,
    keep_last: bool = False,
    told: str = "",
) -> None:
    """Train with the loop that trains TENET, which is resumable, is logged and shows progress.

    `told` is the digest of all other inputs of the weights.
    """
    settings = network.settings
    plan = Plan(
        settings=settings,
        folder=folder,
        steps_per_epoch=network.settings.steps_per_epoch,
        seed=seed,
        best_over=1,
        identity=f"{network.name} {seed} {settings.model_dump_json()} {stacks_digest(data)} "
        f"{float(network.signal_level)} {told}",
        keep_last=keep_last,
    )
    train(task, plan)
    network.checkpoint = digest_of(plan.identity)
    if (wrong := _unusable(network.state_dict())) is not None:
        raise TenetError(f"{folder}: training of {network.name} failed: {wrong}; lower lr")
    network.eval()
    network.register([_middle(stack, range_) for stack, range_ in data[:_REGISTERED]])


def _middle(stack: Stack, range_: IntensityRange) -> NDArray[np.float32]:
    """The middle of a stack in [0, 1], 96 pixels wide and 96 planes deep at most."""
    starts = [max((n - 96) // 2, 0) for n in stack.zyx_shape]
    z, y, x = (slice(start, start + 96) for start in starts)
    return normalise(stack.read(z, y, x), range_)


def choose_threshold(
    network: LearnedBaseline, pairs: Sequence[tuple[NDArray[np.float32], NDArray[np.uint8]]]
) -> dict[str, float]:
    """Threshold of the highest mean IoU on images of held-out phantoms, and the mean IoU."""
    choice = best_threshold([(restore_array(network, image)[0], truth) for image, truth in pairs])
    return {"threshold": float(choice.threshold), "iou": float(choice.iou)}


def square_crop(stacks: Sequence[Stack], most: int, divisor: int) -> int:
    """Side of the largest square that all stacks have room for, at most `most`.

    Raises
    ------
    TenetError
        If a stack is smaller than the least square.
    """
    smallest = min(min(stack.zyx_shape[1:]) for stack in stacks)
    side = min(most, smallest) // divisor * divisor
    if side < divisor:
        raise TenetError(f"the smallest stack is {smallest} pixels wide; training needs {divisor}")
    return side
