"""Sizes of tiles that fit into the memory."""

import math
from collections.abc import Sequence

import psutil
import torch

from tenet.enhance.tiles import round_up
from tenet.model.tenet import TENET
from tenet.networks.coarse import PlanesNet
from tenet.settings.schema import ModelParams
from tenet.types import Triple

#: Memory at the peak of a forward pass, in bytes per fine voxel and channel of full resolution.
#: Some seven float32 copies are alive at once (measured on the CPU: 26 to 31 bytes for `JNet`).
BYTES_PER_VOXEL_AND_CHANNEL = 32
#: The same for `CoarseNet`, whose channels are on the coarse grid, and its further bytes per fine
#: voxel, for logits and results. `benchmarks/tile_memory.py` measures 57, 118, 218 and 363 bytes
#: with 1.3, 5.3, 10.7 and 21.3 coarse channels per fine voxel on a CPU, in float32; an H200 took
#: 54, 113 and 525 (first two and last).
COARSE_BYTES, COARSE_BYTES_PER_CHANNEL = 40, 24
#: Bytes of a deconvolution per fine voxel, those of the tile's context included (at most 69 by
#: `benchmarks/tile_memory.py scale10 10 24,256,256 2,2`, with a minimal network). The deconvolution
#: may take twice as much memory as the network, because work on the context is lost.
DECONVOLUTION_BYTES = 65
#: Share of the free memory that a tile may take, and the most bytes of a tile, because larger tiles
#: gain no speed. On the CPU the memory limit of a cluster is not visible.
MEMORY_SHARE, MOST_CPU_BYTES, MOST_GPU_BYTES = 0.5, 2 * 2**30, 16 * 2**30
#: Least overlap of tiles in fine voxels; the overlap has at least four voxels of the network's
#: lowest level. A network that is shown a deconvolution sees finer details and needs more overlap.
#: Three eighths at either end are cut off, and the rest is blended.
LEAST_OVERLAP, DECONVOLVED_OVERLAP = 32, 48


# Size of tiles -----------------------------------------------------------------------------------


def default_overlap(params: ModelParams) -> Triple:
    """Overlap in coarse voxels: at least 32 fine ones, and four of the network's lowest level.

    The overlap is smaller than the receptive field, because the rim of the field hardly matters.
    With four times the radius of the field, tiles change nothing at all. A network that is shown a
    deconvolution needs at least 48 fine voxels, and along z a whole PSF, because `context_of` adds
    no context along z.
    """
    least = DECONVOLVED_OVERLAP if params.deconvolution_steps else LEAST_OVERLAP
    fine = max(least, 4 * params.divisor_zyx[1])
    z = max(fine, params.size_z) if params.deconvolution_steps else fine
    return max(2, math.ceil(z / params.scale)), fine, fine


def context_of(params: ModelParams) -> Triple:
    """Coarse voxels around a tile that are deconvolved with it: a whole PSF in y and x.

    A deconvolution errs near a cut, over a longer distance than the network sees. With this context
    the error in an overlap is less than 0.001 (`benchmarks/seams.py`). Along z a PSF is long, and
    tiles are cut only if memory is short.
    """
    if not params.deconvolution_steps:
        return 0, 0, 0
    _, y, x = params.coarse_divisor_zyx
    return 0, round_up(params.size_y, y), round_up(params.size_x, x)


def bytes_per_voxel(model: TENET) -> float:
    """Bytes of a forward pass per fine voxel, for the features that are alive at its peak."""
    channels = model.params.hidden_channels_list[0]
    if isinstance(model.encoder, PlanesNet):
        return COARSE_BYTES + COARSE_BYTES_PER_CHANNEL * channels / model.encoder.planes
    return float(BYTES_PER_VOXEL_AND_CHANNEL * channels)


def default_tile(
    params: ModelParams,
    zyx_shape: Triple,
    overlap_zyx: Triple,
    fine_voxels: float,
    shown_voxels: float = math.inf,
) -> Triple:
    """Choose a tile that fits into the memory.

    A tile has all planes of the stack if a column three times as wide as the overlap fits.
    Otherwise z is cut as well. The least side is three overlaps, because smaller tiles gain
    nothing.

    Parameters
    ----------
    params : ModelParams
    zyx_shape : tuple of int
        The stack, on the coarse grid.
    overlap_zyx : tuple of int
        Coarse voxels that tiles share.
    fine_voxels : float
        Most voxels of a tile on the fine grid.
    shown_voxels : float
        Most voxels of a tile and its context on the fine grid.

    Returns
    -------
    tuple of int
        Coarse voxels along z, y and x.
    """
    alignment = params.coarse_divisor_zyx
    align_z, divisor, _ = alignment
    least = [3 * round_up(n, a) for n, a in zip(overlap_zyx, alignment, strict=True)]
    planes = round_up(zyx_shape[0], align_z)
    _, *context = (2 * n for n in context_of(params))
    z, fine_planes = planes, planes * params.scale
    whole = [round_up(n, divisor) for n in zyx_shape[1:]]
    y, x = _rectangle(fine_voxels / fine_planes, shown_voxels / fine_planes, context, whole)
    y, x = y // divisor * divisor, x // divisor * divisor
    if (y < min(least[1], zyx_shape[1])) or (x < min(least[2], zyx_shape[2])):
        y, x = (min(n, low) for n, low in zip(whole, least[1:], strict=True))
        room = min(fine_voxels / (y * x), shown_voxels / ((y + context[0]) * (x + context[1])))
        z = int(room / params.scale) // align_z * align_z
        z = min(max(z, least[0]), planes)
    return z, y, x


def _rectangle(
    area: float, shown_area: float, context: Sequence[int], most: Sequence[int]
) -> tuple[int, int]:
    """Largest near-square within an area, whose context is within another; sides are limited."""
    short, long = sorted((0, 1), key=lambda axis: most[axis])
    around = sum(context) / 2
    sides = [0, 0]
    sides[short] = int(max(min(math.sqrt(area), math.sqrt(shown_area) - around, most[short]), 1))
    shown = shown_area / (sides[short] + context[short]) - context[long]
    sides[long] = int(max(min(area / sides[short], shown, most[long]), 0))
    return sides[0], sides[1]


def memory_for(device: torch.device, times: int = 1) -> int:
    """Bytes that a tile may take on a device, by the constants of this module.

    The result is `times` the most bytes of a tile, or less if less memory is free.
    """
    if device.type == "cuda":
        return min(int(MEMORY_SHARE * torch.cuda.mem_get_info(device)[0]), times * MOST_GPU_BYTES)
    return min(int(MEMORY_SHARE * psutil.virtual_memory().available), times * MOST_CPU_BYTES)


def _lacks_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
