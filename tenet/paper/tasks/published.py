"""`tenet published`: the published numbers beside this run's."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tenet.io.outputs import check_outputs
from tenet.paper.published import published_vs_run
from tenet.paper.tasks.tables import write_tables


def compare(published: Path, metrics: Sequence[Path], out: Path, *, seed: int) -> list[str]:
    """Write and describe the table of both; see `published_vs_run`."""
    check_outputs([published, *metrics], [out])
    table = published_vs_run(published, metrics, np.random.default_rng(seed))
    return write_tables({out: table})
