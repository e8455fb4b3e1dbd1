"""`tenet evaluate real-summary`: the bench of real structures, its table and its figure."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib import rc_context

from tenet.enhance.views import save
from tenet.errors import TenetError
from tenet.io.records import read_table
from tenet.paper.figures.real import real_figure
from tenet.paper.figures.style import STYLE
from tenet.paper.real.summary import PSF, RESULTS, summary
from tenet.paper.tasks.tables import write_tables


def summarise(
    folders: Sequence[Path], table: Path, psfs: Path, figures: Sequence[Path]
) -> list[str]:
    """Put conditions together: a table by kind, beam and method, the PSFs, and a figure.

    Raises
    ------
    TenetError
        If a folder lacks a table of a condition.
    """
    results = joined(folders, RESULTS, ("kind", "beam", "method"))
    found = joined(folders, PSF, ("kind", "beam"))
    each = summary(results, ["kind", "beam", "method"])
    every = summary(results, ["kind", "method"]).assign(beam="every")
    with rc_context(STYLE):
        figure = real_figure(each)
        for path in figures:
            save(figure, path, dpi=200)
    return write_tables({table: pd.concat([every, each])[each.columns], psfs: found})


def joined(folders: Sequence[Path], name: str, columns: Sequence[str]) -> pd.DataFrame:
    """Read a table of every condition, one below another.

    Raises
    ------
    TenetError
        If one is missing, or is no such table.
    """
    for folder in folders:
        if not (folder / name).is_file():
            raise TenetError(f"{folder / name} is missing: run tenet evaluate real into {folder}")
    return pd.concat([read_table(folder / name, columns) for folder in folders], ignore_index=True)
