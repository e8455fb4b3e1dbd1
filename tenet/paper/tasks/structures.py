"""`tenet evaluate profiles` and `cells`: structures of tissue, in raw stacks and in results."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tenet.io.atomic import replacing
from tenet.paper.evaluate import structures
from tenet.paper.evaluate.tables import methods_in
from tenet.paper.tasks.tables import write_tables


def evaluate_profiles(
    experiment: str,
    predictions: Path,
    data: Path,
    out: Path,
    *,
    phantoms: Path | None,
    methods: Sequence[str] | None,
) -> list[str]:
    """Measure the widths of thin structures, and write and describe the table."""
    chosen = methods_in(predictions, methods)
    table = structures.evaluate_profiles(experiment, predictions, data, chosen, phantoms=phantoms)
    return write_tables({out: table})


def evaluate_cells(
    experiment: str,
    predictions: Path,
    out: Path,
    cells: Path,
    projections: Path,
    *,
    tumour: Path | None,
    phantoms: Path | None,
    tumour_phantoms: Path | None,
    methods: Sequence[str] | None,
    threads: int,
) -> list[str]:
    """Measure the cells of every segmentation, and write and describe tables and projections."""
    summary, every, projected = structures.evaluate_cells(
        experiment,
        predictions,
        tumour,
        methods_in(predictions, methods),
        phantoms=phantoms,
        tumour_phantoms=tumour_phantoms,
        threads=threads,
    )
    with replacing(projections) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **projected)
    return write_tables({out: summary, cells: every})
