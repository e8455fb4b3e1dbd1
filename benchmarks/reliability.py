"""Whether voxels are as often wrong as the uncertainty map says, on phantoms whose truth is known.

    python benchmarks/reliability.py RESULTS OUT.png [CONDITION …]

Judges the predictions of `make quality` (RESULTS: results/quality), or of other experiments on
phantoms (EXPERIMENT:PHANTOMS:MODEL). Prints, by condition, the mean uncertainty, the share of
voxels that are wrong, and the mean difference of the two over bins of the uncertainty, weighted by
their voxels; draws the share of wrong voxels against the uncertainty.
"""

import itertools
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import seaborn
from numpy.typing import NDArray

from tenet.data.phantoms.store import open_phantoms
from tenet.enhance.views import save
from tenet.io.open import open_stack
from tenet.model.trained import TrainedModel
from tenet.paper.figures.quality import CONDITIONS as LABELS

BINS = 10
CONDITIONS = ("matched", "na_low", "na_high", "noisy", "motion")

Sums = NDArray[np.float64]  # (3, bins): voxels, sum of the uncertainty, wrong voxels


def judged(results: Path, experiment: str, phantoms: str, model: str) -> Sums:
    """Count voxels by their uncertainty, over all stacks of an experiment."""
    certainty = TrainedModel.load(results / "models" / model).certainty
    sums = np.zeros((3, BINS))
    for phantom in open_phantoms(results / "phantoms" / phantoms):
        name = phantom.path.name.split(".")[0]
        path = results / f"predictions/{experiment}/tenet/noise/{name}.ome.tif"
        probability = open_stack(path, channel=0).read()
        everything = slice(None)
        truth, _ = phantom.read(slice(0, len(probability)), everything, everything)
        uncertainty = certainty.wrong(probability).ravel()
        wrong = ((probability >= certainty.threshold) != (truth > 0)).ravel()
        # An uncertainty is at most about a half.
        bins = np.minimum((2 * BINS * uncertainty).astype(np.intp), BINS - 1)
        for row, weights in enumerate((None, uncertainty, wrong)):
            sums[row] += np.bincount(bins, weights, minlength=BINS)
    return sums


def main() -> None:
    """Print a table and draw a reliability diagram."""
    results, out, *asked = sys.argv[1:]
    names = asked or [f"quality_{name}:quality:quality_{name}/all" for name in CONDITIONS]
    colours = seaborn.color_palette("colorblind")
    figure, axes = plt.subplots(figsize=(3.6, 3.4), constrained_layout=True)
    axes.plot([0, 0.6], [0, 0.6], color="0.6", linewidth=0.8, linestyle="--")
    print("condition, mean uncertainty, share wrong, calibration error")
    styles = zip(itertools.cycle("os^vPX*Dh"), itertools.cycle(colours), strict=False)
    for name, (marker, colour) in zip(names, styles, strict=False):
        experiment, phantoms, model = name.split(":")
        voxels, expected, wrong = judged(Path(results), experiment, phantoms, model)
        error = np.abs(expected - wrong).sum() / voxels.sum()
        label = experiment.removeprefix("quality_")
        print(
            f"{label}, {expected.sum() / voxels.sum():.4f}, {wrong.sum() / voxels.sum():.4f}, "
            f"{error:.4f}"
        )
        some = voxels > 100
        axes.plot(
            expected[some] / voxels[some],
            wrong[some] / voxels[some],
            marker=marker,
            color=colour,
            markersize=4,
            linewidth=1,
            label=LABELS.get(label, label),
        )
    axes.set(xlabel="Uncertainty", ylabel="Share of voxels that are wrong", aspect="equal")
    axes.set_title("Simulated phantoms", fontsize=9, loc="left")
    axes.legend(frameon=False, fontsize=8)
    save(figure, Path(out), dpi=200)


if __name__ == "__main__":
    main()
