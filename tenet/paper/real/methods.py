"""The methods of the bench of real structures: each gives a score and its threshold.

The threshold of each is chosen on the same held-out phantoms.
"""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tenet.enhance.enhance import enhance_array
from tenet.io.intensities import normalise
from tenet.io.optics import Optics
from tenet.io.stack import Stack
from tenet.learn.calibrate import Pair, phantom_images
from tenet.learn.serve import serve
from tenet.metrics.thresholds import best_threshold
from tenet.model.trained import TrainedModel
from tenet.paper.baselines.rltv import rltv
from tenet.paper.baselines.rltv_tuning import tune

#: box is the model of every microscope. rltv has the PSF of an evenly filled pupil, rltv_found the
#: PSF that fine-tuning found, rltv_true the PSF that nobody has; raw is the interpolated stack.
METHODS = ("tenet", "box", "pretrained", "rltv", "rltv_found", "rltv_true", "raw")
#: What RLTV is tuned over.
ITERATIONS, TV_WEIGHTS = (30, 60, 90), (0.003, 0.01, 0.03)

Volume = NDArray[np.float32]


class Method(Protocol):
    """A method that is ready to be applied to stacks."""

    threshold: float

    def __call__(self, stack: Stack) -> Volume:
        """The score on the fine grid, shape (Z·s, Y, X)."""


class Enhancement:
    """TENET: the shape, at the threshold of the model."""

    def __init__(self, model: TrainedModel) -> None:
        self.model, self.threshold = model, model.threshold

    def __call__(self, stack: Stack) -> Volume:
        """The probability of the shape."""
        return enhance_array(self.model.network, _shown(stack, self.model))[0]


class EveryMicroscope:
    """The model of every microscope, told the optics, perhaps the thickness, fitted to each stack.

    The threshold is that of the last stack.
    """

    def __init__(self, folder: Path, optics: Optics, structure_um: float | None = None) -> None:
        self.model, self.optics = TrainedModel.load(folder), optics
        self.structure_um = structure_um
        self.threshold = self.model.threshold

    def __call__(self, stack: Stack) -> Volume:
        """The probability of the shape."""
        size_um = stack.voxel_size_um
        assert size_um is not None
        model, range_, _ = serve(
            self.model, stack, size_um, self.optics, structure_um=self.structure_um
        )
        self.threshold = model.threshold
        return enhance_array(model.network, normalise(stack.read(), range_))[0]


class Deconvolution:
    """RLTV with one PSF, tuned on phantoms that are blurred by it."""

    def __init__(self, model: TrainedModel, psf: Tensor, phantoms: Path) -> None:
        self.model, self.psf = model, psf
        self.chosen, _ = tune(
            _images(model, phantoms, psf),
            psf,
            scale=model.params.scale,
            fine_voxel_size_um=model.params.fine_voxel_size_um,
            tv_weights=TV_WEIGHTS,
            iterations=ITERATIONS,
        )
        self.threshold = self.chosen.threshold

    def __call__(self, stack: Stack) -> Volume:
        """The deconvolved intensities."""
        estimate = rltv(
            torch.from_numpy(_shown(stack, self.model)),
            self.psf,
            scale=self.model.params.scale,
            iterations=self.chosen.iterations,
            tv_weight=self.chosen.tv_weight,
            fine_voxel_size_um=self.model.params.fine_voxel_size_um,
            accelerated=True,
        )
        return estimate.numpy()


class Interpolation:
    """The raw stack on the fine grid."""

    def __init__(self, model: TrainedModel, phantoms: Path) -> None:
        self.model = model
        pairs = _images(model, phantoms)
        scores = [(interpolated(image, model.params.scale), truth) for image, truth in pairs]
        self.threshold = float(best_threshold(scores).threshold)

    def __call__(self, stack: Stack) -> Volume:
        """The intensities."""
        return interpolated(_shown(stack, self.model), self.model.params.scale)


def _shown(stack: Stack, model: TrainedModel) -> Volume:
    """A stack as a model sees it."""
    return normalise(stack.read(), model.intensity_range(stack))


def _images(model: TrainedModel, phantoms: Path, psf: Tensor | None = None) -> list[Pair]:
    """Image and truth of every phantom, taken as the model's own calibration does."""
    with torch.no_grad():
        microscope = model.network.microscope(psf)
    return phantom_images(microscope, phantoms, model.experiment.microscopes, noise=True, seed=0)


def interpolated(image: Volume, scale: int) -> Volume:
    """Interpolate a coarse stack linearly along z.

    Examples
    --------
    >>> interpolated(np.array([0, 1], np.float32)[:, None, None], 4).ravel().tolist()
    [0.0, 0.0, 0.125, 0.375, 0.625, 0.875, 1.0, 1.0]
    """
    factors = (float(scale), 1.0, 1.0)
    fine: Any = torch.nn.functional.interpolate(
        torch.from_numpy(image)[None, None], scale_factor=factors, mode="trilinear"
    )
    return fine[0, 0].numpy()
