"""The model of every microscope by axial ratio and photons, beside a tuned deconvolution.

    python benchmarks/ratios.py --out OUT.csv [--model MODEL] [--ratios 2 2.5] [--photons 1 2]

Simulated stacks. Volumes of the worlds that the model is trained on, drawn anew, are blurred by a
microscope whose aperture is 10 % below the one that is told, with spherical aberration (0.05 waves)
and, with two photons, a fill of 0.7; its PSF is 3.5 pixels across. Planes are RATIO pixels apart. A
method has the told optics alone:

    box          the model of every microscope, which looks for the PSF in each stack
    rltv         RLTV with the PSF as told, tuned on the phantoms that the model is calibrated on;
                 left out with --box-alone
    rltv_found   RLTV with the PSF that the model found, tuned on them; with --found, which is slow

Writes a row for each stack and method, and prints mean IoU by ratio and photons.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tenet.cli.device import choose_device
from tenet.enhance.enhance import enhance_array
from tenet.io.array import stack_in_memory
from tenet.io.intensities import normalise
from tenet.io.optics import Optics
from tenet.io.stack import Stack
from tenet.learn.serve import serve
from tenet.metrics.segmentation import iou
from tenet.model.shipped import shipped_model
from tenet.model.store import TUNING
from tenet.model.trained import TrainedModel
from tenet.paper.real.methods import Deconvolution
from tenet.settings.load import load_experiment
from tenet.settings.own_stack import sample_experiment, with_psf_grid
from tenet.tasks.phantoms import training_phantoms

RATIOS, ACROSS, SHAPE = (2.0, 2.5, 4.0, 8.0, 12.0, 16.0), 3.5, (192, 128, 128)
#: By photons: what is told, and the width of the PSF in units of wavelength / NA.
TOLD = {1: (Optics(0.8, 0.52, 1.33, 1), 0.51), 2: (Optics(0.8, 0.92, 1.33, 2), 0.36)}


def simulated(
    model: TrainedModel, told: Optics, size_um: tuple[float, float, float], seed: int
) -> tuple[Stack, np.ndarray]:
    """A stack by a microscope that nobody is told of, and the truth on the fine grid."""
    base = load_experiment("box")
    experiment = sample_experiment(
        base, size_um, where="ratios", na=told.na, wavelength_um=told.wavelength_um,
        immersion_index=told.immersion_index, photons=told.photons,
    )  # fmt: skip
    params = experiment.params
    other = {"NA": 0.9 * params.NA, "spherical": 0.05}
    network = model.network.for_microscope(with_psf_grid(params.model_copy(update=other)))
    section = base.simulation_data_generation.model_copy(
        update={"image_size": SHAPE, "train_object_num_min": 25, "train_object_num_max": 40}
    )
    worlds = training_phantoms(section, params.fine_voxel_size_um).worlds
    drawn = worlds[seed % len(worlds)].draw(np.random.default_rng([2026, seed]))
    planes = SHAPE[0] // params.scale * params.scale
    light = torch.from_numpy(drawn.brightness[:planes])[None, None]
    microscope = network.microscope()
    with torch.no_grad():
        image = microscope.record(microscope.expose(light), torch.Generator().manual_seed(seed))
    return stack_in_memory(image[0, 0].numpy()), drawn.shape[:planes]


def main() -> None:
    """Every ratio and number of photons."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--ratios", type=float, nargs="+", default=RATIOS)
    parser.add_argument("--photons", type=int, nargs="+", default=(1, 2), choices=(1, 2))
    parser.add_argument("--stacks", type=int, default=3)
    parser.add_argument("--found", action="store_true")
    parser.add_argument("--box-alone", action="store_true")
    parser.add_argument("--threads", type=int)
    asked = parser.parse_args()
    choose_device("cpu", asked.threads)
    model = TrainedModel.load(asked.model or shipped_model())
    rows = []
    for photons in asked.photons:
        told, width = TOLD[photons]
        assert told.na
        assert told.wavelength_um
        pixel_um = width * told.wavelength_um / told.na / ACROSS
        for ratio in asked.ratios:
            size_um = (ratio * pixel_um, pixel_um, pixel_um)
            tuned = None
            for seed in range(asked.stacks):
                stack, truth = simulated(model, told, size_um, seed)
                own, range_, found = serve(model, stack, size_um, told)
                image = normalise(stack.read(), range_)
                score = enhance_array(own.network, image)[0]
                about = {"photons": photons, "ratio": ratio, "stack": seed}
                about |= found["likeness"] | {"scale": own.params.scale}
                about.pop("warnings")
                scores = {"box": (score, own.threshold)}
                if tuned is None and not asked.box_alone:
                    as_told, *_ = serve(model, stack, size_um, told, find_psf=False)
                    psf = as_told.network.psf().detach()
                    tuned = Deconvolution(as_told, psf, as_told.folder / TUNING)
                if tuned is not None:
                    scores["rltv"] = tuned(stack), tuned.threshold
                if asked.found:
                    again = Deconvolution(own, own.network.psf().detach(), own.folder / TUNING)
                    scores["rltv_found"] = again(stack), again.threshold
                for method, (values, threshold) in scores.items():
                    measured = iou(values >= threshold, truth) if math.isfinite(threshold) else 0.0
                    rows.append(about | {"method": method, "iou": measured})
                print(rows[-len(scores) :], flush=True)
            pd.DataFrame(rows).to_csv(asked.out, index=False)
    table = pd.DataFrame(rows).pivot_table("iou", ["photons", "ratio"], "method").round(3)
    print(table.to_string())


if __name__ == "__main__":
    main()
