"""The images of fine-tuning: crops of raw stacks, or of phantoms seen by the pre-trained PSF."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tenet.data.crops import StackCrops, read_window, windows_of
from tenet.data.phantoms.store import Phantom
from tenet.io.intensities import IntensityRange
from tenet.io.stack import Stack
from tenet.learn.pretrain import Drawn, Simulator, mask
from tenet.model.intensity import stack_range
from tenet.model.tenet import TENET
from tenet.settings.schema import Dataset, Experiment

#: Least size, in rows and columns (where a stack has as many), of windows that are looked at whole.
SCANNED_YX = 96
Images = tuple[Tensor, Tensor]  # image, network input


@dataclass(frozen=True)
class RawData:
    """Raw stacks and how their intensities map to [0, 1]."""

    training: Sequence[Stack]
    validation: Sequence[Stack]
    ranges: Mapping[Stack, IntensityRange]

    @classmethod
    def prepare(
        cls, training: Sequence[Stack], validation: Sequence[Stack], method: str
    ) -> "RawData":
        """Check every stack and measure its range; `method` as in `RawDataset.normalisation`."""
        ranges = {stack: stack_range(stack, method) for stack in {*training, *validation}}
        return cls(training, validation, ranges)


class Crops(Protocol):
    """Where the images of a training come from."""

    def draw(self, part: str, size: int, rng: np.random.Generator) -> Any:
        """Read what images are made of, on the CPU; `part` is ``"train"`` or ``"val"``."""
        ...

    def batch(self, part: str, drawn: Any, rng: np.random.Generator) -> Images:
        """Images (N, 1, Z, Y, X) in [0, 1], and the same with masks."""
        ...

    def windows(self, most: int, rng: np.random.Generator) -> list[Tensor]:
        """Some different images (1, 1, Z, Y, X) to learn from, with signal, as large as may be."""
        ...


class RawCrops:
    """Crops of raw stacks."""

    def __init__(self, model: TENET, experiment: Experiment, data: RawData) -> None:
        self.sections: dict[str, Dataset] = {
            "train": experiment.train_dataset,
            "val": experiment.val_dataset,
        }
        self.scale = experiment.params.scale
        self.device = model.initial_psf.device
        self.align = model.align
        self.divisor_yx = model.encoder.divisor_zyx[1:]
        stacks = {"train": data.training, "val": data.validation}
        self.crops = {}
        for part, section in self.sections.items():
            z, y, x = section.cropsize
            self.crops[part] = StackCrops(
                stacks[part],
                [data.ranges[stack] for stack in stacks[part]],
                (z // self.scale, y, x),
                augment=experiment.train_dataset.augment and part == "train",
            )

    def draw(self, part: str, size: int, rng: np.random.Generator) -> Tensor:
        """Read crops (N, 1, Z, Y, X) in [0, 1]."""
        return torch.from_numpy(self.crops[part].draw_batch(size, rng)[:, None])

    def batch(self, part: str, drawn: Tensor, rng: np.random.Generator) -> Images:
        """Images (N, 1, Z, Y, X) in [0, 1], and the same with masks."""
        image = self.align(drawn.to(self.device))
        section = self.sections[part]
        return image, mask(section, self.scale, image, rng)

    def windows(self, most: int, rng: np.random.Generator) -> list[Tensor]:
        """Parts of the stacks to learn from, of whole depth where that is no more than a crop's.

        Eight times as many windows are drawn, and those with the most signal are kept. A stack that
        is narrower than two windows is one window, because two windows would share much of the
        stack and count that part twice.
        """
        crops = self.crops["train"]
        planes = crops.crop_zyx_shape[0]
        places = []
        for stack, range_ in zip(crops.stacks, crops.ranges, strict=True):
            rows, columns = (
                n // max(1, n // SCANNED_YX) // d * d
                for n, d in zip(stack.zyx_shape[1:], self.divisor_yx, strict=True)
            )
            for place in windows_of(stack.zyx_shape, (planes, rows, columns)):
                places.append((stack, range_, place))
        drawn = []
        for index in rng.permutation(len(places))[: 8 * most]:
            stack, range_, place = places[index]
            drawn.append(read_window(stack, range_, place))
        drawn.sort(key=lambda window: window[1], reverse=True)
        windows = [torch.from_numpy(image)[None, None].to(self.device) for image, _ in drawn[:most]]
        return [self.align(window) for window in windows]


class SimulatedCrops:
    """Images made from phantoms with the frozen pre-trained PSF."""

    def __init__(self, model: TENET, experiment: Experiment, volumes: Sequence[Phantom]) -> None:
        training, validation = experiment.pretrain_dataset, experiment.pretrain_val_dataset
        self.sections: dict[str, Dataset] = {
            "train": experiment.train_dataset,
            "val": experiment.val_dataset,
        }
        self.model = model
        # Of the data, which stand still whatever the model learns.
        noise_model = copy.deepcopy(model.noise)
        self.microscope = replace(model.microscope(model.psf().detach()), noise=noise_model)
        noise = not experiment.pretrain_loop.without_noise
        unmasked = {"mask": False, "cropsize": experiment.train_dataset.cropsize}
        # Where planes are aligned, there is motion to undo.
        self.epoch = experiment.vibration.max_step
        vibration = None if model.aligner is None else experiment.vibration
        self.simulators = {
            "train": Simulator(
                volumes[training.low : training.high],
                training.model_copy(update=unmasked),
                model.params.scale,
                vibration,
                noise=noise,
            ),
            "val": Simulator(
                volumes[validation.low : validation.high],
                validation.model_copy(update=unmasked),
                model.params.scale,
                vibration,
                noise=noise,
            ),
        }

    def draw(self, part: str, size: int, rng: np.random.Generator) -> Drawn:
        """Read crops of phantoms."""
        return self.simulators[part].draw(size, rng)

    def batch(self, part: str, drawn: Drawn, rng: np.random.Generator) -> Images:
        """Images (N, 1, Z, Y, X) in [0, 1], and the same with masks."""
        batch = self.simulators[part].batch(self.microscope, drawn, self.epoch, rng)
        image = self.model.align(batch.image)
        return image, mask(self.sections[part], self.model.params.scale, image, rng)

    def windows(self, most: int, rng: np.random.Generator) -> list[Tensor]:
        """Images of the validation phantoms, of the size of a crop."""
        return [self.batch("val", self.draw("val", 1, rng), rng)[0] for _ in range(most)]
