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
import itertools
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ratios import ACROSS, TOLD, simulated

from tenet.cli.device import choose_device
from tenet.enhance.enhance import enhance_array
from tenet.io.intensities import normalise
from tenet.io.open import open_stack
from tenet.io.optics import Optics
from tenet.io.stack import Stack
from tenet.io.writing import write_ome_tiff
from tenet.learn.serve import serve
from tenet.metrics.segmentation import iou
from tenet.model.shipped import shipped_model
from tenet.model.trained import TrainedModel
from tenet.tasks.learn import learn
from tenet.tasks.raw_stacks import RawStacks


def score(
    model: TrainedModel, stack: Stack, truth: np.ndarray, told: Optics | None = None
) -> float:
    """IoU of a stack with a model; one of every microscope is told the optics, and fitted."""
    if told:
        assert stack.voxel_size_um
        model, range_, _ = serve(model, stack, stack.voxel_size_um, told)
    else:
        range_ = model.intensity_range(stack)
    shape, _ = enhance_array(model.network, normalise(stack.read(), range_))
    return iou(shape >= model.threshold, truth)


def main() -> None:
    """Every number of stacks, and all that is learned."""
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
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pairs = []
        for seed in range(max(asked.stacks)):
            stack, truth = simulated(every, told, size_um, seed)
            counts = (stack.read() * 1000).round().clip(0, 65535).astype(np.uint16)
            write_ome_tiff(folder / f"{seed}.ome.tif", counts, size_um)
            pairs.append((open_stack(folder / f"{seed}.ome.tif"), truth))
        for stack, truth in pairs:
            found = score(every, stack, truth, told)
            rows.append({"method": "box", "stack": stack.name, "iou": found})
            print(rows[-1], flush=True)
        for count, what in itertools.product(asked.stacks, asked.train):
            start, out = time.monotonic(), folder / f"{what}{count}"
            raw = RawStacks([stack.path for stack, _ in pairs[:count]])
            learn(raw, shipped_model(), out, told, what=what, device=device)
            about = {"method": f"{what} of {count}", "minutes": (time.monotonic() - start) / 60}
            model = TrainedModel.load(out)
            for stack, truth in pairs:
                rows.append(about | {"stack": stack.name, "iou": score(model, stack, truth)})
                print(rows[-1], flush=True)
            pd.DataFrame(rows).to_csv(asked.out, index=False)
    table = pd.DataFrame(rows).groupby("method").mean(numeric_only=True)
    print(table.round(3).to_string())


if __name__ == "__main__":
    main()
