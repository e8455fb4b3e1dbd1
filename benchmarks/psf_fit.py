"""How far the fitted PSF is from the optics it was told, as told and stretched.

    python benchmarks/psf_fit.py EXPERIMENT [OVERLAY …]

As scale3 demo. Prints, for seeds 0 to 2, the time of the fit, and the root mean square of the
difference over that of the PSF, on the fine grid.
"""

import math
import sys
import time

import numpy as np
import torch

from tenet.physics.blur import centred_planes
from tenet.physics.optics import RadialPSF, psf_volume
from tenet.physics.psf import NeurIPSF
from tenet.settings.load import load_experiment


def stretched(model: RadialPSF, stretch: float) -> RadialPSF:
    """A PSF that is longer along z, and wider by the square root of that."""
    return lambda z_um, r_um: model(z_um / stretch, r_um / math.sqrt(stretch))


def main() -> None:
    """Fit, and compare volumes."""
    name, *overlays = sys.argv[1:]
    params = load_experiment(name, overlays=overlays).params
    model, voxel_size_um = params.model_psf(), params.fine_voxel_size_um
    shape = (centred_planes(params.size_z, params.scale), params.size_y, params.size_x)
    for seed in range(3):
        psf = NeurIPSF(shape, voxel_size_um, params.scale, hidden=params.mid)
        assert psf.log_stretch is not None
        started = time.perf_counter()
        psf.fit(model, np.random.default_rng(seed), target_error=params.nipsf_loss_target)
        seconds = time.perf_counter() - started
        errors = []
        for stretch in (0.7, 1.0, 1.5):
            truth = psf_volume(stretched(model, stretch), shape, voxel_size_um)
            with torch.no_grad():
                psf.log_stretch.fill_(math.log(stretch))
                difference = psf().numpy() - truth
            share = np.linalg.norm(difference) / np.linalg.norm(truth)
            errors.append(f"{100 * share:.1f} % at {stretch}")
        print(f"seed {seed}: {seconds:.1f} s; off by {', '.join(errors)}")


if __name__ == "__main__":
    main()
