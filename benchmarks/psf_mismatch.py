"""How much a wrong PSF hurts: IoU on simulated phantoms, for PSFs that are told and not true.

    python benchmarks/psf_mismatch.py MODEL PHANTOMS TUNING [--count N] [--search]

MODEL is a pre-trained folder and is not fine-tuned, so the numbers show the encoder alone; with
--search also with the PSF that fine-tuning finds in the images, from the one that is told. PHANTOMS
are acquired once for each true PSF, with the model's optics, noise and light on a grid that holds
the tails; PSFs of other fill are as long. Then each is enhanced with the PSF that is told. Beside
TENET: RLTV (accelerated, best iterations and weight of a few) with the same PSF, and thresholds.
All are chosen on TUNING, where the PSF is right. Prints CSV: true, told, method, IoU.
"""

import argparse
import contextlib
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tenet.data.crops import windows_of
from tenet.data.phantoms.store import open_phantoms
from tenet.learn.calibrate import Pair
from tenet.learn.drawn_psfs import Form, _volume
from tenet.learn.microscopes import Candidate, microscope
from tenet.learn.psf_search import WINDOWS, search_psf
from tenet.metrics.segmentation import iou
from tenet.metrics.thresholds import best_threshold
from tenet.model.store import load_model
from tenet.model.tenet import TENET
from tenet.paper.baselines.rltv import rltv
from tenet.physics.blur import StridedBlur
from tenet.physics.microscope import Microscope
from tenet.physics.noise import NoiseModel
from tenet.settings.schema import ModelParams

ROOM = {"size_z": 201, "size_y": 41, "size_x": 41}  # of true PSFs
WINDOW = (15, 96, 96)  # planes, rows and columns of the parts in which a PSF is searched
LENGTHS = (0.5, 0.7, 0.85, 1.0, 1.15, 1.3, 1.5, 2.0)
FILLS = (math.inf, 0.7, 0.4)
SETTINGS = [(n, weight) for n in (15, 30, 60) for weight in (0.003, 0.01)]
Method = Callable[[NDArray[np.float32], Tensor], NDArray[np.float32]]


def psf(params: ModelParams, length: float = 1.0, fill: float = math.inf) -> Tensor:
    """A PSF some times as long as that of `params`, of a fill at equal length."""
    return _volume(params, length**-0.5, Form(1 / fill, 0.0))


def acquired(params: ModelParams, folder: Path, true: Tensor, count: int) -> list[Pair]:
    """Images of phantoms by a PSF, and the true shapes."""
    noise = NoiseModel(params.poisson_weight, params.sig_eps, params.noise)
    microscope = Microscope(true, noise, params.scale, params.coarse_voxel_size_um)
    pairs = []
    for index, phantom in enumerate(open_phantoms(folder)[:count]):
        planes, rows, columns = phantom.zyx_shape
        planes = planes // params.scale * params.scale
        shape, light = phantom.read(slice(0, planes), slice(0, rows), slice(0, columns))
        generator = torch.Generator().manual_seed(index)
        image = microscope.acquire(torch.from_numpy(light)[None, None], generator)
        pairs.append((image[0, 0].numpy(), shape))
    return pairs


def tenet(model: TENET) -> Method:
    """The encoder with a PSF that it is told."""

    def enhance(image: NDArray[np.float32], told: Tensor) -> NDArray[np.float32]:
        planes, rows, columns = image.shape
        blur = StridedBlur(told, (planes * model.params.scale, rows, columns), model.params.scale)
        enhanced = model.enhance(torch.from_numpy(image)[None, None], blur)
        return enhanced["shape_probability"][0, 0].numpy()

    return enhance


def searched(
    folder: Path,
    images: Sequence[NDArray[np.float32]],
    length: float,
    fill: float,
    threshold: float,
) -> Tensor:
    """The PSF that fine-tuning finds in images, from one of another length and fill."""
    model, experiment = load_model(folder)
    model.eval().half_precision = experiment.pretrain_loop.half_precision
    tails = Candidate.tails_of(None if math.isinf(fill) else fill)
    told = microscope(model.params, Candidate(math.log(length), tails))
    model.take_microscope(told, np.random.default_rng(0))
    windows = [image[place] for image in images for place in windows_of(image.shape, WINDOW)]
    windows.sort(key=lambda window: float(np.square(window).mean()), reverse=True)
    brightest = [torch.from_numpy(window)[None, None] for window in windows[:WINDOWS]]
    with contextlib.redirect_stdout(sys.stderr):
        search_psf(model, brightest, threshold, 0)
    return model.psf().detach()


def deconvolution(params: ModelParams, iterations: int, tv_weight: float) -> Method:
    """RLTV with a PSF that it is told."""

    def restore(image: NDArray[np.float32], told: Tensor) -> NDArray[np.float32]:
        return rltv(
            image.clip(0),
            told,
            scale=params.scale,
            iterations=iterations,
            tv_weight=tv_weight,
            fine_voxel_size_um=params.fine_voxel_size_um,
            background=params.sig_eps,
            accelerated=True,
        ).numpy()

    return restore


def tuned(method: Method, pairs: Sequence[Pair], told: Tensor) -> tuple[float, float]:
    """The best threshold, and the IoU that it reaches."""
    choice = best_threshold([(method(image, told), shape) for image, shape in pairs])
    return choice.threshold, choice.iou


@torch.no_grad()
def main() -> None:
    """Print the curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("phantoms", type=Path)
    parser.add_argument("tuning", type=Path)
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--search", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, experiment = load_model(options.model)
    model.eval().half_precision = experiment.pretrain_loop.half_precision
    params = model.params
    roomy = params.model_copy(update=ROOM)
    nominal, held = psf(params), acquired(params, options.tuning, psf(roomy), options.count)
    tried = [deconvolution(params, *setting) for setting in SETTINGS]
    best = max(tried, key=lambda method: tuned(method, held, nominal)[1])
    methods = {"TENET": tenet(model), "RLTV": best}
    cuts = {name: tuned(method, held, nominal)[0] for name, method in methods.items()}
    cases = [(math.inf, length, math.inf) for length in LENGTHS]
    cases += [
        (true, 1.0, told) for true in FILLS for told in FILLS if (true, told) != (math.inf,) * 2
    ]
    images = {
        true: acquired(params, options.phantoms, psf(roomy, 1, true), options.count)
        for true in FILLS
    }
    print("true_fill,told_length,told_fill,method,iou")
    for true, length, fill in cases:
        told = psf(params, length, fill)
        for name, method in methods.items():
            found = [iou(method(im, told) >= cuts[name], shape) for im, shape in images[true]]
            print(f"{true},{length},{fill},{name},{np.mean(found):.3f}", flush=True)
        if options.search:
            stacks = [image for image, _ in images[true]]
            own = searched(options.model, stacks, length, fill, cuts["TENET"])
            method = methods["TENET"]
            found = [iou(method(im, own) >= cuts["TENET"], shape) for im, shape in images[true]]
            print(f"{true},{length},{fill},TENET searched,{np.mean(found):.3f}", flush=True)


if __name__ == "__main__":
    main()
