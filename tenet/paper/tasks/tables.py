"""Tables that commands of the paper write."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from tenet.io.atomic import replacing


def write_tables(tables: Mapping[Path, pd.DataFrame]) -> list[str]:
    """Write each table to its path as CSV, and return a line for each."""
    lines = []
    for path, table in tables.items():
        with replacing(path) as temporary:
            table.to_csv(temporary, index=False)
        lines.append(f"{len(table)} rows -> {path}")
    return lines
