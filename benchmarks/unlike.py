"""What the model of every microscope says of stacks that are unlike its training.

    python benchmarks/unlike.py [--model MODEL]

Simulated stacks of 16 planes, none of which a microscope sees: noise alone, a blurred random
texture, bright rows and bright planes. Prints for each how much of the stack the result explains,
the expected share of wrong voxels, what is segmented, and the warnings (`tenet.learn.likeness`).
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from tenet.io.array import stack_in_memory
from tenet.io.optics import Optics
from tenet.learn.serve import serve
from tenet.model.shipped import shipped_model
from tenet.model.trained import TrainedModel

SHAPE, VOXEL_UM, OPTICS = (16, 96, 96), (0.8, 0.12, 0.12), Optics(0.8, 0.92, 1.33, 2)


def light(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Mean counts of a stack."""
    counts = np.full(SHAPE, 20.0)
    if kind == "texture":
        texture = gaussian_filter(rng.normal(size=SHAPE), (1, 3, 3))
        counts = 1000 * (texture - texture.min()) / np.ptp(texture)
    elif kind == "rows":
        counts[:, ::3] += 300
    elif kind == "planes":
        counts[::2] += 400
    return counts


def main() -> None:
    """Every kind of stack."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path)
    model = TrainedModel.load(parser.parse_args().model or shipped_model())
    for kind in ("noise", "texture", "rows", "planes"):
        rng = np.random.default_rng(0)
        stack = stack_in_memory(rng.poisson(light(kind, rng)).astype(np.uint16))
        found = serve(model, stack, VOXEL_UM, OPTICS, find_psf=False).found["likeness"]
        shares = (f"{name} {found[name]:.2f}" for name in ("explained", "wrong", "segmented"))
        print(f"{kind}: {', '.join(shares)}; {'; '.join(found['warnings']) or 'no warning'}")


if __name__ == "__main__":
    main()
