"""The model of every microscope on the stacks of the quality bench.

    python benchmarks/box_quality.py RESULTS --out OUT.csv [--model MODEL] [--thickness UM]

RESULTS is what `make quality` wrote, as results/quality; acquisitions and phantoms are enough. The
model is told the nominal optics of the bench, looks for the PSF in each stack, and has the
threshold that its calibration gives. How bright the stacks are is not told, as with a user's
stacks: intensities are scaled by their percentiles, or with --high HIGH so that HIGH becomes 1,
which is the truth of the bench with 1. The bench's own method `box` is told the truth. UM is the
mean thickness of the structures, which is told only then. Writes IoU of every stack, and prints
means.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd

from tenet.cli.device import choose_device
from tenet.data.phantoms.store import open_phantoms
from tenet.enhance.enhance import enhance_array
from tenet.io.folders import stack_files
from tenet.io.intensities import normalise
from tenet.io.open import open_stack
from tenet.io.optics import Optics
from tenet.learn.serve import serve
from tenet.metrics.segmentation import iou
from tenet.model.shipped import shipped_model
from tenet.model.trained import TrainedModel
from tenet.settings.load import load_experiment

#: Phantoms of the conditions whose phantoms do not have their name.
PHANTOMS = "quality"


def main() -> None:
    """Every condition but the beads."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--psf-as-told", action="store_true")
    parser.add_argument("--high", type=float)
    parser.add_argument("--thickness", type=float, metavar="UM")
    parser.add_argument("--conditions", nargs="+", metavar="NAME")
    asked = parser.parse_args()
    choose_device("cpu", asked.threads)
    model = TrainedModel.load(asked.model or shipped_model())
    told = load_experiment("quality_matched", overlays=["demo", "quality"]).params
    optics = Optics(told.NA, told.wavelength, min(told.ni, told.ni0), told.photons)
    rows = []
    for folder in sorted((asked.results / "acquisitions").glob("quality_*/noise")):
        condition = folder.parent.name
        own = asked.results / "phantoms" / condition
        if "beads" in condition or condition not in (asked.conditions or [condition]):
            continue
        phantoms = open_phantoms(own if own.is_dir() else own.with_name(PHANTOMS))
        for path, phantom in zip(stack_files(folder), phantoms, strict=True):
            stack = open_stack(path)
            size_um = told.coarse_voxel_size_um
            served, range_, found = serve(
                model, stack, size_um, optics, structure_um=asked.thickness,
                find_psf=not asked.psf_as_told,
            )  # fmt: skip
            if asked.high is not None:
                range_ = replace(range_, high=asked.high)
            shape, _ = enhance_array(served.network, normalise(stack.read(), range_))
            whole = tuple(slice(0, n) for n in shape.shape)
            truth, _ = phantom.read(*whole)
            rows.append(
                {
                    "condition": condition,
                    "stack": path.name,
                    "iou": iou(shape >= served.threshold, truth),
                    "threshold": served.threshold,
                    "explained": found["likeness"]["explained"],
                    "wrong": found["likeness"]["wrong"],
                }
            )
            print(rows[-1], flush=True)
        pd.DataFrame(rows).to_csv(asked.out, index=False)
    means = pd.DataFrame(rows).groupby("condition")[["iou", "explained", "wrong"]].mean()
    print(means.round(3).to_string())


if __name__ == "__main__":
    main()
