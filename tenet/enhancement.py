"""Enhancing arrays and stacks of any size with a model, tile by tile."""

import copy
import json
import math
from collections.abc import Sequence
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from tenet import recording
from tenet.certainty import Certainty
from tenet.config import ModelParams
from tenet.errors import TenetError
from tenet.io.intensities import IntensityRange
from tenet.io.open import open_stack
from tenet.io.stack import Stack
from tenet.model import TENET
from tenet.network import CoarseNet
from tenet.optics import psf_volume
from tenet.restoration import Progress, restore_array, restore_stack
from tenet.tiles import Tile, halves, round_up, tile_plan, weigh
from tenet.training.store import THRESHOLD, read_experiment

Triple = tuple[int, int, int]
VoxelSize = tuple[float, float, float]

CHANNELS = ("shape", "brightness")
#: Probability that a voxel is on the wrong side of the threshold.
UNCERTAINTY = "uncertainty"
#: Axes (of N, C, Z, Y, X) that are flipped for so many passes.
FLIPS: dict[int, tuple[tuple[int, ...], ...]] = {
    1: ((),),
    4: ((), (3,), (4,), (3, 4)),
    8: ((), (2,), (3,), (4,), (2, 3), (2, 4), (3, 4), (2, 3, 4)),
}

#: Memory at the peak of a forward pass, in bytes per fine voxel and channel of full resolution:
#: some seven float32 copies are alive at once (measured on the CPU: 26 to 31 for `JNet`).
BYTES_PER_VOXEL_AND_CHANNEL = 32
#: The same for `CoarseNet`, whose channels are on the coarse grid, and what it takes per fine voxel
#: besides: logits and results. `benchmarks/tile_memory.py` measures 57, 118, 218 and 363 bytes with
#: 1.3, 5.3, 10.7 and 21.3 coarse channels per fine voxel on a CPU, in float32; an H200 took 54, 113
#: and 525 (first two and last).
COARSE_BYTES, COARSE_BYTES_PER_CHANNEL = 40, 24
#: What a deconvolution takes per fine voxel, those of the tile's context included (at most 69 by
#: `benchmarks/tile_memory.py scale10 10 24,256,256 2,2`, whose network is next to none); of the
#: memory it may have twice as much as the network, since the context is lost work.
DECONVOLUTION_BYTES = 65
#: Share of the free memory that a tile may take, and how much it takes at most: larger tiles gain
#: no speed. On the CPU a cluster's limit on memory is not to be seen.
MEMORY_SHARE, MOST_CPU_BYTES, MOST_GPU_BYTES = 0.5, 2 * 2**30, 16 * 2**30
#: Overlap of tiles in fine voxels: at least this, and four voxels of the network's lowest level;
#: more for a network that sees a deconvolution, and so all the finer. Three eighths at either end
#: are cut off, the rest is blended.
LEAST_OVERLAP, DECONVOLVED_OVERLAP = 32, 48


# Size of tiles -----------------------------------------------------------------------------------


def default_overlap(params: ModelParams) -> Triple:
    """Overlap in coarse voxels: at least 32 fine ones, and four of the network's lowest level.

    That is less than the receptive field, whose rim hardly matters. With four times its radius
    tiles change nothing at all. For a network that is shown a deconvolution it is at least 48,
    and along z a whole PSF, as there is no `context_of` that axis.
    """
    least = DECONVOLVED_OVERLAP if params.deconvolution_steps else LEAST_OVERLAP
    fine = max(least, 4 * params.divisor_zyx[1])
    z = max(fine, params.size_z) if params.deconvolution_steps else fine
    return max(2, math.ceil(z / params.scale)), fine, fine


def context_of(params: ModelParams) -> Triple:
    """Coarse voxels around a tile that are deconvolved with it: a whole PSF in y and x.

    A deconvolution goes astray where a stack was cut, further in than the network looks; with this
    around it what is left of that in an overlap is less than 0.001 (`benchmarks/seams.py`). Along
    z, where a PSF is long, tiles are cut only if memory is short.
    """
    if not params.deconvolution_steps:
        return 0, 0, 0
    _, y, x = params.coarse_divisor_zyx
    return 0, round_up(params.size_y, y), round_up(params.size_x, x)


def bytes_per_voxel(model: TENET) -> float:
    """Memory of a forward pass per fine voxel, with the features that are alive at its peak."""
    channels = model.params.hidden_channels_list[0]
    if isinstance(model.encoder, CoarseNet):
        return COARSE_BYTES + COARSE_BYTES_PER_CHANNEL * channels / model.params.scale
    return float(BYTES_PER_VOXEL_AND_CHANNEL * channels)


def default_tile(
    params: ModelParams,
    zyx_shape: Triple,
    overlap_zyx: Triple,
    fine_voxels: float,
    shown_voxels: float = math.inf,
) -> Triple:
    """Choose a tile that the memory has room for.

    All planes of the stack, if a column three times as wide as the overlap fits; otherwise z is cut
    as well. Below three overlaps a side nothing is gained, so that is the least.

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
        Most voxels of a tile and its context there.

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
    """Largest near-square within an area, with its context within another, and with most sides."""
    short, long = sorted((0, 1), key=lambda axis: most[axis])
    around = sum(context) / 2
    sides = [0, 0]
    sides[short] = int(max(min(math.sqrt(area), math.sqrt(shown_area) - around, most[short]), 1))
    shown = shown_area / (sides[short] + context[short]) - context[long]
    sides[long] = int(max(min(area / sides[short], shown, most[long]), 0))
    return sides[0], sides[1]


def memory_for(device: torch.device, times: int = 1) -> int:
    """Bytes that a tile may take on a device; see the constants of this module.

    Unless so much is not free, as many times the most.
    """
    if device.type == "cuda":
        return min(int(MEMORY_SHARE * torch.cuda.mem_get_info(device)[0]), times * MOST_GPU_BYTES)
    return min(int(MEMORY_SHARE * psutil.virtual_memory().available), times * MOST_CPU_BYTES)


# Enhancing ----------------------------------------------------------------------------------------


def enhance_stack(
    model: TENET,
    stack: Stack,
    range_: IntensityRange,
    out: Path,
    *,
    voxel_size_um: VoxelSize | None = None,
    tile_zyx_shape: Triple | None = None,
    overlap_zyx: Triple | None = None,
    flips: int = 1,
    certainty: Certainty | None = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Enhance a stack of any size into an OME-TIFF, in the memory of one tile.

    A tile is as large as the memory allows, which makes a batch of several smaller ones pointless;
    one that turns out too large is done in halves. While one is computed the next is read, and the
    one before written. `model.half_precision` holds here as in training.

    Parameters
    ----------
    model : TENET
        Put into evaluation mode, and on `device` if one is given.
    stack : Stack
        Raw stack.
    range_ : IntensityRange
        Raw intensities that become 0 and 1.
    out : Path
        Receives C, Z·s, Y, X: "shape", the probability in [0, 1] before any threshold, and
        "brightness" in [0, 1]. The voxel size along z is the stack's over s. With `certainty` a
        third channel, "uncertainty".
    voxel_size_um : tuple of float, optional
        Voxel size of the stack along z, y and x; by default what its file says.
    tile_zyx_shape, overlap_zyx : tuple of int, optional
        Most coarse voxels of a tile, and how many neighbours share; see `default_tile` and
        `default_overlap`.
    flips : {1, 4, 8}
        Enhance it as it is, or average over its mirror images in the plane, or in all axes: so many
        times slower.
    certainty : Certainty, optional
        What the model's probabilities mean.
    device : torch.device or str, optional
        Where to compute; by default where the model is. ``"cuda"`` stands for all GPUs, which share
        the tiles.
    progress : callable, optional
        Called as ``progress(done, tiles)`` after every tile.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    TenetError
        If the voxel size is not known, the stack holds NaN or infinite intensities, the tile is too
        small for the overlap, there is no memory for the smallest tile, `flips` is another number,
        or the disk is full.
    """
    tenet = _Tiled(model, tile_zyx_shape, overlap_zyx, _devices(model, device), flips, certainty)
    return restore_stack(tenet, stack, range_, out, voxel_size_um=voxel_size_um, progress=progress)


def segmented_share(enhanced: Path, threshold: float) -> float:
    """Part of the voxels of an enhanced stack whose shape reaches a threshold."""
    shape = open_stack(enhanced, channel=CHANNELS.index("shape"))
    reached = sum(int(np.count_nonzero(slab >= threshold)) for _, slab in shape.slabs())
    return reached / math.prod(shape.zyx_shape)


def enhance_array(
    model: TENET,
    image_zyx: NDArray[Any],
    *,
    tile_zyx_shape: Triple | None = None,
    overlap_zyx: Triple | None = None,
    flips: int = 1,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Enhance a small stack in memory; see `enhance_stack`.

    Parameters
    ----------
    image_zyx : ndarray
        Intensities in [0, 1], shape (Z, Y, X).
    tile_zyx_shape, overlap_zyx, flips, device, progress
        As for `enhance_stack`.

    Returns
    -------
    shape, brightness : ndarray of float32
        In [0, 1], shape (Z·s, Y, X).

    Raises
    ------
    TenetError
        If the array is not three-dimensional, or not within [0, 1].
    """
    tenet = _Tiled(model, tile_zyx_shape, overlap_zyx, _devices(model, device), flips)
    shape, brightness = restore_array(tenet, image_zyx, progress=progress)
    return shape, brightness


class _Tiled:
    """A model as a `Restorer` of tiles that the memory has room for."""

    def __init__(
        self,
        model: TENET,
        tile_zyx_shape: Triple | None,
        overlap_zyx: Triple | None,
        devices: Sequence[torch.device],
        flips: int = 1,
        certainty: Certainty | None = None,
    ) -> None:
        if flips not in FLIPS:
            raise TenetError(f"flips is {flips}; it must be one of {', '.join(map(str, FLIPS))}")
        self.flips, self.certainty = FLIPS[flips], certainty
        self.channels = CHANNELS if certainty is None else (*CHANNELS, UNCERTAINTY)
        self.params, self.scale = model.params, model.params.scale
        self.bytes_per_voxel = bytes_per_voxel(model)
        self.devices, self.workers = devices, len(devices)
        self.idle: Queue[TENET] = Queue()
        for number, device in enumerate(devices):
            own = model if number == 0 else copy.deepcopy(model)
            self.idle.put(own.to(device).eval())
        self.tile_zyx_shape = tile_zyx_shape
        self.overlap_zyx = overlap_zyx or default_overlap(model.params)
        self.context_zyx = context_of(model.params)
        self.too_many_voxels = math.inf

    def tiles(self, zyx_shape: Triple) -> list[Tile]:
        tile_shape = self.tile_zyx_shape
        if tile_shape is None:
            own, twice = (min(memory_for(device, n) for device in self.devices) for n in (1, 2))
            fine_voxels, shown_voxels = own / self.bytes_per_voxel, twice / DECONVOLUTION_BYTES
            tile_shape = default_tile(
                self.params, zyx_shape, self.overlap_zyx, fine_voxels, shown_voxels
            )
        alignment = self.params.coarse_divisor_zyx
        return tile_plan(zyx_shape, tile_shape, self.overlap_zyx, alignment, self.context_zyx)

    def restore(self, shown_zyx: NDArray[np.float32], tile: Tile) -> NDArray[np.float32]:
        model = self.idle.get()
        try:
            return self._restore(model, shown_zyx, tile)
        finally:
            self.idle.put(model)

    def _restore(
        self, model: TENET, shown_zyx: NDArray[np.float32], tile: Tile
    ) -> NDArray[np.float32]:
        """As a whole, or in halves where there is no memory for it; nor for others of its size."""
        planes, rows, columns = (span.stop - span.start for span in tile)
        voxels = planes * rows * columns
        if voxels < self.too_many_voxels:
            try:
                return self._whole(model, shown_zyx, tile)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not _lacks_memory(error):
                    raise
            self.too_many_voxels = min(self.too_many_voxels, voxels)
            if torch.cuda.is_available():
                recording.stop()
        parts = halves(tile, self.overlap_zyx, self.params.coarse_divisor_zyx, self.context_zyx)
        if parts is None:
            raise TenetError(
                f"no memory for a tile of {planes}×{rows}×{columns} voxels on "
                f"{model.initial_psf.device}, and smaller ones make no sense: close other "
                "programs, or use another device"
            )
        whole = np.zeros((len(self.channels), planes * self.scale, rows, columns), np.float32)
        for part in parts:
            z, y, x = (span.shown_of(outer) for span, outer in zip(part, tile, strict=True))
            block = self._restore(model, shown_zyx[z, y, x], part)
            weigh(block, part, self.scale)
            z, y, x = (slice(span.start, span.stop) for span in part)
            whole[:, z.start * self.scale : z.stop * self.scale, y, x] += block
        return whole

    def _whole(
        self, model: TENET, shown_zyx: NDArray[np.float32], tile: Tile
    ) -> NDArray[np.float32]:
        enhanced = _enhance_tile(model, shown_zyx, tile, self.flips)
        if self.certainty is None:
            return enhanced
        return np.concatenate([enhanced, self.certainty.wrong(enhanced[:1])])


def _lacks_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)


def _devices(model: TENET, device: torch.device | str | None) -> list[torch.device]:
    """Where to compute: on every GPU if the GPU is wanted, but not which."""
    chosen = model.initial_psf.device if device is None else torch.device(device)
    if chosen.type == "cuda" and chosen.index is None:
        return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return [chosen]


def choose_alignment(model: TENET, wanted: bool | None, folder: Path) -> None:
    """Keep a model's alignment network or leave it out; by default, where None, keep it.

    Raises
    ------
    TenetError
        If it is wanted and there is none.
    """
    if wanted and model.aligner is None:
        raise TenetError(
            f"{folder} has no alignment network: it needs align_params in the experiment, and "
            "`python -m tenet align` before fine-tuning"
        )
    if wanted is False:
        model.aligner = None


@torch.inference_mode()
def _enhance_tile(
    model: TENET,
    shown_zyx: NDArray[np.float32],
    tile: Tile,
    flips: Sequence[tuple[int, ...]],
) -> NDArray[np.float32]:
    """Shape probability and brightness (2, Z·s, Y, X) of one tile in [0, 1], mean over flips."""
    alignment, scale = model.params.coarse_divisor_zyx, model.params.scale
    # Replicated at the far ends, so that the near ones stay aligned with the pooling; it is what
    # the network's own convolutions do at a border, and works however small the tile is.
    padding = [(0, -n % a) for n, a in zip(shown_zyx.shape, alignment, strict=True)]
    padded = torch.from_numpy(np.pad(shown_zyx, padding, mode="edge"))
    image = model.align(padded.to(model.initial_psf.device)[None, None])  # -> (1, 1, Z, Y, X)
    estimate = model.deconvolve(image) if model.params.deconvolution_steps else None
    lengths = [span.stop - span.start for span in tile]
    z, y, x = (
        slice(span.own.start, span.own.start + round_up(n, a))
        for span, n, a in zip(tile, lengths, alignment, strict=True)
    )
    image = image[..., z, y, x]
    if estimate is not None:
        estimate = estimate[..., z.start * scale : z.stop * scale, y, x]
    total: Tensor | None = None
    for axes in flips:
        flipped = None if estimate is None else estimate.flip(axes)
        enhanced = model.enhance(image.flip(axes), estimate=flipped)
        both = torch.cat([enhanced["shape_probability"], enhanced["brightness"]], dim=1).float()
        total = both.flip(axes) if total is None else total.add_(both.flip(axes))
    assert total is not None
    planes, rows, columns = lengths
    return (total[0, :, : planes * scale, :rows, :columns] / len(flips)).cpu().numpy()


def psf_before_and_after(
    model: TENET,
) -> tuple[NDArray[np.float32], NDArray[np.float32], VoxelSize]:
    """Return the theoretical and the learned PSF on the fine grid (sum 1), and the voxel size."""
    params = model.params
    voxel_size_um = params.fine_voxel_size_um
    before = psf_volume(params.model_psf(), model.psf.zyx_shape, voxel_size_um)
    with torch.no_grad():
        after = model.psf().cpu().numpy()
    return before, after, voxel_size_um


def read_threshold(folder: Path) -> float | None:
    """Read the threshold that was chosen for a model on held-out phantoms; None if none was.

    Raises
    ------
    TenetError
        If threshold.json holds no threshold from 0 to 1.
    """
    path = folder / THRESHOLD
    if not path.exists():
        return None
    try:
        threshold = float(json.loads(path.read_text(encoding="utf-8"))["threshold"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TenetError(f"{path} holds no threshold ({error}); evaluate the model again") from None
    if not 0 <= threshold <= 1:
        raise TenetError(f"{path} holds the threshold {threshold:g}; it must be from 0 to 1")
    return threshold


def missing_calibration(folder: Path) -> str | None:
    """Say in one line what stands in for the calibration of a model, or None if it has one."""
    if (folder / THRESHOLD).exists():
        return None
    threshold = read_experiment(folder).params.threshold
    return (
        f"{folder} was never calibrated (it has no {THRESHOLD}): stacks are not brought to the "
        f"level of phantoms, and its threshold is taken as {threshold:g}, from its settings; give "
        "--tuning phantoms when training to choose both"
    )
