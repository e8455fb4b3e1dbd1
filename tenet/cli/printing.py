"""What commands print: progress, notes, warnings and where tables went."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenet.io.stack import Stack
    from tenet.settings.schema import Experiment


def report(done: int, total: int) -> None:
    """Progress in one line on a terminal, in tenths of the way in a log."""
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r{done} of {total}", end=end, file=sys.stderr, flush=True)
    elif done == total or done * 10 // total > (done - 1) * 10 // total:
        print(f"{done} of {total}", file=sys.stderr, flush=True)


def warn_of_voxels(
    stack: "Stack", given: tuple[float, float, float] | None, experiment: "Experiment"
) -> None:
    """Warn when a stack's voxels are not those that the model is trained for."""
    from tenet.settings.own_stack import voxel_size_mismatch

    size = given or stack.voxel_size_um
    warning = voxel_size_mismatch(experiment.params, size) if size else None
    if warning:
        print(f"warning: {stack.path}: {warning}", file=sys.stderr)


def note_missing_calibration(model: Path) -> None:
    """Note when a model was never calibrated."""
    from tenet.enhance.enhance import missing_calibration

    note = missing_calibration(model)
    if note:
        print(f"note: {note}", file=sys.stderr)


def write_tables(tables: Any, paths: tuple[Path, ...]) -> None:
    """Write pandas tables, each to its path as CSV, whole or not at all."""
    from tenet.io.atomic import replacing

    for table, path in zip(tables, paths, strict=True):
        with replacing(path) as temporary:
            table.to_csv(temporary, index=False)
        print(f"{len(table)} rows -> {path}")
