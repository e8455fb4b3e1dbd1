"""`tenet enhance`: raw stacks, and folders of raw stacks, enhanced with a model."""

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from tenet.enhance.enhance import enhance_stack, segmented_share
from tenet.errors import TenetError
from tenet.io.atomic import save_json
from tenet.io.intensities import IntensityRange, warnings_of
from tenet.io.optics import Optics
from tenet.io.outputs import check_outputs
from tenet.io.records import read_json, read_json_object
from tenet.io.results import SETTINGS
from tenet.io.series import join_results
from tenet.io.stack import Stack
from tenet.learn.serve import known_optics, serve
from tenet.model.store import digest_of, digests_of_enhancing, software
from tenet.model.trained import TrainedModel
from tenet.progress import shown
from tenet.settings.own_stack import voxel_size_mismatch
from tenet.tasks.notes import note, note_of_optics, warn
from tenet.tasks.reading import Part, Reading, Result
from tenet.types import Triple


@dataclass(frozen=True)
class Wanted:
    """How stacks are enhanced, and what is written.

    Attributes
    ----------
    optics : Optics
        The microscope of the stacks, for a model of every microscope. What is not told is what the
        file of each stack says, then that of the model.
    structure_um : float, optional
        Mean thickness of the structures in µm, for such a model, where it is known.
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
        Whether to draw a sheet and a page of every stack, before and after; of a series, of the
        first time point of each channel.
    fit : {"once", "each"}
        Whether the PSF and the intensities are those of the first time point of each channel, or
        of each time point.
    """

    optics: Optics = field(default_factory=Optics)
    structure_um: float | None = None
    find_psf: bool = True
    normalisation: str | None = None
    align: bool | None = None
    tile_zyx_shape: Triple | None = None
    as_zarr: bool = False
    uncertainty: bool = False
    levels: int | None = None
    sheet: bool = False
    fit: Literal["once", "each"] = "once"

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
    again: bool = False,
    device: torch.device,
) -> Iterator[Path]:
    """Enhance stacks, one after another, and yield every file as soon as it is written.

    Several channels and time points of a file become one result. Their own results stand in a
    folder beside it until all are there, so that a run that was stopped goes on.

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
    again : bool
        Whether to enhance channels and time points whose results are there from a run that was
        stopped.
    device : torch.device
        Device to compute on.

    Yields
    ------
    Path
        File of a result, of its record, or of a picture.

    Raises
    ------
    TenetError
        If a stack or the model cannot be read, a result would replace a stack or another result,
        or enhancing fails; see `enhance_stack`.
    """
    wanted = wanted or Wanted()
    results = reading.open(out, name, wanted.suffix)
    work = Enhancing(reading, model, wanted, device)
    settings = [out / SETTINGS] if reading.for_evaluation else []
    work.check_outputs(results, settings)
    for result in results:
        work.check(result)
    if not work.model.serves_all:
        note(work.model.calibration_note)
    for result in results:
        yield from work.run(result, again=again)
    for file in settings:
        save_json(file, {"threshold": work.model.threshold, "model": str(model)})


class Fit(NamedTuple):
    """A model, fitted to a stack; the intensities that become 0 and 1; and what was found."""

    model: TrainedModel
    range_: IntensityRange
    found: dict[str, Any]


@dataclass(frozen=True)
class Enhancing:
    """The work of enhancing stacks with a model, result by result.

    Raises
    ------
    TenetError
        If the options do not go with the model.
    """

    reading: Reading
    folder: Path
    wanted: Wanted
    device: torch.device
    #: Of the last channel, because the parts of a file come channel by channel.
    _fits: dict[Stack, Fit] = field(default_factory=dict)

    def __post_init__(self) -> None:
        serves_all = TrainedModel.settings_of(self.folder).microscopes.free is not None
        if serves_all and self.reading.for_evaluation:
            raise TenetError(f"{self.folder} is of every microscope: use `tenet enhance`")
        told = self.wanted.optics, self.wanted.structure_um, self.wanted.find_psf
        if not serves_all and told != (Optics(), None, True):
            raise TenetError(
                f"{self.folder} was trained for one microscope: leave --na, --wavelength, "
                "--immersion, --photons, --thickness and --psf-as-told out"
            )

    @cached_property
    def model(self) -> TrainedModel:
        """The model, loaded once."""
        return TrainedModel.load(self.folder, device=self.device, align=self.wanted.align)

    def record_of(self, path: Path) -> Path | None:
        """File that says how a result was made; None where results are evaluated."""
        return None if self.reading.for_evaluation else _beside(path, "json")

    def files(self, result: Result) -> list[Path]:
        """All files that are there in the end."""
        record = self.record_of(result.path)
        pictures = [file for part in result.parts for file in self._pictures(part, result)]
        return [result.path, *([record] if record else []), *pictures]

    def _pictures(self, part: Part, result: Result) -> list[Path]:
        """Sheet and page of a part, beside the result."""
        if not self.wanted.sheet or (result.folder and part.stack is not part.first):
            return []
        name = result.path.with_name(part.path.name)
        return [_beside(name, suffix) for suffix in ("png", "html")]

    def check_outputs(self, results: Sequence[Result], more: Sequence[Path] = ()) -> None:
        """Refuse results that would replace a stack or one another; see `check_outputs`."""
        parts = [part.path for result in results if result.folder for part in result.parts]
        written = [file for result in results for file in self.files(result)]
        read = [stack.path for result in results for stack in result.stacks]
        check_outputs(read, [*written, *parts, *more])

    def check(self, result: Result) -> None:
        """Refuse a stack that the model cannot serve, by its header.

        Raises
        ------
        TenetError
            If the voxel size is not known, or the optics are impossible; see `known_optics`.
        """
        for stack in result.stacks:
            size_um = self.reading.voxel_size(stack)
            if self.model.serves_all:
                assert size_um is not None
                known_optics(
                    self.model, stack, size_um, self.wanted.optics, self.wanted.structure_um
                )

    # What was done before -------------------------------------------------------------------------

    def made_from(self, result: Result) -> str:
        """Digest of all that a result follows from; every voxel is read."""
        parts = [self._made_from(part) for part in result.parts]
        return digest_of(" ".join(parts)) if result.folder else parts[0]

    def _made_from(self, part: Part) -> str:
        stack, fitted = part.stack, self._fitted_to(part)
        weights = digests_of_enhancing(self.folder)
        of_run = ("sheet", "tile_zyx_shape", "fit")
        how = {k: v for k, v in asdict(self.wanted).items() if k not in of_run}
        about = self.reading.voxel_size(stack), stack.optics  # of a header that may be corrected
        first = "" if fitted is stack else fitted.digest
        return digest_of(f"{weights} {stack.digest}{first} {about} {how} {software()['tenet']}")

    def is_done(self, result: Result) -> bool:
        """Whether all files of a result are there, made from the same by the same."""
        return self._stands(result.path, self.files(result), partial(self.made_from, result))

    def _stands(self, path: Path, files: Sequence[Path], made_from: Callable[[], str]) -> bool:
        """Whether files are there, and the record of a result says that it was made from this."""
        record = self.record_of(path)
        if record is None or not all(file.exists() for file in (record, *files)):
            return False
        return _made_from_in(record) == made_from()

    # What is done ---------------------------------------------------------------------------------

    def run(self, result: Result, *, again: bool = True) -> Iterator[Path]:
        """Enhance the parts of a result, and yield every file as soon as it is written.

        Parameters
        ----------
        result : Result
        again : bool
            Whether to enhance parts whose own results are there from a run that was stopped.

        Raises
        ------
        TenetError
            If enhancing fails.
        """
        for part in result.parts:
            if result.folder is None:
                yield from self._run(part, result)
            elif again or not self._stands(
                part.path,
                [part.path, *self._pictures(part, result)],
                partial(self._made_from, part),
            ):
                # The others are files of the run alone.
                yield from [f for f in self._run(part, result) if f.parent != result.folder]
        if result.folder is not None:
            yield from self._join(result)

    def _run(self, part: Part, result: Result) -> Iterator[Path]:
        stack, wanted = part.stack, self.wanted
        fitted = self._fitted_to(part)
        trained, range_, found = self._fit(fitted)
        known_um = self.reading.voxel_size(stack)
        size_um = known_um or trained.params.coarse_voxel_size_um
        warnings = list(found["likeness"]["warnings"]) if found else []
        mismatch = voxel_size_mismatch(trained.experiment.params, known_um) if known_um else None
        warnings += [mismatch] if mismatch else []
        for warning in warnings if fitted is stack else ():  # the others have the same
            warn(stack, warning)
        if stack.scan_offset_px:
            note(f"{stack.label}: odd rows are shifted back by {stack.scan_offset_px:.2f} pixels")
        if stack.unseen_share:
            note(f"{stack.label}: {100 * stack.unseen_share:.2g} % NaN, which stay 0 in the result")
        print(f"{stack.label}: {range_.describe()}", file=sys.stderr)
        with shown(f"enhancing {stack.name}") as meter:
            enhance_stack(
                trained,
                stack,
                range_,
                part.path,
                voxel_size_um=size_um,
                tile_zyx_shape=wanted.tile_zyx_shape,
                uncertainty=wanted.uncertainty,
                levels=wanted.levels,
                device=self.device,
                progress=meter,
            )
        of_result = warnings_of(range_, segmented_share(part.path, trained.threshold))
        for warning in of_result:
            warn(stack, warning)
        yield part.path
        record, about = self.record_of(part.path), found
        if record is not None:
            about = found | {
                "stack": str(stack.path),
                "channel": stack.channel,
                "time": stack.time,
                "model": str(self.folder),
                "threshold": trained.threshold,
                "structure_um": trained.params.structure_um,
                "scan_offset_px": stack.scan_offset_px,
                "unseen_share": stack.unseen_share,
                "intensities": range_.to_dict(),
                "warnings": [*warnings, *of_result],
                "made_from": self._made_from(part),
            }
            save_json(record, about | software())
            yield record
        if pictures := self._pictures(part, result):
            from tenet.enhance.page import result_page  # need Matplotlib
            from tenet.enhance.pictures import enhanced_sheet

            sheet, page = pictures
            yield enhanced_sheet(sheet, trained, stack, part.path, voxel_size_um=size_um)
            yield result_page(page, trained, stack, part.path, about, voxel_size_um=size_um)

    def _fitted_to(self, part: Part) -> Stack:
        return part.first if self.wanted.fit == "once" else part.stack

    def _fit(self, stack: Stack) -> Fit:
        """Fit the model to a stack, unless that was done just before."""
        if stack not in self._fits:
            self._fits.clear()
            trained, wanted = self.model, self.wanted
            if trained.serves_all:
                size_um = self.reading.voxel_size(stack)
                assert size_um is not None
                self._fits[stack] = Fit(*serve(
                    trained, stack, size_um, wanted.optics, structure_um=wanted.structure_um,
                    find_psf=wanted.find_psf, normalisation=wanted.normalisation,
                ))  # fmt: skip
                note_of_optics(stack, self._fits[stack].found)
            else:
                range_ = trained.intensity_range(stack, wanted.normalisation)
                self._fits[stack] = Fit(trained, range_, {})
        return self._fits[stack]

    def _join(self, result: Result) -> Iterator[Path]:
        """Make one result of those of all parts, which are removed."""
        paths = {(part.stack.channel, part.stack.time): part.path for part in result.parts}
        records = [_beside(path, "json") for path in paths.values()]
        yield join_results(paths, result.path)
        of_parts = [read_json_object(record) for record in records]
        said = [record["warnings"] for record in of_parts]
        whole = {
            "parts": of_parts,
            "warnings": _in_common(list(zip(result.stacks, said, strict=True))),
            "made_from": self.made_from(result),
        }
        save_json(record := _beside(result.path, "json"), of_parts[0] | whole)
        yield record
        self.remove_parts(result)

    def remove_parts(self, result: Result) -> None:
        """Remove the results of parts that are joined, as far as they are there."""
        if result.folder is None:
            return
        for part in result.parts:
            for path in (part.path, _beside(part.path, "json")):
                if path.is_dir():
                    shutil.rmtree(path)
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something else is in it, or it is not there
            result.folder.rmdir()


def _in_common(warnings: Sequence[tuple[Stack, Sequence[str]]]) -> list[str]:
    """Each warning once, with the parts that it is of, if it is not of all."""
    parts: dict[str, list[str]] = {}
    for stack, of_stack in warnings:
        for warning in of_stack:
            parts.setdefault(warning, []).append(stack.part.strip("_").replace("_", " "))
    return [
        warning if len(of) == len(warnings) else f"{', '.join(of)}: {warning}"
        for warning, of in parts.items()
    ]


def _made_from_in(record: Path) -> str | None:
    try:
        known = read_json(record)
    except TenetError:  # what cannot be read is made again
        return None
    return known.get("made_from") if isinstance(known, dict) else None


def _beside(result: Path, suffix: str) -> Path:
    stem = result.name.removesuffix(".ome.tif").removesuffix(".ome.zarr")
    return result.with_name(f"{stem}.{suffix}")
