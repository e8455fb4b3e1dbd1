"""Enhancing stacks of any size with a model, and the classes that do it for folders of stacks."""

import json
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pandas as pd
import psutil
import torch
from numpy.typing import NDArray

from tenet import metrics, pictures
from tenet.config import ModelParams
from tenet.errors import TenetError
from tenet.model import TENET
from tenet.network import CoarseNet
from tenet.optics import psf_volume
from tenet.phantoms import SUFFIX as PHANTOM_SUFFIX
from tenet.phantoms import open_phantom
from tenet.pictures import COLOURS, Panel
from tenet.restoration import Progress, restore_array, restore_stack
from tenet.stacks import stack_files, stack_name, voxel_size_mismatch
from tenet.tiles import Tile, round_up, tile_plan
from tenet.training.intensity import model_range
from tenet.training.store import EXPERIMENT, THRESHOLD, load_model, read_experiment
from tenet.volumes import IntensityRange, Stack, open_stack

Triple = tuple[int, int, int]
VoxelSize = tuple[float, float, float]
Slices = tuple[slice, slice, slice]

CHANNELS = ("shape", "brightness")
MODELS = Path("results/models")

#: Memory at the peak of a forward pass, in bytes per fine voxel and channel of full resolution:
#: some seven float32 copies are alive at once (measured on the CPU: 26 to 31 for `JNet`, 22 to 26
#: for `CoarseNet`).
BYTES_PER_VOXEL_AND_CHANNEL = 32
#: Share of the free memory that a tile may take, and how much it takes at most on the CPU, where
#: larger tiles gain no speed and a cluster's limit on memory is not to be seen.
MEMORY_SHARE, MOST_CPU_BYTES = 0.5, 4 * 2**30
#: Overlap of tiles in fine voxels: at least this, and four voxels of the network's lowest level.
#: A quarter at either end is cut off, the half between is blended.
LEAST_OVERLAP = 32


# Size of tiles -----------------------------------------------------------------------------------


def alignment_of(params: ModelParams) -> Triple:
    """Coarse voxels along z, y and x that make up whole voxels of the network's lowest level."""
    z, y, x = params.divisor_zyx
    return z // params.scale, y, x


def default_overlap(params: ModelParams) -> Triple:
    """Overlap in coarse voxels: at least 32 fine ones, and four of the network's lowest level.

    That is less than the receptive field, whose rim hardly matters. With four times its radius
    tiles change nothing at all. A network that is shown a deconvolution needs a whole PSF besides.
    """
    fine = max(LEAST_OVERLAP, 4 * params.divisor_zyx[1])
    z, y, x = fine, fine, fine
    if params.deconvolution_steps:
        z, y, x = max(z, params.size_z), max(y, params.size_y), max(x, params.size_x)
    return max(2, math.ceil(z / params.scale)), y, x


def bytes_per_voxel(model: TENET) -> float:
    """Memory of a forward pass per fine voxel, with the features that are alive at its peak."""
    channels = float(model.params.hidden_channels_list[0])
    if isinstance(model.encoder, CoarseNet):
        channels = model.encoder.fine_channels + channels / model.params.scale
    return BYTES_PER_VOXEL_AND_CHANNEL * channels


def default_tile(
    params: ModelParams, zyx_shape: Triple, overlap_zyx: Triple, fine_voxels: float
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

    Returns
    -------
    tuple of int
        Coarse voxels along z, y and x.
    """
    alignment = alignment_of(params)
    align_z, divisor, _ = alignment
    least = [3 * round_up(n, a) for n, a in zip(overlap_zyx, alignment, strict=True)]
    planes = round_up(zyx_shape[0], align_z)
    z, (y, x) = planes, _rectangle(fine_voxels / (planes * params.scale), zyx_shape[1:], divisor)
    if (y < min(least[1], zyx_shape[1])) or (x < min(least[2], zyx_shape[2])):
        y, x = (
            min(round_up(n, divisor), low) for n, low in zip(zyx_shape[1:], least[1:], strict=True)
        )
        z = int(fine_voxels / (y * x * params.scale)) // align_z * align_z
        z = min(max(z, least[0]), planes)
    return z, y, x


def _rectangle(area: float, yx_shape: tuple[int, int], divisor: int) -> tuple[int, int]:
    """Largest near-square of multiples of `divisor` within an area and an image."""
    whole = [round_up(n, divisor) for n in yx_shape]
    short = int(min(math.sqrt(area), *whole)) // divisor * divisor
    other = int(area / max(short, 1)) // divisor * divisor
    y_is_shorter = whole[0] <= whole[1]
    long = min(other, max(whole))
    return (short, long) if y_is_shorter else (long, short)


def memory_for(device: torch.device) -> int:
    """Bytes that a tile may take on a device; see the constants of this module."""
    if device.type == "cuda":
        return int(MEMORY_SHARE * torch.cuda.mem_get_info(device)[0])
    return min(int(MEMORY_SHARE * psutil.virtual_memory().available), MOST_CPU_BYTES)


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
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Enhance a stack of any size into an OME-TIFF, in the memory of one tile.

    Tiles go through the network one by one: a tile is as large as the memory allows, which makes a
    batch of several smaller ones pointless. `model.half_precision` holds here as in training.

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
        "brightness" in [0, 1]. The voxel size along z is the stack's over s.
    voxel_size_um : tuple of float, optional
        Voxel size of the stack along z, y and x; by default what its file says.
    tile_zyx_shape, overlap_zyx : tuple of int, optional
        Most coarse voxels of a tile, and how many neighbours share; see `default_tile` and
        `default_overlap`.
    device : torch.device or str, optional
        Where to compute; by default where the model is.
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
        small for the overlap or too large for the memory, or the disk is full.
    """
    tenet = _Tiled(model, tile_zyx_shape, overlap_zyx, device)
    return restore_stack(tenet, stack, range_, out, voxel_size_um=voxel_size_um, progress=progress)


def enhance_array(
    model: TENET,
    image_zyx: NDArray[Any],
    *,
    tile_zyx_shape: Triple | None = None,
    overlap_zyx: Triple | None = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Enhance a small stack in memory; see `enhance_stack`.

    Parameters
    ----------
    image_zyx : ndarray
        Intensities in [0, 1], shape (Z, Y, X).

    Returns
    -------
    shape, brightness : ndarray of float32
        In [0, 1], shape (Z·s, Y, X).

    Raises
    ------
    TenetError
        If the array is not three-dimensional, or not within [0, 1].
    """
    tenet = _Tiled(model, tile_zyx_shape, overlap_zyx, device)
    shape, brightness = restore_array(tenet, image_zyx, progress=progress)
    return shape, brightness


class _Tiled:
    """A model as a `Restorer`: shape and brightness of tiles that the memory has room for."""

    channels = CHANNELS

    def __init__(
        self,
        model: TENET,
        tile_zyx_shape: Triple | None,
        overlap_zyx: Triple | None,
        device: torch.device | str | None,
    ) -> None:
        if device is not None:
            model.to(device)
        self.model = model.eval()
        self.scale = model.params.scale
        self.tile_zyx_shape = tile_zyx_shape
        self.overlap_zyx = overlap_zyx or default_overlap(model.params)

    def tiles(self, zyx_shape: Triple) -> list[Tile]:
        params, tile_shape = self.model.params, self.tile_zyx_shape
        if tile_shape is None:
            fine_voxels = memory_for(self.model.initial_psf.device) / bytes_per_voxel(self.model)
            tile_shape = default_tile(params, zyx_shape, self.overlap_zyx, fine_voxels)
        return tile_plan(zyx_shape, tile_shape, self.overlap_zyx, alignment_of(params))

    def restore(self, tile_zyx: NDArray[np.float32]) -> NDArray[np.float32]:
        return _enhance_tile(self.model, tile_zyx)


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
def _enhance_tile(model: TENET, tile_zyx: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shape probability and brightness (2, Z·s, Y, X) of one tile in [0, 1]."""
    planes, rows, columns = tile_zyx.shape
    # Replicated at the far ends, so that the near ones stay aligned with the pooling; it is what
    # the network's own convolutions do at a border, and works however small the tile is.
    padding = [(0, -n % a) for n, a in zip(tile_zyx.shape, alignment_of(model.params), strict=True)]
    padded = torch.from_numpy(np.pad(tile_zyx, padding, mode="edge"))
    try:
        image = padded.to(model.initial_psf.device)[None, None]  # (Z, Y, X) -> (1, 1, Z, Y, X)
        enhanced = model.enhance(model.align(image))
        channels = (enhanced["shape_probability"], enhanced["brightness"])
        result = torch.cat(
            [c[0, :, : planes * model.params.scale, :rows, :columns] for c in channels]
        )
        return result.float().cpu().numpy()
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        raise TenetError(
            f"no memory for a tile of {planes}×{rows}×{columns} voxels on "
            f"{model.initial_psf.device}: give a smaller tile"
        ) from None


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


def enhanced_sheet(
    model: TENET,
    stack: Stack,
    enhanced: Path,
    out: Path,
    *,
    voxel_size_um: VoxelSize | None = None,
    title: str = "",
) -> Path:
    """Draw the sheet of a stack that `enhance_stack` enhanced; see `pictures.sheet`."""
    size_um = voxel_size_um or stack.voxel_size_um
    if size_um is None:
        raise TenetError(f"{stack.path}: it records no voxel size; give z, y, x in µm")
    before, after, psf_size_um = psf_before_and_after(model)
    return pictures.sheet(
        out,
        stack,
        enhanced,
        voxel_size_um=size_um,
        fine_voxel_size_um=(size_um[0] / model.params.scale, size_um[1], size_um[2]),
        psf_before=before,
        psf_after=after,
        psf_voxel_size_um=psf_size_um,
        title=title or stack.path.name,
    )


# Folders of stacks --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """One enhanced stack; volumes stay in their files.

    Attributes
    ----------
    name : str
        Name of the stack's file without suffixes.
    stack : Stack
        The raw stack.
    range_ : IntensityRange
        Raw intensities that became 0 and 1.
    path : Path
        The enhanced stack (C, Z·s, Y, X).
    voxel_size_um, fine_voxel_size_um : tuple of float
        Of the raw and of the enhanced stack.
    """

    name: str
    stack: Stack
    range_: IntensityRange
    path: Path
    voxel_size_um: VoxelSize
    fine_voxel_size_um: VoxelSize

    def read(self, channel: str, zyx: Slices = (slice(None),) * 3) -> NDArray[np.float32]:
        """Read a crop of one channel ("shape" or "brightness") on the fine grid."""
        return open_stack(self.path, channel=CHANNELS.index(channel)).read(*zyx)


class Evaluation(TypedDict):
    """Mean, sample standard deviation, number of values, threshold, and the table behind them."""

    mean: float
    sd: float
    n: int
    threshold: float
    table: pd.DataFrame


def _evaluation(rows: Sequence[dict[str, Any]], quantity: str, threshold: float) -> Evaluation:
    table = pd.DataFrame(rows)
    values = table[quantity]
    return {
        "mean": float(values.mean()),
        "sd": float(values.std(ddof=1)),
        "n": len(values),
        "threshold": threshold,
        "table": table,
    }


class Inference:
    """A trained model, applied to folders of stacks; base of the classes by kind of data.

    Parameters
    ----------
    model_name : str or Path
        Folder of a model, or its name under `models`: ``fig3_beads/fold0``, or ``fig4_neurons``
        where there is one model only.
    pretrain : bool
        Use the pre-trained weights instead of the fine-tuned ones.
    threshold : float
        A voxel belongs to the shape from this probability on. -1: the one that was chosen on
        held-out phantoms (the model's threshold.json) or, if none was, the settings' one.
    with_align : bool, optional
        Whether the model's alignment network comes first; by default where it has one.
    models : Path
        Folder of all models.
    out : Path, optional
        Receives enhanced stacks and pictures, in a folder named after the model; by default
        `visualization.path` of the model's settings.
    device : str
        ``auto`` takes a GPU where there is one.

    Attributes
    ----------
    model : TENET
    experiment : Experiment
        The settings of the model that was named.
    threshold : float
    out : Path

    Raises
    ------
    TenetError
        If there is no such model, or it has no alignment network but is to align.
    """

    def __init__(
        self,
        model_name: str | Path,
        pretrain: bool = False,
        threshold: float = -1,
        *,
        with_align: bool | None = None,
        models: Path = MODELS,
        out: Path | None = None,
        device: str = "auto",
    ) -> None:
        self.folder = find_model(model_name, models, pretrained=pretrain)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model, _ = load_model(self.folder, device=device)
        choose_alignment(self.model, with_align, self.folder)
        # Data and pictures are those of the experiment, also with pre-trained weights.
        self.experiment = read_experiment(find_model(model_name, models))
        self.threshold = self._threshold(threshold)
        root = out if out is not None else Path(self.experiment.visualization.path)
        self.out = Path(root) / model_label(self.folder)

    def _threshold(self, asked: float) -> float:
        if asked == -1:
            chosen = read_threshold(self.folder)
            return self.model.params.threshold if chosen is None else chosen
        if not 0 <= asked <= 1:
            raise TenetError(f"threshold is {asked:g}; give 0 to 1, or -1 for the model's own")
        return float(asked)

    def get_result(
        self,
        datapath: str | Path | None = None,
        num_results: int | None = None,
        *,
        channel: int | None = None,
        voxel_size_um: VoxelSize | None = None,
        tile_zyx_shape: Triple | None = None,
        overlap_zyx: Triple | None = None,
        progress: Progress | None = None,
    ) -> list[Result]:
        """Enhance the stacks of a folder.

        Parameters
        ----------
        datapath : str or Path, optional
            Folder of stacks, or one stack; by default what the model was trained on
            (`train_dataset.folderpath`).
        num_results : int, optional
            How many stacks, in order of their names; all by default.
        channel : int, optional
            Channel of the raw files, where they have several.
        voxel_size_um : tuple of float, optional
            Voxel size of the raw stacks; by default what their files say, or else the model's.
        tile_zyx_shape, overlap_zyx, progress
            As in `enhance_stack`.

        Returns
        -------
        list of Result
            The volumes are in files under `out`.

        Raises
        ------
        TenetError
            If there is no stack, or one cannot be read.
        """
        folder = datapath if datapath is not None else self.experiment.train_dataset.folderpath
        if not str(folder):
            raise TenetError("give datapath: the model's settings name no folder of stacks")
        params = self.model.params
        results = []
        for path in stack_files(Path(folder))[:num_results]:
            stack = open_stack(path, channel=channel)
            size_um = voxel_size_um or stack.voxel_size_um
            size_um = size_um or params.coarse_voxel_size_um
            mismatch = voxel_size_mismatch(params, size_um)
            if mismatch:
                warnings.warn(f"{path}: {mismatch}", stacklevel=2)
            range_ = model_range(stack, self.experiment, self.folder)
            enhanced = enhance_stack(
                self.model,
                stack,
                range_,
                self.out / f"{stack_name(path)}.ome.tif",
                voxel_size_um=size_um,
                tile_zyx_shape=tile_zyx_shape,
                overlap_zyx=overlap_zyx,
                progress=progress,
            )
            fine_size_um = (size_um[0] / params.scale, size_um[1], size_um[2])
            results.append(Result(stack_name(path), stack, range_, enhanced, size_um, fine_size_um))
        return results

    def visualize(self, results: Sequence[Result]) -> list[Path]:
        """Draw each result: projections and PSF, views in depth, and heat maps, as PNG.

        The plane `z_stack` (on the coarse grid, with the `mip` planes around it projected) and the
        column `x_slice` are those of `visualization`; the middle where the stack is smaller.

        Returns
        -------
        list of Path
        """
        written = []
        for result in results:
            sheet = self.out / f"{result.name}_mip.png"
            title = f"{result.name}, {model_label(self.folder)}"
            size_um = result.voxel_size_um
            enhanced_sheet(
                self.model, result.stack, result.path, sheet, voxel_size_um=size_um, title=title
            )
            depth = pictures.panels(
                self.out / f"{result.name}_depth.png", self._depth_views(result), title=title
            )
            heat = pictures.panels(
                self.out / f"{result.name}_heatmap.png",
                self._heat_maps(result),
                title=f"{title}; contour: threshold {self.threshold:g}",
                colour_bars=True,
            )
            written += [sheet, depth, heat]
        return written

    def psf_visualize(self) -> Path:
        """Draw the PSF before and after training, with its widths, as PNG."""
        before, after, voxel_size_um = psf_before_and_after(self.model)
        title = model_label(self.folder)
        return pictures.psf_picture(self.out / "psf.png", before, after, voxel_size_um, title)

    def _cuts(self, result: Result) -> tuple[int, int]:
        """Coarse plane and column to show."""
        wanted = (self.experiment.visualization.z_stack, self.experiment.visualization.x_slice)
        planes, _, columns = result.stack.zyx_shape
        z, x = (w if w < n else n // 2 for w, n in zip(wanted, (planes, columns), strict=True))
        return z, x

    def _depth_views(self, result: Result) -> list[list[Panel]]:
        """Raw, shape and shape × brightness: slab around `z_stack` (xy), cut at `x_slice` (zy)."""
        z, x = self._cuts(result)
        scale, planes = self.model.params.scale, result.stack.zyx_shape[0]
        around = self.experiment.visualization.mip
        first = max(0, z - around // 2)
        coarse = slice(first, min(first + around, planes))
        fine = slice(coarse.start * scale, coarse.stop * scale)
        size, fine_size = result.voxel_size_um, result.fine_voxel_size_um
        slabs = [
            pictures.mips(result.stack, voxel_size_um=size, planes=coarse).xy,
            pictures.mips(result.path, (0,), planes=fine).xy,
            pictures.mips(result.path, (0, 1), planes=fine).xy,
        ]
        raw_cut = result.stack.read(x=slice(x, x + 1))[..., 0]
        shape_cut = self._cut(result, "shape", x)
        cuts = [raw_cut, shape_cut, shape_cut * self._cut(result, "brightness", x)]
        where = f"planes {coarse.start} to {coarse.stop - 1}"
        rows: list[list[Panel]] = [[], []]
        for i, (name, colours, (dz, dy, dx)) in enumerate(
            (
                ("raw", COLOURS["intensity"], size),
                ("shape", COLOURS["shape"], fine_size),
                ("shape × brightness", COLOURS["brightness"], fine_size),
            )
        ):
            levels = (result.range_.low, result.range_.high) if name == "raw" else (0.0, 1.0)
            rows[0].append(Panel(slabs[i], (dy, dx), levels, colours, f"{name}, {where}"))
            rows[1].append(Panel(cuts[i], (dz, dy), levels, colours, f"{name}, zy at x = {x}"))
        return rows

    def _heat_maps(self, result: Result) -> list[list[Panel]]:
        """Shape probability and brightness, in one plane and one column, with the outline."""
        z, x = self._cuts(result)
        scale = self.model.params.scale
        plane = z * scale + scale // 2
        dz, dy, dx = result.fine_voxel_size_um
        everything = slice(None)
        rows = []
        for channel in CHANNELS:
            row = []
            for where, zyx, axis, size in (
                (f"z = {z}", (slice(plane, plane + 1), everything, everything), 0, (dy, dx)),
                (f"x = {x}", (everything, everything, slice(x, x + 1)), 2, (dz, dy)),
            ):
                image = result.read(channel, zyx).squeeze(axis)
                outline = result.read("shape", zyx).squeeze(axis) >= self.threshold
                title = f"{channel}, {where}"
                row.append(Panel(image, size, (0.0, 1.0), COLOURS[channel], title, outline))
            rows.append(row)
        return rows

    @staticmethod
    def _cut(result: Result, channel: str, x: int) -> NDArray[np.float32]:
        return result.read(channel, (slice(None), slice(None), slice(x, x + 1)))[..., 0]


class BeadsInference(Inference):
    """Fluorescent beads 2 µm across; see `Inference` for the parameters."""

    def evaluate(
        self, results: Sequence[Result], rois: Path | pd.DataFrame | None = None
    ) -> Evaluation:
        """Measure the beads.

        Parameters
        ----------
        results : sequence of Result
            Regions of interest with one bead each, or whole stacks if `rois` are given.
        rois : Path or DataFrame, optional
            Columns roi, image, z, y, x: bead centres in coarse voxels, `image` being the number
            that the stack's name ends in. A region is 24 planes × 128 × 128 voxels around.

        Returns
        -------
        Evaluation
            ``mean`` and ``sd`` of the bead volume in µm³ (a missed bead has volume 0), and a table
            with one row per bead: volume, sphericity, z/xy ratio, total loss, offset in fine
            voxels (`metrics.BeadMetrics`).

        Raises
        ------
        TenetError
            If there is nothing to measure.
        """
        rows = []
        for result in results:
            for roi, crop, centre in self._regions(result, rois):
                bead = metrics.measure_bead(
                    result.read("shape", crop),
                    self.threshold,
                    result.fine_voxel_size_um,
                    expected_centre_zyx=centre,
                )
                row = {"image": result.name, "roi": roi, **asdict(bead)}
                offset = row.pop("offset_zyx")
                row |= {f"offset_{a}": value for a, value in zip("zyx", offset, strict=True)}
                rows.append(row)
        if not rows:
            raise TenetError("there is no bead to measure: no result, or none of them in the ROIs")
        return _evaluation(rows, "volume_um3", self.threshold)

    def _regions(
        self, result: Result, rois: Path | pd.DataFrame | None
    ) -> Iterator[tuple[int | str, Slices, tuple[float, float, float] | None]]:
        """Name, fine crop and expected centre in it (None: the middle) of each bead."""
        if rois is None:
            yield result.name, (slice(None),) * 3, None
            return
        table = rois if isinstance(rois, pd.DataFrame) else pd.read_csv(rois)
        missing = {"roi", "image", "z", "y", "x"} - set(table.columns)
        if missing:
            raise TenetError(f"the table of ROIs lacks the columns {', '.join(sorted(missing))}")
        number = re.search(r"(\d+)$", result.name)
        if number is None:
            raise TenetError(
                f"{result.stack.path}: its name does not end in a number, so its ROIs cannot be "
                "found; rename it as in the column image"
            )
        factors = (self.model.params.scale, 1, 1)
        for row in table[table["image"] == int(number[1])].to_dict("records"):
            crop, centre = [], []
            for at, half, size, factor in zip(
                (row["z"], row["y"], row["x"]),
                (12, 64, 64),
                result.stack.zyx_shape,
                factors,
                strict=True,
            ):
                start, stop = max(int(at) - half, 0), min(int(at) + half, size)
                crop.append(slice(start * factor, stop * factor))
                # Coarse plane i is centred on fine plane i·s + (s - 1)/2.
                centre.append((at - start) * factor + (factor - 1) / 2)
            yield row["roi"], (crop[0], crop[1], crop[2]), (centre[0], centre[1], centre[2])


class MicrogliaInference(Inference):
    """Microglia in vivo; see `Inference`.

    Parameters
    ----------
    model_name : str or Path
    is_finetuning : bool
        Use the fine-tuned weights; otherwise the pre-trained ones.
    with_align : bool
    threshold : float
    **options
        `models`, `out` and `device` of `Inference`.
    """

    def __init__(
        self,
        model_name: str | Path,
        is_finetuning: bool = True,
        with_align: bool | None = None,
        threshold: float = -1,
        **options: Any,
    ) -> None:
        super().__init__(model_name, not is_finetuning, threshold, with_align=with_align, **options)


class SimulationInference(Inference):
    """Simulated stacks, whose truth is known; see `Inference` for the parameters."""

    def evaluate(self, results: Sequence[Result], phantoms: Path) -> Evaluation:
        """Compare shapes with the phantoms that the stacks were simulated from.

        Parameters
        ----------
        results : sequence of Result
        phantoms : Path
            Folder with a phantom of the same name for each result.

        Returns
        -------
        Evaluation
            ``mean`` and ``sd`` of the IoU at `threshold`, and a table with iou, dice and
            average_precision per image.

        Raises
        ------
        TenetError
            If a phantom is missing or of another size.
        """
        rows = []
        for result in results:
            phantom = open_phantom(Path(phantoms) / f"{result.name}{PHANTOM_SUFFIX}")
            truth, _ = phantom.read(slice(None), slice(None), slice(None))
            score = result.read("shape")
            if truth.shape != score.shape:
                raise TenetError(
                    f"{phantom.path} has the shape {truth.shape}, the enhanced stack "
                    f"{score.shape}: it is not what {result.stack.path} was simulated from"
                )
            found = score >= self.threshold
            rows.append(
                {
                    "image": result.name,
                    "iou": metrics.iou(found, truth),
                    "dice": metrics.dice(found, truth),
                    "average_precision": metrics.average_precision(score, truth),
                }
            )
        if not rows:
            raise TenetError("there is nothing to compare: no results")
        return _evaluation(rows, "iou", self.threshold)


# Models on disk -----------------------------------------------------------------------------------


def find_model(name: str | Path, models: Path = MODELS, *, pretrained: bool = False) -> Path:
    """Find the folder of a model.

    Parameters
    ----------
    name : str or Path
        A folder, or a name under `models`. A folder of folds with a model `all` means that one.
    models : Path
        Folder of all models.
    pretrained : bool
        Find the model that this one was fine-tuned from: ``pretrained`` beside it, or the
        `pretrained_model` of its settings; a model without either is a pre-trained one itself.

    Returns
    -------
    Path

    Raises
    ------
    TenetError
        If there is none, or there are folds to choose from.
    """
    folder = Path(name) if Path(name).is_dir() else Path(models) / name
    if not (folder / EXPERIMENT).exists():
        folds = sorted(f.parent.name for f in folder.glob(f"*/{EXPERIMENT}"))
        if "all" in folds:
            folder = folder / "all"
        elif folds:
            raise TenetError(
                f"{folder} has the models {', '.join(folds)}: choose one, as in '{name}/{folds[0]}'"
            )
        else:
            known = sorted(
                f.parent.relative_to(models).as_posix()
                for f in Path(models).glob(f"**/{EXPERIMENT}")
            )
            raise TenetError(
                f"no model '{name}' in {models}; there is {', '.join(known[:12]) or 'none at all'}"
            )
    if not pretrained:
        return folder
    beside = folder.parent / "pretrained"
    if (beside / EXPERIMENT).exists():
        return beside
    origin = read_experiment(folder).pretrained_model
    return find_model(origin, models) if origin else folder


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


def model_label(folder: Path) -> str:
    """Name of a model in file names and titles: of ``fig3_beads/fold0`` it is fig3_beads_fold0."""
    folder = folder.resolve()
    if re.fullmatch(r"all|pretrained|fold\d+", folder.name):
        return f"{folder.parent.name}_{folder.name}"
    return folder.name
