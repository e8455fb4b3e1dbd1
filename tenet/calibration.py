"""What a model needs before it is used: a threshold, an intensity level, and its PSF measured.

All of it comes from held-out phantoms blurred by the model's own PSF, never from the data that the
model will be judged on.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tenet.config import Experiment
from tenet.errors import TenetError
from tenet.inference import THRESHOLD, enhance_array, psf_before_and_after
from tenet.metrics import best_threshold, threshold_grid
from tenet.model import TENET
from tenet.phantoms import open_phantoms
from tenet.simulation import psf_fwhm_um
from tenet.training.finetune import RawData, stack_range
from tenet.training.store import read_experiment, save_json, save_table
from tenet.volumes import IntensityRange, Stack

PSF_TABLE = "psf.csv"
Pair = tuple[NDArray[np.float32], NDArray[np.uint8]]


def phantom_images(model: TENET, phantoms: Path, *, noise: bool, seed: int) -> list[Pair]:
    """Images (Z, Y, X) of every phantom by the model's own PSF and noise, and the true shapes."""
    scale = model.params.scale
    device = model.initial_psf.device
    pairs = []
    for index, phantom in enumerate(open_phantoms(phantoms)):
        planes, rows, columns = phantom.zyx_shape
        z = slice(0, planes // scale * scale)
        shape, brightness = phantom.read(z, slice(0, rows), slice(0, columns))
        with torch.no_grad():
            luminance = torch.from_numpy(brightness * shape)[None, None].to(device)
            zyx_shape = (shape.shape[0], rows, columns)
            image = model.blur(zyx_shape)(luminance).clamp(0, 1)
            if noise:
                generator = torch.Generator().manual_seed(1_000_003 * seed + index)
                image = model.noise.sample(image, generator)
        pairs.append((image[0, 0].cpu().numpy(), shape))
    return pairs


def calibrate(model: TENET, phantoms: Path, folder: Path, *, seed: int = 0) -> dict[str, Any]:
    """Choose the threshold of the shape and the level of the brightest signal; write both.

    Parameters
    ----------
    model : TENET
        In evaluation mode.
    phantoms : Path
        Held-out phantoms.
    folder : Path
        Receives ``threshold.json`` and ``psf.csv``.
    seed : int
        Of the noise.

    Returns
    -------
    dict
        `threshold` (of the highest mean IoU), `iou`, `n`, `signal_level`: the intensity that the
        brightest 0.01 % of the voxels of a phantom's image reach, to which raw stacks are scaled.
    """
    levels = [
        np.percentile(image, 99.99)
        for image, _ in phantom_images(model, phantoms, noise=False, seed=seed)
    ]
    pairs = phantom_images(model, phantoms, noise=True, seed=seed)
    scores = ((enhance_array(model, image)[0], truth) for image, truth in pairs)
    choice = best_threshold(scores, threshold_grid())
    record = {
        "threshold": round(float(choice.threshold), 4),
        "iou": round(float(choice.iou), 4),
        "n": len(pairs),
        "signal_level": round(float(np.median(levels)), 6),
        "how": "highest mean IoU on held-out phantoms blurred by the model's own PSF and noise",
    }
    save_json(folder / THRESHOLD, record)
    return record


def signal_level(folder: Path) -> float:
    """The level recorded beside a model; 1 where a model was never calibrated."""
    path = folder / THRESHOLD
    if not path.exists():
        return 1.0
    try:
        level = float(json.loads(path.read_text(encoding="utf-8")).get("signal_level", 1.0))
    except (ValueError, AttributeError, TypeError):
        raise TenetError(f"{path} is damaged: train the model again, or delete it") from None
    if not 0 < level <= 1:
        raise TenetError(f"{path}: signal_level is {level:g}; it must be above 0 and at most 1")
    return level


def missing_calibration(folder: Path) -> str | None:
    """Say in one line what stands in for the calibration of a model, or None if it has one."""
    if (folder / THRESHOLD).exists():
        return None
    threshold = read_experiment(folder).params.threshold
    return (
        f"{folder} was never calibrated (it has no {THRESHOLD}): its signal level is taken as 1 "
        f"and its threshold as {threshold:g}, from its settings; give --tuning phantoms when "
        "training to choose both"
    )


def scaled(range_: IntensityRange, level: float) -> IntensityRange:
    """A range in which what was 1 becomes `level`."""
    if range_.method != "percentile" or level == 1:
        return range_
    high = range_.low + (range_.high - range_.low) / level
    return IntensityRange(range_.low, high, range_.method)


def model_range(
    stack: Stack, experiment: Experiment, folder: Path, method: str | None = None
) -> IntensityRange:
    """Intensities of a stack that become 0 and 1 for the model in a folder.

    As in the training that `experiment` describes, unless another `method` of normalisation is
    given; and the brightest signal at the level of the phantoms that it was pre-trained on.
    """
    range_ = stack_range(stack, method or experiment.train_dataset.normalisation)
    return scaled(range_, signal_level(folder))


def raw_data(stacks: Sequence[Stack], experiment: Experiment, pretrained: Path) -> RawData:
    """Raw stacks for fine-tuning, and for its validation, scaled for the pre-trained model."""
    ranges = {stack.path: model_range(stack, experiment, pretrained) for stack in stacks}
    return RawData(stacks, stacks, ranges)


def write_psf_table(model: TENET, folder: Path) -> None:
    """Widths of the PSF that the model started from and of the one it has, as ``psf.csv``."""
    before, after, voxel_size_um = psf_before_and_after(model)
    rows = [
        {"which": which, "axis": axis, "fwhm_um": round(width, 4)}
        for which, psf in (("initial", before), ("learned", after))
        for axis, width in psf_fwhm_um(psf, voxel_size_um).items()
    ]
    save_table(folder / PSF_TABLE, rows)
