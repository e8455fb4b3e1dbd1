"""Fit an experiment to a sample's stack by what the header of the stack tells.

This runs while the workflow is planned. It imports no PyTorch, which would take seconds.
"""

from collections.abc import Mapping
from typing import Any

from tenet.errors import TenetError
from tenet.io.folders import voxel_size_of
from tenet.io.open import open_stack
from tenet.settings.own_stack import fitted_to, sample_grid, voxel_size_mismatch
from tenet.settings.schema import Experiment
from workflow.lib.sample_table import VOXEL_SIZE


def fitted_experiment(row: Mapping[str, Any], base: Experiment) -> Experiment:
    """Fit an experiment to a sample's stack by what its header tells, but for the size of the PSF.

    Parameters
    ----------
    row : mapping
        A row of the sample table.
    base : Experiment
        The experiment that the row names, or the one of all samples with optics of their own.

    Raises
    ------
    ValueError
        If the file is none that can be read, its channel or voxel size is missing or wrong, it is
        too small, or the experiment is for other voxels. It begins with the table's line.
    """
    try:
        return _fitted(row, base)
    except TenetError as error:
        raise ValueError(f"{row['where']}: {error}") from None


def _fitted(row: Mapping[str, Any], base: Experiment) -> Experiment:
    file = row["file"]
    stack = open_stack(file, channel=row.get("channel"), planes_are=row.get("planes_are"))
    given = [float(row[name]) for name in VOXEL_SIZE if name in row]
    z_y_x = (given[0], given[1], given[2]) if given else None
    voxel_size_um = voxel_size_of(stack, z_y_x)
    if "experiment" not in row:
        return sample_grid(
            base,
            voxel_size_um,
            where=file,
            zyx_shape=stack.zyx_shape,
            na=row["NA"],
            wavelength_um=row["wavelength"],
            immersion_index=row["ni"],
            photons=row.get("photons"),
        )
    mismatch = voxel_size_mismatch(base.params, voxel_size_um)
    if mismatch:
        raise TenetError(
            f"{file}: experiment {row['experiment']} does not fit: {mismatch}, or give NA, "
            "wavelength and ni in place of an experiment"
        )
    return fitted_to(base, [stack.zyx_shape], where=file)
