"""What a model needs before it is used: a threshold, an intensity level, and its PSF measured.

All of it comes from held-out phantoms blurred by the model's own PSF, never from the data that the
model will be judged on.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tenet.certainty import Counts
from tenet.enhancement import enhance_array, psf_before_and_after
from tenet.io.atomic import save_json, save_table
from tenet.metrics import best_threshold, threshold_grid
from tenet.model import TENET
from tenet.phantoms import open_phantoms
from tenet.simulation import psf_fwhm_um
from tenet.training.intensity import BRIGHTEST_PERCENT, deconvolved_peak, reconstruction_gain
from tenet.training.store import THRESHOLD

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
        `threshold` (of the highest mean IoU), `iou`, `n`; `signal_level` and `deconvolved_level`:
        the intensity that the brightest 0.01 % of the voxels of a phantom's image reach, before and
        after deconvolution; `gain`, see `reconstruction_gain`. Raw stacks are scaled to the last
        two. `inside`: what the probabilities meant, see `certainty`.
    """
    levels = [
        np.percentile(image, BRIGHTEST_PERCENT)
        for image, _ in phantom_images(model, phantoms, noise=False, seed=seed)
    ]
    pairs = phantom_images(model, phantoms, noise=True, seed=seed)
    peaks = [deconvolved_peak(model, image) for image, _ in pairs]
    gains = [reconstruction_gain(model, image) for image, _ in pairs]
    counts = Counts()
    scores = ((enhance_array(model, image)[0], truth) for image, truth in pairs)
    choice = best_threshold(counts.seen(scores), threshold_grid())
    record = {
        "threshold": round(float(choice.threshold), 4),
        "iou": round(float(choice.iou), 4),
        "n": len(pairs),
        "signal_level": round(float(np.median(levels)), 6),
        "deconvolved_level": round(float(np.median(peaks)), 6),
        "gain": round(float(np.median(gains)), 6),
        "inside": counts.shares(),
        "how": "highest mean IoU on held-out phantoms blurred by the model's own PSF and noise",
    }
    save_json(folder / THRESHOLD, record)
    return record


def write_psf_table(model: TENET, folder: Path) -> None:
    """Widths of the PSF that the model started from and of the one it has, as ``psf.csv``."""
    before, after, voxel_size_um = psf_before_and_after(model)
    rows = [
        {"which": which, "axis": axis, "fwhm_um": round(width, 4)}
        for which, psf in (("initial", before), ("learned", after))
        for axis, width in psf_fwhm_um(psf, voxel_size_um).items()
    ]
    save_table(folder / PSF_TABLE, rows)
