"""`tenet samples`: settings for a stack of one's own."""

from pathlib import Path
from typing import Literal

from tenet.errors import TenetError
from tenet.io.atomic import save_json
from tenet.io.folders import voxel_size_of
from tenet.io.open import open_stack
from tenet.io.outputs import check_outputs
from tenet.settings.own_stack import light_left_out, sample_experiment, uneven_voxels
from tenet.settings.schema import Experiment, ModelParams
from tenet.tasks.notes import note
from tenet.types import VoxelSize


def write_settings(
    file: Path | None,
    out: Path,
    base: Experiment,
    *,
    voxel_size_um: VoxelSize | None,
    channel: int | None,
    time: int | None,
    planes_are: Literal["C", "T"] | None,
    na: float | None,
    wavelength_um: float | None,
    immersion_index: float | None,
    photons: int | None,
) -> ModelParams:
    """Write the settings for a stack, or for all stacks of one voxel size and one microscope.

    See `sample_experiment`. Without a stack, crops have the size of those of `base`; fine-tuning
    fits them to its stacks.

    Parameters
    ----------
    file : Path or None
        The stack; None if the voxel size alone is given.
    out : Path
        The JSON file for the settings.
    base : Experiment
        Settings that do not follow from the stack.
    voxel_size_um, channel, time, planes_are
        As in `voxel_size_of` and `open_stack`.
    na, wavelength_um, immersion_index, photons
        Optics; None stands for those of `base`.

    Returns
    -------
    ModelParams
        The `params` section of the settings.

    Raises
    ------
    TenetError
        If neither a stack nor a voxel size is given, or as `sample_experiment` and `open_stack`.
    """
    check_outputs([] if file is None else [file], [out])
    if file is not None:
        stack = open_stack(file, channel=channel, time=time, planes_are=planes_are)
        voxel_size_um, zyx_shape = voxel_size_of(stack, voxel_size_um), stack.zyx_shape
    elif voxel_size_um is None:
        raise TenetError("give --file with a stack, or --voxel-size Z Y X in µm")
    else:
        zyx_shape = None
    where = str(file or out)
    experiment = sample_experiment(
        base,
        voxel_size_um,
        where=where,
        zyx_shape=zyx_shape,
        na=na,
        wavelength_um=wavelength_um,
        immersion_index=immersion_index,
        photons=photons,
    )
    save_json(out, experiment.model_dump(mode="json"))
    for remark in (uneven_voxels(experiment.params), light_left_out(experiment.params)):
        note(remark and f"{where}: {remark}")
    return experiment.params
