"""Seconds per iteration of RLTV here and in DIPlib, on one volume, in turns.

DIPlib works on the grid of the image alone, so the volume is not sampled coarsely here either.
"""

import time
from collections.abc import Callable

import diplib as dip
import numpy as np
import torch

from tenet.paper.baselines.rltv import rltv

ZYX_SHAPE, PSF_ZYX_SHAPE = (96, 128, 128), (31, 15, 15)
ITERATIONS, ROUNDS, THREADS = 6, 5, 2


def gaussian_psf() -> np.ndarray:
    """A PSF of sum 1, wider along z."""
    z, y, x = (
        np.exp(-((np.arange(n) - n // 2) ** 2) / (2 * (n / 8) ** 2)).astype(np.float32)
        for n in PSF_ZYX_SHAPE
    )
    psf = z[:, None, None] * y[:, None] * x
    return psf / psf.sum()


def seconds(action: Callable[[], object]) -> float:
    """Time of one call."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def main() -> None:
    """Print a table."""
    torch.set_num_threads(THREADS)
    dip.SetNumberOfThreads(THREADS)
    psf = gaussian_psf()
    image = np.random.default_rng(0).random(ZYX_SHAPE, dtype=np.float32)
    print(f"{ZYX_SHAPE} by {PSF_ZYX_SHAPE}, {THREADS} threads, DIPlib {dip.__version__}")
    print(f"{'TV weight':>9} {'DIPlib':>9} {'here':>9} {'ratio':>6}   seconds per iteration")
    for tv_weight in (0.0, 0.01):

        def theirs(weight: float = tv_weight) -> None:
            dip.RichardsonLucy(
                dip.Image(image), dip.Image(psf), regularization=weight, nIterations=ITERATIONS
            )

        def ours(weight: float = tv_weight) -> None:
            rltv(
                image,
                torch.from_numpy(psf),
                scale=1,
                iterations=ITERATIONS,
                tv_weight=weight,
                fine_voxel_size_um=(1.0, 1.0, 1.0),
            )

        theirs()  # once untimed, and so ours
        ours()
        rounds = [(seconds(theirs), seconds(ours)) for _ in range(ROUNDS)]
        diplib_s, ours_s = np.median(rounds, axis=0) / ITERATIONS
        print(f"{tv_weight:9g} {diplib_s:9.3f} {ours_s:9.3f} {diplib_s / ours_s:6.1f}")


if __name__ == "__main__":
    main()
