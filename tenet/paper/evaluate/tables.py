"""Tables of the evaluation: their columns, and functions that read them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from tenet.errors import TenetError
from tenet.io.open import open_stack
from tenet.io.records import read_table
from tenet.io.stack import Stack
from tenet.settings.sections import Section, read_record

if TYPE_CHECKING:
    import pandas as pd

PREDICTION, SETTINGS = ".ome.tif", "settings.json"
#: Thresholds of the bead sweep, as shares of a method's range of scores.
SWEEP_SHARES = np.arange(1, 20) / 20
#: The experiment that ablations are compared with, in which no loss is left out or changed.
REFERENCE, REFERENCE_EXPERIMENT = "reference", "fig3_beads"
# An acquisition drops planes of a phantom beyond the last multiple of the scale (12 at most).
MOST_MISSING_PLANES = 11
COLUMNS = ("experiment", "part", "method", "image", "roi", "quantity", "value")
SWEEP_COLUMNS = ("experiment", "part", "method", "image", "roi", "threshold", "quantity", "value")

#: Methods whose scores are probabilities. Scores of all others have no fixed upper end.
PROBABILITIES = ("tenet", "tenet_published", "pretrained", "box")
BEAD_QUANTITIES = ("volume_um3", "sphericity", "z_xy_ratio", "total_loss")


class Acquisition(Section):
    """``acquisition.json``: the record of simulated stacks."""

    microscope: dict[str, Any]
    fwhm_um: dict[str, Annotated[float, Field(gt=0)]]
    motion_px: Annotated[float, Field(ge=0)] | None = None


class PredictionSettings(Section):
    """``settings.json`` beside predictions: the threshold from which on a voxel is in the shape."""

    threshold: float


def read_metrics(path: Path) -> "pd.DataFrame":
    """Read a table of metrics or of sweeps, by `evaluate`; values may be missing.

    Raises
    ------
    TenetError
        If the file is no such table.
    """
    columns = [name for name in COLUMNS if name != "value"]
    return read_table(path, columns, gaps=("value",))


def read_acquisition(path: Path) -> dict[str, Any]:
    """Read the record of a simulated acquisition: microscope, fwhm_um, motion_px.

    Raises
    ------
    TenetError
        If the file cannot be read or lacks one of the entries.
    """
    try:
        return read_record(Acquisition, path).model_dump()
    except TenetError as error:
        raise TenetError(f"{error}; simulate again") from None


def read_psf_widths(path: Path) -> "pd.DataFrame":
    """Read a ``psf.csv``: which (initial, learned, true), axis (axial, lateral), fwhm_um."""
    return read_table(path, ("which", "axis"), gaps=("fwhm_um",))[["which", "axis", "fwhm_um"]]


# Files --------------------------------------------------------------------------------------------


def read_threshold(folder: Path, top: Path) -> float:
    """Read a method's threshold from the settings in a folder of predictions, or above it.

    Parameters
    ----------
    folder : Path
        Folder of predictions.
    top : Path
        The experiment's folder, where the search ends.

    Raises
    ------
    TenetError
        If there are no such settings.
    """
    for place in (folder, *folder.parents):
        if place == top:
            break
        path = place / SETTINGS
        if not path.exists():
            continue
        try:
            return read_record(PredictionSettings, path).threshold
        except TenetError as error:
            raise TenetError(f"{error}; predict again") from None
    raise TenetError(f"{folder}: there is no {SETTINGS} with the method's threshold; predict again")


def methods_in(predictions: Path, methods: Sequence[str] | None = None) -> Sequence[str]:
    """The methods that are asked for, or all methods with a folder of predictions."""
    if methods is None:
        methods = [f.name for f in folders_in(predictions)]
    if not methods:
        raise TenetError(f"{predictions}: there are no predictions in it; predict first")
    return methods


def folders_in(path: Path) -> list[Path]:
    """Folders of predictions in a folder, by name."""
    if not path.is_dir():
        raise TenetError(f"{path}: there is no such folder of predictions; predict first")
    return sorted(f for f in path.iterdir() if f.is_dir() and not f.name.startswith("."))


def open_prediction(path: Path) -> Stack:
    """Open a prediction, which may be missing."""
    if not path.exists():
        raise TenetError(f"{path}: this prediction is missing; predict again")
    return open_stack(path, channel=0)


def columns_of(
    experiment: str, part: str, method: str, image: str, roi: int | str = ""
) -> dict[str, Any]:
    """Columns of a table without the quantity and its value."""
    return {"experiment": experiment, "part": part, "method": method, "image": image, "roi": roi}


def frame_of(rows: Sequence[dict[str, Any]]) -> "pd.DataFrame":
    """A table with the columns of all tables of metrics."""
    import pandas as pd  # planning reads the names above, and does without

    return pd.DataFrame(rows, columns=list(COLUMNS))
