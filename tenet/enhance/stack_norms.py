"""The statistics of a stack, for networks whose norms take them from one."""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch

from tenet.data.crops import windows_of
from tenet.enhance.restore import Read
from tenet.model.tenet import TENET
from tenet.networks.norms import finding_norms, fixed_norms, has_stack_norms
from tenet.types import Triple

#: Fine voxels of a part along z, y and x: those of a crop in training.
PART_ZYX = (120, 64, 64)
#: Parts that are looked at, and how many of them are kept: those with the most signal, because a
#: crop in training has structure too. With empty parts, noise would come out as specks.
LOOKED_AT, KEPT = 64, 4


@contextlib.contextmanager
def norms_of_stack(model: TENET, read: Read, zyx_shape: Triple) -> Iterator[None]:
    """Fix the norms of a network to a stack, if it has any that take their statistics from one.

    The parts that are looked at follow from the shape of the stack alone, so that no result depends
    on the memory of a machine.

    Parameters
    ----------
    model : TENET
        In evaluation mode, on the device to compute on.
    read : callable
        Gives intensities in [0, 1] of slices along z, y and x.
    zyx_shape : tuple of int
        Of the stack.
    """
    if not has_stack_norms(model):
        yield
        return
    planes, rows, columns = PART_ZYX
    parts = list(windows_of(zyx_shape, (max(planes // model.params.scale, 1), rows, columns)))
    spread = np.linspace(0, len(parts) - 1, min(LOOKED_AT, len(parts))).round().astype(int)
    images = [read(*parts[index]) for index in spread]
    images.sort(key=lambda image: float(np.square(image).mean()), reverse=True)
    divisors = model.params.coarse_divisor_zyx
    padding = [(0, -n % d) for n, d in zip(images[0].shape, divisors, strict=True)]
    batch = np.stack([np.pad(image, padding, mode="edge") for image in images[:KEPT]])
    image = torch.from_numpy(batch)[:, None].to(model.initial_psf.device)
    with torch.no_grad(), finding_norms(model):
        model.enhance(model.align(image))
    with fixed_norms(model):
        yield
