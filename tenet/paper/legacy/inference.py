"""Classes that enhance folders of stacks, and measure and draw the results."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from tenet.enhance.enhance import enhance_stack, psf_before_and_after
from tenet.enhance.pictures import Panel, enhanced_sheet, panels, psf_picture
from tenet.enhance.views import COLOURS, mips
from tenet.errors import TenetError
from tenet.io.folders import stack_files, stack_name
from tenet.io.intensities import IntensityRange
from tenet.io.open import open_stack
from tenet.io.results import CHANNELS
from tenet.io.stack import Stack
from tenet.model.trained import TrainedModel
from tenet.paper.legacy.models import MODELS, find_model, model_label
from tenet.settings.own_stack import voxel_size_mismatch
from tenet.types import Progress, Triple, VoxelSize

Slices = tuple[slice, slice, slice]


# Folders of stacks --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """One enhanced stack, whose volumes stay in their files.

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
        Voxel size of the raw and of the enhanced stack along z, y and x in µm.
    """

    name: str
    stack: Stack
    range_: IntensityRange
    path: Path
    voxel_size_um: VoxelSize
    fine_voxel_size_um: VoxelSize

    def read(self, channel: str, zyx: Slices = (slice(None),) * 3) -> NDArray[np.float32]:
        """Read a crop of one channel ("shape" or "brightness") on the fine grid.

        Examples
        --------
        >>> inference = Inference("mine", models=Path("models"), out=Path("pictures"))
        >>> (result,) = inference.get_result("stacks", num_results=1)
        >>> result.read("brightness", (slice(0, 3), slice(None), slice(None))).shape
        (3, 24, 20)
        """
        return open_stack(self.path, channel=CHANNELS.index(channel)).read(*zyx)


class Evaluation(TypedDict):
    """Mean, sample standard deviation, number of values, threshold, and the table behind them."""

    mean: float
    sd: float
    n: int
    threshold: float
    table: pd.DataFrame


def evaluation_of(rows: Sequence[dict[str, Any]], quantity: str, threshold: float) -> Evaluation:
    """Means and spread of one number for each stack."""
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
    """A trained model for folders of stacks. The classes for kinds of data derive from this class.

    Parameters
    ----------
    model_name : str or Path
        Folder of a model, or its name under `models`: ``fig3_beads/fold0``, or ``fig4_neurons``
        where there is one model only.
    pretrain : bool
        Use the pre-trained weights instead of the fine-tuned ones.
    threshold : float
        Probability from which on a voxel belongs to the shape. -1 stands for the threshold of the
        calibration (the model's ``threshold.json``), or else of the settings.
    with_align : bool, optional
        Whether the model's alignment network runs first; by default if the model has one.
    models : Path
        Folder of all models.
    out : Path, optional
        Folder for enhanced stacks and pictures, in a folder with the name of the model; by default
        `visualization.path` of the model's settings.
    device : str
        ``auto`` takes a GPU where there is one.

    Attributes
    ----------
    trained : TrainedModel
    model : TENET
        The network of the model.
    experiment : Experiment
        The settings of the model that was named.
    threshold : float
    out : Path

    Raises
    ------
    TenetError
        If there is no such model, or alignment is wanted and the model has no alignment network.

    Examples
    --------
    >>> inference = Inference("mine", models=Path("models"), out=Path("pictures"))
    >>> results = inference.get_result("stacks")
    >>> [result.name for result in results]
    ['image1', 'image2']
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
        self.trained = TrainedModel.load(self.folder, device=device, align=with_align)
        self.model = self.trained.network
        # Data and pictures are those of the named experiment, also with pre-trained weights.
        self.experiment = TrainedModel.settings_of(find_model(model_name, models))
        self.threshold = self._threshold(threshold)
        root = out if out is not None else Path(self.experiment.visualization.path)
        self.out = Path(root) / model_label(self.folder)

    def _threshold(self, asked: float) -> float:
        if asked == -1:
            return self.trained.threshold
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
            Folder of stacks, or one stack; by default the training data of the model
            (`train_dataset.folderpath`).
        num_results : int, optional
            Number of stacks, in the order of their names; all by default.
        channel : int, optional
            Channel of the raw files, if the files have several.
        voxel_size_um : tuple of float, optional
            Voxel size of the raw stacks along z, y and x in µm; by default that of each file, or
            else that of the model.
        tile_zyx_shape, overlap_zyx, progress
            As in `enhance_stack`.

        Returns
        -------
        list of Result
            The volumes are in files under `out`.

        Raises
        ------
        TenetError
            If there is no stack, or a stack cannot be read.

        Examples
        --------
        >>> inference = Inference("mine", models=Path("models"), out=Path("pictures"))
        >>> (result,) = inference.get_result("stacks", num_results=1)
        >>> result.read("shape").shape
        (24, 24, 20)
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
            normalisation = self.experiment.train_dataset.normalisation
            range_ = self.trained.intensity_range(stack, normalisation)
            enhanced = enhance_stack(
                self.trained,
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

        The section `visualization` of the settings gives the plane `z_stack` on the coarse grid,
        the number `mip` of planes around it that are projected, and the column `x_slice`. In a
        smaller stack the middle is shown.

        Returns
        -------
        list of Path

        Examples
        --------
        >>> inference = Inference("mine", models=Path("models"), out=Path("pictures"))
        >>> pictures = inference.visualize(inference.get_result("stacks", num_results=1))
        >>> [picture.name for picture in pictures]
        ['image1_mip.png', 'image1_depth.png', 'image1_heatmap.png']
        """
        written = []
        for result in results:
            sheet = self.out / f"{result.name}_mip.png"
            title = f"{result.name}, {model_label(self.folder)}"
            size_um = result.voxel_size_um
            enhanced_sheet(
                sheet, self.trained, result.stack, result.path, voxel_size_um=size_um, title=title
            )
            depth = panels(
                self.out / f"{result.name}_depth.png", self._depth_views(result), title=title
            )
            heat = panels(
                self.out / f"{result.name}_heatmap.png",
                self._heat_maps(result),
                title=f"{title}; contour: threshold {self.threshold:g}",
                colour_bars=True,
            )
            written += [sheet, depth, heat]
        return written

    def psf_visualize(self) -> Path:
        """Draw the PSF before and after training, with its widths, as PNG.

        Examples
        --------
        >>> inference = Inference("mine", models=Path("models"), out=Path("pictures"))
        >>> inference.psf_visualize().name
        'psf.png'
        """
        before, after, voxel_size_um = psf_before_and_after(self.model)
        title = model_label(self.folder)
        return psf_picture(self.out / "psf.png", before, after, voxel_size_um, title)

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
            mips(result.stack, voxel_size_um=size, planes=coarse).xy,
            mips(result.path, (0,), planes=fine).xy,
            mips(result.path, (0, 1), planes=fine).xy,
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
            levels = result.range_.as_read if name == "raw" else (0.0, 1.0)
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
