"""`tenet enhance`: raw stacks, and folders of raw stacks, enhanced with a model."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from tenet.data.folds import every_stack
from tenet.enhance.enhance import (
    choose_alignment,
    enhance_stack,
    read_threshold,
    segmented_share,
)
from tenet.enhance.pictures import enhanced_sheet
from tenet.errors import TenetError
from tenet.io.atomic import save_json
from tenet.io.folders import stack_name, voxel_size_of
from tenet.io.intensities import warnings_of
from tenet.io.ome_zarr import is_zarr
from tenet.io.open import open_stack
from tenet.io.outputs import check_outputs, plain_name
from tenet.io.stack import Stack
from tenet.model.certainty import Certainty
from tenet.model.intensity import model_range
from tenet.model.store import load_model
from tenet.model.tenet import TENET
from tenet.progress import shown
from tenet.settings.schema import Experiment
from tenet.tasks.notes import note_missing_calibration, warn, warn_of_voxels
from tenet.types import Triple, VoxelSize

#: Threshold and origin of the results of a folder.
SETTINGS = "settings.json"


@dataclass(frozen=True)
class Reading:
    """Which stacks are read, and how.

    Attributes
    ----------
    paths : sequence of Path
        Stacks, and folders of stacks, or of folders of stacks.
    rois : Path, optional
        Table of regions: of a folder only the images that it names.
    fold : int, optional
        Of a folder only the images with a region in this fold of the table.
    channel, planes_are
        As in `open_stack`.
    voxel_size_um : tuple of float, optional
        Voxel size along z, y and x of all stacks, where it is not what their files say.
    voxel_size_of_model : bool
        Whether a stack that does not say its voxel size has that of the model; else it is refused.
    """

    paths: Sequence[Path]
    rois: Path | None = None
    fold: int | None = None
    channel: int | None = None
    planes_are: Literal["C", "T"] | None = None
    voxel_size_um: VoxelSize | None = None
    voxel_size_of_model: bool = False

    def folders(self) -> list[Path]:
        """Those of the paths that are folders of stacks.

        Raises
        ------
        TenetError
            If regions are given, and no folder to choose from.
        """
        folders = [path for path in self.paths if path.is_dir() and not is_zarr(path)]
        if not folders and (self.rois is not None or self.fold is not None):
            raise TenetError("--rois and --fold choose stacks of a folder: give one")
        return folders

    def open(self, out: Path, name: str | None, suffix: str) -> list[tuple[Stack, Path]]:
        """Open the stacks, each with the file for its result, laid out as they are.

        Raises
        ------
        TenetError
            If there is no stack or one cannot be read, or a name goes with several.
        """
        folders, pairs = self.folders(), []
        if name is not None:
            if folders or len(self.paths) > 1:
                raise TenetError("--name goes with a single stack")
            name = plain_name(name)
        for path in self.paths:
            if path in folders:
                found = every_stack(
                    path, out, self.rois, self.fold,
                    channel=self.channel, planes_are=self.planes_are,
                )  # fmt: skip
                pairs += [
                    (stack, target.with_name(f"{stack_name(stack.path)}.{suffix}"))
                    for stack, target in found
                ]
            else:
                stack = open_stack(path, channel=self.channel, planes_are=self.planes_are)
                pairs.append((stack, out / f"{name or stack_name(path)}.{suffix}"))
        return pairs

    def voxel_size(self, stack: Stack, experiment: Experiment) -> VoxelSize:
        """Voxel size along z, y and x in µm of a stack that a model of `experiment` enhances."""
        known = self.voxel_size_um or stack.voxel_size_um
        if known is None and self.voxel_size_of_model:
            return experiment.params.coarse_voxel_size_um
        return voxel_size_of(stack, self.voxel_size_um)


def enhance(
    reading: Reading,
    model: Path,
    out: Path,
    *,
    name: str | None = None,
    normalisation: str | None = None,
    align: bool | None = None,
    tile_zyx_shape: Triple | None = None,
    flips: int = 1,
    as_zarr: bool = False,
    uncertainty: bool = False,
    sheet: bool = False,
    device: torch.device,
) -> Iterator[Path]:
    """Enhance stacks, one after another, and yield every file as soon as it is written.

    Parameters
    ----------
    reading : Reading
        The stacks; all are opened, and their results checked, before the first is enhanced.
    model : Path
        Folder of the model.
    out : Path
        Receives the results, with the names of the stacks; for folders ``settings.json`` as well,
        with the model's threshold.
    name : str, optional
        Name of the result of a single stack.
    normalisation : str, optional
        As in `model_range`; by default that of the model.
    align : bool, optional
        Whether planes are aligned first; by default if the model can.
    tile_zyx_shape, flips, device
        As in `enhance_stack`.
    as_zarr : bool
        Write OME-Zarr, not OME-TIFF.
    uncertainty : bool
        Write the channel of uncertainty as well.
    sheet : bool
        Draw a sheet of every stack, before and after.

    Yields
    ------
    Path
        Result, or sheet.

    Raises
    ------
    TenetError
        If a stack or the model cannot be read, a result would replace a stack or another result,
        or enhancing fails; see `enhance_stack`.
    """
    pairs = reading.open(out, name, "ome.zarr" if as_zarr else "ome.tif")
    sheets = {path: path.with_name(f"{_stem(path)}.png") for _, path in pairs if sheet}
    record = [out / SETTINGS] if reading.folders() else []
    results = [path for _, path in pairs]
    check_outputs([stack.path for stack, _ in pairs], [*results, *sheets.values(), *record])
    if not reading.voxel_size_of_model:
        for stack, _ in pairs:
            voxel_size_of(stack, reading.voxel_size_um)
    network, experiment = _model(model, align, device)
    certainty = Certainty.read(model) if uncertainty else None
    chosen = read_threshold(model)
    threshold = experiment.params.threshold if chosen is None else chosen
    for stack, path in pairs:
        size_um = reading.voxel_size(stack, experiment)
        warn_of_voxels(stack, size_um, experiment)
        range_ = model_range(
            stack, experiment, model, normalisation, device=network.initial_psf.device
        )
        print(f"{stack.path}: {range_.describe()}", file=sys.stderr)
        with shown(f"enhancing {stack.path.name}") as meter:
            enhance_stack(
                network,
                stack,
                range_,
                path,
                voxel_size_um=size_um,
                tile_zyx_shape=tile_zyx_shape,
                flips=flips,
                certainty=certainty,
                device=device,
                progress=meter,
            )
        for warning in warnings_of(range_, segmented_share(path, threshold)):
            warn(stack, warning)
        yield path
        if sheet:
            enhanced_sheet(network, stack, path, sheets[path], voxel_size_um=size_um)
            yield sheets[path]
    for settings in record:
        save_json(settings, {"threshold": threshold, "model": str(model)})


def _stem(result: Path) -> str:
    return result.name.removesuffix(".ome.tif").removesuffix(".ome.zarr")


def _model(folder: Path, align: bool | None, device: torch.device) -> tuple[TENET, Experiment]:
    """A model to enhance with, and its settings; a note if it was never calibrated."""
    network, experiment = load_model(folder, device=device)
    network.half_precision = experiment.train_loop.precision == "bfloat16"
    choose_alignment(network, align, folder)
    note_missing_calibration(folder)
    return network, experiment
