"""What a two-photon microscope's photomultiplier and 8-bit converter make of light.

The numbers are those of a real stack: noise of two grey levels in the dark, and beside it variance
of four times the signal, both in grey levels. Pixels that follow each other on a line share half of
their noise there (correlation 0.5 along x, none along y), because the detector is slower than a
pixel.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tenet.physics.blur import StridedBlur

#: Grey levels of one photon; standard deviation of the noise in the dark; highest grey level.
GAIN, DARK, TOP = 4.0, 2.0, 255
#: Highest offset that is drawn: at the lowest, 0, half of the noise of the dark is cut off.
MOST_OFFSET = 10.0
#: Share of the voxels that saturate.
SATURATED = 0.002


def acquire(
    light: NDArray[np.float32], psf: Tensor, scale: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Blur light, keep every `scale`-th plane, and record it in 8 bits.

    Parameters
    ----------
    light : ndarray, shape (Z·s, Y, X)
        On the fine grid.
    psf : Tensor, shape (planes, rows, columns)
        On the fine grid, as `StridedBlur` takes it.
    scale : int
        s, fine planes per coarse plane.
    rng : numpy.random.Generator
        Draws the offset and the noise.

    Returns
    -------
    ndarray of uint8, shape (Z, Y, X)
        Grey levels. The light is scaled until `SATURATED` of the voxels reach the highest.
    """
    planes, rows, columns = light.shape
    with torch.no_grad():
        volume = torch.from_numpy(np.ascontiguousarray(light))[None, None]
        image: Any = StridedBlur(psf, (planes, rows, columns), scale)(volume)[0, 0].numpy()
    offset = rng.uniform(0, MOST_OFFSET)
    brightest = np.quantile(image, 1 - SATURATED)
    photons = np.clip(image, 0, None) / brightest * ((TOP - offset) / GAIN)
    noise = GAIN * (rng.poisson(photons) - photons) + rng.normal(0, DARK, image.shape)
    noise = (noise + np.roll(noise, 1, axis=2)) / np.sqrt(2)
    return np.clip(np.rint(offset + GAIN * photons + noise), 0, TOP).astype(np.uint8)
