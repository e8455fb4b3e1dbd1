"""Enhancing arrays and stacks of any size with a model, tile by tile."""

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tenet.enhance.memory import (
    DECONVOLUTION_BYTES,
    _lacks_memory,
    bytes_per_voxel,
    context_of,
    default_overlap,
    default_tile,
    memory_for,
)
from tenet.enhance.restore import checked, restore_array, restore_stack
from tenet.enhance.stack_norms import norms_of_stack
from tenet.enhance.tiles import Tile, halves, round_up, tile_plan, weigh
from tenet.errors import TenetError
from tenet.io.intensities import IntensityRange, normalise
from tenet.io.open import open_stack
from tenet.io.results import CHANNELS, UNCERTAINTY
from tenet.io.stack import Stack
from tenet.model.certainty import Certainty
from tenet.model.tenet import TENET
from tenet.model.trained import TrainedModel
from tenet.networks import recording
from tenet.physics.optics import psf_volume
from tenet.settings.schema import ModelParams
from tenet.types import Progress, Triple, VoxelSize

# Enhancing ----------------------------------------------------------------------------------------


def enhance_stack(
    model: TrainedModel,
    stack: Stack,
    range_: IntensityRange,
    out: Path,
    *,
    voxel_size_um: VoxelSize | None = None,
    tile_zyx_shape: Triple | None = None,
    overlap_zyx: Triple | None = None,
    uncertainty: bool = False,
    levels: int | None = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Enhance a stack of any size into an OME-TIFF, in the memory of one tile.

    A tile is as large as the memory allows, because a batch of smaller tiles gains no speed. A tile
    that turns out to be too large is enhanced in halves. While one tile is computed, the next tile
    is read, and the tile before is written.

    Parameters
    ----------
    model : TrainedModel
        The model. Its network is put into evaluation mode, and moved to `device` if one is given.
    stack : Stack
        Raw stack.
    range_ : IntensityRange
        Raw intensities that become 0 and 1, as `model.intensity_range` finds them.
    out : Path
        File for the result, C, Z·s, Y, X. The channels are "shape", the probability in [0, 1]
        before any threshold, and "brightness" on the scale of `params.brightness`. The voxel size
        along z is the stack's, divided by s.
    voxel_size_um : tuple of float, optional
        Voxel size of the stack along z, y and x in µm; by default that of the file.
    tile_zyx_shape, overlap_zyx : tuple of int, optional
        Most coarse voxels of a tile, and coarse voxels that neighbouring tiles share; see
        `default_tile` and `default_overlap`.
    uncertainty : bool
        Whether to write a third channel, "uncertainty": the probability that a voxel is segmented
        wrongly.
    levels : int, optional
        Write the shape alone, in so many levels and compressed; see `tenet.io.levels`.
    device : torch.device or str, optional
        Device to compute on; by default the device of the model. ``"cuda"`` stands for all GPUs,
        which share the tiles.
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
        small for the overlap, there is no memory for the smallest tile, or the disk is full; if
        uncertainty is wanted and the model was never calibrated.

    Examples
    --------
    >>> from pathlib import Path
    >>> import tenet
    >>> model = tenet.TrainedModel.load("models/mine")
    >>> stack = tenet.open_stack("stack.tif")
    >>> range_ = model.intensity_range(stack)
    >>> out = enhance_stack(model, stack, range_, Path("enhanced.ome.tif"))
    >>> tenet.open_stack(out, channel=0).zyx_shape
    (18, 24, 20)
    """
    certainty = model.certainty if uncertainty else None
    devices = _devices(model.network, device)
    network = model.network.to(devices[0]).eval()

    def read(*part: slice) -> NDArray[np.float32]:
        return normalise(stack.read(*part), range_)

    with norms_of_stack(network, read, stack.zyx_shape):
        tenet = _Tiled(network, tile_zyx_shape, overlap_zyx, devices, certainty)
        return restore_stack(
            tenet, stack, range_, out, voxel_size_um=voxel_size_um, levels=levels, progress=progress
        )


def segmented_share(enhanced: Path, threshold: float) -> float:
    """Share of the voxels of an enhanced stack whose shape reaches a threshold.

    Examples
    --------
    >>> from pathlib import Path
    >>> import tenet
    >>> model = tenet.TrainedModel.load("models/mine")
    >>> stack = tenet.open_stack("stack.tif")
    >>> out = enhance_stack(model, stack, model.intensity_range(stack), Path("share.ome.tif"))
    >>> 0 <= segmented_share(out, model.threshold) <= 1
    True
    """
    shape = open_stack(enhanced, channel=CHANNELS.index("shape"))
    reached = sum(int(np.count_nonzero(slab >= threshold)) for _, slab in shape.slabs())
    return reached / math.prod(shape.zyx_shape)


def enhance_array(
    model: TENET,
    image_zyx: NDArray[Any],
    *,
    tile_zyx_shape: Triple | None = None,
    overlap_zyx: Triple | None = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Enhance a small normalised stack with a network, trained or in training.

    Parameters
    ----------
    model : TENET
        The network, which is put into evaluation mode, and moved to `device` if one is given.
        `model.half_precision` decides the precision.
    image_zyx : ndarray
        Intensities in [0, 1], shape (Z, Y, X).
    tile_zyx_shape, overlap_zyx, device, progress
        As in `enhance_stack`.

    Returns
    -------
    shape, brightness : ndarray of float32
        In [0, 1], shape (Z·s, Y, X).

    Raises
    ------
    TenetError
        If the array is not three-dimensional, or not within [0, 1].

    Examples
    --------
    >>> import tenet
    >>> network = tenet.TrainedModel.load("models/mine").network
    >>> shape, brightness = enhance_array(network, np.full((6, 24, 20), 0.5))
    >>> shape.shape
    (18, 24, 20)
    """
    image, devices = checked(image_zyx), _devices(model, device)
    model = model.to(devices[0]).eval()
    with norms_of_stack(model, lambda *part: image[part], image.shape):
        tenet = _Tiled(model, tile_zyx_shape, overlap_zyx, devices)
        shape, brightness = restore_array(tenet, image, progress=progress)
    return shape, brightness


class _Tiled:
    """A model as a `Restorer`, with tiles that fit into the memory."""

    def __init__(
        self,
        model: TENET,
        tile_zyx_shape: Triple | None,
        overlap_zyx: Triple | None,
        devices: Sequence[torch.device],
        certainty: Certainty | None = None,
    ) -> None:
        self.certainty = certainty
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
        """Enhance a tile as a whole, or in halves if the memory does not suffice for its size."""
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
                f"{model.initial_psf.device}, and smaller tiles cannot overlap: close other "
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
        enhanced = _enhance_tile(model, shown_zyx, tile)
        if self.certainty is None:
            return enhanced
        return np.concatenate([enhanced, self.certainty.wrong(enhanced[:1])])


def _devices(model: TENET, device: torch.device | str | None) -> list[torch.device]:
    """Devices to compute on: every GPU if a GPU is wanted without a number."""
    chosen = model.initial_psf.device if device is None else torch.device(device)
    if chosen.type == "cuda" and chosen.index is None:
        return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return [chosen]


@torch.inference_mode()
def _enhance_tile(model: TENET, shown_zyx: NDArray[np.float32], tile: Tile) -> NDArray[np.float32]:
    """Shape probability and brightness (2, Z·s, Y, X) of one tile."""
    alignment, scale = model.params.coarse_divisor_zyx, model.params.scale
    # The tile is replicated at the far ends, so that the near ends stay aligned with the pooling.
    # The network's own convolutions replicate at a border too. Replication works for tiles of any
    # size.
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
    enhanced = model.enhance(image, estimate=estimate)
    both = torch.cat([enhanced["shape_probability"], enhanced["brightness"]], dim=1).float()
    planes, rows, columns = lengths
    return both[0, :, : planes * scale, :rows, :columns].cpu().numpy()


def psf_before_and_after(
    model: TENET, told: ModelParams | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32], VoxelSize]:
    """Return the theoretical and the learned PSF on the fine grid (sum 1), and the voxel size.

    The theoretical PSF is that of the microscope as told; by default that of the model's settings,
    which fine-tuning may have found.

    Examples
    --------
    >>> import tenet
    >>> network = tenet.TrainedModel.load("models/mine").network
    >>> before, after, voxel_size_um = psf_before_and_after(network)
    >>> before.shape, after.shape, [round(size, 2) for size in voxel_size_um]
    ((15, 7, 7), (15, 7, 7), [0.33, 0.31, 0.31])
    """
    params = told or model.params
    voxel_size_um = params.fine_voxel_size_um
    before = psf_volume(params.model_psf(), model.psf.zyx_shape, voxel_size_um)
    with torch.no_grad():
        after = model.psf().cpu().numpy()
    return before, after, voxel_size_um
