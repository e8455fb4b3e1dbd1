"""`tenet enhance`: raw stacks, and folders of raw stacks, enhanced with a model."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from tenet.data.folds import every_stack
from tenet.enhance.enhance import enhance_stack, segmented_share
from tenet.errors import TenetError
from tenet.io.atomic import save_json
from tenet.io.folders import stack_name, voxel_size_of
from tenet.io.intensities import warnings_of
from tenet.io.ome_zarr import is_zarr
from tenet.io.optics import Optics
from tenet.io.outputs import check_outputs, plain_name
from tenet.io.picks import Parts, Picks
from tenet.io.results import SETTINGS
from tenet.io.stack import Stack
from tenet.learn.serve import known_optics, serve
from tenet.model.store import software
from tenet.model.trained import TrainedModel
from tenet.progress import shown
from tenet.tasks.notes import note, note_of_optics, warn, warn_of_voxels
from tenet.types import Triple, VoxelSize


@dataclass(frozen=True)
class Reading:
    """The stacks that are read, and how they are read.

    Attributes
    ----------
    paths : sequence of Path
        Stacks, and folders of stacks, or of folders of stacks.
    rois : Path, optional
        Table of regions. Only the images in the table are read from a folder.
    fold : int, optional
        Fold of the table. Only the images with a region in this fold are read from a folder.
    channel, planes_are, time
        As in `Parts`: each channel and time point is a stack of its own.
    voxel_size_um : tuple of float, optional
        Voxel size along z, y and x of all stacks in µm; by default that of each file.
    voxel_size_of_model : bool
        Whether a stack without a voxel size has that of the model. Otherwise such a stack is
        refused.
    """

    paths: Sequence[Path]
    rois: Path | None = None
    fold: int | None = None
    channel: Picks | int | None = None
    planes_are: Literal["C", "T"] | None = None
    voxel_size_um: VoxelSize | None = None
    voxel_size_of_model: bool = False
    time: Picks | int | None = None

    def folders(self) -> list[Path]:
        """The paths that are folders of stacks.

        Raises
        ------
        TenetError
            If regions are given without a folder of stacks.
        """
        folders = [path for path in self.paths if path.is_dir() and not is_zarr(path)]
        if not folders and (self.rois is not None or self.fold is not None):
            raise TenetError("--rois and --fold choose stacks of a folder: give one")
        return folders

    def open(self, out: Path, name: str | None, suffix: str) -> list[tuple[Stack, Path]]:
        """Open the stacks, each with the file for its result.

        Results of a folder have the layout of the folder.

        Raises
        ------
        TenetError
            If there is no stack, a stack cannot be read, or a name is given for several files.
        """
        folders, pairs = self.folders(), []
        parts = Parts(self.channel, self.time, self.planes_are)
        if name is not None:
            if folders or len(self.paths) > 1:
                raise TenetError("--name goes with a single file")
            name = plain_name(name)
        for path in self.paths:
            if path in folders:
                found = every_stack(
                    path, out, self.rois, self.fold,
                    channel=self.channel, time=self.time, planes_are=self.planes_are,
                )  # fmt: skip
                pairs += [(s, t.with_name(f"{_stem(t)}.{suffix}")) for s, t in found]
            else:
                stem = name or stack_name(path)
                pairs += [(s, out / f"{stem}{s.part}.{suffix}") for s in parts.open(path)]
        return pairs

    def voxel_size(self, stack: Stack) -> VoxelSize | None:
        """Voxel size of a stack along z, y and x in µm; None stands for that of the model.

        Raises
        ------
        TenetError
            If the voxel size is not known, or no microscope has such voxels.
        """
        if self.voxel_size_of_model:
            return stack.voxel_size_um
        return voxel_size_of(stack, self.voxel_size_um)


def enhance(
    reading: Reading,
    model: Path,
    out: Path,
    *,
    name: str | None = None,
    optics: Optics | None = None,
    find_psf: bool = True,
    normalisation: str | None = None,
    align: bool | None = None,
    tile_zyx_shape: Triple | None = None,
    as_zarr: bool = False,
    uncertainty: bool = False,
    levels: int | None = None,
    sheet: bool = False,
    device: torch.device,
) -> Iterator[Path]:
    """Enhance stacks, one after another, and yield every file as soon as it is written.

    Parameters
    ----------
    reading : Reading
        The stacks. All stacks are opened, and the names of all results are checked, before the
        first stack is enhanced.
    model : Path
        Folder of the model.
    out : Path
        Folder for the results, which have the names of the stacks. If a folder of stacks is given,
        ``settings.json`` holds the threshold of a model of one microscope.
    name : str, optional
        Name of the result of a single stack.
    optics : Optics, optional
        The microscope of the stacks, for a model of every microscope. By default it is what the
        file of each stack says, then that of the model. Such a model is fitted to each stack, and
        what was found is written beside the result, as ``NAME.json``.
    find_psf : bool
        Whether such a model looks for the PSF in each stack; else the PSF is as told.
    normalisation : str, optional
        As in `TrainedModel.intensity_range`; by default that of the model.
    align : bool, optional
        Whether planes are aligned first; by default if the model has an alignment network.
    tile_zyx_shape, device
        As in `enhance_stack`.
    as_zarr : bool
        Whether to write OME-Zarr, and not OME-TIFF.
    uncertainty : bool
        Whether to write the channel "uncertainty" as well.
    levels : int, optional
        Write the shape alone, in so many levels and compressed: enough for an evaluation.
    sheet : bool
        Whether to draw a sheet of every stack, before and after.

    Yields
    ------
    Path
        File of a result, of what was found, or of a sheet.

    Raises
    ------
    TenetError
        If a stack or the model cannot be read, a result would replace a stack or another result,
        or enhancing fails; see `enhance_stack`.
    """
    pairs = reading.open(out, name, "ome.zarr" if as_zarr else "ome.tif")
    sheets = {path: path.with_name(f"{_stem(path)}.png") for _, path in pairs if sheet}
    results = [path for _, path in pairs]
    serves_all = TrainedModel.settings_of(model).microscopes.free is not None
    # Fitted to each stack, a model has a threshold for each, which is in its record.
    settings = [out / SETTINGS] if reading.folders() and not serves_all else []
    records = {}
    if serves_all:
        if reading.voxel_size_of_model:
            raise TenetError(f"{model} is of every microscope: use `tenet enhance`")
        records = {path: path.with_name(f"{_stem(path)}.json") for path in results}
    elif optics or not find_psf:
        raise TenetError(
            f"{model} was trained for one microscope: leave --na, --wavelength, --immersion, "
            "--photons and --psf-as-told out"
        )
    written = [*results, *sheets.values(), *records.values(), *settings]
    check_outputs([stack.path for stack, _ in pairs], written)
    sizes_um = [reading.voxel_size(stack) for stack, _ in pairs]
    loaded = trained = TrainedModel.load(model, device=device, align=align)
    optics = optics or Optics()
    if loaded.serves_all:
        for (stack, _), size_um in zip(pairs, sizes_um, strict=True):
            assert size_um is not None
            known_optics(loaded, stack, size_um, optics)
    else:
        note(loaded.calibration_note)
    for (stack, path), known_um in zip(pairs, sizes_um, strict=True):
        size_um = known_um or loaded.params.coarse_voxel_size_um
        found = None
        if loaded.serves_all:
            trained, range_, found = serve(
                loaded, stack, size_um, optics, find_psf=find_psf, normalisation=normalisation
            )
            note_of_optics(stack, found)
            for warning in found["likeness"]["warnings"]:
                warn(stack, warning)
        else:
            range_ = trained.intensity_range(stack, normalisation)
        warn_of_voxels(stack, size_um, trained.experiment)
        print(f"{stack.label}: {range_.describe()}", file=sys.stderr)
        with shown(f"enhancing {stack.name}") as meter:
            enhance_stack(
                trained,
                stack,
                range_,
                path,
                voxel_size_um=size_um,
                tile_zyx_shape=tile_zyx_shape,
                uncertainty=uncertainty,
                levels=levels,
                device=device,
                progress=meter,
            )
        for warning in warnings_of(range_, segmented_share(path, trained.threshold)):
            warn(stack, warning)
        yield path
        if found is not None:
            record = {"model": str(model), "intensities": range_.to_dict(), **found}
            save_json(records[path], record | software())
            yield records[path]
        if sheet:
            from tenet.enhance.pictures import enhanced_sheet  # needs Matplotlib

            enhanced_sheet(sheets[path], trained, stack, path, voxel_size_um=size_um)
            yield sheets[path]
    for file in settings:
        save_json(file, {"threshold": trained.threshold, "model": str(model)})


def _stem(result: Path) -> str:
    return result.name.removesuffix(".ome.tif").removesuffix(".ome.zarr")
