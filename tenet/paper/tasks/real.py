"""`tenet evaluate real` and `real-summary`: the bench of real structures."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib import rc_context

from tenet.enhance.views import save
from tenet.model.trained import TrainedModel
from tenet.paper.figures.real import condition_figure, real_figure
from tenet.paper.figures.style import STYLE
from tenet.paper.real.bench import Condition, judge, summary
from tenet.paper.tasks.tables import write_tables

#: Files of the folder of a condition.
RESULTS, PSF, PICTURE = "results.csv", "psf.csv", "picture.png"


def run_condition(condition: Condition, methods: Sequence[str]) -> list[str]:
    """Simulate, fine-tune and judge; write results, PSFs and a picture, and describe the tables."""
    outcome = judge(condition, methods)
    fine_um = TrainedModel.settings_of(condition.model).params.fine_voxel_size_um
    with rc_context(STYLE):
        save(condition_figure(outcome, fine_um), condition.out / PICTURE, dpi=200)
    return write_tables(
        {condition.out / PSF: outcome.psf, condition.out / RESULTS: outcome.results}
    )


def summarise(
    folders: Sequence[Path], table: Path, psfs: Path, figures: Sequence[Path]
) -> list[str]:
    """Put conditions together: a table by kind, beam and method, the PSFs, and a figure."""
    results = pd.concat([pd.read_csv(folder / RESULTS) for folder in folders], ignore_index=True)
    found = pd.concat([pd.read_csv(folder / PSF) for folder in folders], ignore_index=True)
    each = summary(results, ["kind", "beam", "method"])
    every = summary(results, ["kind", "method"])
    with rc_context(STYLE):
        for path in figures:
            save(real_figure(each), path, dpi=200)
    both = pd.concat([every.assign(beam="every"), each])[each.columns]
    return write_tables({table: both, psfs: found})
