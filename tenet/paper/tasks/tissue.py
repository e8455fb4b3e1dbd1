"""`tenet phantoms tissue`: stand-ins for cells, on the fine grid of an experiment."""

from pathlib import Path
from typing import Literal

from tenet.paper.tissue import TissuePhantomSettings
from tenet.settings.schema import Experiment
from tenet.tasks.phantoms import draw_set
from tenet.types import Triple


def tissue_set(
    kind: Literal["neurons", "microglia", "tumour"],
    experiment: Experiment,
    out: Path,
    *,
    zyx_shape: Triple,
    n_cells: int,
    count: int,
    workers: int,
    seed: int,
) -> None:
    """Draw cells with branching processes, or a tumour."""
    voxel_size_um = experiment.params.fine_voxel_size_um
    settings = TissuePhantomSettings(kind, zyx_shape, voxel_size_um, n_cells)
    draw_set(settings, out, count=count, workers=workers, seed=seed)
