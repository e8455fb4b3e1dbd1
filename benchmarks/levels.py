"""How bright a simulated stack is for a model, and what that does to its segmentation.

    python benchmarks/levels.py MODEL PHANTOMS STACKS

As results/quality/models/scale3 results/quality/phantoms/quality_angle90
results/quality/acquisitions/quality_angle90/noise after `make quality`. Prints, for each stack, how
bright it is made by deconvolution alone, by the gain as well (1 is the truth), and IoU at both
and at the true level.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from tenet.data.phantoms.store import open_phantoms
from tenet.data.simulate import GAIN, OFFSET
from tenet.enhance.enhance import enhance_array
from tenet.io.intensities import IntensityRange, normalise
from tenet.io.open import open_stack
from tenet.model.trained import TrainedModel


def main() -> None:
    """Print a line for each stack."""
    folder, phantoms, stacks = map(Path, sys.argv[1:])
    model = TrainedModel.load(folder)
    if model.calibration is None:
        sys.exit(f"{model.calibration_note}")
    # As a model that was calibrated before there was a gain.
    without = replace(model, calibration=model.calibration.model_copy(update={"gain": None}))
    for phantom, path in zip(open_phantoms(phantoms), sorted(stacks.glob("*.tif")), strict=True):
        stack = open_stack(path)
        raw = stack.read()
        true = IntensityRange(0.0, 1.0, "true")
        if raw.max() > 2:  # counts of a camera
            true = replace(true, low=OFFSET, high=OFFSET + GAIN)
        ranges = [each.intensity_range(stack, "percentile") for each in (without, model)]
        truth = phantom.read(*(slice(0, n) for n in phantom.zyx_shape))[0] > 0
        texts = []
        for range_ in (*ranges, true):
            image = normalise(raw, range_)
            shape = enhance_array(model.network, image, tile_zyx_shape=stack.zyx_shape)[0]
            found = shape >= model.threshold
            iou = np.sum(found & truth) / np.sum(found | truth)
            brightness = (true.high - true.low) / (range_.high - range_.low)
            texts.append(f"{brightness:.2f} (IoU {iou:.3f})")
        print(f"{path.name}: by deconvolution {texts[0]}, by gain {texts[1]}, true {texts[2]}")


if __name__ == "__main__":
    main()
