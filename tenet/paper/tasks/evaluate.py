"""`tenet evaluate segmentation` and `beads`: predictions measured against the truth."""

from collections.abc import Sequence
from pathlib import Path

from tenet.io.outputs import check_outputs
from tenet.paper.evaluate import beads, segmentation
from tenet.paper.tasks.tables import write_tables
from tenet.settings.schema import Experiment


def evaluate_segmentation(
    experiment: Experiment,
    predictions: Path,
    phantoms: Path,
    out: Path,
    sweep: Path,
    *,
    methods: Sequence[str] | None,
) -> list[str]:
    """Measure every prediction against its phantom, and write and describe both tables."""
    metrics, sweeps = segmentation.evaluate_segmentation(
        experiment.name, predictions, phantoms, methods=methods
    )
    return write_tables({out: metrics, sweep: sweeps})


def evaluate_beads(
    experiment: Experiment,
    predictions: Path,
    rois: Path,
    out: Path,
    sweep: Path,
    *,
    methods: Sequence[str] | None,
    folds: Sequence[int] | None,
    phantoms: Path | None,
) -> list[str]:
    """Measure every bead of a table, and write and describe both tables."""
    check_outputs([rois], [out, sweep])
    metrics, sweeps = beads.evaluate_beads(
        experiment.name,
        predictions,
        rois,
        experiment.params.scale,
        methods=methods,
        folds=folds,
        phantoms=phantoms,
    )
    return write_tables({out: metrics, sweep: sweeps})
