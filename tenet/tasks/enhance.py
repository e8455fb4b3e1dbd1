"""`tenet enhance`: raw stacks, and folders of raw stacks, enhanced with a model."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch

from tenet.data.folds import every_file
from tenet.enhance.enhance import enhance_stack, segmented_share
from tenet.errors import TenetError
from tenet.io.atomic import save_json
from tenet.io.folders import is_one_stack, stack_name, voxel_size_of
from tenet.io.intensities import warnings_of
from tenet.io.optics import Optics
from tenet.io.outputs import check_outputs, plain_name
from tenet.io.picks import Parts, Picks
from tenet.io.records import read_json
from tenet.io.results import SETTINGS
from tenet.io.scan_offset import ScanOffset
from tenet.io.stack import Stack
from tenet.learn.serve import known_optics, serve
from tenet.model.store import MODEL, THRESHOLD, digest, digest_of, software
from tenet.model.trained import TrainedModel
from tenet.progress import shown
from tenet.settings.own_stack import voxel_size_mismatch
from tenet.tasks.notes import note, note_of_optics, warn
from tenet.types import Triple, VoxelSize

Pair = tuple[Stack, Path]


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
    channel, planes_are, time, scan_offset
        As in `Parts`: each channel and time point is a stack of its own.
    voxel_size_um : tuple of float, optional
        Voxel size along z, y and x of all stacks in µm; by default that of each file.
    for_evaluation : bool
        Whether the results are evaluated: a stack may have the voxel size of the model, where a
        user's stack without one is refused, and one file has the threshold of all results.
    """

    paths: Sequence[Path]
    rois: Path | None = None
    fold: int | None = None
    channel: Picks | int | None = None
    planes_are: Literal["C", "T"] | None = None
    voxel_size_um: VoxelSize | None = None
    for_evaluation: bool = False
    time: Picks | int | None = None
    scan_offset: ScanOffset | None = None

    @property
    def several(self) -> bool:
        """Whether these are several files, or a folder."""
        return len(self.paths) > 1 or bool(self._folders)

    @property
    def _folders(self) -> list[Path]:
        return [path for path in self.paths if path.is_dir() and not is_one_stack(path)]

    def files(self, out: Path, name: str | None = None) -> list[tuple[Path, Path]]:
        """List the files, each with its result, without part and suffix.

        Results of a folder have the layout of the folder.

        Raises
        ------
        TenetError
            If a folder holds no stack, a name is given for several files, or regions are given
            without a folder.
        """
        folders = self._folders
        if not folders and (self.rois is not None or self.fold is not None):
            raise TenetError("--rois and --fold choose stacks of a folder: give one")
        if name is not None:
            if self.several:
                raise TenetError("--name goes with a single file")
            name = plain_name(name)
        found = []
        for path in self.paths:
            if path in folders:
                found += every_file(path, out, self.rois, self.fold)
            else:
                found.append((path, out / (name or stack_name(path))))
        return found

    def open(self, out: Path, name: str | None, suffix: str) -> list[Pair]:
        """Open the stacks of all files, each with the path of its result.

        Raises
        ------
        TenetError
            As `files` and `open_file` raise.
        """
        return [
            pair
            for file, target in self.files(out, name)
            for pair in self.open_file(file, target, suffix)
        ]

    def open_file(self, file: Path, target: Path, suffix: str) -> list[Pair]:
        """Open the stacks of a file, each with the path of its result.

        Raises
        ------
        TenetError
            If the file cannot be read.
        """
        parts = Parts(self.channel, self.time, self.planes_are, self.scan_offset)
        return [
            (stack, target.with_name(f"{target.name}{stack.part}.{suffix}"))
            for stack in parts.open(file)
        ]

    def voxel_size(self, stack: Stack) -> VoxelSize | None:
        """Voxel size of a stack along z, y and x in µm; None stands for that of the model.

        Raises
        ------
        TenetError
            If the voxel size is not known, or no microscope has such voxels.
        """
        if self.for_evaluation:
            return stack.voxel_size_um
        return voxel_size_of(stack, self.voxel_size_um)


@dataclass(frozen=True)
class Wanted:
    """How stacks are enhanced, and what is written.

    Attributes
    ----------
    optics : Optics
        The microscope of the stacks, for a model of every microscope. What is not told is what the
        file of each stack says, then that of the model.
    find_psf : bool
        Whether such a model looks for the PSF in each stack; else the PSF is as told.
    normalisation : str, optional
        As in `TrainedModel.intensity_range`; by default that of the model.
    align : bool, optional
        Whether planes are aligned first; by default if the model has an alignment network.
    tile_zyx_shape : tuple of int, optional
        As in `enhance_stack`.
    as_zarr : bool
        Whether to write OME-Zarr, and not OME-TIFF.
    uncertainty : bool
        Whether to write the channel "uncertainty" as well.
    levels : int, optional
        Write the shape alone, in so many levels and compressed: enough for an evaluation.
    sheet : bool
        Whether to draw a sheet and a page of every stack, before and after.
    """

    optics: Optics = field(default_factory=Optics)
    find_psf: bool = True
    normalisation: str | None = None
    align: bool | None = None
    tile_zyx_shape: Triple | None = None
    as_zarr: bool = False
    uncertainty: bool = False
    levels: int | None = None
    sheet: bool = False

    @property
    def suffix(self) -> str:
        """Suffix of results, without the first dot."""
        return "ome.zarr" if self.as_zarr else "ome.tif"


def enhance(
    reading: Reading,
    model: Path,
    out: Path,
    wanted: Wanted | None = None,
    *,
    name: str | None = None,
    device: torch.device,
) -> Iterator[Path]:
    """Enhance stacks, one after another, and yield every file as soon as it is written.

    Parameters
    ----------
    reading : Reading
        The stacks. All stacks are opened, and the names of all results are checked, before the
        first stack is enhanced.
    model : Path
        Folder of the model. One of every microscope is fitted to each stack.
    out : Path
        Folder for the results, which have the names of the stacks.
    wanted : Wanted, optional
    name : str, optional
        Name of the result of a single stack.
    device : torch.device
        Device to compute on.

    Yields
    ------
    Path
        File of a result, of its record, or of a sheet.

    Raises
    ------
    TenetError
        If a stack or the model cannot be read, a result would replace a stack or another result,
        or enhancing fails; see `enhance_stack`.
    """
    wanted = wanted or Wanted()
    pairs = reading.open(out, name, wanted.suffix)
    work = Enhancing(reading, model, wanted, device)
    settings = [out / SETTINGS] if reading.for_evaluation else []
    work.check_outputs(pairs, settings)
    for stack, _ in pairs:
        work.check(stack)
    if not work.model.serves_all:
        note(work.model.calibration_note)
    for stack, path in pairs:
        yield from work.run(stack, path)
    for file in settings:
        save_json(file, {"threshold": work.model.threshold, "model": str(model)})


@dataclass(frozen=True)
class Enhancing:
    """The work of enhancing stacks with a model, stack by stack.

    Raises
    ------
    TenetError
        If the options do not go with the model.
    """

    reading: Reading
    folder: Path
    wanted: Wanted
    device: torch.device

    def __post_init__(self) -> None:
        serves_all = TrainedModel.settings_of(self.folder).microscopes.free is not None
        if serves_all and self.reading.for_evaluation:
            raise TenetError(f"{self.folder} is of every microscope: use `tenet enhance`")
        if not serves_all and (self.wanted.optics != Optics() or not self.wanted.find_psf):
            raise TenetError(
                f"{self.folder} was trained for one microscope: leave --na, --wavelength, "
                "--immersion, --photons and --psf-as-told out"
            )

    @cached_property
    def model(self) -> TrainedModel:
        """The model, loaded once."""
        return TrainedModel.load(self.folder, device=self.device, align=self.wanted.align)

    def record_of(self, result: Path) -> Path | None:
        """File that says how a result was made; None where results are evaluated."""
        return None if self.reading.for_evaluation else _beside(result, "json")

    def files(self, result: Path) -> list[Path]:
        """All files that are written of a stack."""
        record = self.record_of(result)
        pictures = [_beside(result, suffix) for suffix in ("png", "html")]
        return [result, *([record] if record else []), *(pictures if self.wanted.sheet else [])]

    def check_outputs(self, pairs: Sequence[Pair], more: Sequence[Path] = ()) -> None:
        """Refuse results that would replace a stack or one another; see `check_outputs`."""
        written = [file for _, result in pairs for file in self.files(result)]
        check_outputs([stack.path for stack, _ in pairs], [*written, *more])

    def check(self, stack: Stack) -> None:
        """Refuse a stack that the model cannot serve, by its header.

        Raises
        ------
        TenetError
            If the voxel size is not known, or the optics are impossible; see `known_optics`.
        """
        size_um = self.reading.voxel_size(stack)
        if self.model.serves_all:
            assert size_um is not None
            known_optics(self.model, stack, size_um, self.wanted.optics)

    def made_from(self, stack: Stack) -> str:
        """Digest of all that a result follows from; every voxel is read."""
        weights = [digest(self.folder / file) for file in (MODEL, THRESHOLD)
                   if (self.folder / file).exists()]  # fmt: skip
        how = {k: v for k, v in asdict(self.wanted).items() if k not in ("sheet", "tile_zyx_shape")}
        about = self.reading.voxel_size(stack), stack.optics  # of a header that may be corrected
        return digest_of(f"{weights} {stack.digest} {about} {how} {software()['tenet']}")

    def is_done(self, stack: Stack, result: Path) -> bool:
        """Whether all files of a stack are there, made from the same by the same."""
        record = self.record_of(result)
        if record is None or not all(file.exists() for file in self.files(result)):
            return False
        try:
            known = read_json(record)
        except TenetError:  # what cannot be read is made again
            return False
        return isinstance(known, dict) and known.get("made_from") == self.made_from(stack)

    def run(self, stack: Stack, result: Path) -> Iterator[Path]:
        """Enhance a stack, and yield every file as soon as it is written.

        Raises
        ------
        TenetError
            If enhancing fails.
        """
        trained, wanted = self.model, self.wanted
        known_um = self.reading.voxel_size(stack)
        size_um = known_um or trained.params.coarse_voxel_size_um
        found: dict[str, Any] = {}
        if trained.serves_all:
            trained, range_, found = serve(
                trained, stack, size_um, wanted.optics,
                find_psf=wanted.find_psf, normalisation=wanted.normalisation,
            )  # fmt: skip
            note_of_optics(stack, found)
        else:
            range_ = trained.intensity_range(stack, wanted.normalisation)
        warnings = list(found["likeness"]["warnings"]) if found else []
        mismatch = voxel_size_mismatch(trained.experiment.params, known_um) if known_um else None
        warnings += [mismatch] if mismatch else []
        for warning in warnings:
            warn(stack, warning)
        if stack.scan_offset_px:
            note(f"{stack.label}: odd rows are shifted back by {stack.scan_offset_px:.2f} pixels")
        print(f"{stack.label}: {range_.describe()}", file=sys.stderr)
        with shown(f"enhancing {stack.name}") as meter:
            enhance_stack(
                trained,
                stack,
                range_,
                result,
                voxel_size_um=size_um,
                tile_zyx_shape=wanted.tile_zyx_shape,
                uncertainty=wanted.uncertainty,
                levels=wanted.levels,
                device=self.device,
                progress=meter,
            )
        of_result = warnings_of(range_, segmented_share(result, trained.threshold))
        for warning in of_result:
            warn(stack, warning)
        yield result
        record, about = self.record_of(result), found
        if record is not None:
            about = found | {
                "stack": str(stack.path),
                "model": str(self.folder),
                "threshold": trained.threshold,
                "scan_offset_px": stack.scan_offset_px,
                "intensities": range_.to_dict(),
                "warnings": [*warnings, *of_result],
                "made_from": self.made_from(stack),
            }
            save_json(record, about | software())
            yield record
        if wanted.sheet:
            from tenet.enhance.page import result_page  # need Matplotlib
            from tenet.enhance.pictures import enhanced_sheet

            sheet, page = (_beside(result, suffix) for suffix in ("png", "html"))
            yield enhanced_sheet(sheet, trained, stack, result, voxel_size_um=size_um)
            yield result_page(page, trained, stack, result, about, voxel_size_um=size_um)


def _beside(result: Path, suffix: str) -> Path:
    stem = result.name.removesuffix(".ome.tif").removesuffix(".ome.zarr")
    return result.with_name(f"{stem}.{suffix}")
