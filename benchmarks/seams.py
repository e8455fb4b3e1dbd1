"""How much tiles change what a model makes of a stack, against the stack in one piece.

    python benchmarks/seams.py MODEL STACK PIXELS,OVERLAP [PIXELS,OVERLAP …]

As results/demo/models/fig4_neurons/all results/demo/acquisitions/fig4_neurons/noise/00.ome.tif
96,32 112,48 128,64 after `make demo`: tiles that are so wide and share so many pixels, of whole
depth. Prints differences of the shape's probability, and how far the deconvolution that the network
is shown differs where the stack is cut after the first PIXELS columns, 40 and more from the cut.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from tenet.enhance.enhance import enhance_array
from tenet.enhance.memory import default_overlap
from tenet.io.intensities import normalise
from tenet.io.open import open_stack
from tenet.model.trained import TrainedModel


def main() -> None:
    """Print a line for each size of tiles."""
    folder, path, *sizes = sys.argv[1:]
    trained = TrainedModel.load(folder)
    model = trained.network
    stack = open_stack(Path(path))
    image = normalise(stack.read(), trained.intensity_range(stack))
    whole = enhance_array(model, image, tile_zyx_shape=stack.zyx_shape)[0]
    tensor = torch.from_numpy(image)[None, None]
    for size in sizes:
        pixels, overlap = map(int, size.split(","))
        tiled = enhance_array(
            model,
            image,
            tile_zyx_shape=(len(image), pixels, pixels),
            overlap_zyx=(default_overlap(model.params)[0], overlap, overlap),
        )[0]
        seams = np.abs(whole - tiled)
        print(
            f"{pixels} pixels, {overlap} shared: {seams.max():.4f} at most, "
            f"{100 * (seams > 1e-3).mean():.2f} % of the voxels above 0.001"
        )
        if model.params.deconvolution_steps:
            cut = model.deconvolve(tensor[..., :pixels])
            far = (model.deconvolve(tensor)[..., :pixels] - cut)[..., : pixels - 40].abs().max()
            print(f"  deconvolution 40 pixels from a cut: {float(far):.4f}")


if __name__ == "__main__":
    main()
