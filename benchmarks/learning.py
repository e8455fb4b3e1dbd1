"""When `tenet learn` pays: one microscope, with more and more stacks of it.

    python benchmarks/learning.py --out OUT.csv [--stacks 1 4] [--ratio 4] [--photons 2]

Simulated stacks as in `ratios.py`, all by one microscope that nobody is told of: its aperture is
10 % below the one told, with aberration. The same stacks are enhanced

    box      by the model of every microscope, which looks for the PSF in each stack
    psf      by the model that `tenet learn` made of them: one PSF for all, noise learned
    all      by that of `tenet learn --train all`: the encoder learned as well

Prints mean IoU and the minutes that learning took. No stack serves to choose anything.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from ratios import ACROSS, TOLD, simulated

from tenet.cli.device import choose_device
from tenet.enhance.enhance import enhance_array
from tenet.io.intensities import normalise
from tenet.io.open import open_stack
from tenet.io.stack import Stack
from tenet.io.writing import write_ome_tiff
from tenet.learn.serve import serve
from tenet.metrics.segmentation import iou
from tenet.model.shipped import shipped_model
from tenet.model.trained import TrainedModel
from tenet.tasks.learn import learn
from tenet.tasks.raw_stacks import RawStacks


def score(model: TrainedModel, stack: Stack, truth: np.ndarray, served: bool) -> float:
    """IoU of a stack with a model."""
    if served:
        model, range_, _ = serve(model, stack, stack.voxel_size_um or (1, 1, 1), told)
    else:
        range_ = model.intensity_range(stack)
    shape, _ = enhance_array(model.network, normalise(stack.read(), range_))
    return iou(shape >= model.threshold, truth)


parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
parser.add_argument("--out", type=Path, required=True)
parser.add_argument("--stacks", type=int, nargs="+", default=(1, 4))
parser.add_argument("--ratio", type=float, default=4)
parser.add_argument("--photons", type=int, default=2, choices=(1, 2))
parser.add_argument("--train", nargs="+", default=("psf", "all"), choices=("psf", "all"))
parser.add_argument("--threads", type=int)
asked = parser.parse_args()
device = choose_device("cpu", asked.threads)
told, width = TOLD[asked.photons]
assert told.na
assert told.wavelength_um
pixel_um = width * told.wavelength_um / told.na / ACROSS
size_um = (asked.ratio * pixel_um, pixel_um, pixel_um)
every = TrainedModel.load(shipped_model())
rows = []
with tempfile.TemporaryDirectory() as name:
    folder, stacks, truths = Path(name), [], []
    for seed in range(max(asked.stacks)):
        stack, truth = simulated(every, told, size_um, seed)
        path = folder / f"{seed}.ome.tif"
        counts = (stack.read() * 1000).round().clip(0, 65535).astype(np.uint16)
        write_ome_tiff(path, counts, size_um)
        stacks.append(open_stack(path))
        truths.append(truth)
    for stack, truth in zip(stacks, truths, strict=True):
        rows.append({"method": "box", "stack": stack.name, "iou": score(every, stack, truth, True)})
        print(rows[-1], flush=True)
    for count in asked.stacks:
        for what in asked.train:
            start, out = time.monotonic(), folder / f"{what}{count}"
            mode: Literal["psf", "all"] = "psf" if what == "psf" else "all"
            raw = RawStacks([stack.path for stack in stacks[:count]])
            learn(raw, shipped_model(), out, told, what=mode, device=device)
            minutes = (time.monotonic() - start) / 60
            model = TrainedModel.load(out)
            for stack, truth in zip(stacks, truths, strict=True):
                rows.append({
                    "method": f"{what} of {count}", "stack": stack.name, "minutes": minutes,
                    "iou": score(model, stack, truth, False),
                })  # fmt: skip
                print(rows[-1], flush=True)
            pd.DataFrame(rows).to_csv(asked.out, index=False)
print(pd.DataFrame(rows).groupby("method")[["iou", "minutes"]].mean().round(3).to_string())
print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
