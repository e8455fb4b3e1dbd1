"""What NaN at the borders of a stack do to its segmentation.

    python benchmarks/gaps.py STACK --voxel-size Z Y X --na NA [--wavelength UM]

The middle 128 by 128 pixels of a real stack are enhanced as they are; with borders of 10 to 18 NaN
at the left, another number in each plane, and of 12 NaN at the right; and with 0 in place of these
NaN. The model is that of every microscope, with the PSF as told. Prints the intersection over union
with the first result: where there is an image, and within 32 pixels of the borders.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

import tenet
from tenet.metrics.segmentation import iou

WIDTH, RIGHT, NEAR = 128, 12, 32


def main() -> None:
    """Enhance three times."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stack", type=Path)
    parser.add_argument("--voxel-size", type=float, nargs=3, required=True)
    parser.add_argument("--na", type=float, required=True)
    parser.add_argument("--wavelength", type=float)
    asked = parser.parse_args()
    enhance = partial(
        tenet.enhance, voxel_size_um=tuple(asked.voxel_size), na=asked.na,
        wavelength_um=asked.wavelength, find_psf=False,
    )  # fmt: skip
    stack = tenet.open_stack(asked.stack)
    y, x = (slice(max(n - WIDTH, 0) // 2, (n + WIDTH) // 2) for n in stack.zyx_shape[1:])
    raw = stack.read(y=y, x=x)
    gaps, near = np.zeros(raw.shape, bool), np.zeros(raw.shape, bool)
    for plane in range(len(raw)):
        left = 10 + 2 * (plane % 5)
        gaps[plane, :, :left] = gaps[plane, :, -RIGHT:] = True
        near[plane, :, left : left + NEAR] = near[plane, :, -RIGHT - NEAR : -RIGHT] = True
    whole, *others = (enhance(image) for image in (
        raw, np.where(gaps, np.nan, raw), np.where(gaps, np.float32(0), raw)
    ))  # fmt: skip
    scale = len(whole.shape) // len(raw)
    for name, other in zip(("NaN", "0"), others, strict=True):
        segmented = [each.shape >= each.threshold for each in (whole, other)]
        seen, beside = (
            iou(*(volume[mask.repeat(scale, axis=0)] for volume in segmented))
            for mask in (~gaps, near)
        )
        print(f"borders of {name}: IoU {seen:.2f} where there is an image, {beside:.2f} near them")


if __name__ == "__main__":
    main()
