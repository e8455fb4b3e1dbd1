"""`tenet table`: means, intervals and the paper's numbers side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from tenet.io.outputs import check_outputs
from tenet.paper.evaluate.summary import summary_table
from tenet.paper.evaluate.tables import read_metrics
from tenet.paper.tasks.tables import write_tables

TableOf = Literal["fig2", "fig3", "fig4", "fig5", "supp", "supp_motion", "quality"]


def summarise(
    figure: TableOf,
    metrics: Sequence[Path],
    published: Path,
    out: Path,
    *,
    psfs: Sequence[Path],
    acquisition: Path | None,
    budgets: Mapping[str, str],
    seed: int,
) -> list[str]:
    """Write and describe the table of a figure; see `summary_table`."""
    inputs = [*metrics, published, *psfs, *([acquisition] if acquisition else [])]
    check_outputs(inputs, [out])
    tables = [read_metrics(path) for path in metrics]
    rng = np.random.default_rng(seed)
    summary = summary_table(figure, tables, published, rng, psfs, acquisition, dict(budgets))
    return write_tables({out: summary})
