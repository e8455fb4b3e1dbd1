"""Tables of results, as figures read them."""

from pathlib import Path

import pandas as pd

from tenet.errors import TenetError
from tenet.io.records import read_table
from tenet.paper.figures.style import METHODS


def shown_methods(table: pd.DataFrame) -> list[str]:
    """Methods of a table, in the order of `METHODS`."""
    methods = [method for method in METHODS if (table["method"] == method).any()]
    if not methods:
        raise TenetError(f"the table has none of the methods {', '.join(METHODS)}")
    return methods


def all_metrics(results: Path, figure: str) -> pd.DataFrame:
    """Every value behind a figure, with the condition that its table has."""
    paths = [
        path
        for path in sorted((results / "metrics").glob(f"{figure}_*.csv"))
        if not path.stem.endswith("_sweep")
    ]
    if not paths:
        raise TenetError(f"{results}/metrics: there are no values of {figure}; evaluate first")
    values = pd.concat([read_csv(path) for path in paths], ignore_index=True)
    condition = values["experiment"].str.removeprefix(f"{figure}_")
    if figure == "fig2":
        condition = condition + "_" + values["part"]
    return values.assign(condition=condition)


def read_csv(path: Path) -> pd.DataFrame:
    """Read a table, or say that it has to be made first."""
    return read_table(existing(path))


def rounded(results: Path | str, name: str) -> pd.DataFrame:
    """Read a table of the results, for a notebook."""
    return read_csv(Path(results) / f"tables/{name}.csv").round(3)


def existing(path: Path) -> Path:
    """Return the path of a file, or say that it is missing."""
    if not path.exists():
        raise TenetError(f"{path}: this file is missing; run what makes it first")
    return path
