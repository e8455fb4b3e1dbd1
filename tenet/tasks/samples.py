"""`tenet samples`: settings for a stack of one's own."""

from pathlib import Path
from typing import Literal

from tenet.io.atomic import save_json
from tenet.io.folders import voxel_size_of
from tenet.io.open import open_stack
from tenet.io.outputs import check_outputs
from tenet.settings.own_stack import sample_experiment, uneven_voxels
from tenet.settings.schema import Experiment, ModelParams
from tenet.tasks.notes import note
from tenet.types import VoxelSize


def write_settings(
    file: Path,
    out: Path,
    base: Experiment,
    *,
    voxel_size_um: VoxelSize | None,
    channel: int | None,
    planes_are: Literal["C", "T"] | None,
    na: float | None,
    wavelength_um: float | None,
    immersion_index: float | None,
    photons: int | None,
) -> ModelParams:
    """Write the settings for a stack, from its voxel size and optics; see `sample_experiment`.

    Parameters
    ----------
    file, out : Path
        The stack, and the JSON file for its settings.
    base : Experiment
        Settings that do not follow from the stack.
    voxel_size_um, channel, planes_are
        As in `voxel_size_of` and `open_stack`.
    na, wavelength_um, immersion_index, photons
        Optics; None stands for those of `base`.

    Returns
    -------
    ModelParams
        The `params` section of the settings.
    """
    check_outputs([file], [out])
    stack = open_stack(file, channel=channel, planes_are=planes_are)
    experiment = sample_experiment(
        base,
        voxel_size_of(stack, voxel_size_um),
        where=str(file),
        zyx_shape=stack.zyx_shape,
        na=na,
        wavelength_um=wavelength_um,
        immersion_index=immersion_index,
        photons=photons,
    )
    save_json(out, experiment.model_dump(mode="json"))
    uneven = uneven_voxels(experiment.params)
    note(uneven and f"{file}: {uneven}")
    return experiment.params
