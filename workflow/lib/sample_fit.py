"""Fit an experiment to a sample's stacks by what their headers tell.

This runs while the workflow is planned. It imports no PyTorch, which would take seconds.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tenet.errors import TenetError
from tenet.io.folders import is_one_stack, voxel_size_of
from tenet.io.picks import Parts, Picks, every_part
from tenet.io.records import read_json_object
from tenet.io.stack import Stack
from tenet.settings.own_stack import fitted_to, sample_grid, served_grid, voxel_size_mismatch
from tenet.settings.schema import Experiment, parse_experiment
from tenet.types import VoxelSize
from workflow.lib.sample_table import OPTICS, PICKED, VOXEL_SIZE

#: What a model's folder holds at least.
MODEL_FILES = ("model.pt", "experiment.json")


def parts_of(row: Mapping[str, Any]) -> Parts:
    """Say which channels and time points of its files a row reads."""
    channel, time = (Picks.parse(row[key]) if key in row else None for key in PICKED)
    return Parts(channel, time, row.get("planes_are"))


def has_several(row: Mapping[str, Any]) -> bool:
    """Whether a row has a folder of results, and not one file."""
    path = Path(row["file"])
    return not parts_of(row).single or (path.is_dir() and not is_one_stack(path))


def fitted_experiment(row: Mapping[str, Any], base: Experiment) -> Experiment:
    """Fit an experiment to a sample's stacks by what their headers tell, but for the PSF's size.

    Parameters
    ----------
    row : mapping
        A row of the sample table.
    base : Experiment
        The experiment that the row names, that of the model which the row names, or the one of all
        samples with optics of their own. One of every microscope is fitted to each stack.

    Raises
    ------
    ValueError
        If a file is none that can be read, its channel or voxel size is missing or wrong, it is too
        small, stacks have different voxels, or the experiment is for other voxels. It begins with
        the table's line.
    """
    try:
        return _fitted(row, base) if base.microscopes.free is None else _served(row, base)
    except TenetError as error:
        raise ValueError(f"{row['where']}: {error}") from None


def _fitted(row: Mapping[str, Any], base: Experiment) -> Experiment:
    stacks = every_part([Path(row["file"])], parts_of(row))
    sizes_um = [_voxel_size(row, stack) for stack in stacks]
    origin = next((key for key in ("experiment", "model") if key in row), "")
    given = ", ".join(key for key in OPTICS if key in row)
    if origin and given:
        raise TenetError(
            f"{origin} and {given} exclude each other: {row[origin]} has its own optics"
        )
    if not origin:
        base = sample_grid(
            base,
            sizes_um[0],
            where=stacks[0].label,
            na=row["NA"],
            wavelength_um=row["wavelength"],
            immersion_index=row["ni"],
            photons=row.get("photons"),
        )
    for stack, size_um in zip(stacks, sizes_um, strict=True):
        mismatch = voxel_size_mismatch(base.params, size_um)
        if mismatch and not origin:
            raise TenetError(
                f"{stack.label}: its voxels differ from those of {stacks[0].label}, and a row has "
                "one model: give each voxel size a row of its own"
            )
        if mismatch:
            raise TenetError(
                f"{stack.label}: {origin} {row[origin]} does not fit: {mismatch}, or give NA, "
                f"wavelength and ni in place of {'an' if origin == 'experiment' else 'a'} {origin}"
            )
        fitted_to(base, [stack.zyx_shape], where=stack.label)
    return fitted_to(base, [stack.zyx_shape for stack in stacks], where=stacks[0].label)


def _served(row: Mapping[str, Any], base: Experiment) -> Experiment:
    """Fit a model of every microscope to each stack, as `tenet.learn.serve` does; give the first.

    Raises
    ------
    TenetError
        If a stack is too small, or its planes are farther apart than the model has learned.
    """
    found = [
        served_grid(
            base,
            _voxel_size(row, stack),
            where=stack.label,
            zyx_shape=stack.zyx_shape,
            na=row.get("NA"),
            wavelength_um=row.get("wavelength"),
            immersion_index=row.get("ni"),
            photons=row.get("photons"),
            structure_um=row.get("thickness_um"),
        )
        for stack in every_part([Path(row["file"])], parts_of(row))
    ]
    return found[0]


def _voxel_size(row: Mapping[str, Any], stack: Stack) -> VoxelSize:
    given = [float(row[name]) for name in VOXEL_SIZE if name in row]
    return voxel_size_of(stack, (given[0], given[1], given[2]) if given else None)


def settings_of_model(folder: Path, line: str) -> Experiment:
    """Read the settings of the model of a row, in a line of the sample table.

    Raises
    ------
    ValueError
        If it is no folder of a model. It begins with the table's line.
    """
    where = f"{line}: model: {folder}"
    if folder.is_file():
        raise ValueError(
            f"{where} is a file, and a model is a folder: of published weights, `tenet "
            f"import-weights {folder} CONFIG.json --out MODEL` makes one"
        )
    missing = [name for name in MODEL_FILES if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"{where} is not a model: it has no {' and no '.join(missing)}; give the folder that a "
            "training wrote"
        )
    path = folder / "experiment.json"
    try:
        return parse_experiment(read_json_object(path), where=str(path))
    except TenetError as error:
        raise ValueError(f"{line}: model: {error}") from None
